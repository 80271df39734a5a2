from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import keys
from services.scheduler.store import SchedulerStore

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = 1_800_000_000_000


async def test_a_plan_begins_again_at_the_moment_given_however_far_it_was(client: Redis) -> None:
    await client.hset(keys.key(0, "schedule_plans"), mapping={"d/a": f"2 {NOW + 900}", "d/b": f"5 {NOW - 900}"})
    assert await SchedulerStore(client).restart_plans(0, NOW, NOW + 60_000, ["d/a", "d/b"]) == 2
    assert await client.hgetall(keys.key(0, "schedule_plans")) == {
        b"d/a": f"2 {NOW}".encode(),
        b"d/b": f"5 {NOW}".encode(),
    }
    assert await client.zrange(keys.key(0, "schedule_due"), 0, -1, withscores=True) == [
        (b"d/a", NOW + 60_000),
        (b"d/b", NOW + 60_000),
    ]


async def test_a_schedule_without_a_plan_gets_none(client: Redis) -> None:
    assert await SchedulerStore(client).restart_plans(0, NOW, NOW, ["d/a"]) == 0
    assert await client.keys() == []
