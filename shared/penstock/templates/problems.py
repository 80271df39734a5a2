"""How a problem is told: where it is, which rule is broken, why; one sentence that is safe on a terminal and in a log."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from penstock.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_TOLD: Final = 10
"""Problems an error's message names; the rest is counted."""
MAX_SHOWN: Final = 80
"""Characters of a value that a message repeats."""
MAX_KEY_SHOWN: Final = 60
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*", re.ASCII)

Place = tuple[str | int, ...]
"""Keys and indexes from the root of a document."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        path: where, as a JSON path: ``$.variables.properties.cpu.default``.
        rule: a stable word for programs: the JSON Schema keyword that is broken, or a rule of templates.
        message: why, for people.
        discreet: the same without the value that is wrong, for those who have not sent it; '' when the message names none.
    """

    path: str
    rule: str
    message: str
    discreet: str = ""

    def without_value(self) -> Problem:
        """Tell it to everybody."""
        return Problem(self.path, self.rule, self.discreet or self.message)

    def __str__(self) -> str:
        return f"{self.path}: {self.message} ({self.rule})"


def problem(place: Iterable[str | int], rule: str, message: str, discreet: str = "") -> Problem:
    """Make a problem of a place."""
    return Problem(spelled(place), rule, message, discreet)


def spelled(place: Iterable[str | int]) -> str:
    """Spell a place as a JSON path; ``$`` is the root, a key that is no plain word stands in brackets."""
    return "$" + "".join(_step(step) for step in place)


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if len(step) <= MAX_KEY_SHOWN and _PLAIN_KEY.fullmatch(step):
        return f".{step}"
    return f"[{shortened(step, MAX_KEY_SHOWN)!r}]"


def shown(value: Any) -> str:
    """Spell a JSON value for a message: short, and without characters that a terminal would obey."""
    return printable(shortened(json.dumps(value, ensure_ascii=False), MAX_SHOWN))


def shortened(text: str, most: int) -> str:
    """Cut a text that is too long, visibly."""
    return text if len(text) <= most else f"{text[:most]}..."


def printable(text: str) -> str:
    """Escape what is no printable character."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def refuse(subject: str, problems: Sequence[Problem], hint: str = "") -> None:
    """Raise what was found, if anything was.

    Args:
        subject: what was checked; begins the message.
        problems: none means that all is well.
        hint: what to do about it.

    Raises:
        Invalid: names the path, the reason and the rule of each problem, of the first ten when there are more; its ``discreet``
            says the same without values.
    """
    if not problems:
        return
    error = Invalid(_told(subject, problems), hint)
    error.discreet = _told(subject, [each.without_value() for each in problems])
    raise error


def _told(subject: str, problems: Sequence[Problem]) -> str:
    told = "; ".join(str(each) for each in problems[:MAX_TOLD])
    rest = f"; and {len(problems) - MAX_TOLD} more" if len(problems) > MAX_TOLD else ""
    return f"{subject}: {told}{rest}"
