"""Times as people write and read them: ``10m``, ``2 minutes ago``; pure."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from penstock.durations import parse_duration

_TENTHS_BELOW: Final = 10
_NAMES: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
_FIRST_MS: Final = 86_400_000
_LAST_MS: Final = 253_402_214_400_000
"""9999-12-31 at midnight; a worker's clock may say anything."""


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


def zone_of(moment: datetime) -> str:
    """Name a moment's zone: ``UTC``, or ``CET (UTC+01:00)``."""
    name, offset = moment.tzname() or "", f"UTC{moment:%z}"
    hours = f"{offset[:6]}:{offset[6:8]}"
    if not moment.utcoffset():
        return "UTC"
    return hours if name.startswith(("UTC", "+", "-")) or not name else f"{name} ({hours})"


def absolute(moment: datetime) -> str:
    """Spell a moment on this host's clock to the second, with its zone: ``2030-01-31 08:00:00 CET (UTC+01:00)``."""
    local = moment.astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S} {zone_of(local)}"


def due(moment: datetime, now: datetime) -> str:
    """Say when something is or was due, for people: ``2030-01-31 08:00:00 UTC (in 1 day)``."""
    return f"{absolute(moment)} ({ago(moment, now)})"


def lasted(seconds: float) -> str:
    """Say how long something took: ``0.4s``, ``12s``, ``1m30s``, ``2h5m``, ``3d4h``."""
    if seconds < _TENTHS_BELOW:
        return f"{max(seconds, 0):.1f}s"
    whole = round(seconds)
    for (unit, size), (part, smaller) in pairwise((("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size}{unit}" + (f"{rest}{part}" if rest else "")
    return f"{whole}s"


def of_ms(ms: int) -> datetime:
    """Turn milliseconds since 1970 into a moment; what the calendar cannot name becomes the first or last that every zone has."""
    return datetime.fromtimestamp(min(max(ms, _FIRST_MS), _LAST_MS) / 1000, UTC)
