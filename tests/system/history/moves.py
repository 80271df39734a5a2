"""Which moves a run may make, and who may have caused each."""

from __future__ import annotations

ALLOWED: dict[str | None, set[str]] = {
    None: {"SCHEDULED"},
    "SCHEDULED": {"PENDING", "CANCELLED"},
    "PENDING": {"RUNNING", "SCHEDULED", "CRASHED", "FAILED", "CANCELLING", "CANCELLED"},
    "RUNNING": {"COMPLETED", "FAILED", "CRASHED", "CANCELLING", "CANCELLED", "SCHEDULED"},
    "CANCELLING": {"COMPLETED", "CANCELLED"},
}

SAID: dict[str, set[str]] = {
    # A terminal report may overtake RUNNING; it carries the start.
    "Running": {"RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"},
    "Scheduled": {"SCHEDULED", "EXPIRED"},
    "AwaitingRetry": {"FAILED", "CRASHED", "EXPIRED"},
    "Completed": {"COMPLETED"},
    "Failed": {"FAILED"},
    "Crashed": {"CRASHED", "EXPIRED"},
    "Cancelling": {"CANCEL"},
    "Cancelled": {"CANCELLED", "CANCEL", "EXPIRED"},
}


def said(before: str | None, name: str) -> set[str]:
    """Say what explains a move of a run in a worker's hand.

    Args:
        before: the state it was in.
        name: the name of the state it came to.

    Returns:
        States a report of the newest claim may have named; ``EXPIRED``: the claim was taken back; ``CANCEL``: somebody asked.
        Empty: nothing needs to be said.
    """
    if before == "CANCELLING" and name == "Cancelled":
        return set()
    return SAID.get(name, set())
