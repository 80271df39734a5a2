"""Report the states of runs on ``dispatch``. A report is forgotten only when Redis has it; order is kept."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError

from penstock.bus.requests import publish
from penstock.contracts.runs import MAX_MESSAGE_LENGTH, MAX_RUNS_PER_MESSAGE, ReportRuns, RunReport
from penstock.streams import DISPATCH, MAX_MESSAGE_BYTES
from penstock.worker.clock import backoff

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.worker.identity import Identity

log = structlog.get_logger("penstock.worker")

_REPORT_BYTES: Final = 400
"""More than a report has around its message; JSON writes a character of a message in at most six bytes."""
_BYTES_PER_CHARACTER: Final = 6


def cut_message(message: str) -> str:
    """Shorten a message to what a report may carry, and replace what UTF-8 cannot spell."""
    clean = message.encode(errors="replace").decode()
    return clean if len(clean) <= MAX_MESSAGE_LENGTH else clean[: MAX_MESSAGE_LENGTH - 1] + "…"


class Reporter:
    """Sends reports: those ready at the same moment go in one message, none waits for others.

    Args:
        client: where to.
        identity: who reports.
    """

    def __init__(self, client: Redis, identity: Identity) -> None:
        self._client = client
        self._identity = identity
        self._reports: deque[RunReport] = deque()
        self._ready = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def send(self, report: RunReport) -> None:
        """Queue a report; it goes out as soon as Redis takes it."""
        self._reports.append(report)
        self._empty.clear()
        self._ready.set()

    async def flushed(self, timeout_seconds: float) -> int:
        """Wait until everything is sent.

        Args:
            timeout_seconds: how long at most.

        Returns:
            How many reports are still unsent; 0 is what one wants.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._empty.wait()
        except TimeoutError:
            return len(self._reports)
        return 0

    async def run(self) -> None:
        """Send until cancelled."""
        failures = 0
        while True:
            await self._ready.wait()
            batch = self._next_batch()
            message = ReportRuns(pool=self._identity.pool, worker=self._identity.name, reports=batch)
            try:
                await publish(self._client, DISPATCH, self._identity.partition, message)
            except (RedisError, OSError) as problem:
                failures += 1
                if failures == 1:
                    log.warning("reports wait for Redis", reports=len(self._reports), error=str(problem))
                await asyncio.sleep(backoff(failures))
                continue
            failures = 0
            for _ in batch:
                self._reports.popleft()
            if not self._reports:
                self._ready.clear()
                self._empty.set()

    def _next_batch(self) -> list[RunReport]:
        batch: list[RunReport] = []
        size = 0
        for report in self._reports:
            size += _REPORT_BYTES + _BYTES_PER_CHARACTER * len(report.message)
            if batch and (size > MAX_MESSAGE_BYTES or len(batch) == MAX_RUNS_PER_MESSAGE):
                break
            batch.append(report)
        return batch
