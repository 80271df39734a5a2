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
    "pool_paused", "queue_paused", "pool_limit", "queue_limit", "no_worker", "draining", "workers_full", "not_due"
]
"""What can stop a claim, in the order in which it is looked for."""


class Reason(NamedTuple):
    """Why nothing of a queue is handed out: for programs, and in words."""

    blocker: Blocker
    text: str


class Backlog(NamedTuple):
    """What waits in one queue: how many, how many of them are due by now, and when the first is or was due."""

    waiting: int
    due: int
    first_due_ms: int


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
    if pool.is_paused:
        return Reason("pool_paused", "pool paused")
    if queue.is_paused:
        return Reason("queue_paused", "queue paused")
    if pool.concurrency_limit is not None and in_flight.pool >= pool.concurrency_limit:
        return Reason("pool_limit", f"pool limit {in_flight.pool}/{pool.concurrency_limit}")
    held = in_flight.queues.get(queue.name, 0)
    if queue.concurrency_limit is not None and held >= queue.concurrency_limit:
        return Reason("queue_limit", f"queue limit {held}/{queue.concurrency_limit}")
    return _why_nobody_takes_it(queue.name, list(workers), due_ms, now_ms)


def _why_nobody_takes_it(queue: str, workers: Sequence[Worker], due_ms: int, now_ms: int) -> Reason | None:
    serving = [worker for worker in workers if worker.status == "ONLINE" and _serves(worker, queue)]
    if not serving:
        return Reason("no_worker", "no online worker serves the queue")
    taking = [worker for worker in serving if not worker.draining]
    if not taking:
        return Reason("draining", "every worker that serves the queue is draining")
    free = [worker for worker in taking if worker.slots_used < worker.slots]
    if not free:
        used, slots = (sum(getattr(worker, what) for worker in taking) for what in ("slots_used", "slots"))
        return Reason("workers_full", f"all workers full ({used}/{slots} slots)")
    if due_ms > now_ms + max(round(worker.prefetch_seconds * 1000) for worker in free):
        return Reason("not_due", f"due at {iso_of_ms(due_ms)}")
    return None


def _serves(worker: Worker, queue: str) -> bool:
    return not worker.queues or queue in worker.queues


def describe(
    pool: Pool, queue: Queue, backlog: Backlog, in_flight: InFlight, workers: Iterable[Worker], now_ms: int
) -> Waiting:
    """Say what waits in a queue, since when, and why."""
    reason = why_waiting(pool, queue, in_flight, workers, due_ms=backlog.first_due_ms, now_ms=now_ms)
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
