"""Promises 1 and 2 by a model: every state the claim protocol can reach is looked at, with and without what protects it."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import pytest

MODEL: Final = Path(__file__).with_name("claim_protocol.pml")
MEMORY_MB: Final = 1500
DEPTH: Final = 20_000

REASON = next((f"there is no {tool}" for tool in ("spin", "cc") if not shutil.which(tool)), "")
pytestmark = [pytest.mark.system, pytest.mark.skipif(bool(REASON), reason=REASON)]

ANYTHING = ("RETRIES=0",)
STREAM = ("STREAM", "RETRIES=0")
"""One fault at any point: nothing is retried in addition, so two epochs are as many as can come."""
RETRIED = ("STREAM", "RETRIES=1", "FAULTS=0")
SMALL = ("STREAM", "RETRIES=0", "FAULTS=0", "EPOCHS=1")
FULL_DEPLOYMENT = ("RETRIES=0", "DEPLOYED=2", "POOL_LIMIT=2")


class Verdict(NamedTuple):
    """What the checker says; ``broken`` is its first counterexample, empty when there is none."""

    broken: str
    states: int


@cache
def check(*defined: str, endless: bool = False) -> Verdict:
    """Look at every state of the model.

    Args:
        defined: macros, as ``NAME`` or ``NAME=value``.
        endless: look for behaviour that goes on for ever instead.
    """
    # The compiler takes longer over a stream than it saves the search; a counterexample is found at once.
    optimised = "-O0" if "STREAM" in defined or "ONLY" in "".join(defined) else "-O1"
    macros = [f"-D{macro}" for macro in defined]
    kind = ["-DNP", "-DNOFAIR"] if endless else ["-DSAFETY"]
    with TemporaryDirectory() as room:
        for command in (
            ["spin", *macros, "-a", str(MODEL)],
            ["cc", optimised, "-w", *kind, f"-DMEMLIM={MEMORY_MB}", "-DVECTORSZ=512", "-o", "pan", "pan.c"],
        ):
            subprocess.run(command, cwd=room, check=True, capture_output=True, timeout=60)
        command = ["./pan", f"-m{DEPTH}", *(["-l"] if endless else [])]
        told = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False, timeout=90).stdout
    assert "Search not completed" not in told or "errors: 0" not in told, told
    states = re.search(r"(\d\S*) states, stored", told)
    errors = re.search(r"errors: (\d+)", told)
    assert states, told
    assert errors, told
    broken = re.search(r"pan:1: (.*)", told)
    assert bool(broken) == (errors.group(1) != "0"), told
    return Verdict(broken.group(1) if broken else "", int(float(states.group(1))))


@pytest.mark.parametrize("surroundings", [ANYTHING, FULL_DEPLOYMENT], ids=["a full pool", "a full deployment"])
def test_whatever_arrives_in_whatever_order_every_invariant_holds_in_every_state(surroundings: tuple[str, ...]) -> None:
    verdict = check(*surroundings)
    assert verdict.broken == ""
    assert verdict.states > 100_000


@pytest.mark.parametrize("surroundings", [STREAM, RETRIED], ids=["one fault anywhere", "runs that are retried"])
def test_every_accepted_run_has_ended_when_nothing_can_happen_any_more(surroundings: tuple[str, ...]) -> None:
    verdict = check(*surroundings)
    assert verdict.broken == ""
    assert verdict.states > 100_000


def test_nothing_goes_on_for_ever_so_the_standstill_in_which_every_run_has_ended_is_reached() -> None:
    assert check(*SMALL, endless=True).broken == ""


def breaks(invariant: str, *defects: str) -> bool:
    """Say whether there is a state in which this invariant alone does not hold, when these are planted."""
    return bool(check(*ANYTHING, *defects, f"ONLY={invariant}").broken)


def test_two_dispatchers_that_check_the_limit_before_they_claim_exceed_it() -> None:
    assert breaks("LIMITS", "CHECK_THEN_ACT", "DISPATCHERS=2", "EPOCHS=1")


def test_a_report_that_is_applied_twice_ends_a_run_twice() -> None:
    assert breaks("ONE_END", "NO_TERMINAL_CHECK")


def test_a_submission_that_is_not_recognised_when_it_comes_again_puts_a_run_into_two_hands() -> None:
    assert breaks("ONE_HOLDER", "KNOWN_RUN_ACCEPTED", "POOL_LIMIT=2")


def test_without_the_fence_an_old_claim_speaks_for_a_run() -> None:
    assert breaks("FENCE", "NO_FENCE")


def test_without_the_fence_a_run_ends_twice() -> None:
    assert breaks("ONE_END", "NO_FENCE")


def test_without_the_fence_a_run_that_has_ended_still_waits() -> None:
    assert breaks("NEVER_FORGOTTEN", "NO_FENCE")


@pytest.mark.parametrize("invariant", ["GIVEN_BACK_ONCE", "LIMITS"])
def test_counters_that_a_second_report_counts_down_again_let_too_many_in(invariant: str) -> None:
    assert breaks(invariant, "COUNTERS", "RELEASE_FIRST", "RUNS=3", "EPOCHS=1")


def test_a_set_of_holders_can_be_given_back_twice_without_harm() -> None:
    assert check(*ANYTHING, "RELEASE_FIRST", "EPOCHS=1").broken == ""


STUCK: Final = "accepted"
"""What only the assertion at the standstill names, together with the ends of runs."""


def is_stuck(*defects: str) -> bool:
    """Say whether a run can be left that never ends, while every invariant holds."""
    broken = check(*STREAM, *defects).broken
    return STUCK in broken


def test_a_run_is_lost_when_an_old_announcement_brings_a_dead_worker_back() -> None:
    assert is_stuck("NO_SEQ")


def test_a_run_is_lost_when_a_new_life_of_its_worker_leaves_the_claims_of_the_old() -> None:
    assert is_stuck("NO_GIVE_BACK")


def test_a_run_is_lost_when_an_entry_is_acknowledged_before_its_script_runs() -> None:
    assert is_stuck("ACKNOWLEDGE_FIRST")


def test_a_run_waits_for_ever_when_the_dispatcher_that_freed_its_slot_dies_and_nobody_else_is_told() -> None:
    assert is_stuck("SLOTS_NOT_OFFERED")
