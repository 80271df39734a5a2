"""The output of runs: bytes to lines, lines to the worker's stdout and to the stream ``logs:<run>``."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.entries import entry_fields
from penstock.contracts.logs import LogLine, RunLog
from penstock.keys import partition_of_run
from penstock.streams import LOGS_EXPIRE_SECONDS, LOGS_MAX_LENGTH
from penstock.worker.clock import backoff

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.contracts.logs import Source

log = structlog.get_logger("penstock.worker")

MAX_LINE_BYTES: Final = 8_192
"""Longer lines are cut: one line must fit into one entry many times."""
MAX_ENTRY_BYTES: Final = 16_384
"""With LOGS_MAX_LENGTH entries a run's stream stays below 80 MB."""
MAX_ENTRY_LINES: Final = 200
MAX_BUFFERED_LINES: Final = 20_000
"""Of all runs together, while Redis is slow or away."""
_CUT: Final = " [line cut]"
_PAUSE_SECONDS: Final = 0.02
"""Between two flushes: lines that come one by one then share an entry."""


class LineSplitter:
    """Bytes in, lines out; never keeps more than :data:`MAX_LINE_BYTES`."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes; answer the lines that are complete (or too long) now."""
        *complete, rest = data.split(b"\n")
        lines: list[str] = []
        for part in complete:
            if not self._skipping:
                lines.append(_text(self._rest + part))
            self._rest, self._skipping = b"", False
        if not self._skipping:
            self._rest += rest
            if len(self._rest) > MAX_LINE_BYTES:
                lines.append(_text(self._rest))
                self._rest, self._skipping = b"", True
        return lines

    def end(self) -> list[str]:
        """Answer what came after the last line break."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _text(line: bytes) -> str:
    if len(line) > MAX_LINE_BYTES:
        return line[:MAX_LINE_BYTES].decode(errors="replace") + _CUT
    return line.removesuffix(b"\r").decode(errors="replace")


class _Line(NamedTuple):
    run: str
    at_ms: int
    source: Source
    text: str


class LogShipper:
    """Appends output to the logs of runs, in batches.

    While Redis answers, a run that prints faster than Redis takes it is slowed down; during an outage the oldest
    lines are dropped instead, because no run may wait for Redis.

    Args:
        client: where to.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._lines: deque[_Line] = deque()
        self._dropped = 0
        self._ready = asyncio.Event()
        self._room = asyncio.Condition()
        self._outage = False
        self._added = 0
        self._shipped = 0

    async def add(self, run: str, source: Source, lines: list[str]) -> None:
        """Queue lines of one run."""
        if len(self._lines) >= MAX_BUFFERED_LINES:
            async with self._room:
                await self._room.wait_for(lambda: len(self._lines) < MAX_BUFFERED_LINES or self._outage)
        at_ms = time.time_ns() // 1_000_000
        self._lines.extend(_Line(run, at_ms, source, text) for text in lines)
        self._added += len(lines)
        while len(self._lines) > MAX_BUFFERED_LINES and self._outage:
            self._lines.popleft()
            self._dropped += 1
            self._shipped += 1
        self._ready.set()

    async def flushed(self, timeout_seconds: float) -> None:
        """Wait until what is queued now is in Redis, or the time is up; not at all during an outage."""
        target = self._added
        try:
            async with asyncio.timeout(timeout_seconds), self._room:
                await self._room.wait_for(lambda: self._shipped >= target or self._outage)
        except TimeoutError:
            log.debug("output is still on its way", lines=target - self._shipped)

    async def run(self) -> None:
        """Ship until cancelled."""
        failures = 0
        while True:
            await self._ready.wait()
            batch, dropped = list(self._lines), self._dropped
            try:
                await self._ship(batch)
            except (RedisError, OSError) as problem:
                failures += 1
                self._outage = True
                log.debug("output waits for Redis", error=str(problem))
                async with self._room:
                    self._room.notify_all()
                await asyncio.sleep(backoff(failures))
                continue
            # Lines dropped meanwhile were the first of the batch.
            self._forget(max(0, len(batch) - (self._dropped - dropped)))
            failures, self._outage = 0, False
            async with self._room:
                self._room.notify_all()
            await asyncio.sleep(_PAUSE_SECONDS)

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._lines.popleft()
        self._shipped += count
        if self._dropped:
            log.warning("lines of output were dropped while Redis did not answer", lines=self._dropped)
            self._dropped = 0
        if not self._lines:
            self._ready.clear()

    async def _ship(self, batch: list[_Line]) -> None:
        pipe = self._client.pipeline(transaction=False)
        by_run: dict[str, list[_Line]] = {}
        for line in batch:
            by_run.setdefault(line.run, []).append(line)
        for run, lines in by_run.items():
            name = keys.key(partition_of_run(run), "logs", run)
            for entry in _entries(lines):
                message = RunLog(
                    run=run, lines=[LogLine(at_ms=line.at_ms, source=line.source, text=line.text) for line in entry]
                )
                pipe.xadd(name, {**entry_fields(message)}, maxlen=LOGS_MAX_LENGTH, approximate=True)
            pipe.expire(name, LOGS_EXPIRE_SECONDS)
        await pipe.execute()


def _entries(lines: list[_Line]) -> list[list[_Line]]:
    entries: list[list[_Line]] = [[]]
    size = 0
    for line in lines:
        size += len(line.text)
        if entries[-1] and (size > MAX_ENTRY_BYTES or len(entries[-1]) == MAX_ENTRY_LINES):
            entries.append([])
            size = len(line.text)
        entries[-1].append(line)
    return entries
