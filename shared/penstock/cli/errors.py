"""How a command fails: one line of what was wrong, one of what to do, and an exit code that scripts can rely on.

====  =========================================================================================
code  meaning
====  =========================================================================================
0     done
1     refused: not found, conflict, invalid, reserved; with ``--wait`` also: a run did not complete
2     usage: an option, an argument or a ``PENSTOCK_`` variable is wrong
3     unavailable: Redis or a service does not answer; trying again may help
70    a bug in Penstock
130   interrupted (Ctrl-C)
====  =========================================================================================
"""

from __future__ import annotations

import sys
from typing import Final

from redis.exceptions import RedisError

from penstock.cli.output import visible
from penstock.errors import BadSettings, Refused, Unavailable

OK: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3
BUG: Final = 70
INTERRUPTED: Final = 130

EXPECTED: Final = (Refused, BadSettings, Unavailable, RedisError, ConnectionError)
"""What a command may raise; anything else is a bug."""


def exit_code(problem: Exception) -> int:
    """Say which code a failure exits with."""
    if isinstance(problem, Refused):
        return REFUSED
    if isinstance(problem, BadSettings):
        return USAGE
    return UNAVAILABLE if isinstance(problem, EXPECTED) else BUG


def say(text: str) -> None:
    """Print to standard error; what somebody else wrote in it is shown, and not obeyed by the terminal."""
    print(visible(text), file=sys.stderr)


def show(problem: Exception) -> int:
    """Print a failure to standard error.

    Returns:
        The exit code.
    """
    code = exit_code(problem)
    if code == BUG:
        say(f"Error: unexpected {type(problem).__name__}: {problem}")
        say("Hint: this is a bug in Penstock; PENSTOCK_LOG_LEVEL=debug shows where it happened")
        return code
    say(f"Error: {problem}")
    if hint := getattr(problem, "hint", ""):
        say(f"Hint: {hint}")
    return code
