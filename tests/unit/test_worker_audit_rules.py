"""Where a worker and the dispatcher differ about what the worker holds."""

from __future__ import annotations

import itertools
from typing import Literal, get_args

from penstock.contracts.runs import new_run_id
from penstock.contracts.workers import AuditedRun
from penstock.worker.audit import compare

RUN = new_run_id(0)
State = Literal["PENDING", "RUNNING", "CANCELLING"]


def named(token: str, state: State = "RUNNING") -> AuditedRun:
    return AuditedRun(id=RUN, token=token, epoch=1, state=state)


def test_each_claim_is_in_at_most_one_place_and_in_none_where_both_agree() -> None:
    states: tuple[State, ...] = get_args(State)
    for state, is_held, is_running in itertools.product(states, (True, False), (True, False)):
        run = named("a", state)
        held = {"a"} if is_held else set()
        found = compare([run], held, held if is_running else set())

        places = [run in found.unknown, run in found.begun, run in found.stopped]
        agrees = is_held and (state == "RUNNING" or (state == "PENDING" and not is_running))
        assert sum(places) == (0 if agrees else 1), (state, is_held, is_running)
        assert places[0] == (not is_held)
        assert found.void == set()


def test_what_is_held_and_not_named_is_void() -> None:
    found = compare([named("b")], {"a", "b", "c"}, {"a"})

    assert found.void == {"a", "c"}
    assert (found.unknown, found.begun, found.stopped) == ([], [], [])
