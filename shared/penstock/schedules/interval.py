"""Intervals: elapsed time from an anchor, or, for whole days, the same wall-clock time every so many days."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from penstock.schedules.wall_clock import Change, moments

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_SECONDS: Final = 86_400


def is_whole_days(seconds: float) -> bool:
    """Say whether an interval follows the wall clock instead of elapsed time."""
    return not seconds % DAY_SECONDS


def fire_times(seconds: float, anchor: datetime, timezone: str, after: datetime) -> Iterator[datetime]:
    """Enumerate when an interval fires; the anchor is a point of the grid, not its beginning.

    Args:
        seconds: from one fire time to the next, at least a second; counted in whole microseconds.
        anchor: in UTC.
        timezone: IANA name; matters for whole days only.
        after: in UTC.

    Yields:
        Moments in UTC, ascending; the first few may not be after ``after``.
    """
    step = timedelta(seconds=seconds)
    first = (after - anchor) // step
    if is_whole_days(seconds):
        zone = ZoneInfo(timezone)
        wall = anchor.astimezone(zone).replace(tzinfo=None, fold=0)
        # One step earlier: the clock may have been put forward since the anchor.
        yield from moments((wall + number * step for number in count(first - 1)), zone, Change.AS_MUCH_LATER)
    else:
        for number in count(first):
            yield anchor + number * step
