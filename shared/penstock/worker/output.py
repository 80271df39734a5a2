"""The output of runs, on its way to the streams ``logs:<run>``: kept up to a limit, and what is not kept is counted."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.entries import entry_fields
from penstock.contracts.logs import LogLine, RunLog
from penstock.keys import partition_of_run
from penstock.streams import LOGS_EXPIRE_SECONDS, LOGS_MAX_LENGTH
from penstock.worker.clock import backoff, wall_ms
from penstock.worker.lines import MAX_LINE_BYTES, printed_bytes, spelt, stored_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from penstock.contracts.logs import Source

log = structlog.get_logger("penstock.worker")

LOG_BYTES_PER_RUN: Final = 10 * 1024 * 1024
"""How much of a run's output is kept, as it stands in Redis, unless a setting says otherwise."""
MAX_ENTRY_BYTES: Final = 16_384
MAX_ENTRY_LINES: Final = 200
ENTRY_BYTES: Final = 128
"""What an entry costs beside its lines."""
MAX_CHUNK_LINES: Final = 1_000
MAX_BATCH_BYTES: Final = 512 * 1024
"""Sent at once: making it ready must not hold up a heartbeat."""
MAX_BUFFERED_BYTES: Final = 4 * 1024 * 1024
"""Of all runs together, while Redis is slow or away."""
UNFINISHED_EXPIRE_SECONDS: Final = 7 * 24 * 3600
"""After its last line the log of a run that has not ended lives so long at least; a dead worker ends no log."""
_PAUSE_SECONDS: Final = 0.02
"""Between two flushes: lines that come one by one then share an entry."""


@dataclass(slots=True)
class _Count:
    lines: int = 0
    bytes: int = 0

    def add(self, texts: list[str]) -> None:
        self.lines += len(texts)
        self.bytes += printed_bytes(texts)

    def note(self, why: str) -> list[str]:
        return [f"output cut: {self.bytes} bytes in {self.lines} lines not kept ({why})"] if self.lines else []


@dataclass(slots=True)
class _Log:
    """What is known of one run's output. ``full``: nothing more is kept, however short it is."""

    stored: int = 0
    entries: int = 0
    full: bool = False
    overlong: _Count = field(default_factory=_Count)
    beyond: _Count = field(default_factory=_Count)
    outage: _Count = field(default_factory=_Count)


@dataclass(slots=True)
class _Chunk:
    """Lines of one run, in order; ``last``: it prints nothing more."""

    run: str
    log: _Log
    at_ms: int
    source: Source
    texts: list[str]
    size: int = 0
    last: bool = False


class LogShipper:
    """Appends output to the logs of runs, in batches.

    While Redis answers, a run that prints faster than Redis takes it is slowed down, until its log is full; then it is
    not held up any more. During an outage the oldest lines are dropped, because no run may wait for Redis. The end of a
    run's log says what is missing.

    Args:
        client: where to.
        bytes_per_run: how much is kept of each run, about, as it stands in Redis.
        retention_seconds: how long a log is kept after the end of its run.
        now_ms: tells the time that stands beside the lines, milliseconds since 1970.
    """

    def __init__(
        self,
        client: Redis,
        *,
        bytes_per_run: int = LOG_BYTES_PER_RUN,
        retention_seconds: float = LOGS_EXPIRE_SECONDS,
        now_ms: Callable[[], float] = wall_ms,
    ) -> None:
        self._client = client
        self._now_ms = now_ms
        self._limit = bytes_per_run
        self._retention_ms = int(retention_seconds * 1000)
        self._logs: dict[str, _Log] = {}
        self._chunks: deque[_Chunk] = deque()
        self._size = 0
        self._ready = asyncio.Event()
        self._moved = asyncio.Condition()
        self._outage = False
        self._added = 0
        self._done = 0

    async def add(self, run: str, source: Source, lines: list[str]) -> None:
        """Queue lines of one run, or count them when its log is full."""
        about = self._logs.setdefault(run, _Log())
        for start in range(0, len(lines), MAX_CHUNK_LINES):
            if about.full:
                about.beyond.add(lines[start:])
                return
            if self._size >= MAX_BUFFERED_BYTES:
                async with self._moved:
                    await self._moved.wait_for(lambda: self._size < MAX_BUFFERED_BYTES or self._outage)
            kept, size = self._admit(about, lines[start : start + MAX_CHUNK_LINES])
            if kept:
                self._queue(_Chunk(run, about, round(self._now_ms()), source, kept, size))
                self._size += size
                if self._outage:
                    self._drop_oldest()

    def cut(self, run: str, lines: int, size: int) -> None:
        """Count the bytes that are missing of lines which were too long."""
        about = self._logs.setdefault(run, _Log())
        about.overlong.lines += lines
        about.overlong.bytes += size

    def end(self, run: str) -> None:
        """Close the log of a run: say what is missing, and let it expire from now on."""
        about = self._logs.pop(run, None)
        if about:
            self._queue(_Chunk(run, about, round(self._now_ms()), "stderr", [], last=True))

    async def flushed(self, timeout_seconds: float) -> None:
        """Wait until what is queued now is in Redis, or the time is up; not at all during an outage."""
        target = self._added
        try:
            async with asyncio.timeout(timeout_seconds), self._moved:
                await self._moved.wait_for(lambda: self._done >= target or self._outage)
        except TimeoutError:
            log.debug("output is still on its way", chunks=target - self._done)

    async def run(self) -> None:
        """Ship until cancelled."""
        while True:
            await self._ready.wait()
            batch = self._next_batch()
            await self._ship_until_shipped(batch)
            self._done += len(batch)
            async with self._moved:
                self._moved.notify_all()
            if not self._chunks:
                self._ready.clear()
            if self._size < MAX_BATCH_BYTES:
                await asyncio.sleep(_PAUSE_SECONDS)

    def _admit(self, about: _Log, lines: list[str]) -> tuple[list[str], int]:
        """Take as many lines as the log has room for, and count the others."""
        size = 0
        for place, text in enumerate(lines):
            try:
                cost = stored_bytes(text)
            except TypeError:
                lines[place] = spelt(text)
                cost = stored_bytes(lines[place])
            if about.stored + size + cost > self._limit or about.entries >= LOGS_MAX_LENGTH:
                about.full = True
                about.beyond.add(lines[place:])
                lines = lines[:place]
                break
            size += cost
        about.stored += size
        return lines, size

    def _queue(self, chunk: _Chunk) -> None:
        self._chunks.append(chunk)
        self._added += 1
        self._ready.set()

    def _drop_oldest(self) -> None:
        ends: list[_Chunk] = []
        while self._size > MAX_BUFFERED_BYTES:
            chunk = self._chunks.popleft()
            if chunk.last:
                ends.append(chunk)
                continue
            self._size -= chunk.size
            self._done += 1
            chunk.log.stored -= chunk.size
            chunk.log.outage.add(chunk.texts)
        self._chunks.extendleft(reversed(ends))

    def _next_batch(self) -> list[_Chunk]:
        batch: list[_Chunk] = []
        size = 0
        while self._chunks and (not batch or size + self._chunks[0].size <= MAX_BATCH_BYTES):
            batch.append(self._chunks.popleft())
            size += batch[-1].size
        self._size -= size
        return batch

    async def _ship_until_shipped(self, batch: list[_Chunk]) -> None:
        failures = 0
        while True:
            try:
                await self._ship(batch)
            except (RedisError, OSError) as problem:
                failures += 1
                self._outage = True
                log.debug("output waits for Redis", error=str(problem))
                async with self._moved:
                    self._moved.notify_all()
                await asyncio.sleep(backoff(failures))
                continue
            self._outage = False
            return

    async def _ship(self, batch: list[_Chunk]) -> None:
        pipe = self._client.pipeline(transaction=False)
        by_run: dict[str, list[_Chunk]] = {}
        for chunk in batch:
            by_run.setdefault(chunk.run, []).append(chunk)
        written: list[tuple[_Log, int]] = []
        for run, chunks in by_run.items():
            name = keys.key(partition_of_run(run), "logs", run)
            entries = _entries([line for chunk in chunks for line in self._lines(chunk)])
            for entry in entries:
                fields = entry_fields(RunLog(run=run, lines=entry))
                pipe.xadd(name, {**fields}, maxlen=LOGS_MAX_LENGTH, approximate=True)
            ended = chunks[-1].last
            pipe.pexpire(
                name, self._retention_ms if ended else max(self._retention_ms, UNFINISHED_EXPIRE_SECONDS * 1000)
            )
            written.append((chunks[-1].log, len(entries)))
        await pipe.execute()
        for about, count in written:
            about.entries += count
            about.stored += count * ENTRY_BYTES

    def _lines(self, chunk: _Chunk) -> list[LogLine]:
        texts = chunk.texts
        if chunk.last:
            texts = chunk.log.overlong.note(f"a line takes {MAX_LINE_BYTES} bytes")
            texts += chunk.log.beyond.note(f"a run's log takes {self._limit} bytes")
            texts += chunk.log.outage.note("Redis did not answer")
        return [LogLine(at_ms=chunk.at_ms, source=chunk.source, text=text) for text in texts]


def _entries(lines: list[LogLine]) -> list[list[LogLine]]:
    entries: list[list[LogLine]] = []
    size = 0
    for line in lines:
        size += len(line.text)
        if not entries or size > MAX_ENTRY_BYTES or len(entries[-1]) == MAX_ENTRY_LINES:
            entries.append([])
            size = len(line.text)
        entries[-1].append(line)
    return entries
