"""In whose hands a run is, and what becomes of it when it is in nobody's: rules, pure like those of ``rules.py``.

A claim is known to both sides, and both can forget: Redis its last moments, a worker everything. An **audit** is how they find
out where they differ. It is one message in the worker's inbox that names all claims the dispatcher counts as held by this life
of the worker, written in one step with looking at them. Inbox order makes it exact without any clock: every claim it names was
assigned by an earlier entry, every later one will be, so what the worker does not know by then it will never hear of, and what it
holds and is not named it does not hold any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from penstock.contracts.runs import IN_FLIGHT
from penstock.contracts.workers import AUDIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class HeldRun:
    """A run that counts as held by a worker: its state, and the life of the worker it was handed to."""

    state: str
    boot_id: str


def audited(held: Mapping[str, HeldRun | None], boot_id: str) -> set[str]:
    """Say which runs an audit names.

    Args:
        held: what the worker holds as far as the dispatcher knows, by run id; None where there is no record of the run.
        boot_id: the worker's present life. It knows nothing of an earlier one, whose runs the pool's policy may have kept.
    """
    return {
        run_id for run_id, run in held.items() if run is not None and run.boot_id == boot_id and run.state in IN_FLIGHT
    }


def audit_due_ms(now_ms: int, *, announced: bool, told: bool) -> int | None:
    """Say when a worker is audited next.

    Args:
        now_ms: Redis TIME.
        announced: it is there.
        told: it has just been announced or audited; else Redis may have forgotten something.

    Returns:
        None when it is not there any more.
    """
    if not announced:
        return None
    return now_ms + AUDIT_SECONDS * 1000 if told else now_ms


def after_loss(state: str, policy: str, run_count: int, max_attempts: int) -> Fate:
    """Say what becomes of a run whose worker is lost.

    One that goes to CRASHED and has retries left awaits its retry instead.
    """
    if state == "PENDING":
        return "requeue"
    if state == "CANCELLING":
        return "CANCELLED"
    if policy == "keep":
        return "keep"
    if policy == "requeue" and run_count < max_attempts:
        return "requeue"
    return "CRASHED"


def after_disowning(state: str, policy: str, run_count: int, max_attempts: int) -> Fate:
    """Say what becomes of a run that its worker reports LOST: there is nothing that could be kept."""
    return after_loss(state, "crash" if policy == "keep" else policy, run_count, max_attempts)


Fate = Literal["requeue", "keep", "CANCELLED", "CRASHED"]
"""Back to its queue, left as it is, or the terminal state it goes to."""
