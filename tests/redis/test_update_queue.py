from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.contracts.pools import PausePool
from penstock.contracts.queues import QueueChanges, UpdateQueue
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


async def priorities(registry: Registry) -> dict[str, int]:
    """Names and priorities of the pool's queues, by priority."""
    pool = await registry.pool(if_missing=True)
    return {queue["name"]: queue["priority"] for queue in pool["queues"]}


async def test_several_fields_are_one_event_with_from_and_to(registry: Registry) -> None:
    await registry.pool()
    queue = await registry.queue("slow")
    await registry.forget()

    after = await registry.change_queue("slow", concurrency_limit=4, name="fast", description="d", priority=8)

    (event,) = await registry.events()
    assert after == {
        **queue,
        "name": "fast",
        "description": "d",
        "concurrency_limit": 4,
        "priority": 8,
        "updated": after["updated"],
    }
    assert after["updated"] > queue["updated"]
    assert event["event"] == "prefect.work-queue.updated"
    assert event["resource"]["prefect.resource.name"] == "fast"
    assert event["related"][0]["prefect.resource.role"] == "work-pool"
    assert event["payload"] == {
        "updated_fields": ["name", "description", "concurrency_limit", "priority"],
        "updates": {
            "name": {"from": "slow", "to": "fast"},
            "description": {"from": None, "to": "d"},
            "concurrency_limit": {"from": None, "to": 4},
            "priority": {"from": 2, "to": 8},
        },
    }
    assert len(await registry.definitions()) == 1


async def test_a_renamed_queue_is_found_by_its_new_name_only(registry: Registry) -> None:
    await registry.pool()
    queue = await registry.queue("slow")

    await registry.change_queue("slow", name="größe-数据")

    assert (await registry.change_queue("größe-数据"))["id"] == queue["id"]
    code, said = await registry.error(UpdateQueue(pool="etl", queue="slow", changes=QueueChanges()))
    assert code == "not_found"
    assert "there is: default, größe-数据" in said
    assert (await registry.queue("slow"))["id"] != queue["id"]


async def test_a_name_of_another_queue_is_a_conflict_and_nothing_of_the_update_happens(registry: Registry) -> None:
    await registry.pool()
    await registry.queue("slow")
    await registry.forget()

    code, _ = await registry.error(
        UpdateQueue(pool="etl", queue="slow", changes=QueueChanges(name="default", priority=1, concurrency_limit=3))
    )

    assert code == "conflict"
    assert await registry.quiet()
    assert await priorities(registry) == {"default": 1, "slow": 2}


async def test_a_taken_priority_shifts_up_to_the_place_the_queue_left(registry: Registry) -> None:
    await registry.pool()
    for name in ("two", "three", "four"):
        await registry.queue(name)
    await registry.forget()

    await registry.change_queue("three", priority=1)

    assert await priorities(registry) == {"three": 1, "default": 2, "two": 3, "four": 4}
    events = await registry.events()
    assert [
        (event["resource"]["prefect.resource.name"], event["payload"]["updates"]["priority"]) for event in events
    ] == [("default", {"from": 1, "to": 2}), ("two", {"from": 2, "to": 3}), ("three", {"from": 3, "to": 1})]
    assert len(await registry.definitions()) == 1


async def test_the_place_a_queue_left_stays_a_gap(registry: Registry) -> None:
    await registry.pool()
    await registry.queue("two")

    await registry.change_queue("default", priority=2)

    assert await priorities(registry) == {"default": 2, "two": 3}
    assert (await registry.queue("new"))["priority"] == 1


async def test_the_default_queue_can_be_renamed_and_reprioritised(registry: Registry) -> None:
    pool = await registry.pool()

    await registry.change_queue("default", name="main", priority=3)

    again = await registry.result(PausePool(pool="etl"))
    assert again["default_queue_id"] == pool["default_queue_id"] == again["queues"][0]["id"]
    assert await priorities(registry) == {"main": 3}


@pytest.mark.parametrize("changes", [{}, {"priority": 2}, {"name": "slow", "concurrency_limit": None}])
async def test_nothing_different_is_answered_and_silent(registry: Registry, changes: dict[str, object]) -> None:
    await registry.pool()
    queue = await registry.queue("slow")
    await registry.forget()

    assert await registry.change_queue("slow", **changes) == queue
    assert await registry.quiet()


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await registry.queue("slow")
    await assert_again_is_silent(
        registry, UpdateQueue(pool="etl", queue="slow", changes=QueueChanges(name="fast", priority=1))
    )
