from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock.contracts.deployments import DeleteSchedule
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


@pytest.fixture
async def made(registry: Registry) -> dict[str, Any]:
    await registry.pool()
    made = await registry.deployment(
        schedules=[{"cron": "0 6 * * *", "slug": "early"}, {"cron": "0 7 * * *", "parameters": {"slug": "late"}}]
    )
    await registry.forget()
    return made


@pytest.mark.parametrize(("by", "number"), [("slug", 0), ("id", 0), ("id", 1)])
async def test_it_is_gone_by_slug_or_id_and_told(
    registry: Registry, made: dict[str, Any], by: str, number: int
) -> None:
    after = await registry.result(DeleteSchedule(deployment="hello/demo", schedule_id=made["schedules"][number][by]))

    assert after["schedules"] == [made["schedules"][1 - number]]
    assert after["revision"] == 2
    (event,) = await registry.events()
    assert event["payload"] == {
        "updated_fields": ["schedules"],
        "updates": {"schedules": {"from": made["schedules"], "to": after["schedules"]}},
    }
    assert (await registry.definitions())[0]["revision"] == 2


async def test_the_last_one_can_go_too(registry: Registry, made: dict[str, Any]) -> None:
    for schedule in made["schedules"]:
        after = await registry.result(DeleteSchedule(deployment="hello/demo", schedule_id=schedule["id"]))

    assert (after["schedules"], after["revision"]) == ([], 3)


async def test_an_unknown_one_is_not_found(registry: Registry, made: dict[str, Any]) -> None:
    code, said = await registry.error(DeleteSchedule(deployment="hello/demo", schedule_id="late"))

    assert (code, said.endswith(f"there is: early, {made['schedules'][1]['id']}")) == ("not_found", True)
    assert (await registry.error(DeleteSchedule(deployment="a/b", schedule_id="late")))[0] == "not_found"
    assert await registry.quiet()


async def test_delivered_again_it_is_silent(registry: Registry, made: dict[str, Any]) -> None:
    assert made["revision"] == 1
    await assert_again_is_silent(registry, DeleteSchedule(deployment="hello/demo", schedule_id="early"))
