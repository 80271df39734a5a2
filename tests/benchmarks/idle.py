"""What everything costs at rest: processor and memory of each service, a worker and Redis while 1,000 pools have nothing to do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import psutil
import uvloop

from penstock.client import Penstock
from tests.benchmarks.process_worker import process_worker, ready_pool
from tests.benchmarks.report import Budget, Figure, Report
from tests.benchmarks.stage import connect, cpu_seconds, empty_redis, services
from tests.definitions import define_pool
from tests.support import wait_until

if TYPE_CHECKING:
    import argparse

POOLS: Final = 1_000
SERVICES: Final = ("pool_registry", "heartbeat_monitor", "dispatcher", "scheduler")
SETTLE_SECONDS: Final = 5.0
"""After a start there is something to do: scripts are loaded, the first sweeps are made."""
WATCHED_SECONDS: Final = 20.0
CPU_PERCENT: Final = 2.0
MEMORY_MB: Final = 80.0
PATIENCE_SECONDS: Final = 60.0


async def watched(url: str, given: argparse.Namespace) -> list[Figure]:
    """Look at all of them at the same time, so often."""
    pools = POOLS // 50 if given.quick else POOLS
    settle, seconds = (1.0, 2.0) if given.quick else (SETTLE_SECONDS, WATCHED_SECONDS)
    client = connect(url)
    for number in range(pools):
        await define_pool(client, f"pool-{number}")
    with services(url, SERVICES) as running, process_worker(url, "pool-0") as worker:
        penstock = Penstock(client, 1)
        await wait_until(lambda: ready_pool(penstock, "pool-0"), what="a worker", timeout=PATIENCE_SECONDS)
        redis = psutil.Process((await client.info("server"))["process_id"])
        watched = {**running, "worker": worker, "redis": redis}
        cpu: dict[str, list[float]] = {name: [] for name in watched}
        memory: dict[str, list[float]] = {name: [] for name in watched}
        # Our own connection must not keep Redis busy.
        await client.aclose()
        await asyncio.sleep(settle)
        for _ in range(given.rounds):
            before = {name: cpu_seconds(process) for name, process in watched.items()}
            await asyncio.sleep(seconds)
            for name, process in watched.items():
                cpu[name].append((cpu_seconds(process) - before[name]) / seconds * 100)
                memory[name].append(process.memory_info().rss / 1e6)
    # A few seconds after a start say nothing.
    return [row(name, "% of a core", values, None if given.quick else CPU_PERCENT) for name, values in cpu.items()] + [
        row(name, "MB", values, None if name == "redis" else MEMORY_MB) for name, values in memory.items()
    ]


def row(name: str, unit: str, values: list[float], limit: float | None) -> Figure:
    """Spell one figure."""
    figure = Figure(name, unit, values)
    if limit is None:
        return figure
    return Figure(name, unit, values, budget=Budget(f"at most {limit:g} {unit}", (figure.median or 0) <= limit))


def measure(given: argparse.Namespace) -> Report:
    """Measure; ``--quick`` with 20 pools, for a moment, and without a budget for the processor."""
    with empty_redis() as url:
        rows = uvloop.run(watched(url, given))
    pools = POOLS // 50 if given.quick else POOLS
    return Report(f"At rest with {pools:,} pools, median of {given.rounds}", rows)
