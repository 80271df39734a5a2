"""Many monitors, many workers, one first moment: a pool becomes ready once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from penstock import keys
from penstock.bus.connection import connect, redis_now_ms
from services.heartbeat_monitor.store import MonitorStore
from tests.definitions import define_pool
from tests.heartbeats import delivered, heartbeat
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

WORKERS = 20
MONITORS = 5
ROUNDS = 10


async def test_twenty_first_heartbeats_through_five_monitors_make_a_pool_ready_once(
    client: Redis, redis_url: str
) -> None:
    async with AsyncExitStack() as opened:
        monitors = []
        for _ in range(MONITORS):
            own = connect(redis_url)
            opened.push_async_callback(own.aclose)
            monitors.append(MonitorStore(own))
        for number in range(ROUNDS):
            await client.flushall()
            pool = await define_pool(client, f"etl-{number}", queues={"fast": {}, "slow": {}})
            now_ms = await redis_now_ms(client)
            first = [
                delivered(heartbeat(pool.name, f"w{worker}", boot_id=f"boot-{worker}"), f"{now_ms}-{worker}")
                for worker in range(WORKERS)
            ]

            decisions = await asyncio.gather(
                *(monitors[worker % MONITORS].apply_heartbeats(0, [delivery]) for worker, delivery in enumerate(first))
            )

            assert decisions == [["changed"]] * WORKERS
            events = [(event["event"], event["seq"]) for event in await read_events(client)]
            ready = [name for name, _ in events if name.endswith(".ready")]
            assert ready == ["prefect.work-pool.ready"] + ["prefect.work-queue.ready"] * 3
            assert events.count(("penstock.worker.online", 2)) == WORKERS
            assert len(await read_messages(client, "dispatch")) == WORKERS
            assert await client.scard(keys.key(0, "pool_online", pool.id)) == WORKERS


async def test_the_same_first_heartbeat_through_five_monitors_at_once_is_told_once(
    client: Redis, redis_url: str
) -> None:
    """A reclaimed entry may be in several hands."""
    pool = await define_pool(client, "etl")
    first = delivered(heartbeat(pool.name), f"{await redis_now_ms(client)}-0")
    async with AsyncExitStack() as opened:
        monitors = []
        for _ in range(MONITORS):
            own = connect(redis_url)
            opened.push_async_callback(own.aclose)
            monitors.append(MonitorStore(own))

        decisions = await asyncio.gather(*(monitor.apply_heartbeats(0, [first]) for monitor in monitors * 4))

    assert sorted(decision for (decision,) in decisions) == ["changed"] + ["stale"] * (4 * MONITORS - 1)
    assert [event["event"] for event in await read_events(client)].count("prefect.work-pool.ready") == 1
