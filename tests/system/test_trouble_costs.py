"""While Redis is away, full or locked, services wait: no hot loop, no flood of logs; afterwards they go on."""

from __future__ import annotations

import asyncio
import signal
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.bus.requests import publish
from penstock.client import NewRun, Penstock
from penstock.contracts.queues import CreateQueue, QueueChanges, UpdateQueue
from penstock.contracts.runs import RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.contracts.workers import Heartbeat
from penstock.streams import COMMANDS, DISPATCH, HEARTBEATS
from tests.support import wait_until
from tests.system.service_processes import Services

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

NAMES = ["pool_registry", "heartbeat_monitor", "dispatcher", "scheduler"]
SECONDS = 5.0
CPU_SHARE = 0.15
"""Of a core; at rest it is 0.002. What is tried again comes every fifth of a second or less often."""
LINES_A_SECOND = 10


async def send_work_of_every_kind(client: Redis) -> None:
    """What each of its readers will fail at for as long as the trouble lasts."""
    for number in range(50):
        await publish(client, COMMANDS, 0, CreateQueue(pool="etl", queue=f"q{number}"))
        await publish(client, HEARTBEATS, 0, Heartbeat(pool="etl", worker=f"w{number}", worker_type="process"))
        run = SubmittedRun(id=new_run_id(0), name=f"r{number}", queue="default", spec=RunSpec(command="true"))
        await publish(client, DISPATCH, 0, SubmitRuns(pool="etl", runs=[run]))


class Trouble:
    """What is wrong with Redis, and how it ends."""

    def __init__(self, kind: str, server: EmbeddedRedis, client: Redis) -> None:
        self._kind, self._server, self._client = kind, server, client

    async def begin(self) -> None:
        if self._kind == "away":
            await asyncio.to_thread(self._server.kill)
        elif self._kind == "frozen":
            assert self._server.process
            self._server.process.send_signal(signal.SIGSTOP)
        elif self._kind == "full":
            await self._client.config_set("maxmemory", 1)
        else:
            await self._client.config_set("requirepass", "nobody knows it")
            await self._client.auth("nobody knows it")
            await self._client.client_kill_filter(_type="normal", skipme=True)

    async def end(self) -> None:
        if self._kind == "away":
            await asyncio.to_thread(self._server.start)
        elif self._kind == "frozen":
            assert self._server.process
            self._server.process.send_signal(signal.SIGCONT)
        elif self._kind == "full":
            await self._client.config_set("maxmemory", 0)
        else:
            await self._client.config_set("requirepass", "")


@pytest.mark.parametrize("kind", ["away", "frozen", "full", "locked"])
async def test_in_trouble_no_service_spins_or_floods_and_afterwards_all_go_on(
    own_redis: EmbeddedRedis, tmp_path: Path, kind: str
) -> None:
    async with aclosing(connect(own_redis.url)) as client:
        await endure(Trouble(kind, own_redis, client), client, own_redis.url, tmp_path)


async def endure(trouble: Trouble, client: Redis, url: str, folder: Path) -> None:
    penstock = Penstock(client, 1, timeout_seconds=60)
    with Services(url, folder, NAMES) as services:
        await penstock.create_pool("etl")
        await penstock.submit_runs("etl", [NewRun(command="true")])
        for process in services.processes:
            process.send_signal(signal.SIGSTOP)
        await send_work_of_every_kind(client)
        await trouble.begin()
        for process in services.processes:
            process.send_signal(signal.SIGCONT)

        spent, lines = await over(services, SECONDS)

        await trouble.end()
        dead = [name for name, process in zip(NAMES, services.processes, strict=True) if process.poll() is not None]
        assert dead == [], services.log()
        assert {name: share for name, share in spent.items() if share > CPU_SHARE} == {}, spent
        assert lines < LINES_A_SECOND * SECONDS * len(NAMES), services.log()[-3000:]

        async def made() -> Any:
            return len(await penstock.read_queues("etl")) == 51 and len(await penstock.read_runs("etl")) == 51

        await wait_until(made, what="what waited to be handled", timeout=60)


async def test_what_could_not_be_handled_comes_before_what_is_new(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    """Else the newer command would overtake it, and nobody who waits would send it again."""
    async with aclosing(connect(own_redis.url)) as client:
        penstock = Penstock(client, 1, timeout_seconds=60)
        with Services(own_redis.url, tmp_path, NAMES[:1]) as services:
            await penstock.create_pool("etl")
            (registry,) = services.processes
            registry.send_signal(signal.SIGSTOP)
            changes = QueueChanges(concurrency_limit=3)
            # The read that is waiting takes the first entry, whether the registry goes on or not.
            for _ in range(2):
                await publish(client, COMMANDS, 0, UpdateQueue(pool="etl", queue="default", changes=changes))
            await client.config_set("maxmemory", 1)
            registry.send_signal(signal.SIGCONT)

            async def failed() -> bool:
                return services.log().count("batch failed") >= 1

            await wait_until(failed, what="the older commands to fail", timeout=30)
            await client.config_set("maxmemory", 0)
            await penstock.update_queue("etl", "default", description="newer")

            assert (await penstock.read_queue("etl", "default")).concurrency_limit == 3
            assert await client.xlen(keys.key(0, "dead")) == 0


async def over(services: Services, seconds: float) -> tuple[dict[str, float], int]:
    """Shares of a core that each service takes, and the lines all of them write."""
    processes = [psutil.Process(process.pid) for process in services.processes]
    loop = asyncio.get_running_loop()

    def used() -> list[float]:
        return [sum(process.cpu_times()[:2]) for process in processes]

    before, began, said = used(), loop.time(), services.log().count("\n")

    async def long_enough() -> bool:
        return loop.time() - began > seconds

    await wait_until(long_enough, what="the trouble to last", timeout=seconds + 30, every=0.2)
    took = loop.time() - began
    shares = [(after - first) / took for first, after in zip(before, used(), strict=True)]
    return dict(zip(NAMES, shares, strict=True)), services.log().count("\n") - said
