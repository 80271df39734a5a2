"""When deployments run, for people: their schedules in words, and the next moments; pure."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any

from penstock.schedules import describe, fire_times

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.contracts.deployments import Deployment, Schedule


def next_times(schedule: Schedule, now: datetime, count: int = 3) -> list[datetime]:
    """The next moments a schedule says, paused or not, in UTC; fewer when it ends."""
    return list(islice(fire_times(schedule, now), count))


def next_run(deployment: Deployment, now: datetime) -> datetime | None:
    """When the next scheduled run is due; None when none will be, because of no schedule, an end, or a pause."""
    active = [] if deployment.paused else [one for one in deployment.schedules if one.active]
    return next(heapq.merge(*(next_times(one, now, 1) for one in active)), None)


def in_words(deployment: Deployment) -> str:
    """All schedules of a deployment, a line each."""
    return "\n".join(
        describe(one) + ("" if one.active or deployment.paused else " (paused)") for one in deployment.schedules
    )


def schedule_fields(schedule: Schedule, now: datetime) -> dict[str, Any]:
    """Everything about a schedule, for programs and people: what was given, in words, and the next three moments."""
    given = schedule.model_dump(mode="json", exclude_none=True)
    moments = [moment.isoformat() for moment in next_times(schedule, now)]
    return {**given, "description": describe(schedule), "next": moments}
