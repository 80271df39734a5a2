"""When schedules fire: cron by cronsim, recurrence rules by python-dateutil, intervals by arithmetic; pure.

All of them are evaluated in the schedule's own time zone. What becomes of wall-clock times that a change of the clocks leaves out
or repeats, as Debian's cron does it:

* **Often** (a cron with ``*`` in minute or hour, or with seconds; an hourly or faster rule): real time counts. What the clock
  leaves out does not fire, what it repeats fires both times.
* **Seldom** (a cron at fixed times, a daily or slower rule, an interval of whole days): each wall-clock time fires once. One
  that is repeated fires the first time. One that is left out fires late: a cron when the clock has jumped (02:30 at 03:00), the
  others as much later as it jumped (02:30 at 03:30; RFC 5545, section 3.3.5). Two that fall together are one.
* **Intervals** that are no whole days are elapsed time and know nothing of clocks.

Sources: cron(8) of Debian, whose rules cronsim follows; Prefect for intervals of whole days.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from penstock.errors import Invalid
from penstock.schedules import cron, interval, recurrence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.contracts.deployments import ScheduleSpec

__all__ = ["check", "describe", "fire_times"]

_UNITS: Final = (("week", 604_800), ("day", 86_400), ("hour", 3600), ("minute", 60))


def fire_times(spec: ScheduleSpec, after: datetime) -> Iterator[datetime]:
    """Enumerate when a schedule fires, whether it is active or not.

    Args:
        spec: an interval, or a rule without DTSTART, is counted from its ``anchor``; without one, from ``after``.
        after: with a time zone; what fires at this very moment is left out.

    Yields:
        Moments in UTC, ascending, each once, without an end unless the rule has one.

    Raises:
        Invalid: the schedule is wrong; not for one that :func:`check` let pass.
    """
    after = after.astimezone(UTC)
    last = after
    try:
        for moment in _moments(spec, after):
            if moment > last:
                yield moment
                last = moment
    except OverflowError:
        return  # the end of the calendar


def check(spec: ScheduleSpec, now: datetime) -> None:
    """Make sure that a schedule means something and fires at least once from now on.

    Takes a bounded time whatever is given: for the most contrived rules a few seconds, for all others milliseconds.

    Args:
        spec: the fields' own limits have been checked already.
        now: with a time zone.

    Raises:
        Invalid: it is wrong or never fires; the message says what is.
    """
    if next(fire_times(spec, now), None) is None:
        raise Invalid(f"{describe(spec)} never fires after {now:%Y-%m-%d %H:%M:%S %Z}", "check its dates")


def describe(spec: ScheduleSpec) -> str:
    """Spell a schedule for people: ``cron '0 6 * * 1-5' (Europe/Berlin)``, ``every 15 minutes``."""
    if spec.cron is not None:
        return f"cron {spec.cron!r} ({spec.timezone})"
    if spec.rrule is not None:
        return f"rrule {spec.rrule!r} ({spec.timezone})"
    seconds = spec.interval_seconds or 0.0
    for unit, length in _UNITS:
        if not seconds % length:
            count = int(seconds // length)
            zone = f" ({spec.timezone})" if interval.is_whole_days(seconds) else ""
            return (f"every {unit}" if count == 1 else f"every {count} {unit}s") + zone
    return "every second" if seconds == 1 else f"every {seconds:g} seconds"


def _moments(spec: ScheduleSpec, after: datetime) -> Iterator[datetime]:
    """Enumerate fire times in UTC, ascending; some of the first may not be after ``after``."""
    if spec.cron is not None:
        return cron.fire_times(spec.cron, spec.timezone, after)
    anchor = after if spec.anchor is None else spec.anchor.astimezone(UTC)
    if spec.rrule is not None:
        return recurrence.fire_times(spec.rrule, anchor, spec.timezone, after)
    return interval.fire_times(spec.interval_seconds or 0.0, anchor, spec.timezone, after)
