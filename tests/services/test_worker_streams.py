"""What a worker writes: reports and logs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import connect
from penstock.contracts.runs import ReportedState, RunReport, new_run_id
from penstock.streams import MAX_MESSAGE_BYTES
from penstock.worker import output
from penstock.worker.identity import Identity
from penstock.worker.lines import LINE_BYTES
from penstock.worker.output import UNFINISHED_EXPIRE_SECONDS, LogShipper
from penstock.worker.reports import Reporter
from tests.support import read_messages, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

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
        await end_tasks([task])


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


async def test_during_an_outage_the_oldest_lines_go_and_no_run_waits_and_the_log_says_so(
    own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_BUFFERED_BYTES", 10 * (LINE_BYTES + len('"00"')))
    client = connect(own_redis.url, retries=0)
    shipper = LogShipper(client)
    run = new_run_id(0)
    async with running(shipper.run()):
        await shipper.add(run, "stdout", ["first"])
        await shipper.flushed(5)
        await asyncio.to_thread(own_redis.stop)
        for number in range(100):
            await asyncio.wait_for(shipper.add(run, "stdout", [f"{number:02}"]), 10)
        shipper.end(run)
        await asyncio.wait_for(shipper.flushed(60), 10)
        await asyncio.to_thread(own_redis.start)
        last = [f"{number:02}" for number in range(90, 100)]

        async def arrived() -> list[str] | None:
            found = await lines(client, run)
            return found if found[-11:-1] == last else None

        found = await wait_until(arrived, what="the last ten lines")
    kept = len(found) - 2
    assert found[0] == "first"
    assert found[1:-11] == [f"{number:02}" for number in range(kept - 10)], "what was on its way when Redis went"
    missing = 100 - kept
    assert found[-1] == f"output cut: {3 * missing} bytes in {missing} lines not kept (Redis did not answer)"
    await client.aclose()


async def test_an_outage_drops_lines_but_never_the_word_that_they_are_missing(
    own_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MAX_BUFFERED_BYTES", 10 * (LINE_BYTES + len('"00"')))
    client = connect(own_redis.url, retries=0)
    shipper = LogShipper(client)
    ended, other = new_run_id(0), new_run_id(0)
    async with running(shipper.run()):
        await shipper.add(other, "stdout", ["warm"])
        await shipper.flushed(5)
        await asyncio.to_thread(own_redis.stop)
        await shipper.add(other, "stdout", ["on its way"])
        await shipper.flushed(5)
        await shipper.add(ended, "stdout", ["00"])
        shipper.end(ended)
        for _ in range(20):
            await shipper.add(other, "stdout", ["00"])
        await asyncio.to_thread(own_redis.start)
        note = "output cut: 3 bytes in 1 lines not kept (Redis did not answer)"

        async def arrived() -> bool:
            return await lines(client, ended) == [note]

        await wait_until(arrived, what="what is missing of the run that had ended")
    await client.aclose()


async def test_what_a_log_has_no_room_for_is_counted_and_nothing_later_slips_in(client: Redis) -> None:
    shipper = LogShipper(client, bytes_per_run=1000)
    run, other = new_run_id(0), new_run_id(0)
    async with running(shipper.run()):
        await shipper.add(run, "stdout", ["x" * 434, "y" * 434, "too much"])
        await shipper.add(run, "stderr", ["short"])
        await shipper.add(other, "stdout", ["fits"])
        shipper.end(run)
        shipper.end(other)
        await shipper.flushed(5)
    size = len("too much\nshort\n")
    assert await lines(client, run) == [
        "x" * 434,
        "y" * 434,
        f"output cut: {size} bytes in 2 lines not kept (a run's log takes 1000 bytes)",
    ]
    assert await lines(client, other) == ["fits"]


async def test_a_run_whose_log_is_full_is_not_held_up(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_BUFFERED_BYTES", 500)
    shipper = LogShipper(client, bytes_per_run=1000)
    full, other = new_run_id(0), new_run_id(0)
    async with running(shipper.run()):
        await shipper.add(full, "stdout", ["x" * 2000])
    # Nobody ships any more: whoever needs room waits, whoever needs none does not.
    await shipper.add(other, "stdout", ["x" * 600])
    await asyncio.wait_for(shipper.add(full, "stdout", ["y"] * 5000), 5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(shipper.add(other, "stdout", ["z"]), 0.1)


async def test_many_single_lines_fill_a_log_too(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "LOGS_MAX_LENGTH", 3)
    shipper = LogShipper(client)
    run = new_run_id(0)
    async with running(shipper.run()):
        for number in range(5):
            await shipper.add(run, "stdout", [str(number)])
            await shipper.flushed(5)
        shipper.end(run)
        await shipper.flushed(5)
    assert (await lines(client, run))[:3] == ["0", "1", "2"]
    assert (await lines(client, run))[3].startswith("output cut: 4 bytes in 2 lines not kept")


async def test_a_log_expires_after_the_end_of_its_run_not_while_it_is_silent(client: Redis) -> None:
    shipper = LogShipper(client, retention_seconds=50)
    run = new_run_id(0)
    name = keys.key(0, "logs", run)
    async with running(shipper.run()):
        await shipper.add(run, "stdout", ["a"])
        await shipper.flushed(5)
        assert await client.ttl(name) > UNFINISHED_EXPIRE_SECONDS - 60
        shipper.end(run)
        await shipper.flushed(5)
        assert 40 < await client.ttl(name) <= 50
        shipper.end(new_run_id(0))
        await shipper.flushed(5)
    assert len(await client.keys(keys.key(0, "logs", "*"))) == 1, "a run that prints nothing has no log"


async def test_lines_that_utf_8_cannot_spell_do_not_stop_the_others(client: Redis) -> None:
    shipper = LogShipper(client)
    run = new_run_id(0)
    async with running(shipper.run()):
        await shipper.add(run, "stdout", ["bad \ud800", "\0\x1b[31mred"])
        await shipper.flushed(5)
    assert await lines(client, run) == ["bad ?", "\0\x1b[31mred"]


async def lines(client: Redis, run: str) -> list[str]:
    messages = await read_messages(client, "logs", run)
    return [line["text"] for message in messages for line in message["lines"]]
