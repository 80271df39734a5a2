from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock import keys
from penstock.contracts.pools import CreatePool, DeletePool, PausePool
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


async def test_deleting_publishes_the_queues_by_priority_and_then_the_pool(registry: Registry) -> None:
    pool = await registry.pool()
    low = await registry.queue("low", priority=9)
    high = await registry.queue("high", priority=1)
    await registry.forget()

    answered = await registry.result(DeletePool(pool="etl"))

    events = await registry.events()
    assert [(event["event"], event["resource"]["prefect.resource.name"]) for event in events] == [
        ("prefect.work-queue.deleted", "high"),
        ("prefect.work-queue.deleted", "default"),
        ("prefect.work-queue.deleted", "low"),
        ("prefect.work-pool.deleted", "etl"),
    ]
    default_id = f"prefect.work-queue.{pool['default_queue_id']}"
    assert events[-1]["related"] == [{"prefect.resource.id": default_id, "prefect.resource.role": "default-queue"}]
    assert events[0]["related"] == [events[-1]["resource"]]
    assert answered["id"] == pool["id"]
    assert await registry.definitions() == [
        {
            "type": "pool.deleted",
            "pool_id": pool["id"],
            "pool": "etl",
            "worker_type": "process",
            "queues": [
                {"id": high["id"], "name": "high"},
                {"id": pool["default_queue_id"], "name": "default"},
                {"id": low["id"], "name": "low"},
            ],
        }
    ]


async def test_nothing_of_the_pool_is_left_behind(registry: Registry, client: Redis) -> None:
    await registry.pool("stays")
    before = set(await registry.state())
    ledger = await client.hgetall(keys.key(0, "event_ledger"))
    await registry.pool()
    await registry.queue("fast")
    await registry.result(PausePool(pool="etl"))

    await registry.result(DeletePool(pool="etl"))

    assert set(await registry.state()) == before
    assert await client.hgetall(keys.key(0, "event_ledger")) == ledger
    assert await client.hkeys(keys.key(0, "pools")) == [b"stays"]


async def test_a_pool_of_the_same_name_begins_a_new_life(registry: Registry) -> None:
    first = await registry.pool()
    await registry.result(DeletePool(pool="etl"))
    await registry.forget()

    second = await registry.result(CreatePool(pool="etl"))

    assert second["id"] != first["id"]
    assert [event["seq"] for event in await registry.events()] == [1, 1, 2]


async def test_delivered_again_it_is_silent_although_the_pool_exists_again(registry: Registry) -> None:
    await registry.pool()
    await registry.result(DeletePool(pool="etl", id="d-1"))
    await registry.pool()
    before = await registry.state()

    await registry.result(DeletePool(pool="etl", id="d-1"))

    assert await registry.state() == before


async def test_delivered_again_it_answers_the_same(registry: Registry) -> None:
    await registry.pool()
    await assert_again_is_silent(registry, DeletePool(pool="etl"))
