"""Say on ``heartbeats`` that this worker lives: at once, every interval, and whenever what it says changes.

Heartbeats have a thread, an event loop and a connection of their own: what holds up the worker's event loop for a while (a kind
of infrastructure that does not know better, a machine that swaps) must not make its runs count as lost. A worker that is stuck
for good, though, falls silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import RedisError

from penstock.bus.connection import beside
from penstock.bus.requests import publish
from penstock.streams import HEARTBEATS
from penstock.worker.clock import backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from penstock.bus.health import Health
    from penstock.contracts.workers import Heartbeat
    from penstock.worker.clock import RedisClock

log = structlog.get_logger("penstock.worker")

FAREWELL_SECONDS: Final = 3.0
"""How long the last heartbeat is tried; without it the monitor notices after three intervals."""
STUCK_SECONDS: Final = 60.0
"""A worker whose event loop stands still for longer reads no inbox and reports nothing: it had better be taken for lost."""
PULSE_SECONDS: Final = 1.0
"""How often the worker's event loop shows that it turns."""
LAST_WORD_SECONDS: Final = 1.0
"""How long the end waits for a heartbeat that is on its way: one that came after the last would bring the worker back."""
_ATTEMPT_SECONDS: Final = 60.0


class Heartbeats:
    """The heartbeat loop.

    Args:
        client: where to; only the last heartbeat uses its connections.
        partition: of the worker's pool.
        describe: makes the heartbeat of this moment from its sequence number and whether it is the last; asked again
            for every attempt, so what is sent after an outage is the present. Called in another thread.
        interval_seconds: between two heartbeats.
        clock: learns Redis TIME from every heartbeat.
        health: beaten; an outage of Redis makes the worker not ready, never not live.
        stuck_seconds: see :data:`STUCK_SECONDS`.
    """

    def __init__(
        self,
        client: Redis,
        partition: int,
        *,
        describe: Callable[[int, bool], Heartbeat],
        interval_seconds: float,
        clock: RedisClock,
        health: Health,
        stuck_seconds: float = STUCK_SECONDS,
    ) -> None:
        self._client = client
        self._partition = partition
        self._describe = describe
        self._interval = interval_seconds
        self._clock = clock
        self._health = health
        self._stuck_seconds = stuck_seconds
        self._seq = 0
        self._pulse = time.monotonic()
        self._home: asyncio.AbstractEventLoop | None = None
        self._away: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._ending = False

    def soon(self) -> None:
        """Send one now: something it says has changed."""
        if self._away:
            # Closed: the thread has ended, and so does the worker.
            with contextlib.suppress(RuntimeError):
                self._away.call_soon_threadsafe(self._changed.set)

    async def run(self) -> None:
        """Send heartbeats until cancelled.

        Raises:
            Exception: what a heartbeat cannot be made of; never an outage.
        """
        self._home = asyncio.get_running_loop()
        self._pulse = time.monotonic()
        ended = self._ended = self._home.create_future()
        # Not a pool's thread: at exit Python would wait for it, and Redis may not answer it.
        threading.Thread(target=self._in_thread, args=(ended,), name="heartbeats", daemon=True).start()
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=PULSE_SECONDS)
                self._pulse = time.monotonic()
        finally:
            self._ending = True
            self.soon()
        ended.result()

    async def farewell(self) -> None:
        """Send the last one, if Redis answers soon. To be called after :meth:`run` has ended."""
        if self._ended and not self._ended.done():
            await asyncio.wait({self._ended}, timeout=LAST_WORD_SECONDS)
        if self._away and self._beating:
            with contextlib.suppress(RuntimeError):
                self._away.call_soon_threadsafe(self._beating.cancel)
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._send(self._client, last=True)
        except (RedisError, OSError) as problem:
            log.warning("the last heartbeat could not be sent", error=str(problem))

    # In the thread

    def _in_thread(self, ended: asyncio.Future[None]) -> None:
        problem: BaseException | None = None
        try:
            asyncio.run(self._beat())
        except asyncio.CancelledError:
            pass
        except BaseException as raised:  # noqa: BLE001 - it is raised again where somebody waits for it
            problem = raised
        self._tell_home(_settle, ended, problem)

    async def _beat(self) -> None:
        self._away, self._beating = asyncio.get_running_loop(), asyncio.current_task()
        client = beside(self._client)
        try:
            while not self._ending:
                self._changed.clear()
                if self._turns():
                    await self._send_until_sent(client)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), self._interval)
        finally:
            with contextlib.suppress(RedisError, OSError):
                await client.aclose()

    def _turns(self) -> bool:
        """Whether the worker is there and not only this thread."""
        still = time.monotonic() - self._pulse
        if still > self._stuck_seconds:
            log.error("the worker is stuck; no heartbeats until it goes on", seconds=round(still, 1))
        return still <= self._stuck_seconds

    async def _send_until_sent(self, client: Redis) -> None:
        failures = 0
        while not self._ending:
            self._tell_home(self._health.beat, "heartbeats", self._interval + _ATTEMPT_SECONDS)
            try:
                await self._send(client)
            except (RedisError, OSError) as problem:
                failures += 1
                if failures == 1:
                    log.warning("Redis does not answer; runs go on, heartbeats are tried again", error=str(problem))
                await asyncio.sleep(min(backoff(failures), self._interval))
                continue
            if failures:
                log.info("Redis answers again", failed_attempts=failures)
            return

    async def _send(self, client: Redis, *, last: bool = False) -> None:
        self._seq += 1
        entry_id = await publish(client, HEARTBEATS, self._partition, self._describe(self._seq, last))
        self._tell_home(self._clock.observe, entry_id, time.monotonic())
        self._tell_home(self._health.beat, "redis", 2 * self._interval)

    def _tell_home(self, callback: Callable[..., object], *arguments: Any) -> None:
        if self._home:
            # Closed: the worker has ended and wants to know nothing more.
            with contextlib.suppress(RuntimeError):
                self._home.call_soon_threadsafe(callback, *arguments)


def _settle(ended: asyncio.Future[None], problem: BaseException | None) -> None:
    if ended.done():
        return
    if problem is None:
        ended.set_result(None)
    else:
        ended.set_exception(problem)
