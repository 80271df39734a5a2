"""Why work waits, held to the same answers as the claim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.records import InFlight, Worker, iso_of_ms
from penstock.client.waiting import Backlog, Blocker, Place, all_reasons, describe, in_order, why_waiting
from penstock.contracts.pools import Pool, Queue
from services.dispatcher.rules import PoolState, QueueState, WaitingRun, WorkerState, plan_claims

if TYPE_CHECKING:
    from penstock.client.waiting import Reason

NOW = 1_800_000_000_000
LONG_AGO = "2026-01-01T00:00:00.000Z"
FREE = InFlight(0, {"critical": 0})


def make_pool(*, paused: bool = False, limit: int | None = None) -> Pool:
    return Pool.model_validate(
        {
            "id": "p",
            "name": "etl",
            "type": "process",
            "description": None,
            "is_paused": paused,
            "concurrency_limit": limit,
            "base_job_template": {},
            "on_worker_lost": "crash",
            "max_attempts": 3,
            "default_queue_id": "q",
            "created": LONG_AGO,
            "updated": LONG_AGO,
            "status": "READY",
            "queues": [],
        }
    )


def make_queue(*, paused: bool = False, limit: int | None = None) -> Queue:
    return Queue.model_validate(
        {
            "id": "q",
            "name": "critical",
            "pool": "etl",
            "description": None,
            "priority": 1,
            "concurrency_limit": limit,
            "is_paused": paused,
            "created": LONG_AGO,
            "updated": LONG_AGO,
            "status": "READY",
        }
    )


def make_worker(name: str = "w1", **fields: Any) -> Worker:
    return Worker.model_validate(
        {
            "name": name,
            "pool": "etl",
            "type": "process",
            "status": "ONLINE",
            "slots": 2,
            "slots_used": 0,
            "queues": [],
            "last_heartbeat": LONG_AGO,
            "heartbeat_interval_seconds": 30,
            "prefetch_seconds": 10,
            "draining": False,
            "version": "1",
            "host": "h",
            "pid": 1,
            "boot_id": "b",
            **fields,
        }
    )


def why(
    pool: Pool | None = None,
    queue: Queue | None = None,
    in_flight: InFlight = FREE,
    workers: list[Worker] | None = None,
    due_ms: int = NOW,
) -> Reason | None:
    workers = [make_worker()] if workers is None else workers
    return why_waiting(pool or make_pool(), queue or make_queue(), in_flight, workers, due_ms=due_ms, now_ms=NOW)


def test_nothing_stops_a_due_run_where_slots_are_free() -> None:
    assert why() is None


def test_each_blocker_hides_those_that_the_claim_would_meet_later() -> None:
    """Everything is wrong at first; each step takes away the blocker named."""
    pool, queue = make_pool(paused=True, limit=5), make_queue(paused=True, limit=1)
    in_flight, workers, due_ms = InFlight(5, {"critical": 1}), [make_worker(status="OFFLINE")], NOW + 3_600_000
    told = []

    def ask() -> None:
        told.append(why(pool, queue, in_flight, workers, due_ms))

    ask()
    pool = make_pool(limit=5)
    ask()
    queue = make_queue(limit=1)
    ask()
    in_flight = InFlight(4, {"critical": 1})
    ask()
    in_flight = InFlight(4, {"critical": 0})
    ask()
    workers = [make_worker(draining=True)]
    ask()
    workers = [make_worker(slots_used=2)]
    ask()
    workers = [make_worker()]
    ask()
    due_ms = NOW
    ask()

    assert [reason and (reason.blocker, reason.text) for reason in told] == [
        ("pool_paused", "pool paused"),
        ("queue_paused", "queue paused"),
        ("pool_limit", "pool limit 5/5"),
        ("queue_limit", "queue limit 1/1"),
        ("no_worker", "no online worker serves the queue"),
        ("draining", "every worker that serves the queue is draining"),
        ("workers_full", "all workers full (2/2 slots)"),
        ("not_due", f"due at {iso_of_ms(NOW + 3_600_000)}"),
        None,
    ]


def test_a_limit_of_zero_and_a_limit_below_what_is_in_flight_are_told_as_they_are() -> None:
    assert why(pool=make_pool(limit=0)) == ("pool_limit", "pool limit 0/0")
    assert why(queue=make_queue(limit=1), in_flight=InFlight(3, {"critical": 3})) == ("queue_limit", "queue limit 3/1")


def test_only_workers_that_serve_the_queue_count() -> None:
    elsewhere = make_worker("w1", queues=["low"])
    here = make_worker("w2", queues=["critical", "low"], slots=3, slots_used=3)

    assert why(workers=[elsewhere]) == ("no_worker", "no online worker serves the queue")
    assert why(workers=[elsewhere, here]) == ("workers_full", "all workers full (3/3 slots)")


def test_a_run_is_due_for_the_longest_prefetch_among_workers_with_a_free_slot() -> None:
    slow = make_worker("w1", prefetch_seconds=60, slots_used=2)
    quick = make_worker("w2", prefetch_seconds=5)

    assert why(workers=[slow, quick], due_ms=NOW + 5_000) is None
    later = why(workers=[slow, quick], due_ms=NOW + 5_001)
    assert later is not None
    assert later.blocker == "not_due"
    assert why(workers=[make_worker("w1", prefetch_seconds=60), quick], due_ms=NOW + 60_000) is None


WORKERS = st.lists(
    st.fixed_dictionaries(
        {
            "status": st.sampled_from(["ONLINE", "ONLINE", "OFFLINE"]),
            "queues": st.sampled_from([[], ["critical"], ["low"], ["critical", "low"]]),
            "slots": st.integers(0, 3),
            "slots_used": st.integers(0, 3),
            "draining": st.sampled_from([False, False, True]),
            "prefetch_seconds": st.sampled_from([0, 10, 60]),
        }
    ),
    max_size=3,
)
LIMITS = st.none() | st.integers(0, 3)


@given(
    paused=st.tuples(st.booleans(), st.booleans()),
    limits=st.tuples(LIMITS, LIMITS),
    in_flight=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    workers=WORKERS,
    due_ms=st.sampled_from([NOW - 1, NOW, NOW + 1, NOW + 10_000, NOW + 10_001, NOW + 60_001]),
)
def test_a_reason_is_given_if_and_only_if_the_claim_hands_out_nothing(
    paused: tuple[bool, bool],
    limits: tuple[int | None, int | None],
    in_flight: tuple[int, int],
    workers: list[dict[str, Any]],
    due_ms: int,
) -> None:
    known = [make_worker(f"w{number}", **fields) for number, fields in enumerate(workers)]
    # A worker that is OFFLINE has left the dispatcher; one that drains has announced no slots.
    seen = [
        WorkerState(
            worker.name,
            (0 if worker.draining else worker.slots) - worker.slots_used,
            round(worker.prefetch_seconds * 1000),
            frozenset(worker.queues) or None,
        )
        for worker in known
        if worker.status == "ONLINE"
    ]
    pool = PoolState(paused[0], limits[0], in_flight[0])
    queue = QueueState("critical", 1, paused[1], limits[1], in_flight[1], (WaitingRun("r1", due_ms),))

    claimed = plan_claims(NOW, pool, [queue], seen, 1).claims

    reason = why(
        make_pool(paused=paused[0], limit=limits[0]),
        make_queue(paused=paused[1], limit=limits[1]),
        InFlight(in_flight[0], {"critical": in_flight[1]}),
        known,
        due_ms,
    )
    assert (reason is None) == bool(claimed)


@given(
    queues=st.lists(
        st.lists(st.integers(-5, 0), max_size=4).map(lambda dues: [NOW + due for due in dues]), min_size=1, max_size=3
    )
)
def test_what_is_due_stands_in_the_order_of_the_claim(queues: list[list[int]]) -> None:
    states = [
        QueueState(
            f"q{priority}",
            priority,
            paused=False,
            limit=None,
            in_flight=0,
            waiting=tuple(WaitingRun(f"{priority}-{number}", due) for number, due in enumerate(dues)),
        )
        for priority, dues in enumerate(queues, 1)
    ]
    plan = plan_claims(
        NOW, PoolState(paused=False, limit=None, in_flight=0), states, [WorkerState("w1", 100, 0, None)], 100
    )

    places = [Place(state.priority, run.due_ms, run.id) for state in states for run in state.waiting]
    assert [place.run_id for place in in_order(places, NOW)] == [run_id for run_id, _ in plan.claims]


def test_what_is_due_later_stands_behind_by_its_time_and_then_by_its_queue() -> None:
    late, later = Place(2, NOW - 60_000, "late"), Place(1, NOW - 1, "first queue")
    soon, same, far = Place(9, NOW + 1, "soon"), Place(10, NOW + 1, "same time"), Place(1, NOW + 2, "far")

    assert in_order([far, same, soon, late, later], NOW) == [later, late, soon, same, far]


@pytest.mark.parametrize(
    ("first_due_ms", "oldest_seconds", "blocker", "reason"),
    [
        (NOW - 90_000, 90.0, None, "being handed out"),
        (NOW + 90_000, 0.0, "not_due", f"due at {iso_of_ms(NOW + 90_000)}"),
    ],
)
def test_a_queue_is_described_by_what_waits_in_it(
    first_due_ms: int, oldest_seconds: float, blocker: str | None, reason: str
) -> None:
    told = describe(make_pool(), make_queue(), Backlog(3, 1, first_due_ms), FREE, [make_worker()], NOW)

    assert (told.queue, told.priority, told.waiting, told.due) == ("critical", 1, 3, 1)
    assert (told.first_due, told.oldest_seconds) == (iso_of_ms(first_due_ms), oldest_seconds)
    assert (told.blocker, told.reason) == (blocker, reason)


@pytest.mark.parametrize(
    ("backlog", "blocker", "reason"),
    [
        (Backlog(2, 2, NOW - 9, parked=2), "deployment_limit", "2 runs wait for the limit of the deployment"),
        (Backlog(1, 1, NOW - 9, parked=1), "deployment_limit", "1 run waits for the limit of the deployment"),
        # Those behind them are handed out, or not due yet.
        (Backlog(3, 3, NOW - 9, parked=2, in_line_ms=NOW), None, "being handed out"),
        (
            Backlog(3, 2, NOW - 9, parked=2, in_line_ms=NOW + 90_000),
            "deployment_limit",
            "2 runs wait for the limit of the deployment",
        ),
    ],
)
def test_runs_that_are_parked_hold_up_nothing_behind_them(backlog: Backlog, blocker: str | None, reason: str) -> None:
    told = describe(make_pool(), make_queue(), backlog, FREE, [make_worker()], NOW)

    assert (told.blocker, told.reason) == (blocker, reason)
    paused = describe(make_pool(paused=True), make_queue(), backlog, FREE, [make_worker()], NOW)
    assert paused.blocker == "pool_paused"


@given(
    paused=st.tuples(st.booleans(), st.booleans()),
    limits=st.tuples(LIMITS, LIMITS),
    in_flight=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    workers=WORKERS,
    due_ms=st.sampled_from([NOW, NOW + 10_001]),
)
def test_the_first_of_all_reasons_is_the_reason_and_each_is_told_once(
    paused: tuple[bool, bool],
    limits: tuple[int | None, int | None],
    in_flight: tuple[int, int],
    workers: list[dict[str, Any]],
    due_ms: int,
) -> None:
    known = [make_worker(f"w{number}", **fields) for number, fields in enumerate(workers)]
    pool, queue = make_pool(paused=paused[0], limit=limits[0]), make_queue(paused=paused[1], limit=limits[1])
    held = InFlight(in_flight[0], {"critical": in_flight[1]})

    every = all_reasons(pool, queue, held, known, due_ms=due_ms, now_ms=NOW)

    assert why_waiting(pool, queue, held, known, due_ms=due_ms, now_ms=NOW) == (every[0] if every else None)
    order = list(get_args(Blocker))
    places = [order.index(reason.blocker) for reason in every]
    assert places == sorted(set(places))
