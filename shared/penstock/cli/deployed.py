"""What ``penstock deploy`` prints: what was deployed, when it runs, and what to do next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from penstock.cli import times
from penstock.cli.errors import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from penstock.contracts.deployments import Deployment, Schedule
    from penstock.contracts.pools import Pool
    from penstock.projects.sending import Deployed


def print_deployed(deployed: Sequence[Deployed], now_ms: int, *, quiet: bool) -> None:
    """Print deployments for people, and warn where their runs would not be picked up.

    Args:
        deployed: what was sent.
        now_ms: milliseconds of Redis TIME.
        quiet: only the warnings; they go to standard error.
    """
    now = times.of_ms(now_ms)
    for one in deployed:
        if not quiet:
            _print_one(one, now)
        for warning in one.warnings():
            say(f"Warning: {warning}")
        for note in one.notes():
            say(f"Note: {note}")
    for pool in {one.pool.name: one.pool for one in deployed}.values():
        for warning in _pool_warnings(pool, sorted({one.deployment.queue for one in deployed if one.pool is pool})):
            say(f"Warning: {warning}")
    if not quiet:
        print("\nRun it now:" if len(deployed) == 1 else "\nRun one now:")
        print(f"    penstock deployment run {_quoted(deployed[0].deployment.name)} --watch")


def _print_one(one: Deployed, now: datetime) -> None:
    print(f"Deployment '{one.deployment.name}' {one.outcome}")
    for line in _lines(one.deployment, now):
        print(f"    {line}")
    if changes := one.changes():
        print("  changed:")
    for line in changes:
        print(f"    {line}")


def _lines(deployment: Deployment, now: datetime) -> Iterator[str]:
    yield f"pool        {deployment.pool}"
    yield f"queue       {deployment.queue}"
    if deployment.entrypoint is not None:
        yield f"entrypoint  {deployment.entrypoint}"
    else:
        command = deployment.command or ""
        yield f"command     {command if isinstance(command, str) else shlex.join(command)}"
    yield f"directory   {deployment.working_dir}"
    yield from _settings(deployment)
    for number, schedule in enumerate(deployment.schedules):
        yield f"{'schedule' if number == 0 else '':11} {_when(schedule, now, paused=deployment.paused)}"
    if not deployment.schedules:
        yield "schedule    none"


def _settings(deployment: Deployment) -> Iterator[str]:
    """What is not as it would be if nothing had been said."""
    from penstock.projects.changes import spelled  # noqa: PLC0415 - other commands need no schema library

    if deployment.parameters:
        yield f"parameters  {', '.join(f'{name}={spelled(value)}' for name, value in deployment.parameters.items())}"
    if deployment.job_variables:
        yield f"variables   {', '.join(deployment.job_variables)}"
    if deployment.tags:
        yield f"tags        {', '.join(deployment.tags)}"
    if deployment.version:
        yield f"version     {deployment.version}"
    if deployment.concurrency_limit is not None:
        yield f"limit       {deployment.concurrency_limit}, then {deployment.collision_strategy}"
    if deployment.retries:
        yield f"retries     {deployment.retries}, {deployment.retry_delay_seconds:g} s after a failure"


def _when(schedule: Schedule, now: datetime, *, paused: bool) -> str:
    from penstock.schedules import describe, fire_times  # noqa: PLC0415 - most commands need none of its libraries

    told = describe(schedule)
    if paused:
        return f"{told}; the deployment is paused"
    if not schedule.active:
        return f"{told}; paused"
    following = next(iter(fire_times(schedule, now)), None)
    if following is None:
        return f"{told}; it has ended"
    local = following.astimezone(ZoneInfo(schedule.timezone))
    return f"{told}; next {local.strftime('%Y-%m-%d %H:%M:%S %Z')} ({times.ago(following, now)})"


def _pool_warnings(pool: Pool, queues: list[str]) -> Iterator[str]:
    if pool.is_paused:
        yield f"work pool '{pool.name}' is paused: nothing of it runs until `penstock work-pool resume {_quoted(pool.name)}`"
    elif pool.status != "READY":
        yield (
            f"work pool '{pool.name}' has no worker online: its runs wait until "
            f"`penstock worker start -p {_quoted(pool.name)}`"
        )
    for queue in pool.queues:
        if queue.name in queues and queue.is_paused:
            resume = f"penstock work-queue resume {_quoted(queue.name)} --pool {_quoted(pool.name)}"
            yield f"work queue '{queue.name}' is paused: nothing of it runs until `{resume}`"


def _quoted(name: str) -> str:
    quoted = shlex.quote(name)
    return quoted if quoted != name else f"'{name}'"
