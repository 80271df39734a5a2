"""Cron expressions, read and walked by cronsim.

cronsim is small, typed, without dependencies and made for exactly this (it tells the due times of a monitoring service); croniter,
which Prefect uses, was given up by its author for a while and knows expressions that nobody can say the meaning of. cronsim walks
wall-clock times here; :mod:`penstock.schedules.wall_clock` turns them into moments, as cronsim itself would, also where a clock
changes by half an hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from penstock.errors import Invalid
from penstock.schedules.wall_clock import Change, moments, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

NAMES: Final[dict[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""crontab(5); ``@reboot`` means nothing to a schedule."""
_WITHOUT_SECONDS: Final = 5
_HINT: Final = (
    "minute hour day-of-month month day-of-week, as in '*/5 8-17 * * MON-FRI'; six fields start with the second"
)


def fire_times(text: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """Enumerate when a cron fires.

    Args:
        text: five fields, six (the first is the second), or one of :data:`NAMES`.
        timezone: IANA name.
        after: in UTC.

    Yields:
        Moments in UTC, ascending; the first may lie a little before ``after``.

    Raises:
        Invalid: the expression is wrong, or no date fits it.
    """
    zone = ZoneInfo(timezone)
    fields = _fields(text)
    change = Change.WHEN_JUMPED if _at_fixed_times(fields) else Change.BOTH_TIMES
    yield from moments(_walk(text, fields, start(after, zone)), zone, change)


def _fields(text: str) -> list[str]:
    name = text.strip().lower()
    if name.startswith("@"):
        if name not in NAMES:
            raise Invalid(f"cron {text!r} is not known", f"known names: {', '.join(NAMES)}")
        return NAMES[name].split()
    return text.split()


def _at_fixed_times(fields: list[str]) -> bool:
    """Tell the jobs that Debian's cron runs once whatever the clock does, as cronsim tells them."""
    return len(fields) == _WITHOUT_SECONDS and not fields[0].startswith("*") and not fields[1].startswith("*")


def _walk(text: str, fields: list[str], wall: datetime) -> CronSim:
    try:
        return CronSim(" ".join(fields), wall)
    except CronSimError as problem:
        reason = str(problem)
    if _fits_without_months(fields, wall):
        raise Invalid(f"cron {text!r} never fires: none of its months has such a day", _HINT)
    raise Invalid(f"cron {text!r} is wrong: {reason[:1].lower()}{reason[1:]}", _HINT)


def _fits_without_months(fields: list[str], wall: datetime) -> bool:
    """Tell a date that does not exist from a field that is wrong; cronsim calls both a bad day."""
    try:
        CronSim(" ".join([*fields[:-2], "*", *fields[-1:]]), wall)
        CronSim(" ".join([*fields[:-3], "*", *fields[-2:]]), wall)
    except CronSimError:
        return False
    return True
