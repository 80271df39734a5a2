"""Start child processes that never outlive us, whatever ends us."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG: Final = 1
"""``prctl`` option of Linux (man 2 prctl): the signal this process gets when its parent dies."""


def die_with_parent() -> Callable[[], None] | None:
    """Make a ``preexec_fn`` that ties a child to the **thread** that starts it: call it from the main thread.

    Returns:
        The function; None where the kernel offers no such tie (then only a clean stop ends the children).
    """
    if not sys.platform.startswith("linux"):
        return None
    # Loaded here, before the fork: nothing but one system call may happen between fork and exec.
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            # The parent died before the tie was in force.
            os._exit(1)

    return tie
