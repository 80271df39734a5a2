"""Translate Redis TIME, in which runs are due, into this machine's monotonic clock; wall clocks are never compared."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Final

_SAMPLES: Final = 8
_FIRST_DELAY: Final = 0.05
_LONGEST_DELAY: Final = 2.0


class RedisClock:
    """What Redis TIME is by the monotonic clock, as the entry ids of the last heartbeats told.

    Every one is a lower bound: Redis TIME was at least that when its answer arrived. The highest is taken, so a run starts
    late by the fastest answer's way back, and never early.
    """

    def __init__(self) -> None:
        self._offsets_ms: deque[float] = deque(maxlen=_SAMPLES)

    def observe(self, entry_id: str, at: float | None = None) -> None:
        """Learn from an entry just appended: the part of its id before the dash is Redis TIME in milliseconds.

        Args:
            entry_id: as Redis answered it.
            at: ``time.monotonic()`` when it did; None means now.
        """
        monotonic = time.monotonic() if at is None else at
        self._offsets_ms.append(int(entry_id.partition("-")[0]) - monotonic * 1000)

    def monotonic_at(self, redis_ms: float) -> float:
        """Say when, by ``time.monotonic()``, Redis TIME reaches ``redis_ms``."""
        return (redis_ms - self._offset()) / 1000

    def now_ms(self) -> float:
        """Estimate Redis TIME, milliseconds."""
        return time.monotonic() * 1000 + self._offset()

    def corrected_ms(self, wall: int) -> int:
        """Translate a moment of the last few seconds by this machine's wall clock into Redis TIME: that clock may be wrong.

        Rounded up, as the moment was cut to whole milliseconds before: what happened at a time did not happen before it.
        """
        return math.ceil(wall + self.now_ms() - time.time() * 1000)

    def _offset(self) -> float:
        return max(self._offsets_ms, default=(time.time() - time.monotonic()) * 1000)


def wall_ms() -> int:
    """Milliseconds since 1970 by this machine's clock; only to order what happens on it (see RedisClock.corrected_ms)."""
    return time.time_ns() // 1_000_000


def backoff(failures: int) -> float:
    """Seconds to wait after the n-th failure in a row: 0.05, doubling up to 2."""
    return min(_FIRST_DELAY * 2.0 ** min(failures - 1, 10), _LONGEST_DELAY)
