from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import typer

from penstock.cli.schedule_options import changed_schedule, schedule_specs, timezone_names
from penstock.contracts.deployments import Schedule

if TYPE_CHECKING:
    from penstock.contracts.deployments import ScheduleSpec


def one(**options: Any) -> ScheduleSpec:
    kinds = [list(options.pop(kind, ())) for kind in ("crons", "intervals", "rrules")]
    (spec,) = schedule_specs(*kinds, **options)
    return spec


def wrong(**options: Any) -> str:
    with pytest.raises(typer.BadParameter) as refusal:
        one(**options)
    return refusal.value.message


def test_nothing_that_says_when_makes_no_schedule() -> None:
    assert schedule_specs([], [], []) == []


def test_each_option_makes_a_schedule_in_a_fixed_order() -> None:
    specs = schedule_specs(["@hourly", "0 6 * * *"], ["10m"], ["FREQ=DAILY"])

    assert [(spec.cron, spec.interval_seconds, spec.rrule) for spec in specs] == [
        ("@hourly", None, None),
        ("0 6 * * *", None, None),
        (None, 600, None),
        (None, None, "FREQ=DAILY"),
    ]


def test_what_goes_with_them_goes_with_all_of_them() -> None:
    specs = schedule_specs(
        ["@hourly"], ["10m"], [], timezone="Europe/Berlin", catch_up="LATEST", parameters={"day": 1}, active=False
    )

    assert [(spec.timezone, spec.catch_up, spec.parameters, spec.active) for spec in specs] == [
        ("Europe/Berlin", "latest", {"day": 1}, False)
    ] * 2


def test_what_is_not_given_is_utc_catches_up_and_is_active() -> None:
    spec = one(crons=["@hourly"])

    assert (spec.timezone, spec.catch_up, spec.active, spec.slug, spec.parameters) == ("UTC", "all", True, "", {})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("1d", 86_400), ("3600", 3600), ("1.5", 1.5), (" 10m ", 600), ("01:30:00", 5400)],
)
def test_an_interval_is_a_duration_or_a_number_of_seconds(text: str, seconds: float) -> None:
    assert one(intervals=[text]).interval_seconds == seconds


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0", "from 1 second to 366 days"),
        ("0s", "from 1 second to 366 days"),
        ("250ms", "from 1 second to 366 days"),
        ("367d", "from 1 second to 366 days"),
        ("999999999999", "from 1 second to 366 days"),
        ("-5", "is no interval"),
        ("often", "is no interval"),
        ("nan", "is no interval"),
        ("", "is no interval"),
        ("9" * 5000, "from 1 second to 366 days"),
    ],
)
def test_an_interval_that_is_none_is_refused_by_its_name(text: str, told: str) -> None:
    assert told in wrong(intervals=[text])
    assert "--interval" in wrong(intervals=[text])


def test_an_anchor_without_a_zone_is_meant_in_the_schedules_time_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")

    spec = one(intervals=["1d"], anchor="2030-07-01T08:00", timezone="Europe/Berlin")

    assert spec.anchor == datetime(2030, 7, 1, 8, tzinfo=berlin)
    assert spec.anchor.utcoffset() == timedelta(hours=2)


def test_an_anchor_with_a_zone_keeps_it() -> None:
    spec = one(rrules=["FREQ=DAILY"], anchor="2030-07-01T08:00-04:00", timezone="Europe/Berlin")

    assert spec.anchor is not None
    assert spec.anchor.utcoffset() == timedelta(hours=-4)


def test_an_anchor_is_for_what_is_counted() -> None:
    assert "--anchor-date" in wrong(crons=["@hourly"], anchor="2030-07-01")
    assert "--anchor-date 'soon' is no date" in wrong(intervals=["1d"], anchor="soon")

    cron, interval = schedule_specs(["@hourly"], ["1d"], [], anchor="2030-07-01")
    assert (cron.anchor is None, interval.anchor is None) == (True, False)


@pytest.mark.parametrize("zone", ["Europe/Berlim", "Mars/Olympus", "../../etc/passwd", "", "x\0y"])
def test_an_unknown_time_zone_is_refused(zone: str) -> None:
    if zone:
        assert "unknown time zone" in wrong(crons=["@hourly"], timezone=zone)
    else:
        assert one(crons=["@hourly"], timezone=zone).timezone == "UTC"


def test_a_mistyped_time_zone_gets_a_suggestion() -> None:
    assert wrong(crons=["@hourly"], timezone="Europe/Berlim").endswith("did you mean 'Europe/Berlin'?")


def test_a_time_zone_is_completed_in_any_case() -> None:
    assert "Europe/Berlin" in timezone_names("europe/be")
    assert timezone_names("Mars/") == []


def test_a_slug_names_one_schedule_only() -> None:
    assert one(crons=["@hourly"], slug="often").slug == "often"
    with pytest.raises(typer.BadParameter, match="one schedule only"):
        schedule_specs(["@hourly"], ["10m"], [], slug="often")


def test_an_unknown_way_to_catch_up_gets_a_suggestion() -> None:
    assert "did you mean 'latest'?" in wrong(crons=["@hourly"], catch_up="lates")


@pytest.mark.parametrize("options", [{"crons": [" "]}, {"rrules": [""]}])
def test_an_empty_schedule_is_refused(options: dict[str, Any]) -> None:
    assert "is empty" in wrong(**options)


def test_what_is_too_long_is_refused_by_the_name_of_its_option() -> None:
    assert "--cron" in wrong(crons=["*" * 1001])
    assert "slug" in wrong(crons=["@hourly"], slug="x" * 201)


def test_a_rule_may_have_a_dtstart_line_as_one_types_it() -> None:
    typed = r"DTSTART:20300101T080000Z\nRRULE:FREQ=DAILY"

    assert one(rrules=[typed]).rrule == "DTSTART:20300101T080000Z\nRRULE:FREQ=DAILY"


HOURLY = Schedule(
    id="1",
    interval_seconds=3600.5,
    anchor=datetime(2030, 1, 1, tzinfo=ZoneInfo("UTC")),
    timezone="Europe/Berlin",
    catch_up="latest",
    active=False,
    parameters={"a": 1, "b": 1},
    slug="s",
)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({}, {}),
        ({"timezone": "UTC"}, {"timezone": "UTC"}),
        ({"catch_up": "NONE"}, {"catch_up": "none"}),
        ({"slug": "t"}, {"slug": "t"}),
        ({"slug": ""}, {"slug": ""}),
        ({"parameters": {"b": 2}}, {"parameters": {"a": 1, "b": 2}}),
        ({"interval": "5m"}, {"interval_seconds": 300}),
        ({"anchor": "2031-01-01T00:00+00:00"}, {"anchor": datetime(2031, 1, 1, tzinfo=ZoneInfo("UTC"))}),
        ({"rrule": "FREQ=DAILY"}, {"interval_seconds": None, "rrule": "FREQ=DAILY"}),
        ({"cron": "@daily"}, {"interval_seconds": None, "cron": "@daily", "anchor": None}),
    ],
)
def test_a_schedule_keeps_what_is_not_given(options: dict[str, Any], changed: dict[str, Any]) -> None:
    whole = HOURLY.model_dump(exclude={"id"})

    assert changed_schedule(HOURLY, **options).model_dump() == whole | changed


def test_a_cron_that_is_only_renamed_stays_a_cron() -> None:
    cron = Schedule(id="1", cron="0 6 * * *")

    assert changed_schedule(cron, slug="s").model_dump() == cron.model_dump(exclude={"id"}) | {"slug": "s"}
    with pytest.raises(typer.BadParameter, match="--anchor-date goes with"):
        changed_schedule(cron, anchor="2030-01-01")
    with pytest.raises(typer.BadParameter, match="one of --cron, --interval and --rrule"):
        changed_schedule(cron, cron="@daily", rrule="FREQ=DAILY")
