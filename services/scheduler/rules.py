"""How far a schedule is planned, and when it has to be looked at again; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final, NamedTuple

from penstock.contracts.runs import MISSED_AFTER_SECONDS

if TYPE_CHECKING:
    from penstock.contracts.runs import CatchUp

Fires = Callable[[datetime], Iterator[datetime]]
"""Fire times strictly after a moment, ascending."""

MISSED_AT_ONCE: Final = 500
"""Missed fire times submitted in one round; the next round goes on with the next."""
LOOK_AGAIN_MS: Final = 86_400_000
"""When a schedule that has come to its end is looked at again; its plan goes when it does."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


class Limits(NamedTuple):
    """See :class:`services.scheduler.settings.SchedulerSettings`."""

    min_runs: int = 3
    min_ahead_ms: int = 3_600_000
    max_runs: int = 100
    max_ahead_ms: int = 100 * 86_400_000


class Planned(NamedTuple):
    """What is to be done for a schedule now.

    Attributes:
        fires: fire times to submit runs for, in ms, ascending.
        until_ms: when they are submitted, every fire time up to here has its run.
        next_ms: when the schedule has to be planned again.
    """

    fires: list[int]
    until_ms: int
    next_ms: int


def moment(ms: int) -> datetime:
    """Milliseconds since 1970 as a moment in UTC."""
    return _EPOCH + ms * _MS


def milliseconds(fire: datetime) -> int:
    """A moment as milliseconds since 1970, rounded up: what is strictly after them is another fire time."""
    return -((_EPOCH - fire) // _MS)


def followed(plan: str | None, revision: int, revised_ms: int, *, live: bool) -> str | None:
    """Say which plan a schedule should have, ``<revision> <planned until, ms>``: a new revision begins when it was made.

    Args:
        plan: the one it has.
        revision: of its deployment.
        revised_ms: when that was made.
        live: deployment and schedule exist, neither is paused.

    Returns:
        None when it should have none.
    """
    if not live:
        return None
    if plan and int(plan.split()[0]) == revision:
        return plan
    return f"{revision} {revised_ms}"


def plan(fires: Fires, now_ms: int, until_ms: int, catch_up: CatchUp, limits: Limits) -> Planned:
    """Plan one schedule: what was missed first, then what is ahead.

    Args:
        fires: the schedule's.
        now_ms: the present.
        until_ms: every fire time up to here has its run.
        catch_up: what becomes of those between ``until_ms`` and ``now_ms``.
        limits: how far to look ahead.
    """
    late = missed(fires, now_ms, until_ms, catch_up)
    if len(late) == MISSED_AT_ONCE:
        return Planned(late, late[-1], now_ms)
    until_ms = max(until_ms, now_ms)
    coming = (milliseconds(fire) for fire in fires(moment(now_ms)))
    known, following = _up_to(coming, until_ms)
    new: list[int] = []
    if following is not None and _is_short(known, following, now_ms, limits):
        new, beyond = _top_up(len(known), following, coming, now_ms, limits)
        # The most cannot hold the least time ahead: then half of the most is enough before more are made.
        full = len(known) + len(new) == limits.max_runs and _is_soon(beyond, now_ms, limits)
        if full and len(known) > limits.max_runs // 2:
            new = []
        else:
            following = beyond
    next_ms = _next([*known, *new], following, now_ms, limits)
    return Planned([*late, *new], new[-1] if new else until_ms, next_ms)


def missed(fires: Fires, now_ms: int, until_ms: int, catch_up: CatchUp) -> list[int]:
    """Fire times after ``until_ms`` and not after ``now_ms`` that are made up for, the oldest first."""
    if until_ms >= now_ms:
        return []
    now = moment(now_ms)
    if catch_up == "latest":
        return [milliseconds(fire) for fire in _latest(fires, now, moment(until_ms))]
    since_ms = until_ms if catch_up == "all" else max(until_ms, now_ms - MISSED_AFTER_SECONDS * 1000)
    late = takewhile(lambda fire: fire <= now, fires(moment(since_ms)))
    return [milliseconds(fire) for fire in islice(late, MISSED_AT_ONCE)]


def _latest(fires: Fires, now: datetime, until: datetime) -> list[datetime]:
    """Look back twice as far each time, so that a long outage of a frequent schedule is not walked through."""
    back = timedelta(seconds=1)
    while True:
        since = max(until, now - back)
        found = list(takewhile(lambda fire: fire <= now, fires(since)))
        if found or since == until:
            return found[-1:]
        back *= 2


def _up_to(coming: Iterator[int], until_ms: int) -> tuple[list[int], int | None]:
    known: list[int] = []
    for fire in coming:
        if fire > until_ms:
            return known, fire
        known.append(fire)
    return known, None


def _is_soon(fire: int | None, now_ms: int, limits: Limits) -> bool:
    return fire is not None and fire <= now_ms + limits.min_ahead_ms


def _is_short(known: list[int], following: int, now_ms: int, limits: Limits) -> bool:
    """Say whether too little is planned."""
    if following > now_ms + limits.max_ahead_ms:
        return False
    return len(known) < limits.min_runs or _is_soon(following, now_ms, limits)


def _top_up(
    count: int, following: int, coming: Iterator[int], now_ms: int, limits: Limits
) -> tuple[list[int], int | None]:
    """Plan half as much time again as there has to be, so that not every fire time makes work.

    Returns:
        Further fire times, and the first that is not planned.
    """
    ahead_ms = now_ms + min(limits.min_ahead_ms * 3 // 2, limits.max_ahead_ms)
    new: list[int] = []
    fire: int | None = following
    while (
        fire is not None
        and count + len(new) < limits.max_runs
        and fire <= now_ms + limits.max_ahead_ms
        and (count + len(new) < limits.min_runs or fire <= ahead_ms)
    ):
        new.append(fire)
        fire = next(coming, None)
    return new, fire


def _next(known: list[int], following: int | None, now_ms: int, limits: Limits) -> int:
    """Find the moment at which too little will be planned (see :func:`plan`)."""
    if following is None:
        return now_ms + LOOK_AGAIN_MS
    count = len(known)
    if count >= limits.min_runs:
        at = min(following - limits.min_ahead_ms, known[count - limits.min_runs])
    else:
        at = following - limits.max_ahead_ms
    half = limits.max_runs // 2
    if at <= now_ms and count > half:
        at = known[count - half - 1]
    return max(at, following - limits.max_ahead_ms, now_ms + 1)
