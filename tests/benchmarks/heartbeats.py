"""How many repeated heartbeats one monitor applies in a second, against a bare batch read of the same stream.

With 1,000 workers known, and with 100,000.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import uvloop

from penstock import keys
from penstock.bus.broker import MAX_BATCH, ensure_group
from penstock.bus.delivery import deliver
from penstock.bus.entries import Entry, entry_fields
from penstock.streams import HEARTBEATS
from services.heartbeat_monitor.app import SERVICE, subscriptions
from services.heartbeat_monitor.handlers import Handlers
from services.heartbeat_monitor.store import MonitorStore
from tests.benchmarks.report import Budget, Figure, Report, against
from tests.benchmarks.stage import connect, empty_redis
from tests.definitions import define_pool
from tests.heartbeats import heartbeat

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

COUNT: Final = 50_000
WORKERS: Final = 1000
MANY_WORKERS: Final = 100_000
LEAST_A_SECOND: Final = 20_000
"""Budget of the design."""
STREAM: Final = keys.key(0, HEARTBEATS.name)
SENT_AT_ONCE: Final = 1000


async def send(client: Redis, workers: int, count: int) -> None:
    """One heartbeat of each worker after the other, until there are enough."""
    pipe = client.pipeline(transaction=False)
    for number in range(count):
        fields: Any = entry_fields(heartbeat("etl", f"worker-{number % workers}", queues=["default"]))
        pipe.xadd(STREAM, fields)
        if len(pipe) == SENT_AT_ONCE:
            await pipe.execute()
    await pipe.execute()


async def drain(client: Redis, group: str, apply: Callable[[list[Entry]], Awaitable[None]]) -> float:
    """Read everything in batches as a subscriber does; answer entries a second."""
    done, start = 0, time.perf_counter()
    while True:
        found: Any = await client.xreadgroup(group, "benchmark", {STREAM: ">"}, count=MAX_BATCH)
        if not found:
            return done / (time.perf_counter() - start)
        batch = [Entry(0, HEARTBEATS.name, entry_id.decode(), fields) for entry_id, fields in found[0][1]]
        await apply(batch)
        await client.xack(STREAM, group, *(entry.id for entry in batch))
        done += len(batch)


async def measured(url: str, workers: int, count: int) -> tuple[float, float]:
    """Heartbeats a second: bare, and applied."""
    client = connect(url)
    subscription = subscriptions(Handlers(MonitorStore(client), asyncio.Event()))[0]

    async def nothing(_: list[Entry]) -> None:
        return None

    async def apply(batch: list[Entry]) -> None:
        await deliver(client, subscription, batch)

    try:
        await client.flushall()
        await define_pool(client, "etl")
        for group in ("bare", SERVICE):
            await ensure_group(client, HEARTBEATS, 0, group)
        await send(client, workers, workers)
        await drain(client, SERVICE, apply)  # everybody is ONLINE from here on
        await drain(client, "bare", nothing)
        await send(client, workers, count)
        return await drain(client, "bare", nothing), await drain(client, SERVICE, apply)
    finally:
        await client.aclose()


def measure(given: argparse.Namespace) -> Report:
    """Measure with some and with many workers."""
    shrink = 100 if given.quick else 1
    figures = []
    with empty_redis() as url:
        for workers in (WORKERS // shrink, MANY_WORKERS // shrink):
            rounds = [uvloop.run(measured(url, workers, COUNT // shrink)) for _ in range(given.rounds)]
            bare, applied = zip(*rounds, strict=True)
            applied_figure = Figure(
                f"applied, {workers:,} workers",
                "heartbeats/s",
                applied,
                against="bare",
                ratio=against(bare, applied),
                budget=Budget(
                    f"at least {LEAST_A_SECOND:,}/s", met=sorted(applied)[len(applied) // 2] >= LEAST_A_SECOND
                ),
            )
            figures += [Figure(f"bare batch read, {workers:,} workers", "heartbeats/s", bare), applied_figure]
    return Report(
        f"heartbeats: {COUNT // shrink:,} in batches of {MAX_BATCH}, one monitor, median of {given.rounds}", figures
    )
