"""What a worker remembers of runs that have ended, and for how long."""

from __future__ import annotations

import pytest

from penstock.contracts.runs import RunReport, new_run_id
from penstock.worker import reports
from penstock.worker.reports import KEPT_SECONDS, Ends


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def end(token: str, message: str = "") -> RunReport:
    return RunReport(run=new_run_id(0), token=token, epoch=1, state="COMPLETED", message=message)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ends(clock: Clock) -> Ends:
    return Ends(clock)


def test_an_end_is_forgotten_when_an_audit_does_not_name_it_some_time_after_redis_took_it(
    ends: Ends, clock: Clock
) -> None:
    report = end("a")
    ends.keep(report)
    ends.sent(report)
    clock.seconds += KEPT_SECONDS - 1
    ends.forget([])
    assert ends.find("a") == report

    clock.seconds += 1
    ends.forget(["a"])
    assert ends.find("a") == report, "the dispatcher does not know it"

    ends.forget([])
    assert ends.find("a") is None


def test_time_alone_forgets_nothing(ends: Ends, clock: Clock) -> None:
    report = end("a")
    ends.keep(report)
    ends.sent(report)
    clock.seconds += 86_400
    assert ends.find("a") == report, "Redis may have been away all day"


def test_what_redis_does_not_have_yet_is_never_forgotten(ends: Ends, clock: Clock) -> None:
    ends.keep(end("a"))
    clock.seconds += 86_400
    ends.forget([])
    assert ends.is_on_its_way("a")


def test_what_is_said_again_counts_from_then(ends: Ends, clock: Clock) -> None:
    report = end("a")
    ends.keep(report)
    ends.sent(report)
    clock.seconds += KEPT_SECONDS
    ends.keep(report)
    assert ends.is_on_its_way("a")
    ends.sent(report)
    ends.forget([])
    assert ends.find("a") == report


def test_the_oldest_go_when_there_are_too_many(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "KEPT_AT_MOST", 2)
    for token in "abc":
        ends.keep(end(token))
    assert [ends.find(token) is not None for token in "abc"] == [False, True, True]


def test_the_oldest_go_when_their_messages_are_too_long(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "KEPT_CHARACTERS", 10)
    for token in "abc":
        ends.keep(end(token, "x" * 5))
    assert [ends.find(token) is not None for token in "abc"] == [False, True, True]
    ends.keep(end("b", "x" * 6))
    assert [ends.find(token) is not None for token in "abc"] == [False, True, False]
