"""How a run's process ended: what it had said, its exit status, and whether it was told to. Pure rules."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from penstock.worker.job import Outcome


@dataclass(slots=True)
class Said:
    """What the child has said so far, and when it said the last of it (milliseconds since 1970)."""

    started_ms: int | None = None
    completed: bool = False
    failed: str | None = None
    last_ms: int = 0


def judge(status: int, said: Said) -> Outcome:
    """Decide how a run ended.

    Args:
        status: the exit status; negative: minus the signal that killed the process.
        said: what the child had said.

    Returns:
        FAILED when the child said so, or when it left before there was anything to call; COMPLETED for status 0; else
        CRASHED, even when the function had returned: what it left to threads and exit handlers did not finish.
    """
    if said.failed is not None:
        return Outcome("FAILED", said.failed)
    if status >= 0 and said.started_ms is None:
        return Outcome("FAILED", f"Process exited with status {status} before the function was called")
    if status == 0:
        return Outcome("COMPLETED")
    if status > 0:
        message = f"Process exited with status {status}"
    else:
        names = {int(known): known.name for known in signal.Signals}
        message = f"Process was killed by signal {-status} ({names.get(-status, 'unknown')})"
    return Outcome("CRASHED", message + (", after the function had returned" if said.completed else ""))


def brought_about(status: int, said: Said, stopped_ms: int | None) -> bool:
    """Decide whether a run ended because it was told to.

    Args:
        status: as for :func:`judge`.
        said: what the child had said.
        stopped_ms: when it was sent the first signal, milliseconds since 1970; None when it was sent none.

    Returns:
        False also for a function that had returned or raised before, or that returned all the same. True for a command
        that ends with status 0 on SIGTERM: nobody knows whether its work is done.
    """
    if stopped_ms is None:
        return False
    if said.failed is not None:
        return said.last_ms >= stopped_ms
    return not (said.completed and status == 0)
