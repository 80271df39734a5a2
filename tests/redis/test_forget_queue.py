from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import keys
from tests.definitions import define_pool
from tests.heartbeats import Monitor
from tests.support import read_events

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_a_deleted_queue_is_served_by_nobody_and_its_workers_stay_online(client: Redis) -> None:
    monitor = Monitor(client)
    pool = await define_pool(client, "etl", queues={"urgent": {}})
    await monitor.beat("etl", "w1", queues=["urgent", "default"])
    before = await read_events(client)

    await monitor.store.forget_queue(0, pool.queues["urgent"])
    await monitor.store.forget_queue(0, pool.queues["urgent"])

    assert await client.exists(keys.key(0, "queue_online", pool.queues["urgent"])) == 0
    assert await client.smembers(keys.key(0, "queue_online", pool.queues["default"])) == {b"w1"}
    assert await client.smembers(keys.key(0, "pool_online", pool.id)) == {b"w1"}
    assert await read_events(client) == before
