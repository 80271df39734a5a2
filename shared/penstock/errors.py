"""The error tree. Every error says what was wrong, where, and what to do.

::

    PenstockError
    |-- Refused            the request was understood and turned down; ``code`` is stable, for programs
    |   |-- Invalid        a value breaks a rule
    |   |-- NotFound       a pool, queue, worker or run does not exist
    |   |-- Conflict       it exists already, or its state forbids the change
    |   |-- Reserved       the name belongs to the system
    |   |-- Expired        the command's deadline had passed before anybody read it
    |   |-- Overtaken      a newer command about the same pool or deployment was carried out before this one
    |   `-- CursorExpired  the events after a cursor have been trimmed
    |-- Unavailable        Redis or a service does not answer; trying again may help
    |   `-- NoReply        the command was sent, nobody answered within its deadline
    |-- BadMessage         an entry on a stream is no message of ours; it goes to ``dead``
    |-- BadScript          a Lua script and its header or its call disagree: a bug
    `-- BadSettings        a ``PENSTOCK_`` variable is unknown or wrong

"Full", "empty" and "paused" are answers, not errors.
"""

from __future__ import annotations

from typing import ClassVar


class PenstockError(Exception):
    """Base of all errors Penstock raises on purpose."""


class Refused(PenstockError):
    """The request was understood and turned down.

    Args:
        message: what was wrong and where, one sentence.
        hint: what to do about it, one sentence or a command; may be empty.

    Attributes:
        discreet: the message for everybody's eyes: without values that were sent, where it repeats any; they may be secret.
    """

    code: ClassVar[str] = "refused"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.discreet = message


class Invalid(Refused):
    """A value breaks a rule."""

    code = "invalid"


class NotFound(Refused):
    """A pool, queue, worker or run does not exist."""

    code = "not_found"


class Conflict(Refused):
    """It exists already, or its state forbids the change."""

    code = "conflict"


class Reserved(Refused):
    """The name belongs to the system."""

    code = "reserved"


class Expired(Refused):
    """The command's deadline had passed before anybody read it; nothing was changed."""

    code = "expired"


class Overtaken(Refused):
    """A newer command about the same pool or deployment was carried out before this one; nothing was changed."""

    code = "overtaken"


class CursorExpired(Refused):
    """The events after a cursor have been trimmed: whoever reads on has missed some.

    Attributes:
        oldest: entry id of the oldest event still kept; '' when none is.
    """

    code = "cursor_expired"
    oldest: str = ""


class Unavailable(PenstockError):
    """Redis or a service does not answer; trying again may help."""


class NoReply(Unavailable):
    """The command was sent, but nobody answered within its deadline; it will not be executed later."""


class BadMessage(PenstockError):
    """An entry on a stream is no message of ours."""


class BadScript(PenstockError):
    """A Lua script and its header or its call disagree."""


class BadSettings(PenstockError):
    """A ``PENSTOCK_`` variable is unknown or wrong."""


REFUSALS: dict[str, type[Refused]] = {
    error.code: error for error in (Refused, Invalid, NotFound, Conflict, Reserved, Expired, Overtaken, CursorExpired)
}
"""Code on the wire -> error class."""


def refusal(code: str, message: str, hint: str = "") -> Refused:
    """Rebuild the error that a reply carries; an unknown code becomes plain :class:`Refused`."""
    return REFUSALS.get(code, Refused)(message, hint)
