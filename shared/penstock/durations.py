"""How long, as people write it: ``90s``, ``10m``, ``1h30m``; pure."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_DURATION: Final = re.compile(rf"(?:{_PART.pattern})+")
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
