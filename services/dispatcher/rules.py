"""The dispatcher's rules, pure: no Redis, no clock. Lua implements them; property tests hold both to the same answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from penstock.contracts.runs import TERMINAL

Submission = Literal["unknown_pool", "expired", "unknown_queue", "foreign", "known", "accepted"]


def submission(*, pool_exists: bool, expired: bool, at_home: bool, queue_exists: bool, run_exists: bool) -> Submission:
    """Decide what becomes of one submitted run."""
    if not pool_exists:
        return "unknown_pool"
    if expired:
        return "expired"
    if not at_home:
        return "foreign"
    if run_exists:
        return "known"
    return "accepted" if queue_exists else "unknown_queue"


def applies(seq: int, stored_seq: int | None) -> bool:
    """Say whether an announcement or loss of a worker is newer than what is known; an older one changes nothing."""
    return stored_seq is None or seq > stored_seq


@dataclass(frozen=True, slots=True)
class WaitingRun:
    """A run in a queue. Order within the queue: due time, then id, which is a version 7 UUID and so grows with submission."""

    id: str
    due_ms: int


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


def plan_claims(
    now_ms: int, pool: PoolState, queues: list[QueueState], workers: list[WorkerState], max_runs: int
) -> list[tuple[str, str]]:
    """Decide which runs are handed out and to whom: a strict waterfall over the queues.

    Args:
        now_ms: Redis TIME.
        pool: pause, limit and holders.
        queues: in any order; the lowest priority number is served first.
        workers: the announced ones.
        max_runs: how many at most.

    Returns:
        (run id, worker name) in the order of dispatch.
    """
    if pool.paused:
        return []
    room = max_runs if pool.limit is None else min(max_runs, pool.limit - pool.in_flight)
    known = {worker.name: worker for worker in workers}
    free = {worker.name: worker.free for worker in workers}
    plan: list[tuple[str, str]] = []
    for queue in sorted(queues, key=lambda queue: queue.priority):
        left = room - len(plan)
        if queue.limit is not None:
            left = min(left, queue.limit - queue.in_flight)
        if queue.paused or left <= 0:
            continue
        for run in sorted(queue.waiting, key=lambda run: (run.due_ms, run.id))[:left]:
            worker = pick_worker(known, free, queue.id, run.due_ms, now_ms)
            if worker is None:
                break  # nobody can take this one; those behind it are due later, so nobody can take them either
            free[worker] -= 1
            plan.append((run.id, worker))
    return plan


def next_due(now_ms: int, queues: list[QueueState], workers: list[WorkerState]) -> int | None:
    """Say when something falls due next: a run's time less the longest prefetch, or, once that has passed, its time."""
    horizon = max((worker.prefetch_ms for worker in workers), default=0)
    wakes = []
    for queue in queues:
        future = [run.due_ms for run in queue.waiting if run.due_ms > now_ms]
        if future and not queue.paused:
            first = min(future)
            wakes.append(first - horizon if first - horizon > now_ms else first)
    return min(wakes, default=None)


def next_state(state: str, reported: str, *, started: bool) -> list[str]:
    """Say through which states a report with a valid claim takes a run.

    Args:
        state: where the run is.
        reported: what the worker says.
        started: whether the report carries a start time.

    Returns:
        The states entered, in order; empty when the report says nothing new.
    """
    if state in TERMINAL:
        return []
    if reported in ("SCHEDULED", "RUNNING"):
        return [reported] if state == "PENDING" else []
    if state == "PENDING" and (started or reported == "COMPLETED"):
        return ["RUNNING", reported]
    return [reported]


def after_loss(state: str, policy: str, run_count: int, max_attempts: int) -> str:
    """Say what becomes of a run whose worker is lost: ``requeue``, ``keep``, or the terminal state it goes to."""
    if state == "PENDING":
        return "requeue"
    if state == "CANCELLING":
        return "CANCELLED"
    if policy == "keep":
        return "keep"
    if policy == "requeue" and run_count < max_attempts:
        return "requeue"
    return "CRASHED"
