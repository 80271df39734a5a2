from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from services.scheduler import rules
from services.scheduler.store import SchedulerStore
from tests.definitions import define_deployment
from tests.scheduling import define_schedule

if TYPE_CHECKING:
    from redis.asyncio import Redis

NOW = 1_800_000_000_000
REVISED = NOW - 5000


async def follow(client: Redis, *idents: str) -> int:
    return await SchedulerStore(client).follow_schedules(0, NOW, idents)


async def plans(client: Redis) -> dict[str, str]:
    found: Any = await client.hgetall(keys.key(0, "schedule_plans"))
    return {ident.decode(): plan.decode() for ident, plan in found.items()}


async def due(client: Redis) -> dict[str, int]:
    found: Any = await client.zrange(keys.key(0, "schedule_due"), 0, -1, withscores=True)
    return {ident.decode(): int(at) for ident, at in found}


async def test_a_new_schedule_is_planned_from_its_revision_on_and_at_once(client: Redis) -> None:
    deployment = await define_deployment(client, revision=4, revised_ms=REVISED)
    ident = f"{deployment}/{await define_schedule(client, deployment, cron='@hourly')}"
    assert await follow(client, ident) == 1
    assert await plans(client) == {ident: f"4 {REVISED}"}
    assert await due(client) == {ident: NOW}


async def test_told_again_it_changes_nothing(client: Redis) -> None:
    deployment = await define_deployment(client, revision=4, revised_ms=REVISED)
    ident = f"{deployment}/{await define_schedule(client, deployment, cron='@hourly')}"
    await client.hset(keys.key(0, "schedule_plans"), ident, f"4 {NOW + 77}")
    await client.zadd(keys.key(0, "schedule_due"), {ident: NOW + 50})
    assert await follow(client, ident) == 0
    assert await plans(client) == {ident: f"4 {NOW + 77}"}
    assert await due(client) == {ident: NOW + 50}


@pytest.mark.parametrize("plan", [None, f"3 {REVISED - 9}", f"4 {NOW + 77}"])
@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("active", [False, True, None])
async def test_the_script_and_the_rule_agree(
    client: Redis, plan: str | None, paused: bool, active: bool | None
) -> None:
    """An active of None stands for a schedule that was deleted."""
    deployment = await define_deployment(client, revision=4, revised_ms=REVISED, paused=paused)
    schedule = "00000000-0000-4000-8000-000000000000"
    if active is not None:
        await define_schedule(client, deployment, schedule_id=schedule, cron="@hourly", active=active)
    ident = f"{deployment}/{schedule}"
    if plan:
        await client.hset(keys.key(0, "schedule_plans"), ident, plan)
        await client.zadd(keys.key(0, "schedule_due"), {ident: NOW + 50})

    await follow(client, ident)

    wanted = rules.followed(plan, 4, REVISED, live=active is True and not paused)
    assert (await plans(client)).get(ident) == wanted
    assert (ident in await due(client)) == (wanted is not None)


async def test_plans_of_a_deployment_that_is_gone_are_dropped(client: Redis) -> None:
    await client.hset(keys.key(0, "schedule_plans"), mapping={"gone/s": "1 1", "other/s": "1 1"})
    await client.zadd(keys.key(0, "schedule_due"), {"gone/s": 1, "other/s": 1})
    assert await follow(client, "gone/s") == 0
    assert await plans(client) == {"other/s": "1 1"}
    assert list(await due(client)) == ["other/s"]


async def test_thousands_are_brought_in_line_in_calls_of_a_bounded_size(client: Redis) -> None:
    deployment = await define_deployment(client)
    idents = [f"{deployment}/{await define_schedule(client, deployment, cron='@hourly')}" for _ in range(450)]
    assert await follow(client, *idents) == 450
    assert len(await plans(client)) == 450
