"""Times as people write and read them: ``10m``, ``2 minutes ago``; pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_DURATION: Final = re.compile(rf"(?:{_PART.pattern})+")
_NAMES: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
_MAX_SECONDS: Final = 100 * 365 * 86_400
"""A century; more overflows the clock of Redis' entry ids long before it means anything."""


def parse_duration(text: str) -> timedelta | None:
    """Read ``90s``, ``10m``, ``1h30m``, ``1.5d``, ``250ms``, ``2w``.

    Returns:
        The duration; None when the text is none.
    """
    if not _DURATION.fullmatch(text):
        return None
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return timedelta(seconds=seconds) if seconds <= _MAX_SECONDS else None


def parse_moment(text: str, now: datetime) -> datetime:
    """Read a moment: ISO 8601 (without a zone it is local time), or a duration from now (``+90s``, ``10m``).

    Args:
        text: what was typed.
        now: the clock that decides, with its zone.

    Raises:
        ValueError: it is neither.
    """
    if duration := parse_duration(text.removeprefix("+")):
        return now + duration
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as problem:
        raise ValueError(
            f"{text!r} is no time: give ISO 8601 (2030-01-31T08:00) or a delay (+90s, 10m, 1h30m)"
        ) from problem
    return moment if moment.tzinfo else moment.astimezone()


def ago(moment: datetime, now: datetime) -> str:
    """Say how far a moment is from now: ``2 minutes ago``, ``in 1 hour``, ``just now``."""
    seconds = round((now - moment).total_seconds())
    for name, size in _NAMES:
        if abs(seconds) >= size:
            count = abs(seconds) // size
            text = f"{count} {name}{'s' if count > 1 else ''}"
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return "just now"


def ago_iso(text: str, now: datetime) -> str:
    """:func:`ago` of an ISO 8601 text."""
    return ago(datetime.fromisoformat(text), now)


def of_ms(ms: int) -> datetime:
    """Turn milliseconds since 1970 into a moment."""
    return datetime.fromtimestamp(ms / 1000, UTC)
