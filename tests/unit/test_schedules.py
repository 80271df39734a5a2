"""When schedules fire; dates of clock changes: Berlin 2027-03-28 and 2027-10-31, New York 2027-03-14 and 2027-11-07."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from penstock.contracts.deployments import ScheduleSpec
from penstock.errors import Invalid
from penstock.schedules import check, describe, fire_times

BERLIN = "Europe/Berlin"
NEW_YORK = "America/New_York"
NOON = datetime(2027, 1, 15, 12, tzinfo=UTC)


def spec(**fields: object) -> ScheduleSpec:
    return ScheduleSpec.model_validate(fields)


def at(text: str, zone: str = BERLIN) -> datetime:
    """A wall-clock time, the first of two."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def local(one: ScheduleSpec, after: datetime, count: int) -> list[str]:
    """Fire times as the clock of the schedule's zone shows them, with its offset."""
    zone = ZoneInfo(one.timezone)
    return [f"{fire.astimezone(zone):%m-%d %H:%M:%S %z}" for fire in islice(fire_times(one, after), count)]


def test_a_cron_fires_by_the_clock_of_its_zone() -> None:
    one = spec(cron="0 6 * * MON-FRI", timezone=BERLIN)
    assert local(one, at("2027-01-15 05:00"), 3) == [
        "01-15 06:00:00 +0100",
        "01-18 06:00:00 +0100",
        "01-19 06:00:00 +0100",
    ]
    assert local(spec(cron="30 0 1 JUN,DEC *"), NOON, 2) == ["06-01 00:30:00 +0000", "12-01 00:30:00 +0000"]


def test_a_cron_of_six_fields_starts_with_the_second() -> None:
    assert local(spec(cron="*/20 0 12 * * *"), NOON, 3) == [
        "01-15 12:00:20 +0000",
        "01-15 12:00:40 +0000",
        "01-16 12:00:00 +0000",
    ]


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        (" @Hourly ", "0 * * * *"),
    ],
)
def test_a_cron_may_be_one_of_the_known_names(name: str, meaning: str) -> None:
    assert local(spec(cron=name), NOON, 4) == local(spec(cron=meaning), NOON, 4)


def test_day_of_month_and_day_of_week_are_either_or_unless_one_is_a_star() -> None:
    """As cron(8) of Debian has it."""
    assert [text[:5] for text in local(spec(cron="0 0 13 * FRI"), NOON, 4)] == ["01-22", "01-29", "02-05", "02-12"]
    assert [text[:5] for text in local(spec(cron="0 0 */7 * FRI"), NOON, 3)] == ["01-22", "01-29", "10-01"]


def test_a_moment_that_fires_is_left_out_when_it_is_the_one_asked_from() -> None:
    hourly = spec(cron="0 * * * *")
    assert next(fire_times(hourly, NOON)) == NOON + timedelta(hours=1)
    assert next(fire_times(hourly, NOON - timedelta(milliseconds=1))) == NOON
    assert next(fire_times(spec(interval_seconds=60, anchor=NOON), NOON)) == NOON + timedelta(minutes=1)
    daily = spec(rrule="FREQ=DAILY", anchor=NOON)
    assert next(fire_times(daily, NOON)) == NOON + timedelta(days=1)


def test_a_cron_at_a_time_the_clock_leaves_out_fires_when_it_has_jumped() -> None:
    one = spec(cron="30 2 * * *", timezone=BERLIN)
    assert local(one, at("2027-03-27 00:00"), 3) == [
        "03-27 02:30:00 +0100",
        "03-28 03:00:00 +0200",
        "03-29 02:30:00 +0200",
    ]
    both = spec(cron="0,30 2,3 * * *", timezone=BERLIN)
    assert local(both, at("2027-03-28 00:00"), 3) == [
        "03-28 03:00:00 +0200",
        "03-28 03:30:00 +0200",
        "03-29 02:00:00 +0200",
    ]


def test_a_cron_at_a_time_the_clock_repeats_fires_the_first_time() -> None:
    one = spec(cron="30 1 * * *", timezone=NEW_YORK)
    assert local(one, at("2027-11-06 12:00", NEW_YORK), 2) == ["11-07 01:30:00 -0400", "11-08 01:30:00 -0500"]
    between = datetime(2027, 11, 7, 6, 15, tzinfo=UTC)  # 01:15 for the second time
    assert local(one, between, 1) == ["11-08 01:30:00 -0500"]


def test_a_cron_that_fires_often_follows_real_time_through_both_changes() -> None:
    one = spec(cron="*/30 * * * *", timezone=BERLIN)
    assert local(one, at("2027-03-28 01:00"), 3) == [
        "03-28 01:30:00 +0100",
        "03-28 03:00:00 +0200",
        "03-28 03:30:00 +0200",
    ]
    assert local(one, at("2027-10-31 01:30"), 5) == [
        "10-31 02:00:00 +0200",
        "10-31 02:30:00 +0200",
        "10-31 02:00:00 +0100",
        "10-31 02:30:00 +0100",
        "10-31 03:00:00 +0100",
    ]


def test_where_the_clock_changes_by_half_an_hour_nothing_is_lost() -> None:
    """Lord Howe Island goes from 02:00 back to 01:30 on 2027-04-04."""
    one = spec(cron="0 */2 * * *", timezone="Australia/Lord_Howe")
    assert [text[6:11] for text in local(one, at("2027-04-03 23:00", one.timezone), 3)] == ["00:00", "02:00", "04:00"]


def test_an_interval_is_elapsed_time_from_its_anchor_in_both_directions() -> None:
    one = spec(interval_seconds=5400, anchor=at("2027-03-28 00:30"), timezone=BERLIN)
    assert local(one, at("2027-03-27 22:00"), 4) == [
        "03-27 23:00:00 +0100",
        "03-28 00:30:00 +0100",
        "03-28 03:00:00 +0200",
        "03-28 04:30:00 +0200",
    ]


def test_an_interval_may_have_fractions_of_a_second() -> None:
    one = spec(interval_seconds=1.5, anchor=NOON)
    found = list(islice(fire_times(one, NOON + timedelta(days=1000)), 3))
    assert found == [NOON + timedelta(days=1000, seconds=1.5 * number) for number in (1, 2, 3)]


def test_an_interval_of_whole_days_keeps_the_wall_clock() -> None:
    one = spec(interval_seconds=86_400, anchor=at("2027-03-01 02:30"), timezone=BERLIN)
    assert local(one, at("2027-03-27 00:00"), 3) == [
        "03-27 02:30:00 +0100",
        "03-28 03:30:00 +0200",
        "03-29 02:30:00 +0200",
    ]
    weekly = spec(interval_seconds=7 * 86_400, anchor=at("2027-03-24 06:00"), timezone=BERLIN)
    assert local(weekly, at("2027-03-25 00:00"), 2) == ["03-31 06:00:00 +0200", "04-07 06:00:00 +0200"]
    assert local(weekly, at("2027-03-17 05:59"), 1) == ["03-17 06:00:00 +0100"]
    from_summer = spec(interval_seconds=86_400, anchor=at("2027-06-01 02:30"), timezone=BERLIN)
    assert local(from_summer, at("2027-11-15 02:00"), 1) == ["11-15 02:30:00 +0100"]


def test_a_rule_fires_by_the_clock_of_its_zone() -> None:
    one = spec(
        rrule="FREQ=WEEKLY;BYDAY=MO,SU;BYHOUR=2;BYMINUTE=30;BYSECOND=0", timezone=BERLIN, anchor=at("2027-03-01 00:00")
    )
    assert local(one, at("2027-03-22 12:00"), 3) == [
        "03-28 03:30:00 +0200",
        "03-29 02:30:00 +0200",
        "04-04 02:30:00 +0200",
    ]
    twice = spec(rrule="FREQ=DAILY;BYHOUR=2", timezone=BERLIN, anchor=at("2027-10-01 00:15"))
    assert local(twice, at("2027-10-30 12:00"), 2) == ["10-31 02:15:00 +0200", "11-01 02:15:00 +0100"]


def test_an_hourly_rule_follows_real_time_through_both_changes() -> None:
    one = spec(rrule="FREQ=HOURLY", timezone=BERLIN, anchor=at("2027-01-01 00:15"))
    assert local(one, at("2027-03-28 01:00"), 2) == ["03-28 01:15:00 +0100", "03-28 03:15:00 +0200"]
    assert local(one, at("2027-10-31 02:00"), 3) == [
        "10-31 02:15:00 +0200",
        "10-31 02:15:00 +0100",
        "10-31 03:15:00 +0100",
    ]


def test_the_start_of_a_rule_is_its_own_or_the_anchor() -> None:
    assert local(spec(rrule="FREQ=DAILY;INTERVAL=2", anchor=NOON), NOON, 2) == [
        "01-17 12:00:00 +0000",
        "01-19 12:00:00 +0000",
    ]
    lines = "DTSTART:20270116T080000\nRRULE:FREQ=DAILY;INTERVAL=2"
    assert local(spec(rrule=lines, anchor=NOON, timezone=BERLIN), NOON, 2) == [
        "01-16 08:00:00 +0100",
        "01-18 08:00:00 +0100",
    ]
    elsewhere = "DTSTART;TZID=America/New_York:20270116T080000\nRRULE:FREQ=DAILY"
    assert local(spec(rrule=elsewhere, timezone=BERLIN), NOON, 1) == ["01-16 14:00:00 +0100"]
    utc = "DTSTART:20270116T080000Z\r\nRRULE:FREQ=DAILY"
    assert local(spec(rrule=utc, timezone=BERLIN), NOON, 1) == ["01-16 09:00:00 +0100"]


def test_count_and_until_end_a_rule_and_dates_are_added_and_taken_away() -> None:
    counted = spec(rrule="FREQ=DAILY;COUNT=3", anchor=NOON)
    assert len(list(fire_times(counted, NOON - timedelta(days=1)))) == 3
    assert len(list(fire_times(counted, NOON + timedelta(days=1)))) == 1
    until = spec(rrule="FREQ=DAILY;UNTIL=20270117T110000Z", anchor=NOON, timezone=BERLIN)
    assert local(until, NOON, 9) == ["01-16 13:00:00 +0100"]
    for_ever = spec(rrule="FREQ=DAILY;UNTIL=99991231T235959Z", anchor=NOON, timezone=BERLIN)
    assert len(local(for_ever, NOON, 500)) == 500
    dated = spec(rrule="RRULE:FREQ=DAILY;COUNT=2\nRDATE:20270301T120000\nEXDATE:20270116T120000Z", anchor=NOON)
    assert local(dated, NOON - timedelta(days=1), 9) == ["01-15 12:00:00 +0000", "03-01 12:00:00 +0000"]


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=MINUTELY;INTERVAL=7",
        "FREQ=SECONDLY;INTERVAL=90",
        "FREQ=HOURLY;INTERVAL=5;BYMINUTE=10,40",
        "FREQ=DAILY;INTERVAL=3;BYHOUR=1,23",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=TU,SU;WKST=SU",
        "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "FREQ=MONTHLY;INTERVAL=5",
        "FREQ=MONTHLY;BYDAY=-1FR",
        "FREQ=YEARLY;INTERVAL=3",
        "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO",
    ],
)
@pytest.mark.parametrize("begin", ["2019-01-31 10:20", "2020-02-29 00:00"])
def test_however_long_ago_a_rule_began_it_is_found_fast_and_fires_as_if_walked_from_its_start(
    rule: str, begin: str
) -> None:
    from dateutil.rrule import rrulestr  # noqa: PLC0415 - the oracle

    start = datetime.fromisoformat(begin)
    after = datetime(2020, 5, 2, 3, 4, 5)  # noqa: DTZ001 - wall clock
    walked = list(islice(rrulestr(rule, dtstart=start).xafter(after), 5))
    one = spec(rrule=rule, anchor=start.replace(tzinfo=UTC))
    found = list(islice(fire_times(one, after.replace(tzinfo=UTC)), 5))
    assert [fire.replace(tzinfo=None) for fire in found] == walked


NEVER = {
    "a day no month has": spec(cron="0 0 31 2 *"),
    "a day none of its months has": spec(cron="0 0 31 4,6,9,11 *"),
    "a rule for the thirtieth of February": spec(rrule="FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30"),
    "by the minute": spec(rrule="FREQ=MINUTELY;BYMONTH=2;BYMONTHDAY=30"),
    "by the hour": spec(rrule="FREQ=HOURLY;BYHOUR=3;BYMONTH=2;BYMONTHDAY=30"),
    "by the day": spec(rrule="FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"),
    "every seventh day, on a Tuesday, from a Friday": spec(rrule="FREQ=DAILY;INTERVAL=7;BYDAY=TU"),
    "a rule that has ended": spec(rrule="FREQ=DAILY;UNTIL=20200101T000000Z"),
    "counted to its end": spec(rrule="DTSTART:20200101T000000\nRRULE:FREQ=DAILY;COUNT=10"),
    "after the end of the calendar": spec(rrule="FREQ=DAILY;INTERVAL=1000000000", anchor=NOON - timedelta(days=1)),
    "the second of one": spec(rrule="FREQ=DAILY;BYSETPOS=2"),
    "only dates that are taken away": spec(rrule="RRULE:FREQ=DAILY;COUNT=1\nEXDATE:20270115T120000", anchor=NOON),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("one", NEVER.values(), ids=list(NEVER))
def test_a_schedule_that_never_fires_is_refused_in_a_bounded_time(one: ScheduleSpec) -> None:
    """Searched to the end of the calendar, the rules would take five seconds and more."""
    before = time.process_time()
    with pytest.raises(Invalid, match="never fires"):
        check(one, NOON)
    assert time.process_time() - before < 2


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"cron": "* * * *"}, "wrong number of fields"),
        ({"cron": "61 * * * *"}, "bad minute"),
        ({"cron": "0 0 32 * *"}, "bad day-of-month"),
        ({"cron": "0 0 * * MOON"}, "bad day-of-week"),
        ({"cron": "*/0 * * * *"}, "bad minute"),
        ({"cron": ""}, "wrong number of fields"),
        ({"cron": "@reboot"}, "not known"),
        ({"rrule": "nonsense"}, "FREQ is one of YEARLY"),
        ({"rrule": ""}, "0 rules"),
        ({"rrule": "FREQ=DAILY;INTERVAL=0"}, "INTERVAL is a whole number from 1"),
        ({"rrule": "FREQ=DAILY;COUNT=10001"}, "COUNT is a whole number from 1 to 10000"),
        ({"rrule": "FREQ=DAILY;BYHOUR=25"}, "hour must be in"),
        ({"rrule": "FREQ=DAILY;BYDAY=XX"}, "XX"),
        ({"rrule": "FREQ=DAILY;UNTIL=tomorrow"}, "'TOMORROW' is no date"),
        ({"rrule": "FREQ=DAILY;UNTIL=20271399T000000Z"}, "is no date"),
        ({"rrule": "FREQ=YEARLY;BYEASTER=0"}, "BYEASTER"),
        ({"rrule": "FREQ=MINUTELY;BYSETPOS=2"}, "BYSETPOS does not go with FREQ=MINUTELY"),
        ({"rrule": "FREQ=SECONDLY;INTERVAL=7;BYHOUR=3;BYMINUTE=3;BYSECOND=3"}, "do not go with FREQ=SECONDLY"),
        ({"rrule": "RRULE:FREQ=DAILY\nEXRULE:FREQ=DAILY"}, "'EXRULE' is not expected"),
        ({"rrule": "\n".join(["RRULE:FREQ=DAILY"] * 6)}, "6 rules"),
        ({"rrule": "DTSTART:99990101T000000\nRRULE:FREQ=DAILY"}, "between 1900 and 2200"),
        ({"rrule": "DTSTART;TZID=Mars/Olympus:20270101T000000\nRRULE:FREQ=DAILY"}, "unknown time zone"),
        (
            {"rrule": f"FREQ=DAILY;BYMINUTE={','.join(map(str, range(60)))};BYSECOND={','.join(map(str, range(60)))}"},
            "3600 times a day",
        ),
        ({"rrule": f"FREQ=HOURLY;BYSECOND=1,2;BYMINUTE={','.join(map(str, range(60)))}"}, "2880 times a day"),
    ],
)
def test_what_is_wrong_with_a_schedule_is_said(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        check(spec(**fields), NOON)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"interval_seconds": 0}, "greater than or equal to 1"),
        ({"cron": "@daily", "timezone": "Europe/Atlantis"}, "unknown time zone"),
        ({"cron": "@daily", "interval_seconds": 60}, "exactly one of"),
        ({}, "exactly one of"),
    ],
)
def test_what_the_contract_refuses_never_comes_so_far(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        spec(**fields)


@pytest.mark.parametrize(
    "one",
    [
        spec(cron="0 0 29 2 *"),
        spec(cron="0 0 * 2 MON#5"),
        spec(interval_seconds=1, anchor="0001-01-03T00:00:00Z"),
        spec(interval_seconds=366 * 86_400.0),
        spec(rrule="FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29"),
        spec(rrule="FREQ=DAILY;COUNT=2"),
        spec(rrule="FREQ=SECONDLY", anchor="1970-01-01T00:00:00Z"),
    ],
    ids=describe,
)
def test_a_rare_or_an_old_schedule_passes(one: ScheduleSpec) -> None:
    check(one, NOON)


def test_a_schedule_is_spelt_for_people() -> None:
    assert describe(spec(cron="0 6 * * 1-5", timezone=BERLIN)) == "cron '0 6 * * 1-5' (Europe/Berlin)"
    assert describe(spec(interval_seconds=900)) == "every 15 minutes"
    assert describe(spec(interval_seconds=3600)) == "every hour"
    assert describe(spec(interval_seconds=1)) == "every second"
    assert describe(spec(interval_seconds=1.5)) == "every 1.5 seconds"
    assert describe(spec(interval_seconds=2 * 86_400, timezone=BERLIN)) == "every 2 days (Europe/Berlin)"
    assert describe(spec(rrule="FREQ=DAILY")) == "rrule 'FREQ=DAILY' (UTC)"
