"""The dispatcher's rules, pure: no Redis, no clock. Lua implements them; property tests hold both to the same answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from penstock.contracts.runs import LATEST_LOOKED_AT, MISSED_AFTER_SECONDS, TERMINAL

if TYPE_CHECKING:
    from penstock.contracts.deployments import CollisionStrategy
    from penstock.contracts.runs import CatchUp

Submission = Literal["unknown_pool", "expired", "unknown_queue", "foreign", "known", "stale", "same", "accepted"]


def submission(  # noqa: PLR0911 - one line for each answer
    *,
    pool_exists: bool,
    expired: bool,
    at_home: bool,
    queue_exists: bool,
    run_exists: bool,
    stale: bool = False,
    key_taken: bool = False,
) -> Submission:
    """Decide what becomes of one submitted run.

    Args:
        pool_exists: as defined.
        queue_exists: as defined.
        expired: the deadline of the submission has passed, and none of its runs had been accepted before.
        at_home: its id names this partition.
        run_exists: it was accepted before.
        stale: its schedule made it under another revision of the deployment.
        key_taken: another run has its idempotency key.
    """
    if not pool_exists:
        return "unknown_pool"
    if expired and not run_exists:
        return "expired"
    if not at_home:
        return "foreign"
    if run_exists:
        return "known"
    if stale:
        return "stale"
    if not queue_exists:
        return "unknown_queue"
    return "same" if key_taken else "accepted"


def applies(seq: int, stored_seq: int | None) -> bool:
    """Say whether an announcement or loss of a worker is newer than what is known; an older one changes nothing."""
    return stored_seq is None or seq > stored_seq


def free_slots(slots: int, held: int, *, boot_id: str = "", draining: str | None = None) -> int:
    """Say how many runs may be assigned to a worker.

    Args:
        slots: what it announced.
        held: how many runs it holds; more than it has slots for after it announced fewer.
        boot_id: its present life.
        draining: the life that is being drained; None if none ever was.
    """
    return 0 if draining == boot_id else max(0, slots - held)


def drain_left_ms(until_ms: int | None, now_ms: int) -> int | None:
    """Say how long a worker that is told again to end may still take; None leaves that to the worker."""
    return None if until_ms is None else max(0, until_ms - now_ms)


@dataclass(frozen=True, slots=True)
class Scheduled:
    """Which schedule made a run, and under which revision of its deployment."""

    schedule: str
    revision: int
    catch_up: CatchUp


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run in a queue. Order within the queue: due time, then id, which is a version 7 UUID and so grows with submission.

    ``begun`` is true of one that waits again: it was handed out before.
    """

    id: str
    due_ms: int
    deployment: str | None = None
    scheduled: Scheduled | None = None
    begun: bool = False


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """A deployment as the claim sees it; ``waiting`` are all of its runs that do, in any queue."""

    limit: int | None = None
    in_flight: int = 0
    strategy: CollisionStrategy = "enqueue"
    revision: int = 1
    revised_ms: int = 0
    waiting: tuple[WaitingRun, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue as the claim sees it."""

    id: str
    priority: int
    paused: bool
    limit: int | None
    in_flight: int
    waiting: tuple[WaitingRun, ...]


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker as the claim sees it; ``queues`` None means all."""

    name: str
    free: int
    prefetch_ms: int
    queues: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool as the claim sees it."""

    paused: bool
    limit: int | None
    in_flight: int


def pick_worker(
    workers: dict[str, WorkerState], free: dict[str, int], queue_id: str, due_ms: int, now_ms: int
) -> str | None:
    """Choose who takes a run.

    A worker that names the queue goes before one that serves every queue, so that the latter stay free for the rest; then the
    one with most free slots; then the greater name (the order of ZREVRANGE).

    Returns:
        The worker's name, or None when nobody may take the run now.
    """
    able = [
        (worker.queues is not None, free[worker.name], worker.name)
        for worker in workers.values()
        if free[worker.name] > 0
        and (worker.queues is None or queue_id in worker.queues)
        and due_ms <= now_ms + worker.prefetch_ms
    ]
    return max(able)[2] if able else None


Admission = Literal["go", "void", "missed", "cancel", "park", "stay"]
"""What becomes of a run whose turn has come: handed out; removed because its schedule was changed; dropped because its time was
missed; cancelled because its deployment is full; set aside until it is not; left where it is until it is due."""


def is_void(run: WaitingRun, deployment: DeploymentState | None) -> bool:
    """Say whether a schedule as it is defined now would not make this run: it was in the future at the last change."""
    return (
        run.scheduled is not None
        and not run.begun
        and deployment is not None
        and run.scheduled.revision != deployment.revision
        and run.due_ms > deployment.revised_ms
    )


def is_missed(run: WaitingRun, now_ms: int, waiting: tuple[WaitingRun, ...]) -> bool:
    """Say whether a run of a schedule is too late to be caught up.

    Whether a later one of its schedule is due is asked of the :data:`LATEST_LOOKED_AT` that are due latest, so that a claim has
    a bound; beyond them it counts as the latest.

    Args:
        run: whose turn has come.
        now_ms: Redis TIME.
        waiting: runs of its deployment.
    """
    if run.scheduled is None or run.begun or run.scheduled.catch_up == "all":
        return False
    if run.scheduled.catch_up == "none":
        return now_ms - run.due_ms > MISSED_AFTER_SECONDS * 1000
    due = sorted((other.due_ms, other.id, other) for other in waiting if other.due_ms <= now_ms)
    return any(
        other.scheduled is not None
        and not other.begun
        and other.scheduled.schedule == run.scheduled.schedule
        and run.due_ms < other.due_ms
        for _, _, other in due[-LATEST_LOOKED_AT:]
    )


def admission(run: WaitingRun, now_ms: int, deployment: DeploymentState | None) -> Admission:
    """Decide what becomes of a run whose turn has come and for which a worker is free.

    Args:
        run: the run.
        now_ms: Redis TIME.
        deployment: as it is now; None for a run of none, or of one that is not defined any more.
    """
    if deployment is None:
        return "go"
    if is_void(run, deployment):
        return "void"
    if is_missed(run, now_ms, deployment.waiting):
        return "missed"
    if deployment.limit is None or deployment.in_flight < deployment.limit:
        return "go"
    if deployment.strategy == "enqueue" or run.begun:
        return "park"
    return "cancel" if run.due_ms <= now_ms else "stay"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a claim does: (run id, worker name) in the order of dispatch, and what became of others whose turn came."""

    claims: list[tuple[str, str]]
    aside: dict[str, Admission]


def plan_claims(
    now_ms: int,
    pool: PoolState,
    queues: list[QueueState],
    workers: list[WorkerState],
    max_runs: int,
    deployments: dict[str, DeploymentState] | None = None,
) -> Plan:
    """Decide which runs are handed out and to whom: a strict waterfall over the queues.

    Args:
        now_ms: Redis TIME.
        pool: pause, limit and holders.
        queues: in any order; the lowest priority number is served first.
        workers: the announced ones.
        max_runs: how many at most.
        deployments: by id.
    """
    plan = Plan([], {})
    if pool.paused:
        return plan
    room = max_runs if pool.limit is None else min(max_runs, pool.limit - pool.in_flight)
    known = {worker.name: worker for worker in workers}
    free = {worker.name: worker.free for worker in workers}
    now_deployed = dict(deployments or {})
    for queue in sorted(queues, key=lambda queue: queue.priority):
        left = room - len(plan.claims)
        if queue.limit is not None:
            left = min(left, queue.limit - queue.in_flight)
        if queue.paused:
            continue
        for run in sorted(queue.waiting, key=lambda run: (run.due_ms, run.id)):
            worker = pick_worker(known, free, queue.id, run.due_ms, now_ms)
            if worker is None or left <= 0:
                break  # nobody can take this one; those behind it are due later, so nobody can take them either
            deployment = now_deployed.get(run.deployment or "")
            verdict = admission(run, now_ms, deployment)
            if deployment and verdict not in ("park", "stay"):
                now_deployed[run.deployment or ""] = replace(
                    deployment,
                    in_flight=deployment.in_flight + (verdict == "go"),
                    waiting=tuple(other for other in deployment.waiting if other.id != run.id),
                )
            if verdict != "go":
                plan.aside[run.id] = verdict
                continue
            free[worker] -= 1
            left -= 1
            plan.claims.append((run.id, worker))
    return plan


def next_due(now_ms: int, queues: list[QueueState], workers: list[WorkerState]) -> int | None:
    """Say when something falls due next: a run's time less the longest prefetch, or, once that has passed, its time.

    Args:
        now_ms: Redis TIME.
        queues: those not full and with somebody free when their turn came; whoever frees a slot claims again.
        workers: the announced ones.
    """
    horizon, wakes = max((worker.prefetch_ms for worker in workers), default=0), []
    for queue in queues:
        future = [run.due_ms for run in queue.waiting if run.due_ms > now_ms]
        if future and not queue.paused:
            first = min(future)
            wakes.append(first - horizon if first - horizon > now_ms else first)
    return min(wakes, default=None)


def next_state(state: str, reported: str, *, started: bool, retries: int = 0) -> list[str]:
    """Say through which states a report with a valid claim takes a run.

    Args:
        state: where the run is.
        reported: what the worker says; of LOST see :func:`services.dispatcher.custody.after_disowning`.
        started: whether the report carries a start time.
        retries: how many the run has left.

    Returns:
        The states entered, in order; empty when the report says nothing new. ``AwaitingRetry`` is SCHEDULED by another name.
    """
    if state in TERMINAL:
        return []
    if state == "CANCELLING":
        if reported == "RUNNING":
            return []
        return ["COMPLETED" if reported == "COMPLETED" else "CANCELLED"]
    if reported in ("SCHEDULED", "RUNNING"):
        return [reported] if state == "PENDING" else []
    end = "AwaitingRetry" if reported in ("FAILED", "CRASHED") and retries else reported
    if state == "PENDING" and (started or reported == "COMPLETED"):
        return ["RUNNING", end]
    return [end]


def cancelled(state: str, *, force: bool) -> str:
    """Say what state a run is in after somebody asked to cancel it."""
    if state in TERMINAL:
        return state
    return "CANCELLED" if force or state == "SCHEDULED" else "CANCELLING"


def deleted(state: str | None) -> Literal["deleted", "unfinished", "unknown"]:
    """Say what becomes of a run somebody wants to delete; state None means that there is none."""
    if state is None:
        return "unknown"
    return "deleted" if state in TERMINAL else "unfinished"
