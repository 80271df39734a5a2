from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import keys
from tests.definitions import define_pool
from tests.heartbeats import Monitor

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_names_whose_record_expired_are_dropped_and_all_others_kept(client: Redis) -> None:
    monitor = Monitor(client)
    pool = await define_pool(client, "etl")
    for name in ("online", "offline", "expired"):
        await monitor.beat("etl", name)
    for name in ("offline", "expired"):
        await monitor.beat("etl", name, stopping=True)
    await client.delete(keys.key(0, "worker", f"{pool.id}/expired"))

    assert await monitor.store.forget_workers(0) == 1
    assert await monitor.store.forget_workers(0) == 0

    assert await client.smembers(keys.key(0, "pool_workers", pool.id)) == {b"online", b"offline"}
