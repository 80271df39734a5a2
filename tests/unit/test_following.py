from __future__ import annotations

import pytest

from penstock.client.following import _merged
from penstock.contracts.logs import LogLine
from penstock.contracts.runs import PastState


def state(name: str, at_ms: int) -> PastState:
    return PastState.model_validate({"state": name, "name": name.title(), "at_ms": at_ms})


def line(at_ms: int) -> LogLine:
    return LogLine(at_ms=at_ms, source="stdout", text=f"at {at_ms}")


def order(states: list[PastState], lines: list[LogLine]) -> list[str]:
    steps, left = _merged(states, lines)
    return [step.text if isinstance(step, LogLine) else step.state for step in (*steps, *left)]


def test_what_a_quick_run_printed_comes_after_the_news_that_it_runs() -> None:
    states = [state("SCHEDULED", 0), state("PENDING", 5), state("RUNNING", 30)]
    assert order(states, [line(20), line(25)]) == ["SCHEDULED", "PENDING", "RUNNING", "at 20", "at 25"]


@pytest.mark.parametrize("end", ["SCHEDULED", "FAILED", "CANCELLING"])
def test_lines_of_an_attempt_come_before_its_end_and_those_of_the_next_behind_its_start(end: str) -> None:
    states = [state("RUNNING", 30), state(end, 50), state("PENDING", 60), state("RUNNING", 80)]
    assert order(states, [line(20), line(45), line(70)]) == [
        *("RUNNING", "at 20", "at 45"),
        *(end, "PENDING", "RUNNING", "at 70"),
    ]


def test_a_run_that_failed_before_it_ran_shows_why_before_its_end() -> None:
    states = [state("SCHEDULED", 0), state("PENDING", 5), state("FAILED", 30)]
    assert order(states, [line(20)]) == ["SCHEDULED", "PENDING", "at 20", "FAILED"]
