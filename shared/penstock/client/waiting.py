"""Why work waits, and in which order it will be handed out; pure.

Both answers follow the claim (``plan_claims`` of the dispatcher's rules): the same checks in the same order, so that the
reason named is the one that stops the claim first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import BaseModel

from penstock.client.records import iso_of_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.client.records import InFlight, Worker
    from penstock.contracts.pools import Pool, Queue

Blocker = Literal[
    "pool_paused",
    "queue_paused",
    "pool_limit",
    "queue_limit",
    "no_worker",
    "draining",
    "workers_full",
    "not_due",
    "deployment_limit",
]
"""What can stop a claim, in the order in which it is looked for."""


class Reason(NamedTuple):
    """Why nothing of a queue is handed out: for programs, and in words."""

    blocker: Blocker
    text: str


class Backlog(NamedTuple):
    """What waits in one queue.

    Attributes:
        waiting: how many; ``due`` how many of them are due by now.
        first_due_ms: when the first is or was due.
        parked: how many of them are set aside until their deployment has room; they hold up nothing behind them.
        in_line_ms: when the first of the others is due; None when there is none.
    """

    waiting: int
    due: int
    first_due_ms: int
    parked: int = 0
    in_line_ms: int | None = None


class Waiting(BaseModel):
    """One queue in which runs wait.

    Attributes:
        waiting: how many; ``due`` how many of them are due by now.
        first_due: when the first is or was due, ISO 8601 in UTC; ``oldest_seconds`` how long ago, 0 if it is not yet.
        blocker: what stops them; None while they are being handed out.
        reason: the same in words.
    """

    queue: str
    priority: int
    waiting: int
    due: int
    first_due: str
    oldest_seconds: float
    blocker: Blocker | None
    reason: str


class Place(NamedTuple):
    """Where a waiting run stands: its queue's priority, when it is due, and its id, which grows with submission."""

    priority: int
    due_ms: int
    run_id: str


def why_waiting(
    pool: Pool, queue: Queue, in_flight: InFlight, workers: Iterable[Worker], *, due_ms: int, now_ms: int
) -> Reason | None:
    """Say what keeps the first run of a queue from being handed out.

    Args:
        pool: as defined.
        queue: as defined.
        in_flight: who holds slots.
        workers: of the pool, OFFLINE ones too.
        due_ms: when the run is due.
        now_ms: Redis TIME.

    Returns:
        The first thing that stops it, or None when nothing does: it is being handed out.
    """
    return next(iter(all_reasons(pool, queue, in_flight, workers, due_ms=due_ms, now_ms=now_ms)), None)


def all_reasons(
    pool: Pool, queue: Queue, in_flight: InFlight, workers: Iterable[Worker], *, due_ms: int, now_ms: int
) -> list[Reason]:
    """Say everything that keeps a run of a queue from being handed out, in the order in which the claim looks at it."""
    reasons = []
    if pool.is_paused:
        reasons.append(Reason("pool_paused", "pool paused"))
    if queue.is_paused:
        reasons.append(Reason("queue_paused", "queue paused"))
    if pool.concurrency_limit is not None and in_flight.pool >= pool.concurrency_limit:
        reasons.append(Reason("pool_limit", f"pool limit {in_flight.pool}/{pool.concurrency_limit}"))
    held = in_flight.queues.get(queue.name, 0)
    if queue.concurrency_limit is not None and held >= queue.concurrency_limit:
        reasons.append(Reason("queue_limit", f"queue limit {held}/{queue.concurrency_limit}"))
    return reasons + _why_nobody_takes_it(queue.name, list(workers), due_ms, now_ms)


def taking(queue: str, workers: Iterable[Worker]) -> list[Worker]:
    """The workers that take runs of a queue, as far as they have a free slot."""
    return [worker for worker in workers if worker.status == "ONLINE" and serves(worker, queue) and not worker.draining]


def _why_nobody_takes_it(queue: str, workers: Sequence[Worker], due_ms: int, now_ms: int) -> list[Reason]:
    serving = [worker for worker in workers if worker.status == "ONLINE" and serves(worker, queue)]
    able = taking(queue, workers)
    free = [worker for worker in able if worker.slots_used < worker.slots]
    reasons = []
    if not serving:
        reasons.append(Reason("no_worker", "no online worker serves the queue"))
    elif not able:
        reasons.append(Reason("draining", "every worker that serves the queue is draining"))
    elif not free:
        used, slots = (sum(getattr(worker, what) for worker in able) for what in ("slots_used", "slots"))
        reasons.append(Reason("workers_full", f"all workers full ({used}/{slots} slots)"))
    if due_ms > now_ms + max((round(worker.prefetch_seconds * 1000) for worker in free or able), default=0):
        reasons.append(Reason("not_due", f"due at {iso_of_ms(due_ms)}"))
    return reasons


def serves(worker: Worker, queue: str) -> bool:
    """Say whether a worker takes runs of a queue of this name."""
    return not worker.queues or queue in worker.queues


def describe(
    pool: Pool, queue: Queue, backlog: Backlog, in_flight: InFlight, workers: Iterable[Worker], now_ms: int
) -> Waiting:
    """Say what waits in a queue, since when, and why."""
    ahead_ms = backlog.first_due_ms if backlog.in_line_ms is None else backlog.in_line_ms
    reason = why_waiting(pool, queue, in_flight, workers, due_ms=ahead_ms, now_ms=now_ms)
    moves = reason is None and backlog.in_line_ms is not None
    if backlog.parked and not moves and (reason is None or reason.blocker == "not_due"):
        noun = "run waits" if backlog.parked == 1 else "runs wait"
        reason = Reason("deployment_limit", f"{backlog.parked} {noun} for the limit of the deployment")
    return Waiting(
        queue=queue.name,
        priority=queue.priority,
        waiting=backlog.waiting,
        due=backlog.due,
        first_due=iso_of_ms(backlog.first_due_ms),
        oldest_seconds=max(now_ms - backlog.first_due_ms, 0) / 1000,
        blocker=reason.blocker if reason else None,
        reason=reason.text if reason else "being handed out",
    )


def in_order(places: Iterable[Place], now_ms: int) -> list[Place]:
    """Put waiting runs into the order in which they will be handed out if nothing stops them.

    What is due by now goes by queue, what is not yet by its time; among equals the queue served first comes first.
    """
    return sorted(places, key=lambda place: (max(place.due_ms, now_ms), place))
