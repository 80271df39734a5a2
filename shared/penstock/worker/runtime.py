"""The worker: heartbeats, inbox, the runs in its hands, and an orderly end."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import RedisError

from penstock import __version__
from penstock.bus.cancellation import end_tasks
from penstock.bus.requests import request
from penstock.contracts.runs import ClaimRuns
from penstock.contracts.workers import (
    AcceptWorker,
    AssignRuns,
    AuditRuns,
    Heartbeat,
    RefuseWorker,
    RevokeRuns,
    StopRuns,
    StopWorker,
)
from penstock.errors import NoReply, Unavailable, refusal
from penstock.streams import DISPATCH, LOGS_EXPIRE_SECONDS
from penstock.worker.clock import RedisClock
from penstock.worker.hands import Hands
from penstock.worker.heartbeats import Heartbeats
from penstock.worker.held import CANCEL_GRACE_SECONDS
from penstock.worker.inbox import Inbox
from penstock.worker.join import not_accepted
from penstock.worker.output import LOG_BYTES_PER_RUN, LogShipper
from penstock.worker.patience import Patience
from penstock.worker.preparation import Preparation
from penstock.worker.reports import Reporter

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from redis.asyncio import Redis

    from penstock.bus.health import Health
    from penstock.contracts.base import Message
    from penstock.worker.console import Console
    from penstock.worker.identity import Identity
    from penstock.worker.job import WorkerType

log = structlog.get_logger("penstock.worker")

ACCEPT_SECONDS: Final = 30.0
"""How long ``run_once`` waits to be accepted; other workers wait for ever and warn once after this time."""
TERMINATE_SECONDS: Final = 5.0
"""Between SIGTERM and SIGKILL of runs that outlast the drain."""
FLUSH_SECONDS: Final = 30.0
"""How long the end waits for Redis to take the last reports."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a worker behaves; units and ranges as in :class:`penstock.worker.settings.WorkerSettings`.

    Attributes:
        run_once: take what is due now, execute it, end.
    """

    limit: int
    heartbeat_seconds: float
    prefetch_seconds: float
    drain_seconds: float
    cancel_grace_seconds: float = CANCEL_GRACE_SECONDS
    log_bytes_per_run: int = LOG_BYTES_PER_RUN
    log_retention_seconds: float = LOGS_EXPIRE_SECONDS
    run_once: bool = False


class Worker:
    """One life of a worker.

    Args:
        client: of the Redis its pool lives in.
        identity: who it is.
        kind: starts runs; opened and closed here.
        options: how it behaves.
        health: beaten by its loops.
        console: gets what people should see.
    """

    def __init__(
        self,
        client: Redis,
        identity: Identity,
        kind: WorkerType,
        *,
        options: Options,
        health: Health,
        console: Console,
    ) -> None:
        self._client = client
        self._identity = identity
        self._kind = kind
        self._options = options
        self._health = health
        self._console = console
        clock = RedisClock()
        self._heartbeats = Heartbeats(
            client,
            identity.partition,
            describe=self._describe,
            interval_seconds=options.heartbeat_seconds,
            clock=clock,
            health=health,
        )
        # Redis may have forgotten the last heartbeat, and with it who we are.
        self._inbox = Inbox(client, identity, self._handle, health, on_return=self._heartbeats.soon)
        self._reporter = Reporter(client, identity)
        self._shipper = LogShipper(
            client,
            bytes_per_run=options.log_bytes_per_run,
            retention_seconds=options.log_retention_seconds,
            now_ms=clock.now_ms,
        )
        self._preparation = Preparation(client, identity)
        self._hands = Hands(
            identity=identity,
            kind=kind,
            limit=options.limit,
            cancel_grace_seconds=options.cancel_grace_seconds,
            preparation=self._preparation,
            clock=clock,
            reporter=self._reporter,
            shipper=self._shipper,
            console=console,
        )
        self._accepted = asyncio.Event()
        self._drain = asyncio.Event()
        self._patience = Patience()
        self._asked = False
        self._now = asyncio.Event()

    def drain(self) -> None:
        """Take nothing new, finish what runs, end. Called a second time: kill what runs and end now.

        Runs get ``drain_seconds``, or less where :meth:`drain_within` left them less.
        """
        if self._asked:
            self._now.set()
        self._asked = True
        self._patience.give(self._options.drain_seconds, at_most=True)
        self._drain.set()

    def drain_within(self, seconds: float | None) -> None:
        """Take nothing new, finish what runs, end; said again it moves the deadline.

        Args:
            seconds: how long what runs may go on; None means ``drain_seconds``. After :meth:`drain` it cannot become longer:
                whoever sent a signal waits no longer for our end.
        """
        self._patience.give(self._options.drain_seconds if seconds is None else seconds, at_most=self._asked)
        self._drain.set()

    async def run(self) -> int:
        """Work until drained.

        Returns:
            The exit code: 0, or 1 when reports could not be delivered.

        Raises:
            Refused: the monitor does not accept this worker; says why.
            Unavailable: (``run_once``) nobody accepted this worker or answered it.
        """
        # First of all the heartbeat: the pool becomes READY while the rest is being set up.
        loops = [
            asyncio.create_task(loop)
            for loop in (self._heartbeats.run(), self._inbox.run(), self._reporter.run(), self._shipper.run())
        ]
        life = asyncio.create_task(self._live())
        patience = asyncio.create_task(self._warn_unless_accepted())
        try:
            done, _ = await asyncio.wait({life, *loops}, return_when=asyncio.FIRST_COMPLETED)
            for loop in done - {life}:
                # A loop ends by an error only.
                loop.result()
            return life.result()
        finally:
            self._health.stop()
            self._patience.forget()
            await self._hands.kill_all(0)
            await end_tasks((life, patience, *loops))
            await self._heartbeats.farewell()
            await self._kind.close()

    def _describe(self, seq: int, last: bool) -> Heartbeat:
        identity, options = self._identity, self._options
        return Heartbeat(
            pool=identity.pool,
            worker=identity.name,
            worker_type=identity.worker_type,
            boot_id=identity.boot_id,
            seq=seq,
            interval_seconds=options.heartbeat_seconds,
            queues=list(identity.queues),
            slots=options.limit,
            prefetch_seconds=options.prefetch_seconds,
            version=__version__,
            host=socket.gethostname(),
            pid=os.getpid(),
            draining=not self._hands.open,
            stopping=last,
        )

    def _handle(self, message: Message) -> None:  # noqa: C901 - one case for each kind
        match message:
            case AcceptWorker():
                self._join()
            case RefuseWorker():
                raise refusal(message.code, f"worker {self._identity.name!r} was refused: {message.reason}")
            case AssignRuns():
                self._preparation.begin_batch()
                for run in message.runs:
                    self._hands.take(run)
            case RevokeRuns():
                for revoked in message.runs:
                    self._hands.revoke(revoked.id, revoked.epoch)
            case StopRuns():
                for stopped in message.runs:
                    self._hands.cancel(stopped.id, stopped.epoch)
            case AuditRuns():
                self._hands.audit(message.runs)
            case StopWorker():
                self.drain_within(message.deadline_seconds)

    def _join(self) -> None:
        if not self._accepted.is_set():
            self._accepted.set()
            self._preparation.begin_batch()
            self._console.say([f"Worker {self._identity.name!r} started!"])

    async def _live(self) -> int:
        await self._kind.open()
        if self._options.run_once:
            await _first(self._take_once(), self._drain.wait())
            self._stop_taking()
            await _first(self._hands.idle(), self._drain.wait())
        else:
            await self._drain.wait()
            self._stop_taking()
        if self._drain.is_set():
            self._hands.hand_back()
            await _first(self._hands.idle(), self._now.wait(), self._patience.over())
            await self._hands.kill_all(0 if self._now.is_set() else TERMINATE_SECONDS)
        unsent = await self._reporter.flushed(FLUSH_SECONDS)
        if unsent:
            log.error("stopping with reports that Redis did not take; these runs will count as lost", reports=unsent)
        return 1 if unsent else 0

    def _stop_taking(self) -> None:
        self._hands.open = False
        self._health.stop()
        self._heartbeats.soon()
        log.info("draining", runs=self._hands.count)

    async def _take_once(self) -> None:
        """Let the dispatcher hand out what is due now, and wait until it is here."""
        try:
            async with asyncio.timeout(ACCEPT_SECONDS):
                await self._accepted.wait()
        except TimeoutError:
            raise NoReply(not_accepted(self._identity, ACCEPT_SECONDS)) from None
        try:
            await request(self._client, DISPATCH, self._identity.partition, ClaimRuns(pool=self._identity.pool))
            # Everything the claim assigned stands in the inbox by now.
            await self._inbox.caught_up()
        except (RedisError, OSError) as problem:
            raise Unavailable(f"Redis does not answer: {problem}") from problem

    async def _warn_unless_accepted(self) -> None:
        await _first(self._accepted.wait(), timeout_seconds=ACCEPT_SECONDS)
        if not self._accepted.is_set():
            log.warning(not_accepted(self._identity, ACCEPT_SECONDS))


async def _first(*things: Coroutine[Any, Any, Any], timeout_seconds: float | None = None) -> None:
    """Wait for the first of several, or the time; cancel the others.

    Raises:
        Exception: what one of them raised.
    """
    tasks = [asyncio.ensure_future(thing) for thing in things]
    try:
        done, _ = await asyncio.wait(tasks, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(tasks)
    for task in done:
        task.result()
