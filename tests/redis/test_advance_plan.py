from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock import keys
from services.scheduler.store import Advance, Plan, SchedulerStore

if TYPE_CHECKING:
    from redis.asyncio import Redis

BEFORE = Plan("d/s", 3, 100)


async def state(client: Redis) -> tuple[Any, Any]:
    return await client.hget(keys.key(0, "schedule_plans"), "d/s"), await client.zscore(
        keys.key(0, "schedule_due"), "d/s"
    )


async def write(client: Redis, plan: str = BEFORE.text) -> None:
    await client.hset(keys.key(0, "schedule_plans"), "d/s", plan)
    await client.zadd(keys.key(0, "schedule_due"), {"d/s": 7})


async def test_a_plan_moves_on(client: Redis) -> None:
    await write(client)
    assert await SchedulerStore(client).advance_plan(0, [Advance(BEFORE, 200, 150)], 50) == [True]
    assert await state(client) == (b"3 200", 150)


async def test_a_plan_somebody_else_has_moved_on_stays_as_it_is(client: Redis) -> None:
    for plan in ("3 300", "4 100", "3 50"):
        await write(client, plan)
        assert await SchedulerStore(client).advance_plan(0, [Advance(BEFORE, 200, 150)], 50) == [False]
        assert await state(client) == (plan.encode(), 7)


async def test_a_plan_that_was_dropped_does_not_come_back(client: Redis) -> None:
    assert await SchedulerStore(client).advance_plan(0, [Advance(BEFORE, 200, 150)], 50) == [False]
    assert await state(client) == (None, None)


async def test_several_plans_move_on_in_one_round_trip_each_by_itself(client: Redis) -> None:
    await write(client)
    advances = [Advance(Plan("d/other", 1, 1), 2, 3), Advance(BEFORE, 200, 150)]
    assert await SchedulerStore(client).advance_plan(0, advances, 50) == [False, True]


async def test_a_plan_whose_runs_redis_has_forgotten_meanwhile_is_due_again_soon(client: Redis) -> None:
    await write(client)
    await client.hset(keys.key(0, "run", "one"), "name", "x")
    forgotten = Advance(BEFORE, 200, 150, ("one", "two"))
    assert await SchedulerStore(client).advance_plan(0, [forgotten], 50) == [False]
    assert await state(client) == (BEFORE.text.encode(), 50)

    await client.hset(keys.key(0, "run", "two"), "name", "x")
    assert await SchedulerStore(client).advance_plan(0, [forgotten], 50) == [True]
    assert await state(client) == (b"3 200", 150)
