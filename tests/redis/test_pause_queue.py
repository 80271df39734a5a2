from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.contracts.queues import PauseQueue
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


async def test_pausing_publishes_paused_once_and_tells_readers(registry: Registry) -> None:
    pool = await registry.pool()
    queue = await registry.queue("fast")
    await registry.forget()

    paused = await registry.result(PauseQueue(pool="etl", queue="fast"))

    (event,) = await registry.events()
    assert (paused["is_paused"], paused["status"]) == (True, "PAUSED")
    assert paused["updated"] > queue["updated"]
    assert event["event"] == "prefect.work-queue.paused"
    assert event["resource"]["prefect.resource.id"] == f"prefect.work-queue.{queue['id']}"
    assert event["related"][0]["prefect.resource.id"] == f"prefect.work-pool.{pool['id']}"
    assert event["related"][0]["prefect.resource.role"] == "work-pool"
    assert (event["payload"], event["follows"], event["seq"]) == ({}, None, 2)
    assert await registry.definitions() == [{"type": "pool.changed", "pool_id": pool["id"], "pool": "etl"}]


async def test_pausing_twice_is_answered_and_silent(registry: Registry) -> None:
    await registry.pool()
    first = await registry.result(PauseQueue(pool="etl", queue="default"))
    await registry.forget()

    assert await registry.result(PauseQueue(pool="etl", queue="default")) == first
    assert await registry.quiet()


async def test_pausing_a_queue_leaves_its_pool_and_the_other_queues_alone(registry: Registry) -> None:
    await registry.pool()
    await registry.queue("fast")

    await registry.result(PauseQueue(pool="etl", queue="default"))

    pool = await registry.pool(if_missing=True)
    assert (pool["is_paused"], [queue["is_paused"] for queue in pool["queues"]]) == (False, [True, False])


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await assert_again_is_silent(registry, PauseQueue(pool="etl", queue="default"))
