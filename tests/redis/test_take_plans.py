from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock import keys
from services.scheduler.store import Plan, SchedulerStore

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = 1_800_000_000_000
LEASE = 10_000


@pytest.fixture
def scheduler(client: Redis) -> SchedulerStore:
    return SchedulerStore(client)


async def write(client: Redis, **due: int) -> None:
    for schedule, at in due.items():
        await client.hset(keys.key(0, "schedule_plans"), f"d/{schedule}", "3 1700000000000")
        await client.zadd(keys.key(0, "schedule_due"), {f"d/{schedule}": at})


async def test_what_is_due_is_taken_the_longest_due_first(client: Redis, scheduler: SchedulerStore) -> None:
    await write(client, b=NOW, a=NOW - 5, later=NOW + 1)
    taken = await scheduler.take_plans(0, NOW, LEASE, 10)
    assert taken == [Plan("d/a", 3, 1_700_000_000_000), Plan("d/b", 3, 1_700_000_000_000)]
    assert (taken[0].deployment, taken[0].schedule) == ("d", "a")


async def test_what_is_taken_is_not_taken_again_until_its_lease_ends(client: Redis, scheduler: SchedulerStore) -> None:
    await write(client, a=NOW)
    assert len(await scheduler.take_plans(0, NOW, LEASE, 10)) == 1
    assert await scheduler.next_due_ms(0) == NOW + LEASE
    assert await scheduler.take_plans(0, NOW + LEASE - 1, LEASE, 10) == []
    assert len(await scheduler.take_plans(0, NOW + LEASE, LEASE, 10)) == 1


async def test_no_more_are_taken_than_asked_for(client: Redis, scheduler: SchedulerStore) -> None:
    await write(client, a=NOW - 2, b=NOW - 1, c=NOW)
    assert [plan.schedule for plan in await scheduler.take_plans(0, NOW, LEASE, 2)] == ["a", "b"]
    assert [plan.schedule for plan in await scheduler.take_plans(0, NOW, LEASE, 2)] == ["c"]


async def test_a_due_time_without_a_plan_is_dropped(client: Redis, scheduler: SchedulerStore) -> None:
    await client.zadd(keys.key(0, "schedule_due"), {"d/gone": NOW})
    assert await scheduler.take_plans(0, NOW, LEASE, 10) == []
    assert await scheduler.next_due_ms(0) is None
