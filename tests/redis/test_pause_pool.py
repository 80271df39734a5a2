from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.contracts.pools import PausePool, ResumePool
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


async def test_pausing_publishes_paused_once_and_tells_readers(registry: Registry) -> None:
    pool = await registry.pool()
    created = (await registry.events())[-1]
    await registry.forget()

    paused = await registry.result(PausePool(pool="etl"))

    (event,) = await registry.events()
    assert (paused["is_paused"], paused["status"]) == (True, "PAUSED")
    assert paused["updated"] > pool["updated"]
    assert event["event"] == "prefect.work-pool.paused"
    assert event["resource"] == {
        "prefect.resource.id": f"prefect.work-pool.{pool['id']}",
        "prefect.resource.name": "etl",
        "prefect.work-pool.type": "process",
    }
    assert (event["related"], event["payload"]) == ([], {})
    assert event["follows"] == created["id"]
    assert await registry.definitions() == [{"type": "pool.changed", "pool_id": pool["id"], "pool": "etl"}]


async def test_pausing_twice_is_answered_and_silent(registry: Registry) -> None:
    await registry.pool()
    first = await registry.result(PausePool(pool="etl"))
    await registry.forget()

    assert await registry.result(PausePool(pool="etl")) == first
    assert await registry.quiet()


async def test_pausing_a_pool_does_not_pause_its_queues(registry: Registry) -> None:
    pool = await registry.pool()
    await registry.come_online(pool["id"])

    paused = await registry.result(PausePool(pool="etl"))

    assert [(queue["is_paused"], queue["status"]) for queue in paused["queues"]] == [(False, "READY")]


async def test_an_old_pause_delivered_again_after_a_resume_changes_nothing(registry: Registry) -> None:
    await registry.pool()
    await registry.result(PausePool(pool="etl", id="p-1"))
    await registry.result(ResumePool(pool="etl"))
    await registry.forget()

    await registry.result(PausePool(pool="etl", id="p-1"))

    assert await registry.quiet()
    assert not (await registry.result(ResumePool(pool="etl")))["is_paused"]


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await assert_again_is_silent(registry, PausePool(pool="etl"))
