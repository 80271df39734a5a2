"""Report the states of runs on ``dispatch``; order is kept.

A report stays in the queue until Redis has it. As Redis may forget its last moments, how a run ended is remembered for longer:
until an audit shows that the dispatcher knows it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import RedisError

from penstock.bus.requests import publish
from penstock.contracts.runs import MAX_MESSAGE_LENGTH, MAX_RUNS_PER_MESSAGE, ReportRuns, RunReport
from penstock.streams import DISPATCH, MAX_MESSAGE_BYTES
from penstock.worker.clock import backoff

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from redis.asyncio import Redis

    from penstock.contracts.workers import AuditedRun
    from penstock.worker.identity import Identity

log = structlog.get_logger("penstock.worker")

_REPORT_BYTES: Final = 400
"""More than a report has around its message; JSON writes a character of a message in at most six bytes."""
_BYTES_PER_CHARACTER: Final = 6

KEPT_SECONDS: Final = 30.0
"""An end is remembered for at least so long after Redis took it: several times what ``everysec`` loses, or a replica lacks."""
KEPT_AT_MOST: Final = 10_000
"""Ends that are remembered, whatever else: as many as a worker can have slots, about 10 MB."""
KEPT_CHARACTERS: Final = 5_000_000
"""The same for their messages together, which are short unless a run fails."""
_FIELDS: Final = tuple(RunReport.model_fields)
_MESSAGE: Final = _FIELDS.index("message")


def cut_message(message: str) -> str:
    """Shorten a message to what a report may carry, and replace what UTF-8 cannot spell."""
    clean = message.encode(errors="replace").decode()
    return clean if len(clean) <= MAX_MESSAGE_LENGTH else clean[: MAX_MESSAGE_LENGTH - 1] + "…"


class Ends:
    """How runs ended, by the token of the claim; the oldest are dropped when they are too many.

    Args:
        now: seconds; the monotonic clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # Tuples of plain values, which the garbage collector does not go through: ten thousand reports held it up for 20 ms.
        self._reports: OrderedDict[str, tuple[Any, ...]] = OrderedDict()
        self._sent: dict[str, float] = {}
        self._characters = 0

    def keep(self, report: RunReport) -> None:
        """Remember one that is about to be sent."""
        self._drop(report.token)
        self._reports[report.token] = tuple(getattr(report, name) for name in _FIELDS)
        self._characters += len(report.message)
        while len(self._reports) > KEPT_AT_MOST or self._characters > KEPT_CHARACTERS:
            self._drop(next(iter(self._reports)))

    def sent(self, report: RunReport) -> None:
        """Redis has it."""
        if report.token in self._reports:
            self._sent[report.token] = self._now()

    def find(self, token: str) -> RunReport | None:
        """How the run of this claim ended; None if it did not here, or that is long ago."""
        known = self._reports.get(token)
        return RunReport(**dict(zip(_FIELDS, known, strict=True))) if known else None

    def is_on_its_way(self, token: str) -> bool:
        """Say whether Redis does not have it yet."""
        return token in self._reports and token not in self._sent

    def forget(self, named: Collection[str]) -> None:
        """Drop what Redis has had for a while and an audit did not name: the dispatcher knows it for good."""
        before = self._now() - KEPT_SECONDS
        for token in [token for token, at in self._sent.items() if at <= before and token not in named]:
            self._drop(token)

    def _drop(self, token: str) -> None:
        report = self._reports.pop(token, None)
        self._sent.pop(token, None)
        self._characters -= len(report[_MESSAGE]) if report else 0


class Reporter:
    """Sends reports: those ready at the same moment go in one message, none waits for others.

    Args:
        client: where to.
        identity: who reports.
    """

    def __init__(self, client: Redis, identity: Identity) -> None:
        self._client = client
        self._identity = identity
        self._ends = Ends()
        self._reports: deque[RunReport] = deque()
        self._ready = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def send(self, report: RunReport) -> None:
        """Queue a report; it goes out as soon as Redis takes it."""
        if report.state not in ("RUNNING", "LOST"):
            self._ends.keep(report)
        self._reports.append(report)
        self._empty.clear()
        self._ready.set()

    def repeat(self, token: str) -> bool:
        """Send again how the run of a claim ended; False if that is not known here."""
        report = self._ends.find(token)
        if report and not self._ends.is_on_its_way(token):
            self.send(report)
        return report is not None

    def settle(self, unknown: Iterable[AuditedRun], named: Iterable[AuditedRun]) -> None:
        """Answer an audit.

        Args:
            unknown: claims it names that are not held here: their end is said again, or that they are LOST.
            named: all it names; of others the dispatcher knows the end.
        """
        for run in unknown:
            if not self.repeat(run.token):
                log.warning("a claim that never came here, or was forgotten", run=run.id, state=run.state)
                self.send(RunReport(run=run.id, token=run.token, epoch=run.epoch, state="LOST"))
        self._ends.forget({run.token for run in named})

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
            for report in batch:
                self._reports.popleft()
                self._ends.sent(report)
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
