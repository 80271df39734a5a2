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
SECONDS: Final = 250

REASON = next((f"there is no {tool}" for tool in ("spin", "cc") if not shutil.which(tool)), "")
pytestmark = [pytest.mark.system, pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(300)]

ANYTHING = ("RETRIES=0",)
STREAM = ("STREAM", "RETRIES=0")
"""One fault at any point: nothing is retried in addition, so two epochs are as many as can come."""
RETRIED = ("STREAM", "RETRIES=1", "FAULTS=0")
SMALL = ("STREAM", "RETRIES=0", "FAULTS=0", "EPOCHS=1")
FULL_DEPLOYMENT = ("RETRIES=0", "DEPLOYED=2", "POOL_LIMIT=2")

DRAINED = (*ANYTHING, "DRAINS", "RUNS=1")
LIMIT_CHANGED = (*FULL_DEPLOYMENT, "RELIMITS", "EPOCHS=1")
SCHEDULE_CHANGED = (*ANYTHING, "DEPLOYED=1", "PLANNED=1", "REVISES", "RUNS=1", "EPOCHS=3")
AMONG_OTHERS = (*ANYTHING, "DEPLOYED=1", "PLANNED=1", "REVISES", "EPOCHS=1")

# A drain hands back in addition to what a fault takes, so one run needs three epochs, and two runs do without a fault.
DRAINED_STREAM = ("STREAM", "RETRIES=0", "NOT_CANCELLED", "DRAINS", "FAULTS=0")
DRAINED_AND_LOST = ("STREAM", "RETRIES=0", "NOT_CANCELLED", "DRAINS", "RUNS=1", "EPOCHS=3")
LIMIT_RAISED = ("STREAM", *FULL_DEPLOYMENT, "RELIMITS", "NOT_CANCELLED")
TWO_POOLS = ("STREAM", "RETRIES=0", "DEPLOYED=2", "POOLS=2", "NOT_CANCELLED")
SCHEDULE_REVISED = (
    "STREAM",
    "RETRIES=0",
    "DEPLOYED=2",
    "PLANNED=1",
    "POOL_LIMIT=2",
    "REVISES",
    "NOT_CANCELLED",
    "FAULTS=0",
)
MOVED_AWAY = ("STREAM", "RETRIES=0", "DEPLOYED=1", "PLANNED=1", "REVISES", "MOVES_AWAY", "NOT_CANCELLED", "LIVES=1")


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
            subprocess.run(command, cwd=room, check=True, capture_output=True, timeout=SECONDS)
        command = ["./pan", f"-m{DEPTH}", *(["-l"] if endless else [])]
        told = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False, timeout=SECONDS).stdout
    assert "Search not completed" not in told or "errors: 0" not in told, told
    states = re.search(r"(\d\S*) states, stored", told)
    errors = re.search(r"errors: (\d+)", told)
    assert states, told
    assert errors, told
    broken = re.search(r"pan:1: (.*)", told)
    assert bool(broken) == (errors.group(1) != "0"), told
    return Verdict(broken.group(1) if broken else "", int(float(states.group(1))))


@pytest.mark.parametrize(
    ("surroundings", "states"),
    [
        pytest.param(ANYTHING, 200_000, id="a full pool"),
        pytest.param((*ANYTHING, "EPOCHS=1", "DISPATCHERS=2"), 50_000, id="a full pool and two dispatchers"),
        pytest.param(FULL_DEPLOYMENT, 200_000, id="a full deployment"),
        pytest.param(DRAINED, 30_000, id="workers that are drained"),
        pytest.param(LIMIT_CHANGED, 200_000, id="a deployment whose limit changes"),
        pytest.param(SCHEDULE_CHANGED, 10_000, id="a schedule that changes"),
        pytest.param(AMONG_OTHERS, 100_000, id="a schedule that changes among other runs"),
    ],
)
def test_whatever_arrives_in_whatever_order_every_invariant_holds_in_every_state(
    surroundings: tuple[str, ...], states: int
) -> None:
    verdict = check(*surroundings)
    assert verdict.broken == ""
    assert verdict.states > states


@pytest.mark.parametrize(
    ("surroundings", "states"),
    [
        pytest.param(STREAM, 1_000_000, id="one fault anywhere"),
        pytest.param(("STREAM", "RETRIES=0", "FAULTS=0", "DISPATCHERS=2"), 10_000, id="two dispatchers"),
        pytest.param(RETRIED, 100_000, id="runs that are retried"),
        pytest.param(DRAINED_STREAM, 50_000, id="a worker that is drained"),
        pytest.param(DRAINED_AND_LOST, 100_000, id="a worker that is drained, and one fault"),
        pytest.param(LIMIT_RAISED, 100_000, id="a limit that is raised, and one fault"),
        pytest.param(TWO_POOLS, 10_000, id="a deployment with runs in two pools, and one fault"),
        pytest.param(SCHEDULE_REVISED, 5_000, id="a schedule that changes"),
        pytest.param(MOVED_AWAY, 300_000, id="a deployment that goes to another partition, and one fault"),
    ],
)
def test_every_accepted_run_has_ended_when_nothing_can_happen_any_more(
    surroundings: tuple[str, ...], states: int
) -> None:
    verdict = check(*surroundings)
    assert verdict.broken == ""
    assert verdict.states > states


def test_nothing_goes_on_for_ever_so_the_standstill_in_which_every_run_has_ended_is_reached() -> None:
    assert check(*SMALL, endless=True).broken == ""


def breaks(invariant: str, *defects: str, among: tuple[str, ...] = ANYTHING) -> bool:
    """Say whether there is a state in which this invariant alone does not hold, when these are planted."""
    return bool(check(*among, *defects, f"ONLY={invariant}").broken)


@pytest.mark.parametrize(
    ("defect", "settings"),
    [
        ("NO_POOL_LIMIT", ["QUEUE_LIMIT=2"]),
        ("NO_QUEUE_LIMIT", ["POOL_LIMIT=2", "QUEUE_LIMIT=1"]),
        ("NO_DEPLOYMENT_LIMIT", ["POOL_LIMIT=2", "DEPLOYED=2"]),
        ("NO_SLOT_LIMIT", ["POOL_LIMIT=2"]),
    ],
)
def test_a_limit_that_a_claim_does_not_look_at_is_exceeded(defect: str, settings: list[str]) -> None:
    assert breaks("LIMITS", defect, *settings)


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


@pytest.mark.parametrize("defect", ["NO_TOKEN", "NO_WORKER"])
def test_the_fence_needs_both_the_token_and_the_worker(defect: str) -> None:
    assert breaks("FENCE", defect)


def test_a_run_that_has_ended_ends_again_when_cancelling_does_not_ask_whether_it_has() -> None:
    assert breaks("ONE_END", "CANCELS_THE_ENDED")


def test_what_is_being_cancelled_runs_again_when_a_report_does_not_ask_whether_it_was_pending() -> None:
    assert breaks("MOVES", "NO_PENDING_CHECK")


def test_an_announcement_takes_back_claims_of_the_life_it_announces_when_it_does_not_ask_whose_they_are() -> None:
    assert breaks("ITS_OWN", "GIVES_BACK_ITS_OWN")


def test_a_drained_worker_gets_work_when_its_slots_are_offered() -> None:
    assert breaks("DRAINED", "NO_DRAIN_CHECK", among=DRAINED)


def test_a_run_that_could_go_is_passed_over_when_a_claim_does_not_take_back_what_is_parked() -> None:
    assert breaks("NOTHING_IDLE", "CLAIMS_LEAVE_PARKED", among=LIMIT_CHANGED)


@pytest.mark.parametrize(
    ("invariant", "defect"),
    [
        ("ONE_END", "NO_STALE_CHECK"),
        ("BARRIER", "NO_VOID_CHECK"),
        ("BEGUN", "VOIDS_THE_BEGUN"),
        ("BEGUN", "RECALLS_THE_BEGUN"),
    ],
)
def test_a_schedule_that_changes_needs_each_of_its_checks(invariant: str, defect: str) -> None:
    assert breaks(invariant, defect, among=SCHEDULE_CHANGED)


@pytest.mark.parametrize("invariant", ["GIVEN_BACK_ONCE", "LIMITS"])
def test_counters_that_a_second_report_counts_down_again_let_too_many_in(invariant: str) -> None:
    assert breaks(invariant, "COUNTERS", "RELEASE_FIRST", "RUNS=3", "QUEUE_LIMIT=3", "EPOCHS=1")


def test_a_set_of_holders_can_be_given_back_twice_without_harm() -> None:
    assert check(*ANYTHING, "RELEASE_FIRST", "EPOCHS=1").broken == ""


def is_stuck(*defects: str, among: tuple[str, ...] = STREAM) -> bool:
    """Say whether a run can be left that never ends although there is a worker for it, or a slot that nobody gets back."""
    return breaks("ALL_ENDED", *defects, among=among)


def leaves_a_worker_idle(*defects: str, among: tuple[str, ...] = STREAM) -> bool:
    """Say whether a worker can be left that lives and is offered nothing."""
    return breaks("ALL_OFFERED", *defects, among=among)


def test_a_run_is_lost_when_an_old_announcement_brings_a_dead_worker_back() -> None:
    assert is_stuck("NO_SEQ")


def test_a_run_is_lost_when_a_new_life_of_its_worker_leaves_the_claims_of_the_old() -> None:
    assert is_stuck("NO_GIVE_BACK")


def test_a_run_is_lost_when_an_entry_is_acknowledged_before_its_script_runs() -> None:
    assert is_stuck("ACKNOWLEDGE_FIRST")


def test_a_run_waits_for_ever_when_the_dispatcher_that_freed_its_slot_dies_and_nobody_else_is_told() -> None:
    assert is_stuck("SLOTS_NOT_OFFERED")


@pytest.mark.parametrize("defect", ["OLD_ANNOUNCEMENTS", "OLD_LOSSES"])
def test_what_the_dispatcher_knows_of_a_worker_is_wrong_for_ever_when_an_old_word_is_applied(defect: str) -> None:
    assert leaves_a_worker_idle(defect, "NOT_CANCELLED")


def test_the_next_life_of_a_drained_worker_gets_nothing_when_a_drain_is_not_of_one_life() -> None:
    assert leaves_a_worker_idle("DRAINED_FOR_EVER", among=DRAINED_STREAM)


def test_a_drained_worker_whose_inbox_was_deleted_never_ends_when_it_is_not_told_again() -> None:
    assert leaves_a_worker_idle("NOT_TOLD_AGAIN", among=DRAINED_AND_LOST)


@pytest.mark.parametrize("defect", ["ENDS_LEAVE_PARKED", "UNPARKS_IN_SILENCE"])
def test_a_parked_run_waits_for_ever_in_another_pool_when_nobody_tells_that_pool_of_room(defect: str) -> None:
    assert is_stuck(defect, among=TWO_POOLS)


def test_a_run_waits_for_ever_for_the_slot_of_a_recalled_one_when_its_pool_is_not_told() -> None:
    assert is_stuck("RECALLS_IN_SILENCE", among=MOVED_AWAY)
