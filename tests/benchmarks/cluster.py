"""What partitions cost, and a Redis Cluster: the same lives of runs with 1 partition, with 16, and with 16 on three masters.

Eight pools, each with a worker; all workers and the submitter are one process, the same in all of them. On a machine of two cores
it shows what spreading costs, not what it brings.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psutil
import uvloop

from penstock import keys
from penstock.cli.embedded_redis import EmbeddedRedis
from penstock.client import NewRun, Penstock
from penstock.contracts.workers import AssignRuns
from penstock.settings import Settings
from penstock.worker.custom import join
from tests.benchmarks.lifecycle import ENTRYPOINT, PARAMETERS, PATIENCE_SECONDS
from tests.benchmarks.report import Figure, Report, against
from tests.benchmarks.stage import SERVICES, connect, cpu_seconds
from tests.redis_cluster import LocalCluster
from tests.system.service_processes import Services

if TYPE_CHECKING:
    import argparse

RUNS: Final = 20_000
POOLS: Final = tuple(f"bench-{number}" for number in range(8))
PARTITIONS: Final = 16
MASTERS: Final = 3
SUBMISSION: Final = 500
SLOTS: Final = 200


class Setup(NamedTuple):
    """Where the runs live."""

    partitions: int
    masters: int

    @property
    def name(self) -> str:
        """As the table has it."""
        where = f"a cluster of {self.masters}" if self.masters > 1 else "one Redis"
        return f"{self.partitions} partition{'s' if self.partitions > 1 else ''} on {where}"


class Cost(NamedTuple):
    """Runs a second, and microseconds of CPU a run: of all Redis servers, of all services."""

    rate: float
    redis: float
    services: float


SETUPS: Final = (Setup(1, 1), Setup(PARTITIONS, 1), Setup(PARTITIONS, MASTERS))


async def hands(pool: str, settings: Settings, joined: asyncio.Event) -> None:
    """Answer every assignment of a pool until cancelled."""
    async with join(pool, name="hands", slots=SLOTS, heartbeat_seconds=5, settings=settings) as worker:
        joined.set()
        async for message in worker:
            for run in message.runs if isinstance(message, AssignRuns) else ():
                worker.report(run, "RUNNING")
                worker.report(run, "COMPLETED")


async def until_idle(client: Any, penstock: Penstock, partitions: int) -> None:
    """Wait until nothing waits and nothing is in flight."""
    pools = [(keys.partition_of_pool(name, partitions), await penstock.read_pool(name)) for name in POOLS]
    queues = [(partition, pool.default_queue_id) for partition, pool in pools]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            pipe = client.pipeline(transaction=False)
            for (partition, pool), (_, queue_id) in zip(pools, queues, strict=True):
                pipe.zcard(keys.key(partition, "waiting", queue_id))
                pipe.zcard(keys.key(partition, "pool_in_flight", pool.id))
            if not any(await pipe.execute()):
                return
            await asyncio.sleep(0.01)


async def lives(url: str, setup: Setup, runs: int, servers: list[psutil.Process]) -> Cost:
    """Live runs on services of their own."""
    settings = Settings(redis_url=url, partitions=setup.partitions)
    client = connect(url)
    penstock = Penstock(client, setup.partitions, timeout_seconds=PATIENCE_SECONDS)
    variables = {"PENSTOCK_PARTITIONS": str(setup.partitions)}
    with tempfile.TemporaryDirectory() as logs, Services(url, Path(logs), list(SERVICES), **variables) as running:
        services = [psutil.Process(process.pid) for process in running.processes]
        for pool in POOLS:
            await penstock.create_pool(pool)
        joined = {pool: asyncio.Event() for pool in POOLS}
        async with asyncio.TaskGroup() as group:
            working = [group.create_task(hands(pool, settings, joined[pool])) for pool in POOLS]
            await asyncio.gather(*(event.wait() for event in joined.values()))

            async def submit(pool: str, count: int) -> None:
                for start in range(0, count, SUBMISSION):
                    some = [NewRun(entrypoint=ENTRYPOINT, parameters=PARAMETERS, name="bench")] * SUBMISSION
                    await penstock.submit_runs(pool, some[: count - start])

            async def live(count: int) -> None:
                await asyncio.gather(*(submit(pool, count // len(POOLS)) for pool in POOLS))
                await until_idle(client, penstock, setup.partitions)

            await live(len(POOLS) * 10)  # warm
            before = [sum(map(cpu_seconds, processes)) for processes in (servers, services)]
            start = time.perf_counter()
            await live(runs)
            seconds = time.perf_counter() - start
            after = [sum(map(cpu_seconds, processes)) for processes in (servers, services)]
            for task in working:
                task.cancel()
        await client.aclose()
    redis, served = ((late - early) / runs * 1e6 for late, early in zip(after, before, strict=True))
    return Cost(runs / seconds, redis, served)


def measured(setup: Setup, runs: int) -> Cost:
    """Start what a setup needs, and live."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if setup.masters > 1:
            cluster = stack.enter_context(LocalCluster(folder, setup.masters))
            url, nodes = cluster.url, cluster.nodes
        else:
            nodes = [stack.enter_context(EmbeddedRedis(folder, durable=False))]
            url = nodes[0].url
        servers = [psutil.Process(node.process.pid) for node in nodes if node.process]
        return uvloop.run(lives(url, setup, runs, servers))


def measure(given: argparse.Namespace) -> Report:
    """Measure the setups in turn, each so often."""
    runs = given.runs or (RUNS // 100 if given.quick else RUNS)
    found: dict[Setup, list[Cost]] = {setup: [] for setup in SETUPS}
    for _ in range(given.rounds):
        for setup in SETUPS:
            found[setup].append(measured(setup, runs))
    rows = []
    for part, unit in (("rate", "runs/s"), ("redis", "us of Redis a run"), ("services", "us of services a run")):
        base = [getattr(cost, part) for cost in found[SETUPS[0]]]
        for setup, costs in found.items():
            values = [getattr(cost, part) for cost in costs]
            is_base = setup == SETUPS[0]
            ratio = None if is_base else against(base, values)
            rows.append(Figure(setup.name, unit, values, "" if is_base else SETUPS[0].name, ratio))
    return Report(f"cluster: {runs:,} runs of {len(POOLS)} pools, median of {given.rounds}", rows)
