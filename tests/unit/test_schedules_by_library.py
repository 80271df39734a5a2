"""Fire times against the libraries' own, and against themselves asked from elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from dateutil.rrule import rrulestr
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.deployments import ScheduleSpec
from penstock.schedules import fire_times

ZONES = ("Europe/Berlin", "America/New_York")
CHANGES = ("2027-03-14", "2027-03-28", "2027-10-31", "2027-11-07")
CRONS = (
    "*/20 * * * *",
    "0 * * * *",
    "30 2 * * *",
    "15,45 1-3 * * *",
    "0 0 * * *",
    "0 */2 * * *",
    "* 2 * * SUN",
    "5 4 * * SUN",
    "30 1 28 3 *",
    "0 30 2 * * *",
    "*/30 59 1,2,3 * * *",
)
RULES = (
    "FREQ=DAILY;BYHOUR=1,2,3;BYMINUTE=0,30;BYSECOND=0",
    "FREQ=WEEKLY;BYDAY=SA,SU;BYHOUR=2;BYMINUTE=15;BYSECOND=0",
    "FREQ=MONTHLY;BYDAY=2SU,-1SU;BYHOUR=2;BYMINUTE=30;BYSECOND=0",
)


@pytest.mark.parametrize("day", CHANGES)
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", CRONS)
def test_a_cron_fires_exactly_as_cronsim_has_it_in_that_zone(cron: str, zone: str, day: str) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)) - timedelta(days=2)
    end = start + timedelta(days=5)
    theirs = takewhile(lambda fire: fire < end, CronSim(cron, start))
    ours = takewhile(lambda fire: fire < end, fire_times(ScheduleSpec(cron=cron, timezone=zone), start))
    assert list(ours) == [fire.astimezone(UTC) for fire in theirs]


@pytest.mark.parametrize("day", CHANGES)
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_fires_exactly_as_dateutil_has_it_in_that_zone(rule: str, zone: str, day: str) -> None:
    """Sorted and without doubles, for dateutil does not mind that a time it names does not exist."""
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)) - timedelta(days=2)
    end = start + timedelta(days=5)
    theirs = takewhile(lambda fire: fire < end, rrulestr(rule, dtstart=start).xafter(start))
    ours = takewhile(lambda fire: fire < end, fire_times(ScheduleSpec(rrule=rule, timezone=zone, anchor=start), start))
    assert list(ours) == sorted({fire.astimezone(UTC) for fire in theirs})


SPECS = st.sampled_from(
    [
        *(ScheduleSpec(cron=cron, timezone=zone) for cron in CRONS for zone in (*ZONES, "Australia/Lord_Howe")),
        *(
            ScheduleSpec(rrule=rule, timezone=zone, anchor=datetime(2026, 5, 31, 2, 30, tzinfo=UTC))
            for rule in (*RULES, "FREQ=HOURLY;INTERVAL=5", "FREQ=MINUTELY;INTERVAL=25", "FREQ=DAILY;COUNT=400")
            for zone in ZONES
        ),
        *(
            ScheduleSpec(interval_seconds=seconds, timezone=zone, anchor=datetime(2027, 6, 1, 0, 30, tzinfo=UTC))
            for seconds in (86_400, 7 * 86_400, 5400, 1.5)
            for zone in ZONES
        ),
    ]
)


@given(
    spec=SPECS,
    day=st.sampled_from(CHANGES),
    hours=st.floats(-60, 60),
    earlier=st.timedeltas(timedelta(0), timedelta(hours=6)),
)
def test_from_wherever_one_asks_the_fire_times_are_the_same(
    spec: ScheduleSpec, day: str, hours: float, earlier: timedelta
) -> None:
    after = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(hours=hours)
    found = list(islice(fire_times(spec, after), 5))
    assert found == sorted(set(found))
    assert all(fire > after for fire in found)
    sooner = (fire for fire in fire_times(spec, after - earlier) if fire > after)
    assert list(islice(sooner, 5)) == found
