from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock import keys
from tests.definitions import define_pool, define_queue
from tests.heartbeats import Monitor, event_names
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def monitor(client: Redis) -> Monitor:
    return Monitor(client)


async def test_a_queue_that_workers_waited_for_becomes_ready_and_they_are_announced_again(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", "w1", queues=["new"])
    await monitor.beat("etl", "w2", queues=["new", "default"])
    await monitor.beat("etl", "w3", queues=["default"])
    await monitor.beat("etl", "w4")
    await monitor.beat("etl", "w4", stopping=True)
    seen, told = len(await read_events(client)), len(await read_messages(client, "dispatch"))
    queue_id = await define_queue(client, pool, "new")

    assert await monitor.store.bind_queues(0, [pool.id]) == 2

    assert await event_names(client, seen) == ["prefect.work-queue.ready new"]
    assert [message["worker"] for message in (await read_messages(client, "dispatch"))[told:]] == ["w1", "w2"]
    assert await client.smembers(keys.key(0, "queue_online", queue_id)) == {b"w1", b"w2"}


async def test_a_worker_that_was_bound_by_its_own_heartbeat_meanwhile_is_announced_by_that(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", "w1", queues=["new"], version="1")
    await define_queue(client, pool, "new")

    await monitor.beat("etl", "w1", queues=["new"], version="2")

    assert (await event_names(client))[-1] == "prefect.work-queue.ready new"
    assert len(await read_messages(client, "dispatch")) == 2
    assert await monitor.store.bind_queues(0, [pool.id]) == 0


async def test_binding_again_says_nothing(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl", queues={"urgent": {}})
    await monitor.beat("etl", "w1", queues=["urgent"])
    before = await read_events(client), await read_messages(client, "dispatch")

    assert await monitor.store.bind_queues(0, [pool.id]) == 0

    assert (await read_events(client), await read_messages(client, "dispatch")) == before


async def test_a_queue_under_a_new_name_is_no_longer_served_by_who_named_the_old_one(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl", queues={"old": {}})
    await monitor.beat("etl", "w1", queues=["old"])
    await monitor.beat("etl", "w2", queues=["new"])
    seen, told = len(await read_events(client)), len(await read_messages(client, "dispatch"))
    await client.hdel(keys.key(0, "pool_queue_names", pool.id), "old")
    await client.hset(keys.key(0, "pool_queue_names", pool.id), "other", pool.queues["old"])
    await client.hset(keys.key(0, "queue", pool.queues["old"]), "name", '"other"')

    assert await monitor.store.bind_queues(0, [pool.id]) == 1

    assert await event_names(client, seen) == ["prefect.work-queue.not-ready other"]
    assert [message["worker"] for message in (await read_messages(client, "dispatch"))[told:]] == ["w1"]


async def test_a_queue_served_by_everybody_does_not_become_ready_twice(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", "w1", queues=["new"])
    await monitor.beat("etl", "w2")
    seen = len(await read_events(client))
    await define_queue(client, pool, "new")

    assert await monitor.store.bind_queues(0, [pool.id]) == 1

    assert await event_names(client, seen) == []


async def test_a_paused_queue_is_bound_in_silence(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", "w1", queues=["new"])
    seen = len(await read_events(client))
    queue_id = await define_queue(client, pool, "new", paused=True)

    await monitor.store.bind_queues(0, [pool.id])

    assert await event_names(client, seen) == []
    assert await client.smembers(keys.key(0, "queue_online", queue_id)) == {b"w1"}


async def test_a_pool_that_is_gone_already_is_left_alone(monitor: Monitor, client: Redis) -> None:
    assert await monitor.store.bind_queues(0, ["0198f7a4-0000-4000-8000-000000000000"]) == 0

    assert await client.keys("*") == []
