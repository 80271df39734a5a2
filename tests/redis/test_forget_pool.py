from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.contracts.pools import PoolDeleted, QueueGone
from penstock.contracts.workers import RefuseWorker
from tests.definitions import DefinedPool, define_pool
from tests.heartbeats import Monitor, event_names
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def monitor(client: Redis) -> Monitor:
    return Monitor(client)


async def delete(client: Redis, pool: DefinedPool) -> PoolDeleted:
    """Delete a pool's definition as the registry does."""
    await client.hdel(keys.key(0, "pools"), pool.name)
    names = [keys.key(0, family, pool.id) for family in ("pool", "pool_queues", "pool_queue_names")]
    await client.delete(*names, *(keys.key(0, "queue", queue_id) for queue_id in pool.queues.values()))
    gone = [QueueGone(id=queue_id, name=name) for name, queue_id in pool.queues.items()]
    return PoolDeleted(pool_id=pool.id, pool=pool.name, worker_type=pool.type, queues=gone)


async def test_a_deleted_pool_leaves_no_worker_behind_and_each_is_told(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, 'e "tl"', queues={"urgent": {}})
    await define_pool(client, "other")
    await monitor.beat(pool.name, "w1", queues=["urgent"])
    await monitor.beat(pool.name, "w2")
    await monitor.beat(pool.name, "gone")
    await monitor.beat(pool.name, "gone", stopping=True)
    await monitor.beat("other", "w1")
    seen = len(await read_events(client))

    assert await monitor.store.forget_pool(0, await delete(client, pool)) == 2

    assert await event_names(client, seen) == [
        "penstock.worker.offline w1",
        "penstock.worker.refused w1",
        "penstock.worker.offline w2",
        "penstock.worker.refused w2",
    ]
    assert (await read_events(client))[seen]["payload"]["reason"] == "pool-deleted"
    assert [event["seq"] for event in (await read_events(client))[seen:]] == [3, 1, 3, 1]
    assert (await read_events(client))[seen]["related"][0]["prefect.resource.name"] == pool.name
    (told,) = await read_messages(client, "inbox", f"{pool.name}/w1")
    assert RefuseWorker.model_validate(told) == RefuseWorker(
        boot_id="boot-1", code="pool_deleted", reason='work pool "e \\"tl\\"" was deleted'
    )
    names: Any = await client.keys("*")
    left = [name.decode() for name in names]
    assert [name for name in left if pool.id in name or pool.queues["urgent"] in name] == []
    assert await client.zcard(keys.key(0, "liveness")) == 1


async def test_forgetting_a_pool_again_says_nothing(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl")
    message = await delete(client, pool)
    await monitor.store.forget_pool(0, message)
    before = await read_events(client), await read_messages(client, "inbox", "etl/w1")

    assert await monitor.store.forget_pool(0, message) == 0

    assert (await read_events(client), await read_messages(client, "inbox", "etl/w1")) == before


async def test_a_heartbeat_after_the_deletion_is_refused(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl")
    await monitor.store.forget_pool(0, await delete(client, pool))

    assert await monitor.beat("etl") == "unknown_pool"

    assert 0 < await client.ttl(keys.key(0, "inbox", "etl/w1")) <= 3600
