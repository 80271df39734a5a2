"""From wall-clock times of a zone to moments: what becomes of those that a change of the clocks leaves out or repeats."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from zoneinfo import ZoneInfo

_WINDOW: Final = timedelta(hours=4)
"""More than any zone's clock has ever been put forward or back at once, but for the date line."""
_MINUTE: Final = timedelta(minutes=1)


class Change(Enum):
    """What a change of the clocks does to wall-clock times."""

    BOTH_TIMES = auto()
    """Those left out do not fire, those repeated fire both times."""
    WHEN_JUMPED = auto()
    """Those left out fire when the clock has jumped, those repeated the first time."""
    AS_MUCH_LATER = auto()
    """Those left out fire as much later as the clock jumped, those repeated the first time."""


def moments(walls: Iterable[datetime], zone: ZoneInfo, change: Change) -> Iterator[datetime]:
    """Turn wall-clock times into moments.

    Args:
        walls: without a time zone, ascending.
        zone: whose clock it is.
        change: what becomes of those that do not exist or exist twice.

    Yields:
        Moments in UTC, ascending; two may be equal.
    """
    later: list[datetime] = []
    for wall in walls:
        first, second = _utc(wall, zone, 0), _utc(wall, zone, 1)
        if first > second:  # left out
            if change is Change.AS_MUCH_LATER:
                heappush(later, first)
            elif change is Change.WHEN_JUMPED:
                heappush(later, _jumped(wall, zone))
            continue
        while later and later[0] <= first:
            yield heappop(later)
        yield first
        if first < second and change is Change.BOTH_TIMES:
            heappush(later, second)
    while later:
        yield heappop(later)


def start(after: datetime, zone: ZoneInfo) -> datetime:
    """Say from which wall-clock time on to enumerate so that no moment after ``after`` is missed.

    Near a change of the clocks that is earlier than what the clock shows: a repeated hour comes again, a time that is left out
    comes late.

    Returns:
        Without a time zone.
    """
    local = after.astimezone(zone)
    before, then = (after - _WINDOW).astimezone(zone), (after + _WINDOW).astimezone(zone)
    changes = not before.utcoffset() == local.utcoffset() == then.utcoffset()
    return local.replace(tzinfo=None, fold=0) - (_WINDOW if changes else timedelta())


def _utc(wall: datetime, zone: ZoneInfo, fold: int) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _jumped(wall: datetime, zone: ZoneInfo) -> datetime:
    """Find the first full minute that the clock shows after a time it leaves out."""
    wall = wall.replace(second=0, microsecond=0)
    while (first := _utc(wall, zone, 0)) > _utc(wall, zone, 1):
        wall += _MINUTE
    return first
