from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock.contracts.deployments import MAX_SCHEDULES, CreateSchedule, ScheduleSpec
from tests.registering import Registry, assert_again_is_silent, has_id_of_deployment, is_just_now

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


def command(**spec: Any) -> CreateSchedule:
    return CreateSchedule(deployment="hello/demo", schedule=ScheduleSpec.model_validate(spec))


async def test_it_comes_last_and_is_told_with_the_lists_before_and_after(registry: Registry) -> None:
    await registry.pool()
    made = await registry.deployment(schedules=[{"cron": "0 6 * * *"}])
    await registry.forget()

    after = await registry.result(command(interval_seconds=60, slug="often", parameters={"n": 1}, catch_up="none"))

    first, second = after["schedules"]
    assert first == made["schedules"][0]
    assert second == {
        "id": second["id"],
        "anchor": second["anchor"],
        "interval_seconds": 60.0,
        "cron": None,
        "rrule": None,
        "timezone": "UTC",
        "catch_up": "none",
        "active": True,
        "parameters": {"n": 1},
        "slug": "often",
    }
    assert is_just_now(second["anchor"], after["updated"])
    assert after["revision"] == 2
    (event,) = await registry.events()
    assert event["event"] == "prefect.deployment.updated"
    assert has_id_of_deployment(event, after)
    assert event["payload"] == {
        "updated_fields": ["schedules"],
        "updates": {"schedules": {"from": [first], "to": [first, second]}},
    }
    (message,) = await registry.definitions()
    assert (message["type"], message["revision"]) == ("deployment.changed", 2)


async def test_a_slug_is_used_once(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment(schedules=[{"cron": "0 6 * * *", "slug": "early"}, {"cron": "0 7 * * *"}])
    await registry.forget()

    code, said = await registry.error(command(cron="0 5 * * *", slug="early"))

    assert (code, "'early' already" in said) == ("conflict", True)
    assert await registry.quiet()
    assert len((await registry.result(command(cron="0 5 * * *")))["schedules"]) == 3


async def test_there_are_only_so_many(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment(schedules=[{"cron": "0 6 * * *"}] * (MAX_SCHEDULES - 1))
    assert len((await registry.result(command(cron="0 5 * * *")))["schedules"]) == MAX_SCHEDULES
    await registry.forget()

    code, said = await registry.error(command(cron="0 5 * * *"))

    assert (code, str(MAX_SCHEDULES) in said) == ("invalid", True)
    assert await registry.quiet()


async def test_an_unknown_deployment_is_not_found(registry: Registry) -> None:
    assert (await registry.error(command(cron="0 5 * * *")))[0] == "not_found"
    assert await registry.quiet()


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment()
    await assert_again_is_silent(registry, command(interval_seconds=60))
