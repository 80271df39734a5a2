"""What a soak watches: memory, keys and streams while it runs, and whether they stay flat."""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from penstock import keys
from penstock.streams import ALL, EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from redis.asyncio import Redis

MEGABYTE = 1 << 20
POINTS_OF_A_FIT = 300
"""Beyond so many, every n-th: the fit looks at all pairs."""


@dataclass(slots=True)
class Series:
    """One figure over the number of finished runs."""

    at: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, finished: int, value: float) -> None:
        """Note one value."""
        self.at.append(finished)
        self.values.append(value)


class Trend(NamedTuple):
    """How a figure moved.

    Attributes:
        quarters: the median of each quarter of the runs looked at.
        growth: of the last quarter over the second: what half of the runs have added, as a part of 1.
        slope: by how much it grows with 100,000 runs: the median over all pairs of points (Theil and Sen), which a few outliers
            cannot move.
    """

    quarters: list[float]
    growth: float
    slope: float


def trend(series: Series, since: int) -> Trend | None:
    """Say how a figure moved from ``since`` finished runs on; None where there are too few points to say."""
    points = [(at, value) for at, value in zip(series.at, series.values, strict=True) if at >= since]
    if len(points) < 4 or points[-1][0] == points[0][0]:
        return None
    first, width = points[0][0], (points[-1][0] - points[0][0]) / 4
    parts: list[list[float]] = [[], [], [], []]
    for at, value in points:
        parts[min(3, int((at - first) / width))].append(value)
    if not all(parts):
        return None
    quarters = [statistics.median(part) for part in parts]
    thinned = points[:: max(1, len(points) // POINTS_OF_A_FIT)]
    slopes = [
        (later - value) / (after - at)
        for index, (at, value) in enumerate(thinned)
        for after, later in thinned[index + 1 :]
        if after > at
    ]
    return Trend(quarters, quarters[3] / quarters[1] - 1 if quarters[1] else 0.0, statistics.median(slopes) * 100_000)


_FAMILY_OF = {
    family: re.compile(re.escape(keys.key(0, family, "\0" if "{}" in template else "")).replace("\0", ".+"))
    for family, template in keys.FAMILIES.items()
}
_BY_LENGTH = sorted(_FAMILY_OF, key=lambda family: -len(keys.FAMILIES[family]))
"""The longer template first: ``pool:{}:queues`` before ``pool:{}``."""


def family_of(name: str) -> str:
    """Say which family a key belongs to; its own name for one of none."""
    return next((family for family in _BY_LENGTH if _FAMILY_OF[family].fullmatch(name)), name)


async def census(client: Redis) -> tuple[Counter[str], Counter[str]]:
    """Count all keys by family: all of them, and those that never expire."""
    kept: Counter[str] = Counter()
    lasting: Counter[str] = Counter()
    cursor = 0
    while True:
        answer: Any = await client.scan(cursor, count=2000)
        cursor, names = answer
        pipe = client.pipeline(transaction=False)
        for name in names:
            pipe.ttl(name)
        for name, seconds in zip(names, await pipe.execute(), strict=True):
            family = family_of(name.decode())
            kept[family] += seconds != -2
            lasting[family] += seconds == -1
        if cursor == 0:
            return kept, lasting


class Sampler:
    """Looks once a second at Redis and at every process.

    Args:
        client: of its own.
        processes: name -> process id.
        finished: how many runs have ended by now.
    """

    def __init__(self, client: Redis, processes: Mapping[str, int], finished: Callable[[], int]) -> None:
        self._client = client
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}
        self._finished = finished
        self._cpu_at_start = self._cpu()
        self._began = time.monotonic()
        self.series: dict[str, Series] = {}
        self.events_full_at: int | None = None
        self.cpu: dict[str, float] = {}

    def add(self, what: str, value: float) -> None:
        """Note one value now."""
        self.series.setdefault(what, Series()).add(self._finished(), value)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await self.sample()
            await asyncio.sleep(1.0)

    async def sample(self) -> None:
        """Look once."""
        pipe = self._client.pipeline(transaction=False)
        for section in ("memory", "persistence"):
            pipe.info(section)
        pipe.dbsize()
        for stream in ALL:
            pipe.xlen(keys.key(0, stream.name))
        memory, persistence, size, *lengths = await pipe.execute()
        self.add("used_memory", memory["used_memory"] / MEGABYTE)
        self.add("AOF", persistence["aof_current_size"] / MEGABYTE)
        self.add("keys", size)
        for stream, length in zip(ALL, lengths, strict=True):
            self.add(f"stream {stream.name}", length)
            if stream is EVENTS and length >= EVENTS.max_length and self.events_full_at is None:
                self.events_full_at = self._finished()
        for name, process in self._processes.items():
            self.add(f"RSS {name}", process.memory_info().rss / MEGABYTE)

    def count_cpu(self) -> None:
        """Note how many percent of a core each process has used since the beginning."""
        seconds = time.monotonic() - self._began
        self.cpu = {name: (used - self._cpu_at_start[name]) / seconds * 100 for name, used in self._cpu().items()}

    def _cpu(self) -> dict[str, float]:
        return {name: sum(process.cpu_times()[:2]) for name, process in self._processes.items()}
