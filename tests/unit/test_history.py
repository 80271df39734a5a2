"""The history checker itself: a checker that cannot fail proves nothing."""

from __future__ import annotations

from typing import Any

from tests.system.history import History

QUEUES = {"high": (1, 1), "low": (2, None)}


def moved(run: str, queue: str, to: str, seq: int, deployment: str = "") -> dict[str, Any]:
    of = [{"prefect.resource.role": "deployment", "prefect.resource.name": deployment}] if deployment else []
    return {
        "id": f"{run}-{seq}",
        "event": f"prefect.flow-run.{to.title()}",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.state-type": to},
        "related": [*of, {"prefect.resource.role": "work-queue", "prefect.resource.name": queue}],
        "seq": seq,
    }


def check(*events: dict[str, Any], pool_limit: int | None = 2) -> History:
    return History(pool_limit, QUEUES, {"demo": 1}).replay(events)


def life(run: str, queue: str, *states: str, deployment: str = "") -> list[dict[str, Any]]:
    return [moved(run, queue, state, seq, deployment) for seq, state in enumerate(states, 1)]


def test_a_good_life_breaks_nothing() -> None:
    history = check(*life("a", "low", "SCHEDULED", "PENDING", "RUNNING", "COMPLETED"))

    assert history.violations == []
    assert history.unfinished(["a"]) == []


def test_a_missing_event_is_seen() -> None:
    assert "seq 3 after 1" in check(moved("a", "low", "SCHEDULED", 1), moved("a", "low", "RUNNING", 3)).violations[0]


def test_an_event_told_twice_is_seen() -> None:
    assert check(*[moved("a", "low", "SCHEDULED", 1)] * 2).violations


def test_two_terminal_states_are_seen() -> None:
    states = ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED")
    assert "COMPLETED -> FAILED" in check(*life("a", "low", *states)).violations[0]


def test_a_passed_pool_limit_is_seen() -> None:
    runs = [event for run in "abc" for event in life(run, "low", "SCHEDULED", "PENDING")]
    assert check(*runs).violations == ["3 in flight in the pool, limit 2"]


def test_a_passed_queue_limit_is_seen() -> None:
    runs = [event for run in "ab" for event in life(run, "high", "SCHEDULED", "PENDING")]
    assert check(*runs).violations == ["2 in flight in high, limit 1"]


def test_a_lower_run_before_a_waiting_higher_one_is_seen() -> None:
    runs = [*life("a", "high", "SCHEDULED"), *life("b", "low", "SCHEDULED", "PENDING")]
    assert "before waiting work of high" in check(*runs).violations[0]


def test_a_lower_run_passes_a_higher_one_that_its_limit_blocks() -> None:
    runs = [*life("a", "high", "SCHEDULED", "PENDING"), *life("c", "high", "SCHEDULED")]
    assert check(*runs, *life("b", "low", "SCHEDULED", "PENDING")).violations == []


def test_a_run_without_an_end_is_seen() -> None:
    assert check(*life("a", "low", "SCHEDULED", "PENDING")).unfinished(["a", "never"]) == ["a", "never"]


def test_a_passed_limit_of_a_deployment_is_seen() -> None:
    runs = [event for run in "ab" for event in life(run, "low", "SCHEDULED", "PENDING", deployment="demo")]
    assert check(*runs).violations == ["2 in flight of deployment demo, limit 1"]


def test_a_run_that_is_being_cancelled_still_holds_its_slots() -> None:
    first = life("a", "low", "SCHEDULED", "PENDING", "CANCELLING", deployment="demo")
    second = life("b", "low", "SCHEDULED", "PENDING", deployment="demo")
    assert check(*first, *second).violations == ["2 in flight of deployment demo, limit 1"]


def test_a_lower_run_passes_a_higher_one_that_its_deployment_blocks() -> None:
    held = life("a", "low", "SCHEDULED", "PENDING", deployment="demo")
    blocked = life("b", "high", "SCHEDULED", deployment="demo")
    assert check(*held, *blocked, *life("c", "low", "SCHEDULED", "PENDING")).violations == []


def test_a_run_that_is_being_cancelled_cannot_run_again() -> None:
    states = ("SCHEDULED", "PENDING", "CANCELLING", "SCHEDULED")
    assert "CANCELLING -> SCHEDULED" in check(*life("a", "low", *states)).violations[0]
