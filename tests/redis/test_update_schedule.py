from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock.contracts.deployments import ScheduleSpec, UpdateSchedule
from tests.registering import Registry, assert_again_is_silent, is_just_now

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


def command(ident: str = "early", *, active: bool | None = None, **spec: Any) -> UpdateSchedule:
    schedule = ScheduleSpec.model_validate(spec) if spec else None
    return UpdateSchedule(deployment="hello/demo", schedule_id=ident, schedule=schedule, active=active)


@pytest.fixture
async def made(registry: Registry) -> dict[str, Any]:
    await registry.pool()
    made = await registry.deployment(
        schedules=[
            {"cron": "0 6 * * *", "slug": "early"},
            {"interval_seconds": 60, "anchor": "2026-01-01T00:00:00Z", "slug": "often"},
            {"cron": "0 7 * * *", "parameters": {"active": True, "slug": "early"}},
        ]
    )
    await registry.forget()
    return made


async def test_it_is_replaced_under_its_id_and_its_place(registry: Registry, made: dict[str, Any]) -> None:
    after = await registry.result(command(cron="0 5 * * *", slug="earlier", parameters={"n": 1}))

    was, now = made["schedules"][0], after["schedules"][0]
    assert (now["id"], now["cron"], now["slug"], now["parameters"]) == (was["id"], "0 5 * * *", "earlier", {"n": 1})
    assert after["schedules"][1:] == made["schedules"][1:]
    assert after["revision"] == 2
    (event,) = await registry.events()
    assert event["payload"] == {
        "updated_fields": ["schedules"],
        "updates": {"schedules": {"from": made["schedules"], "to": after["schedules"]}},
    }
    assert (await registry.definitions())[0]["revision"] == 2


@pytest.mark.parametrize("by", ["slug", "id"])
@pytest.mark.parametrize("number", [0, 2])
async def test_it_is_switched_off_and_on_without_another_change(
    registry: Registry, made: dict[str, Any], by: str, number: int
) -> None:
    was = made["schedules"][number]
    if not was[by]:
        by = "id"

    off = await registry.result(command(was[by], active=False))
    again = await registry.result(command(was[by], active=False))
    on = await registry.result(command(was[by], active=True))

    assert off["schedules"][number] == {**was, "active": False}
    assert again == off
    assert on["schedules"] == made["schedules"]
    assert on["revision"] == 3
    assert len(await registry.events()) == 2


async def test_given_both_the_word_about_active_counts(registry: Registry, made: dict[str, Any]) -> None:
    after = await registry.result(command(cron="0 5 * * *", active=False))

    assert (after["schedules"][0]["cron"], after["schedules"][0]["active"]) == ("0 5 * * *", False)
    assert after["id"] == made["id"]


async def test_an_interval_goes_on_counting_from_where_it_did_unless_told_otherwise(
    registry: Registry, made: dict[str, Any]
) -> None:
    longer = await registry.result(command("often", interval_seconds=90, slug="often"))
    told = await registry.result(command("often", interval_seconds=90, slug="often", anchor="2026-02-02T00:00:00Z"))
    cron = await registry.result(command("often", cron="* * * * *", slug="often"))
    back = await registry.result(command("often", interval_seconds=60, slug="often"))

    assert made["schedules"][1]["anchor"] == longer["schedules"][1]["anchor"] == "2026-01-01T00:00:00Z"
    assert told["schedules"][1]["anchor"] == "2026-02-02T00:00:00Z"
    assert cron["schedules"][1]["anchor"] is None
    assert is_just_now(back["schedules"][1]["anchor"], back["updated"])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"active": True},
        {"cron": "0 6 * * *", "slug": "early"},
        {"ident": "often", "interval_seconds": 60, "slug": "often"},
    ],
)
async def test_nothing_different_is_answered_and_silent(
    registry: Registry, made: dict[str, Any], change: dict[str, Any]
) -> None:
    assert await registry.result(command(**change)) == made
    assert await registry.quiet()


async def test_it_cannot_take_the_slug_of_another(registry: Registry, made: dict[str, Any]) -> None:
    code, said = await registry.error(command("often", interval_seconds=60, slug="early"))
    assert (code, "'early' already" in said) == ("conflict", True)
    assert await registry.quiet()

    kept = await registry.result(command(cron="0 5 * * *", slug="early"))
    assert kept["schedules"][0]["slug"] == "early"
    assert kept["schedules"][1:] == made["schedules"][1:]


async def test_an_unknown_one_is_not_found_and_the_hint_names_what_there_is(
    registry: Registry, made: dict[str, Any]
) -> None:
    assert await registry.error(command("late", active=True)) == (
        "not_found",
        "deployment \"hello/demo\" has no schedule 'late' | there is: early, often, " + made["schedules"][2]["id"],
    )
    await registry.deployment(overwrite=True, schedules=[])
    assert (await registry.error(command("late", active=True)))[1].endswith("it has none")
    await registry.deployment(overwrite=True, schedules=[{"cron": "0 6 * * *"}] * 11)
    assert "`penstock deployment schedule ls`" in (await registry.error(command("late", active=True)))[1]


async def test_an_unknown_deployment_is_not_found(registry: Registry) -> None:
    code, said = await registry.error(command(active=True))
    assert (code, "hello/demo" in said) == ("not_found", True)
    assert await registry.quiet()


@pytest.mark.parametrize("change", [{"active": False}, {"interval_seconds": 60}])
async def test_delivered_again_it_is_silent(registry: Registry, made: dict[str, Any], change: dict[str, Any]) -> None:
    assert made["revision"] == 1
    await assert_again_is_silent(registry, command(**change))
