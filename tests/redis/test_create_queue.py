from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.contracts.base import MAX_LIMIT
from penstock.contracts.pools import Queue
from penstock.contracts.queues import CreateQueue, QueueChanges, UpdateQueue
from penstock.errors import Conflict
from services.pool_registry.rules import place_priority
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


async def test_a_new_queue_takes_the_first_free_priority_and_is_answered_whole(registry: Registry) -> None:
    pool = await registry.pool()
    await registry.queue("four", priority=4)
    await registry.forget()

    created = await registry.queue("fast", description="quick ones", concurrency_limit=0)

    queue = Queue.model_validate(created)
    assert set(created) == set(Queue.model_fields)
    assert (queue.name, queue.pool, queue.priority, queue.status) == ("fast", "etl", 2, "NOT_READY")
    assert (queue.description, queue.concurrency_limit, queue.is_paused) == ("quick ones", 0, False)
    (event,) = await registry.events()
    assert event["event"] == "prefect.work-queue.created"
    assert event["resource"] == {
        "prefect.resource.id": f"prefect.work-queue.{queue.id}",
        "prefect.resource.name": "fast",
        "prefect.resource.role": "work-queue",
    }
    assert event["related"] == [
        {
            "prefect.resource.id": f"prefect.work-pool.{pool['id']}",
            "prefect.resource.name": "etl",
            "prefect.work-pool.type": "process",
            "prefect.resource.role": "work-pool",
        }
    ]
    assert (event["payload"], event["follows"]) == ({}, None)
    assert await registry.definitions() == [{"type": "pool.changed", "pool_id": pool["id"], "pool": "etl"}]


async def test_successive_queues_get_two_three_four(registry: Registry) -> None:
    await registry.pool()

    assert [(await registry.queue(name))["priority"] for name in "abc"] == [2, 3, 4]


async def test_a_taken_priority_shifts_only_the_unbroken_run_above_it(registry: Registry) -> None:
    await registry.pool()
    for name, priority in (("two", 2), ("three", 3), ("five", 5)):
        await registry.queue(name, priority=priority)
    await registry.forget()

    created = await registry.queue("new", priority=2)

    pool = await registry.pool(if_missing=True)
    assert created["priority"] == 2
    assert [(queue["name"], queue["priority"]) for queue in pool["queues"]] == [
        ("default", 1),
        ("new", 2),
        ("two", 3),
        ("three", 4),
        ("five", 5),
    ]
    events = await registry.events()
    assert [(event["resource"]["prefect.resource.name"], event["payload"]) for event in events] == [
        ("two", {"updated_fields": ["priority"], "updates": {"priority": {"from": 2, "to": 3}}}),
        ("three", {"updated_fields": ["priority"], "updates": {"priority": {"from": 3, "to": 4}}}),
        ("new", {}),
    ]
    assert len(await registry.definitions()) == 1


async def test_a_queue_served_from_the_start_is_created_and_then_ready(registry: Registry) -> None:
    pool = await registry.pool()
    await registry.come_online(pool["id"])
    await registry.forget()

    assert (await registry.queue("fast"))["status"] == "READY"
    assert await registry.names() == ["work-queue.created fast", "work-queue.ready fast"]


async def test_a_worker_that_names_another_queue_does_not_serve_the_new_one(registry: Registry) -> None:
    pool = await registry.pool()
    await registry.come_online(pool["id"], queue_id=pool["default_queue_id"])
    await registry.forget()

    assert (await registry.queue("fast"))["status"] == "NOT_READY"
    assert await registry.names() == ["work-queue.created fast"]


async def test_a_queue_created_paused_publishes_no_status(registry: Registry) -> None:
    pool = await registry.pool()
    await registry.come_online(pool["id"])
    await registry.forget()

    assert (await registry.queue("fast", is_paused=True))["status"] == "PAUSED"
    assert await registry.names() == ["work-queue.created fast"]


async def test_a_taken_name_is_a_conflict_unless_if_missing(registry: Registry) -> None:
    await registry.pool()
    queue = await registry.queue("größe-数据", priority=7)
    await registry.forget()

    code, said = await registry.error(CreateQueue(pool="etl", queue="größe-数据", priority=1))
    same = await registry.result(CreateQueue(pool="etl", queue="größe-数据", priority=1, if_missing=True))

    assert code == "conflict"
    assert "größe-数据" in said
    assert same == queue
    assert await registry.quiet()


async def test_two_pools_may_have_queues_of_the_same_name(registry: Registry) -> None:
    await registry.pool("one")
    await registry.pool("two")

    first, second = await registry.queue("fast", "one"), await registry.queue("fast", "two")

    assert first["id"] != second["id"]
    assert (first["pool"], second["pool"]) == ("one", "two")


async def test_delivered_again_it_creates_no_second_queue_and_shifts_nothing(registry: Registry) -> None:
    await registry.pool()
    await assert_again_is_silent(registry, CreateQueue(pool="etl", queue="fast", priority=1))


async def test_a_shift_past_the_largest_number_is_refused_and_moves_nobody(registry: Registry) -> None:
    await registry.pool()
    await registry.queue("last", priority=MAX_LIMIT)
    await registry.queue("last but one", priority=MAX_LIMIT - 1)
    await registry.forget()

    for priority in (MAX_LIMIT, MAX_LIMIT - 1):
        code, text = await registry.error(CreateQueue(pool="etl", queue="more", priority=priority))
        assert code == "conflict"
        assert str(MAX_LIMIT) in text
        with pytest.raises(Conflict):
            place_priority({"last": MAX_LIMIT, "last but one": MAX_LIMIT - 1}, priority)
    code, _ = await registry.error(UpdateQueue(pool="etl", queue="default", changes=QueueChanges(priority=MAX_LIMIT)))

    assert code == "conflict"
    assert await registry.events() == []
