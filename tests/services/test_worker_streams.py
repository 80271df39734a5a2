"""What a worker writes: reports and logs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from penstock import keys
from penstock.bus.connection import connect
from penstock.contracts.runs import ReportedState, RunReport, new_run_id
from penstock.streams import MAX_MESSAGE_BYTES
from penstock.worker import output
from penstock.worker.identity import Identity
from penstock.worker.output import LogShipper
from penstock.worker.reports import Reporter
from tests.support import read_messages, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    import pytest
    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis

ME = Identity("etl", "w1", "process", 0)


def report(state: ReportedState, run: str = "", message: str = "") -> RunReport:
    return RunReport(run=run or new_run_id(0), token="t", epoch=1, state=state, message=message)


@contextlib.asynccontextmanager
async def running(loop: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(loop)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_reports_ready_at_the_same_moment_share_a_message_in_order(client: Redis) -> None:
    reporter = Reporter(client, ME)
    sent = [report(state) for state in ("RUNNING", "COMPLETED", "FAILED")]
    for one in sent:
        reporter.send(one)
    async with running(reporter.run()):
        assert await reporter.flushed(5) == 0
        (message,) = await read_messages(client, "dispatch")
        assert (message["type"], message["pool"], message["worker"]) == ("report_runs", "etl", "w1")
        assert [one["run"] for one in message["reports"]] == [one.run for one in sent]
        reporter.send(report("RUNNING"))
        assert await reporter.flushed(5) == 0
        assert len(await read_messages(client, "dispatch")) == 2


async def test_no_message_is_larger_than_readers_take(client: Redis) -> None:
    reporter = Reporter(client, ME)
    for _ in range(1500):
        reporter.send(report("FAILED", message="\x01" * 10_000))
    for _ in range(1500):
        reporter.send(report("RUNNING"))
    async with running(reporter.run()):
        assert await reporter.flushed(20) == 0
    entries: Any = await client.xrange(keys.key(0, "dispatch"))
    assert max(len(fields[b"__data__"]) for _, fields in entries) <= MAX_MESSAGE_BYTES
    assert sum(len(message["reports"]) for message in await read_messages(client, "dispatch")) == 3000


async def test_reports_survive_an_outage_in_order(own_redis: EmbeddedRedis) -> None:
    client = connect(own_redis.url, retries=0)
    reporter = Reporter(client, ME)
    run = new_run_id(0)
    async with running(reporter.run()):
        reporter.send(report("RUNNING", run))
        assert await reporter.flushed(5) == 0
        await asyncio.to_thread(own_redis.stop)
        reporter.send(report("COMPLETED", run))
        assert await reporter.flushed(0.3) == 1
        reporter.send(report("RUNNING"))
        await asyncio.to_thread(own_redis.start)
        assert await reporter.flushed(20) == 0
    states = [one["state"] for message in await read_messages(client, "dispatch") for one in message["reports"]]
    assert states == ["RUNNING", "COMPLETED", "RUNNING"]
    await client.aclose()


async def test_lines_of_many_runs_are_appended_in_few_entries(client: Redis) -> None:
    shipper = LogShipper(client)
    runs = [new_run_id(0) for _ in range(3)]
    async with running(shipper.run()):
        for number in range(500):
            await shipper.add(runs[number % 3], "stdout", [f"line {number}"])
        await shipper.add(runs[0], "stderr", ["x" * 8000] * 10)
        await shipper.flushed(5)
    for place, run in enumerate(runs):
        messages = await read_messages(client, "logs", run)
        assert len(messages) <= 10
        assert {message["run"] for message in messages} == {run}
        texts = [line["text"] for message in messages for line in message["lines"] if line["source"] == "stdout"]
        assert texts == [f"line {number}" for number in range(place, 500, 3)]


async def test_during_an_outage_the_oldest_lines_go_and_no_run_waits(
    own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_BUFFERED_LINES", 10)
    client = connect(own_redis.url, retries=0)
    shipper = LogShipper(client)
    run = new_run_id(0)
    async with running(shipper.run()):
        await asyncio.to_thread(own_redis.stop)
        for number in range(100):
            await asyncio.wait_for(shipper.add(run, "stdout", [str(number)]), 10)
        await asyncio.wait_for(shipper.flushed(60), 10)
        await asyncio.to_thread(own_redis.start)

        async def arrived() -> bool:
            messages = await read_messages(client, "logs", run)
            return [line["text"] for message in messages for line in message["lines"]] == [
                str(n) for n in range(90, 100)
            ]

        await wait_until(arrived, what="the last ten lines")
    await client.aclose()
