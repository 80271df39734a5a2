"""One claim in a worker's hands, and what its end means."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from penstock.contracts.workers import AssignedRun
    from penstock.worker.job import Execution, Outcome

CANCEL_GRACE_SECONDS: Final = 30.0
"""Between SIGTERM and SIGKILL of a run that is cancelled, unless a setting says otherwise."""
HANDED_BACK: Final = "Handed back: the worker is draining"
CANCELLED: Final = "Flow run was cancelled."

Ending = Literal["report", "cancel", "hand back", "silence"]


@dataclass(eq=False, slots=True)
class Held:
    """One claim.

    ``ending`` says what is reported when its process is over: how it went, that it was cancelled, that it is handed back, or
    nothing (the claim is void, or we killed it and the pool's policy decides). ``why_back`` is the reason told with a
    hand-back. ``asked_at`` and ``killed_after`` tell how a cancelled run was ended: when it was sent SIGTERM, by the
    monotonic clock, and how many seconds later it was killed.
    """

    run: AssignedRun
    execution: Execution | None = None
    task: asyncio.Task[None] | None = None
    predecessor: asyncio.Task[None] | None = None
    started_ms: int | None = None
    ending: Ending = "report"
    why_back: str = HANDED_BACK
    asked_at: float | None = None
    killed_after: float | None = None
    deadline: asyncio.TimerHandle | None = None

    def stop(self, ending: Ending) -> None:
        """Kill its process now, or as soon as there is one."""
        self.ending = ending
        if self.execution:
            if self.asked_at is not None and self.killed_after is None:
                self.killed_after = time.monotonic() - self.asked_at
            self.execution.kill()

    def ask(self, grace_seconds: float) -> None:
        """Cancel it: ask its process to end, and kill it after a grace."""
        self.ending = "cancel"
        if self.execution:
            self.asked_at = time.monotonic()
            self.execution.terminate()
            self.deadline = asyncio.get_running_loop().call_later(grace_seconds, self._lose_patience, grace_seconds)

    def catch_up(self, grace_seconds: float) -> None:
        """Do what was wanted while its process was being started: by now there is one."""
        if self.ending == "cancel" and self.started_ms is not None:
            self.ask(grace_seconds)
        elif self.ending != "report":
            self.stop(self.ending)

    def over(self) -> None:
        """Nothing of it is alive any more."""
        if self.deadline:
            self.deadline.cancel()

    def _lose_patience(self, grace_seconds: float) -> None:
        self.killed_after = grace_seconds
        self.stop(self.ending)


def cancelled(
    held: Held, outcome: Outcome | None
) -> tuple[Literal["COMPLETED", "FAILED", "CRASHED", "CANCELLED"], str]:
    """Decide what is reported of a run that was to be cancelled.

    Args:
        held: the claim.
        outcome: how its process ended; None when there was none.

    Returns:
        State and message: how it ended if it did so by itself, else CANCELLED and how that was done.
    """
    if outcome and held.execution:
        stopped = outcome.state != "COMPLETED" if outcome.stopped is None else outcome.stopped
        if not stopped:
            return outcome.state, outcome.message
    if held.killed_after is not None:
        return "CANCELLED", f"{CANCELLED} It was killed {round(held.killed_after, 1):g} s after SIGTERM."
    if held.asked_at is not None:
        return "CANCELLED", f"{CANCELLED} It ended after SIGTERM."
    return "CANCELLED", f"{CANCELLED} It had not begun."
