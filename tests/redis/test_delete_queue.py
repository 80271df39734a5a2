from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock import keys
from penstock.contracts.queues import DeleteQueue
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


async def test_deleting_publishes_deleted_and_tells_readers_what_is_gone(registry: Registry) -> None:
    pool = await registry.pool()
    queue = await registry.queue("fast")
    await registry.forget()

    answered = await registry.result(DeleteQueue(pool="etl", queue="fast"))

    (event,) = await registry.events()
    assert answered == queue
    assert event["event"] == "prefect.work-queue.deleted"
    assert event["resource"]["prefect.resource.id"] == f"prefect.work-queue.{queue['id']}"
    assert event["related"][0]["prefect.resource.name"] == "etl"
    assert await registry.definitions() == [
        {
            "type": "queue.deleted",
            "pool_id": pool["id"],
            "pool": "etl",
            "worker_type": "process",
            "queue": {"id": queue["id"], "name": "fast"},
        }
    ]


async def test_nothing_of_the_queue_is_left_behind(registry: Registry, client: Redis) -> None:
    pool = await registry.pool()
    before = set(await registry.state())
    queue = await registry.queue("fast")

    await registry.result(DeleteQueue(pool="etl", queue="fast"))

    assert set(await registry.state()) == before
    assert await registry.pool(if_missing=True) == pool
    assert await client.hkeys(keys.key(0, "pool_queue_names", pool["id"])) == [b"default"]
    assert await client.zcard(keys.key(0, "pool_queues", pool["id"])) == 1
    ledger = await client.hkeys(keys.key(0, "event_ledger"))
    assert not [name for name in ledger if queue["id"].encode() in name]


async def test_deleting_leaves_a_gap(registry: Registry) -> None:
    await registry.pool()
    await registry.queue("two")
    await registry.queue("three")
    await registry.forget()

    await registry.result(DeleteQueue(pool="etl", queue="two"))

    pool = await registry.pool(if_missing=True)
    assert [queue["priority"] for queue in pool["queues"]] == [1, 3]
    assert await registry.names() == ["work-queue.deleted two"]


async def test_the_default_queue_cannot_be_deleted_whatever_its_name(registry: Registry) -> None:
    await registry.pool()
    await registry.change_queue("default", name="main")
    await registry.queue("default")
    await registry.forget()

    code, said = await registry.error(DeleteQueue(pool="etl", queue="main"))

    assert code == "conflict"
    assert "default queue" in said
    assert await registry.quiet()
    await registry.result(DeleteQueue(pool="etl", queue="default"))


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await registry.queue("fast")
    await assert_again_is_silent(registry, DeleteQueue(pool="etl", queue="fast"))
