"""Say on ``heartbeats`` that this worker lives: at once, every interval, and whenever what it says changes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog
from redis.exceptions import RedisError

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
_ATTEMPT_SECONDS: Final = 60.0


class Heartbeats:
    """The heartbeat loop.

    Args:
        client: where to.
        partition: of the worker's pool.
        describe: makes the heartbeat of this moment from its sequence number and whether it is the last; asked again
            for every attempt, so what is sent after an outage is the present.
        interval_seconds: between two heartbeats.
        clock: learns Redis TIME from every heartbeat.
        health: beaten; an outage of Redis makes the worker not ready, never not live.
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
    ) -> None:
        self._client = client
        self._partition = partition
        self._describe = describe
        self._interval = interval_seconds
        self._clock = clock
        self._health = health
        self._seq = 0
        self._changed = asyncio.Event()

    def soon(self) -> None:
        """Send one now: something it says has changed."""
        self._changed.set()

    async def run(self) -> None:
        """Send heartbeats until cancelled."""
        while True:
            self._changed.clear()
            await self._send_until_sent()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._interval)

    async def farewell(self) -> None:
        """Send the last one, if Redis answers soon."""
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._send(last=True)
        except (RedisError, OSError) as problem:
            log.warning("the last heartbeat could not be sent", error=str(problem))

    async def _send_until_sent(self) -> None:
        failures = 0
        while True:
            self._health.beat("heartbeats", self._interval + _ATTEMPT_SECONDS)
            try:
                await self._send()
            except (RedisError, OSError) as problem:
                failures += 1
                if failures == 1:
                    log.warning("Redis does not answer; runs go on, heartbeats are tried again", error=str(problem))
                await asyncio.sleep(min(backoff(failures), self._interval))
                continue
            if failures:
                log.info("Redis answers again", failed_attempts=failures)
            return

    async def _send(self, *, last: bool = False) -> None:
        self._seq += 1
        entry_id = await publish(self._client, HEARTBEATS, self._partition, self._describe(self._seq, last))
        self._clock.observe(entry_id)
        self._health.beat("redis", 2 * self._interval)
