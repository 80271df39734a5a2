"""When deployments run, for people: their schedules in words, and the next moments; pure."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from penstock.client.wording import did_you_mean
from penstock.errors import Invalid, NotFound
from penstock.schedules import describe, fire_times

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from penstock.contracts.deployments import Deployment, Schedule


MAX_NAMED: Final = 5
"""Deployments that a sentence names at most."""


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


def chosen_schedule(deployment: Deployment, given: str | None) -> Schedule:
    """Find the schedule that was meant.

    Args:
        deployment: whose it is.
        given: its slug, its id, or its number in the list of them, from 1; None means the only one.

    Raises:
        NotFound: there is none, or none of that name.
        Invalid: nothing was given, and there are several; the message lists them.
    """
    schedules = deployment.schedules
    numbers = {str(number): one for number, one in enumerate(schedules, 1)}
    listed = ", ".join(f"{number} {one.slug or describe(one)}" for number, one in numbers.items())
    if not schedules:
        create = f"`penstock deployment schedule create '{deployment.name}'` makes one"
        raise NotFound(f"deployment '{deployment.name}' has no schedule", create)
    if given is None and len(schedules) > 1:
        raise Invalid(
            f"deployment '{deployment.name}' has {len(schedules)} schedules: {listed}", "say which: number, slug or id"
        )
    if given is None:
        return schedules[0]
    slugs = {one.slug: one for one in schedules if one.slug}
    # A slug may be a number, too; it was chosen on purpose.
    found = numbers | {one.id: one for one in schedules} | slugs
    if given not in found:
        hint = did_you_mean(given, slugs) or f"it has {listed}"
        raise NotFound(f"deployment '{deployment.name}' has no schedule '{given}'", hint)
    return found[given]


def left_behind(pool: str, deployments: Sequence[Deployment]) -> list[str]:
    """Say what deleting a pool does to what stays.

    Args:
        pool: its name.
        deployments: those that send their runs there.
    """
    told = ["Its finished runs cannot be listed or inspected any more."]
    if deployments:
        some = ", ".join(f"'{one.name}'" for one in deployments[:MAX_NAMED])
        more = f" and {len(deployments) - MAX_NAMED} more" if len(deployments) > MAX_NAMED else ""
        verb = "deployment points" if len(deployments) == 1 else "deployments point"
        told.append(
            f"{len(deployments)} {verb} to it ({some}{more}): they make no runs until there is a work pool "
            f"'{pool}' again or they are given another one."
        )
    return told


def schedule_fields(schedule: Schedule, now: datetime) -> dict[str, Any]:
    """Everything about a schedule, for programs and people: what was given, in words, and the next three moments."""
    given = schedule.model_dump(mode="json", exclude_none=True)
    moments = [moment.isoformat() for moment in next_times(schedule, now)]
    return {**given, "description": describe(schedule), "next": moments}
