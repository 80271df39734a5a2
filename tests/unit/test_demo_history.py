"""The demo's verdict is only worth something if it notices what went wrong."""

from __future__ import annotations

import pytest

from penstock.cli.demo_history import History, Lane
from penstock.contracts.events import Event

SECOND = iter(range(10_000_000))


def event(run: str, queue: str, state: str) -> Event:
    return Event(
        id="",
        occurred=f"2026-11-21T10:{next(SECOND) // 60 % 60:02}:{next(SECOND) % 60:02}.000Z",
        event=f"prefect.flow-run.{state.title()}",
        resource={
            "prefect.resource.id": f"prefect.flow-run.{run}",
            "prefect.resource.name": f"name-of-{run}",
            "prefect.state-type": state,
        },
        related=[
            {"prefect.resource.id": "q", "prefect.resource.role": "work-queue", "prefect.resource.name": queue},
            {"prefect.resource.id": "p", "prefect.resource.role": "work-pool", "prefect.resource.name": "demo"},
        ],
    )


@pytest.fixture
def history() -> History:
    return History([Lane("critical", 1, 1), Lane("low", 10, None)], Lane("demo", 0, 2))


def tell(history: History, *told: tuple[str, str, str]) -> None:
    for run, queue, state in told:
        history.observe(event(run, queue, state))


def life(run: str, queue: str) -> list[tuple[str, str, str]]:
    return [(run, queue, state) for state in ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED")]


def test_a_clean_history_has_no_problems_and_knows_its_peaks(history: History) -> None:
    tell(history, *life("a", "critical"), *life("b", "low")[:3], *life("c", "low"), ("b", "low", "COMPLETED"))
    assert history.problems(["a", "b", "c"]) == []
    assert [lane.peak for lane in history.queues] == [1, 2]
    assert (history.pool.peak, history.pool.in_flight, history.pool.completed, history.ended) == (2, 0, 3, 3)
    assert [lane.name for lane in history.handed_out] == ["critical", "low", "low"]


def test_a_queue_above_its_limit_is_a_problem(history: History) -> None:
    tell(history, *life("a", "critical")[:2], *life("b", "critical"), ("a", "critical", "COMPLETED"))
    assert history.problems(["a", "b"]) == ["'critical' held 2 slots, its limit is 1"]


def test_a_pool_above_its_limit_is_a_problem(history: History) -> None:
    for run in "abc":
        tell(history, *life(run, "low")[:2])
    for run in "abc":
        tell(history, (run, "low", "COMPLETED"))
    assert history.problems("abc") == ["'demo' held 3 slots, its limit is 2"]


def test_a_run_handed_out_before_a_more_important_one_that_could_go_is_a_problem(history: History) -> None:
    tell(history, ("a", "critical", "SCHEDULED"), *life("b", "low"), *life("a", "critical")[1:])
    assert history.problems("ab") == ["run name-of-b of 'low' was handed out while 1 of 'critical' could go"]


def test_a_blocked_queue_may_be_overtaken(history: History) -> None:
    tell(history, *life("a", "critical")[:2], ("b", "critical", "SCHEDULED"), *life("c", "low"))
    tell(history, ("a", "critical", "COMPLETED"), *life("b", "critical")[1:])
    assert history.problems("abc") == []


def test_a_run_that_ended_twice_otherwise_or_not_at_all_is_a_problem(history: History) -> None:
    tell(history, *life("a", "low"), ("a", "low", "FAILED"), *life("b", "low")[:3], ("b", "low", "CRASHED"))
    tell(history, ("c", "low", "SCHEDULED"))
    assert history.problems(["a", "b", "c", "d"]) == [
        "run name-of-a: COMPLETED 1 times, FAILED 1 times instead of COMPLETED once",
        "run name-of-b: CRASHED 1 times instead of COMPLETED once",
        "run name-of-c: still SCHEDULED instead of COMPLETED once",
        "run d has no event",
    ]


def test_a_run_given_back_releases_its_slot_and_waits_again(history: History) -> None:
    tell(history, *life("a", "critical")[:3], ("a", "critical", "SCHEDULED"))
    critical = history.queues[0]
    assert (critical.in_flight, critical.waiting, critical.submitted, history.returned) == (0, 1, 1, 1)
    tell(history, *life("a", "critical")[1:])
    assert history.problems("a") == []


def test_runs_of_other_queues_and_other_events_are_ignored(history: History) -> None:
    assert not history.observe(event("a", "elsewhere", "PENDING"))
    assert not history.observe(event("a", "low", "PENDING").model_copy(update={"event": "prefect.work-pool.ready"}))
    assert history.pool.peak == 0
