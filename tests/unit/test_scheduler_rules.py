"""How far a schedule is planned: rules without Redis."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count, takewhile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.rules import (
    LOOK_AGAIN_MS,
    MISSED_AT_ONCE,
    Fires,
    Limits,
    Planned,
    followed,
    milliseconds,
    missed,
    moment,
    plan,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.contracts.runs import CatchUp

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
NOW = milliseconds(datetime(2027, 1, 1, tzinfo=UTC))
LIMITS = Limits()


def every(step_ms: float, *, end_ms: float = float("inf")) -> Fires:
    """Fire times at multiples of a step, counted from 1970."""

    def fires(after: datetime) -> Iterator[datetime]:
        step = timedelta(milliseconds=step_ms)
        epoch = moment(0)
        first = (after - epoch) // step + 1
        found = (epoch + number * step for number in count(first))
        return takewhile(lambda fire: milliseconds(fire) <= end_ms, found)

    return fires


def planned(fires: Fires, until_ms: int = NOW, now_ms: int = NOW, catch_up: CatchUp = "all") -> Planned:
    return plan(fires, now_ms, until_ms, catch_up, LIMITS)


def test_a_rare_schedule_has_three_runs() -> None:
    one = planned(every(DAY))
    assert one.fires == [NOW + DAY, NOW + 2 * DAY, NOW + 3 * DAY]
    assert one.next_ms == NOW + DAY, "the first is gone then"


def test_a_schedule_of_many_runs_an_hour_has_an_hour_and_a_half() -> None:
    one = planned(every(MINUTE))
    assert one.fires == [NOW + number * MINUTE for number in range(1, 91)]
    assert one.next_ms == NOW + 31 * MINUTE, "the last hour would not be whole then"


def test_no_schedule_has_more_than_a_hundred_runs() -> None:
    one = planned(every(SECOND))
    assert one.fires == [NOW + number * SECOND for number in range(1, 101)]
    assert one.next_ms == NOW + 50 * SECOND, "half of them are gone then"


def test_no_run_is_made_more_than_a_hundred_days_ahead() -> None:
    assert planned(every(70 * DAY)).fires == [
        fire for fire in (70 * DAY * number for number in range(2000)) if NOW < fire <= NOW + 100 * DAY
    ]
    following = next(fire for fire in count(0, 300 * DAY) if fire > NOW)
    assert following > NOW + 100 * DAY
    assert planned(every(300 * DAY)) == Planned([], NOW, following - 100 * DAY)


def test_a_schedule_that_ends_is_looked_at_again_in_a_day() -> None:
    one = planned(every(DAY, end_ms=NOW + 2 * DAY))
    assert one.fires == [NOW + DAY, NOW + 2 * DAY]
    assert one.next_ms == NOW + LOOK_AGAIN_MS
    assert planned(every(DAY, end_ms=NOW)) == Planned([], NOW, NOW + LOOK_AGAIN_MS)


def test_what_is_planned_is_not_planned_again() -> None:
    first = planned(every(MINUTE))
    assert planned(every(MINUTE), first.until_ms).fires == []
    later = planned(every(MINUTE), first.until_ms, NOW + 31 * MINUTE)
    assert later.fires[0] == first.fires[-1] + MINUTE
    assert later.fires[-1] == NOW + 31 * MINUTE + 90 * MINUTE


def test_where_a_hundred_runs_last_less_than_an_hour_more_are_made_when_half_are_gone() -> None:
    first = planned(every(30 * SECOND))
    assert first.next_ms == NOW + 50 * 30 * SECOND
    assert planned(every(30 * SECOND), first.until_ms, first.next_ms - 1).fires == []
    assert len(planned(every(30 * SECOND), first.until_ms, first.next_ms).fires) == 50


def test_all_that_was_missed_is_made_up_for_the_oldest_first_a_bounded_number_at_a_time() -> None:
    since = NOW - 2000 * MINUTE
    one = planned(every(MINUTE), since)
    assert one.fires == [since + number * MINUTE for number in range(1, MISSED_AT_ONCE + 1)]
    assert one.next_ms == NOW, "the next round goes on at once"
    fires: list[int] = []
    until = since
    for _ in range(5):
        one = planned(every(MINUTE), until)
        fires, until = fires + one.fires, one.until_ms
    assert fires == [since + number * MINUTE for number in range(1, 2091)]


def test_of_what_was_missed_only_the_latest_is_made_up_for() -> None:
    assert planned(every(MINUTE), NOW - 300 * DAY, catch_up="latest").fires[:2] == [NOW, NOW + MINUTE]
    daily = missed(every(DAY), NOW + HOUR, NOW - 5 * DAY, "latest")
    assert daily == [NOW]
    assert missed(every(DAY), NOW + HOUR, NOW, "latest") == [], "it has its run already"
    assert missed(every(SECOND, end_ms=NOW), NOW + 5 * MINUTE, NOW - DAY, "latest") == [NOW]


def test_an_outage_of_a_year_of_a_schedule_by_the_second_is_not_walked_through() -> None:
    seen = 0

    def fires(after: datetime) -> Iterator[datetime]:
        nonlocal seen
        for fire in every(SECOND)(after):
            seen += 1
            yield fire

    assert missed(fires, NOW, NOW - 365 * DAY, "latest") == [NOW]
    assert len(missed(fires, NOW, NOW - 365 * DAY, "none")) == 60
    assert len(missed(fires, NOW, NOW - 365 * DAY, "all")) == MISSED_AT_ONCE
    assert seen < 1000


def test_what_was_missed_by_more_than_a_minute_is_dropped() -> None:
    assert missed(every(30 * SECOND), NOW + 10 * SECOND, NOW - DAY, "none") == [NOW - 30 * SECOND, NOW]
    assert missed(every(HOUR), NOW + 10 * SECOND, NOW - DAY, "none") == [NOW]
    assert missed(every(HOUR), NOW + 10 * MINUTE, NOW - DAY, "none") == []


def test_a_new_revision_begins_when_it_was_made() -> None:
    assert followed(None, 3, NOW, live=True) == f"3 {NOW}"
    assert followed(f"2 {NOW + DAY}", 3, NOW, live=True) == f"3 {NOW}"
    assert followed(f"3 {NOW + DAY}", 3, NOW, live=True) == f"3 {NOW + DAY}"
    assert followed(f"3 {NOW + DAY}", 3, NOW, live=False) is None


STEPS = st.sampled_from(
    [SECOND, 1100.5, 7 * SECOND, 40 * SECOND, 3 * MINUTE, 25 * MINUTE, HOUR, 7 * HOUR, DAY, 45 * DAY]
)


@given(step=STEPS, outages=st.lists(st.integers(0, 3 * HOUR), max_size=5), catch_up=st.just("all"))
def test_however_late_it_is_woken_each_fire_time_comes_once_and_enough_is_ahead(
    step: float, outages: list[int], catch_up: CatchUp
) -> None:
    fires = every(step)
    made: list[int] = []
    now, until = NOW, NOW
    for late in (*outages, 0, 0):
        one = plan(fires, now, until, catch_up, LIMITS)
        made += one.fires
        while len(one.fires) >= MISSED_AT_ONCE and one.next_ms <= now:
            one = plan(fires, now, one.until_ms, catch_up, LIMITS)
            made += one.fires
        until = one.until_ms
        ahead = [fire for fire in made if fire > now]
        assert len(ahead) <= 100
        assert not ahead or ahead[-1] <= now + 100 * DAY
        due_by = milliseconds(next(fires(moment(until))))
        enough = len(ahead) >= 3 and due_by > now + HOUR
        assert enough or (step < 37 * SECOND and len(ahead) > 50) or due_by > now + 100 * DAY
        assert one.next_ms > now
        now = one.next_ms + late
    expected = takewhile(lambda fire: fire <= made[-1], (milliseconds(fire) for fire in fires(moment(NOW))))
    assert made == list(expected)


@pytest.mark.parametrize("step", [SECOND, 40 * SECOND, 25 * MINUTE, DAY, 45 * DAY])
def test_it_is_never_woken_for_nothing(step: int) -> None:
    now, until = NOW, NOW
    for _ in range(20):
        one = plan(every(step), now, until, "all", LIMITS)
        assert one.fires
        now, until = one.next_ms, one.until_ms
