"""How many repeated heartbeats one monitor applies in a second, against a bare batch read of the same stream.

Run ``python -m tests.benchmarks.heartbeats [heartbeats]``; it starts a Redis of its own. Only the ratio compares between
machines.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import uvloop

from penstock import keys
from penstock.bus.broker import MAX_BATCH, ensure_group
from penstock.bus.connection import connect
from penstock.bus.delivery import deliver
from penstock.bus.entries import Entry, entry_fields
from penstock.cli.embedded_redis import EmbeddedRedis
from penstock.streams import HEARTBEATS
from services.heartbeat_monitor.app import SERVICE, subscriptions
from services.heartbeat_monitor.handlers import Handlers
from services.heartbeat_monitor.store import MonitorStore
from tests.definitions import define_pool
from tests.heartbeats import heartbeat

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

WORKERS = 1000
ROUNDS = 3
STREAM = keys.key(0, HEARTBEATS.name)


async def send(client: Redis, count: int) -> None:
    """One heartbeat of each worker after the other, until there are enough."""
    fields: list[Any] = [entry_fields(heartbeat("etl", f"worker-{n}", queues=["default"])) for n in range(WORKERS)]
    for start in range(0, count, WORKERS):
        pipe = client.pipeline(transaction=False)
        for n in range(min(WORKERS, count - start)):
            pipe.xadd(STREAM, fields[n])
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


async def measure(client: Redis, count: int) -> tuple[float, float]:
    """Heartbeats a second: bare, and applied."""
    subscription = subscriptions(Handlers(MonitorStore(client), asyncio.Event()))[0]

    async def nothing(_: list[Entry]) -> None:
        return None

    async def apply(batch: list[Entry]) -> None:
        await deliver(client, subscription, batch)

    await client.flushall()
    await define_pool(client, "etl")
    for group in ("bare", SERVICE):
        await ensure_group(client, HEARTBEATS, 0, group)
    await send(client, WORKERS)
    await drain(client, SERVICE, apply)  # everybody is ONLINE from here on
    await drain(client, "bare", nothing)
    await send(client, count)
    return await drain(client, "bare", nothing), await drain(client, SERVICE, apply)


async def main(count: int) -> None:
    """Measure a few times and print the medians."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder), durable=False) as server:
        client = connect(server.url)
        rounds = [await measure(client, count) for _ in range(ROUNDS)]
        await client.aclose()
    bare, applied = (statistics.median(rates) for rates in zip(*rounds, strict=True))
    print(f"{count} heartbeats of {WORKERS} workers, batches of {MAX_BATCH}, median of {ROUNDS}")
    print(f"bare batch read  {bare:8.0f}/s")
    print(f"applied          {applied:8.0f}/s")
    print(f"ratio            {applied / bare:8.2f}")


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    uvloop.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000))
