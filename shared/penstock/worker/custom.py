"""A worker of your own in Python: join a pool, take its assignments, report what becomes of them.

::

    from penstock.worker.custom import join

    async with join("etl", slots=100) as worker:
        async for message in worker:
            if isinstance(message, AssignRuns):
                for run in message.runs:
                    worker.report(run, "COMPLETED")

Heartbeats, the inbox and the delivery of reports are taken care of; what executes a run, and where, is yours. The worker that
starts processes is :class:`penstock.worker.runtime.Worker`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

import structlog

from penstock import __version__
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import check, connect
from penstock.bus.health import Health
from penstock.contracts.runs import RunReport
from penstock.contracts.workers import (
    DEFAULT_INTERVAL_SECONDS,
    DEFAULT_SLOTS,
    AcceptWorker,
    AssignRuns,
    AuditRuns,
    Heartbeat,
    RefuseWorker,
    RevokedRun,
    RevokeRuns,
    StoppedRun,
    StopRuns,
    StopWorker,
)
from penstock.errors import NoReply, refusal
from penstock.settings import Settings
from penstock.worker.audit import compare
from penstock.worker.clock import RedisClock
from penstock.worker.heartbeats import Heartbeats
from penstock.worker.inbox import Inbox
from penstock.worker.join import agreed_partitions, identify, join_pool, not_accepted
from penstock.worker.reports import Reporter, cut_message

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from types import TracebackType

    from redis.asyncio import Redis

    from penstock.contracts.base import Message
    from penstock.contracts.runs import ReportedState
    from penstock.contracts.workers import AssignedRun, AuditedRun
    from penstock.worker.identity import Identity

log = structlog.get_logger("penstock.worker")

ACCEPT_SECONDS: Final = 30.0
"""How long joining waits for monitor and dispatcher."""
FLUSH_SECONDS: Final = 30.0
"""How long leaving waits for Redis to take the last reports."""


@asynccontextmanager
async def join(
    pool: str,
    *,
    name: str | None = None,
    worker_type: str | None = None,
    queues: Sequence[str] = (),
    slots: int = DEFAULT_SLOTS,
    heartbeat_seconds: float = DEFAULT_INTERVAL_SECONDS,
    prefetch_seconds: float = 0,
    settings: Settings | None = None,
) -> AsyncIterator[CustomWorker]:
    """Join a pool; the worker is ONLINE inside of the block.

    Args:
        pool: its name.
        name: unique in the pool; generated when None.
        worker_type: None takes the pool's; given, a missing pool is created with it.
        queues: names of the queues to serve; none means all. Missing ones are created.
        slots: how many runs it holds at the same time, 0 to 10000.
        heartbeat_seconds: OFFLINE after three of them without a heartbeat, 0.1 to 3600.
        prefetch_seconds: how long before its scheduled time a run may be handed over, 0 to 86400.
        settings: where Redis is; None reads the environment.

    Raises:
        Refused: no such pool, wrong type, bad name.
        NoReply: nobody accepted the worker within :data:`ACCEPT_SECONDS`.
        Unavailable: Redis does not answer.
    """
    from penstock.client import Penstock  # noqa: PLC0415 - the process of every run imports this package

    settings = settings or Settings.read()
    client = connect(settings.redis_url)
    try:
        await check(client, settings.redis_url)
        partitions = await agreed_partitions(client, settings)
        # What people are told by a command, a program tells by itself.
        joined = await join_pool(Penstock(client, partitions), pool, worker_type, queues, say=lambda _: None)
        heartbeat = Heartbeat(
            pool=pool,
            worker=name or "unnamed",
            worker_type=joined,
            interval_seconds=heartbeat_seconds,
            slots=slots,
            prefetch_seconds=prefetch_seconds,
            version=__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
        )
        async with CustomWorker(client, identify(partitions, pool, name, joined, queues), heartbeat) as worker:
            yield worker
    finally:
        await client.aclose()


class CustomWorker:
    """One life of a worker; made by :func:`join`. Iterate over it for what the dispatcher says.

    Yields ``AssignRuns`` (execute these, in this order), ``RevokeRuns`` (no longer yours: stop, report nothing), ``StopRuns`` (end
    these, report them CANCELLED; it may be said again) and ``StopWorker`` (nothing more will come: finish what you hold, then
    leave the block). The iteration ends after :meth:`drain` when nothing is left to say. Audits are answered here.

    Args:
        client: of the Redis its pool lives in.
        identity: who it is.
        heartbeat: what it says of itself; name, queues, boot and sequence are filled in.

    Raises:
        Refused: (from the iteration, or on entry) the worker is not accepted; says why.
        NoReply: (on entry) nobody accepted it in time.
    """

    def __init__(self, client: Redis, identity: Identity, heartbeat: Heartbeat) -> None:
        self.identity = identity
        self.health = Health("worker")
        self._about = heartbeat
        self._draining = False
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()
        self._accepted = asyncio.Event()
        self.clock = RedisClock()
        """Redis TIME, for ``started_ms`` and ``ended_ms`` of reports."""
        self._heartbeats = Heartbeats(
            client,
            identity.partition,
            describe=self._describe,
            interval_seconds=heartbeat.interval_seconds,
            clock=self.clock,
            health=self.health,
        )
        # Redis may have forgotten the last heartbeat, and with it who we are.
        self._inbox = Inbox(client, identity, self._take, self.health, on_return=self._heartbeats.soon)
        self._reporter = Reporter(client, identity)
        self._held: dict[str, AssignedRun] = {}
        self._running: dict[str, RunReport] = {}
        self._loops: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._loops = [
            asyncio.create_task(loop) for loop in (self._heartbeats.run(), self._inbox.run(), self._reporter.run())
        ]
        for loop in self._loops:
            loop.add_done_callback(lambda _: self._news.set())
        accepted = asyncio.create_task(self._accepted.wait())
        try:
            await asyncio.wait({accepted, *self._loops}, timeout=ACCEPT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            self._raise_unless_accepted()
        except BaseException:
            await self._end()
            raise
        finally:
            accepted.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the pool: what is still held counts as lost, and follows the pool's policy."""
        unsent = await self._reporter.flushed(FLUSH_SECONDS)
        if unsent:
            log.error("leaving with reports that Redis did not take; these runs will count as lost", reports=unsent)
        await self._end()

    async def _end(self) -> None:
        await end_tasks(self._loops)
        await self._heartbeats.farewell()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while not self._messages:
            self._raise_for_loops()
            if self._draining:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._messages.popleft()

    def report(
        self,
        run: AssignedRun,
        state: ReportedState,
        message: str = "",
        *,
        started_ms: int | None = None,
        ended_ms: int | None = None,
    ) -> None:
        """Say what has become of a run; it is sent at once, together with what else is ready, and again until Redis has it.

        Args:
            run: as assigned.
            state: RUNNING, a terminal state, or SCHEDULED to hand back what has not begun.
            message: for people; cut to 10,000 characters.
            started_ms: milliseconds of Redis TIME (see :attr:`clock`); None means now.
            ended_ms: the same.
        """
        report = RunReport(
            run=run.id,
            token=run.token,
            epoch=run.epoch,
            state=state,
            message=cut_message(message) if message else "",
            started_ms=started_ms,
            ended_ms=ended_ms,
        )
        if state == "RUNNING":
            self._running[run.token] = report
        else:
            self._let_go(run.token)
        self._reporter.send(report)

    def drain(self) -> None:
        """Take nothing more; what is held can still be reported. The iteration ends when everything said so far has been read."""
        self._draining = True
        self._heartbeats.soon()
        self._news.set()

    def _describe(self, seq: int, last: bool) -> Heartbeat:
        identity = self.identity
        return self._about.model_copy(
            update={
                "worker": identity.name,
                "queues": list(identity.queues),
                "boot_id": identity.boot_id,
                "seq": seq,
                "draining": self._draining,
                "stopping": last,
            }
        )

    def _take(self, message: Message) -> None:
        match message:
            case AcceptWorker():
                self._accepted.set()
                return
            case RefuseWorker():
                raise refusal(message.code, f"worker {self.identity.name!r} was refused: {message.reason}")
            case StopWorker():
                self._draining = True
                self._heartbeats.soon()
            case AssignRuns():
                new = [run for run in message.runs if not self._is_known(run.token)]
                self._held.update((run.token, run) for run in new)
                if len(new) < len(message.runs):
                    message = message.model_copy(update={"runs": new})
            case RevokeRuns():
                void = {run.id: run.epoch for run in message.runs}
                for run in [run for run in self._held.values() if run.epoch <= void.get(run.id, 0)]:
                    self._let_go(run.token)
            case AuditRuns():
                self._audit(message.runs)
                return
        self._hand_over(message)

    def _hand_over(self, message: Message) -> None:
        if getattr(message, "runs", True):
            self._messages.append(message)
            self._news.set()

    def _is_known(self, token: str) -> bool:
        """An assignment may come twice, when Redis has forgotten that it was taken over."""
        return token in self._held or self._reporter.repeat(token)

    def _let_go(self, token: str) -> None:
        self._held.pop(token, None)
        self._running.pop(token, None)

    def _audit(self, named: Sequence[AuditedRun]) -> None:
        """Say what the dispatcher does not know, and hand over what was to be done and did not come here."""
        found = compare(named, self._held.keys(), self._running.keys())
        self._reporter.settle(found.unknown, named)
        for run in found.begun:
            self._reporter.send(self._running[run.token])
        self._hand_over(StopRuns(runs=[StoppedRun(id=run.id, epoch=run.epoch) for run in found.stopped]))
        void = [self._held[token] for token in found.void]
        for claim in void:
            self._let_go(claim.token)
        # A newer claim of the same run, which may have the same number, has replaced the one that is void.
        again = {claim.id for claim in self._held.values()}
        revoked = [RevokedRun(id=claim.id, epoch=claim.epoch) for claim in void if claim.id not in again]
        self._hand_over(RevokeRuns(runs=revoked))

    def _raise_unless_accepted(self) -> None:
        self._raise_for_loops()
        if not self._accepted.is_set():
            raise NoReply(not_accepted(self.identity, ACCEPT_SECONDS))

    def _raise_for_loops(self) -> None:
        for loop in self._loops:
            if loop.done():
                # A loop ends by an error only.
                loop.result()
