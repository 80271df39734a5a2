"""Every second: does each subscriber's group exist, does the subscriber read, how far behind is it? Heal what can be healed.

FastStream stops a subscriber for good when its group is gone, while the process goes on as if nothing had happened. The steady
state costs three round trips at most whatever the number of partitions; groups are created only where one is missing.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import RedisError, ResponseError

from penstock import keys
from penstock.bus.broker import ensure_group
from penstock.bus.connection import is_outage, redis_now_ms
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from penstock.bus.health import Health
    from penstock.bus.routing import Subscription

log = structlog.get_logger("penstock.bus")

WATCH_SECONDS: Final = 1.0
REDIS_SILENCE_SECONDS: Final = 5.0
SUBSCRIBER_SILENCE_SECONDS: Final = 15.0
"""FastStream waits 5 s after a failed read; three times that is no longer a pause."""
BATCH_SECONDS: Final = 60.0
"""A handler may have one batch in hand this long before the subscriber counts as stuck."""


class Broken(PenstockError):
    """A part of the service failed for good; only a person can help."""


@dataclass(eq=False)
class Watched:
    """One subscriber of one partition.

    Attributes:
        subscriber: FastStream's.
        busy_since: when the batch in hand was taken (``time.monotonic``), None while none is.
        reads: how many reads have come back, with or without news.
        reads_seen: how many of them the watchdog knows of.
        known: what Redis last said of the group: how far it had read, how many entries were in hand.
    """

    subscription: Subscription
    partition: int
    subscriber: Any = None
    busy_since: float | None = None
    reads: int = 0
    reads_seen: int = 0
    known: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The stream's key."""
        return keys.key(self.partition, self.subscription.stream.name)

    @property
    def label(self) -> str:
        """What health and logs call it."""
        return f"{self.subscription.stream.name}/{self.partition}"

    def count_read(self) -> None:
        """Record that a read came back."""
        self.reads += 1


class Watchdog:
    """Watches the subscribers of one process.

    Args:
        client: for its own reads.
        health: told what is seen.
        restore: awaited when Redis has lost its data, before groups are created again.
    """

    def __init__(self, client: Redis, health: Health, restore: Callable[[], Awaitable[None]]) -> None:
        self._client = client
        self._health = health
        self._restore = restore
        self.watched: list[Watched] = []

    async def run(self) -> None:
        """Watch for ever.

        Raises:
            Broken: a stream's key is not a stream, or Redis forbids reading it.
        """
        for watched in self.watched:
            self._saw(watched)
        while True:
            await self.tick()
            await asyncio.sleep(WATCH_SECONDS)

    async def tick(self) -> None:
        """Look once."""
        now_ms = await redis_now_ms(self._client)
        groups = await self._groups()
        if any(about is None for about in groups):
            await self._restore()
            for watched, about in zip(self.watched, groups, strict=True):
                if about is None:
                    await self._create_group(watched)
        for watched, about in zip(self.watched, groups, strict=True):
            watched.known = about or {}
        for watched in self.watched:
            await self._revive(watched)
        self._see_readers()
        await self._measure(groups, now_ms)
        self._health.beat("redis", REDIS_SILENCE_SECONDS)
        self._health.beat("watchdog")

    async def _groups(self) -> list[dict[str, Any] | None]:
        """What XINFO GROUPS says of each group, None for one that does not exist."""
        pipe = self._client.pipeline(transaction=False)
        for watched in self.watched:
            pipe.xinfo_groups(watched.key)
        found: list[dict[str, Any] | None] = []
        for watched, answer in zip(self.watched, await pipe.execute(raise_on_error=False), strict=True):
            if isinstance(answer, Exception):
                _raise_unless_missing(watched, answer)
                answer = []  # noqa: PLW2901 - a stream that does not exist has no groups
            name = watched.subscription.group.encode()
            found.append(next((about for about in answer if about["name"] == name), None))
        return found

    async def _create_group(self, watched: Watched) -> None:
        try:
            created = await ensure_group(
                self._client, watched.subscription.stream, watched.partition, watched.subscription.group
            )
        except ResponseError as problem:
            if is_outage(problem):
                return  # at the next look it is still missing
            raise Broken(f"{watched.key}: {problem}") from problem
        if created:
            log.error(
                "Redis has lost data: the consumer group was gone and is created again; what had been sent before, and "
                "everything else that was kept with it, has to be sent and defined anew",
                stream=watched.label,
                group=watched.subscription.group,
                lost_up_to=watched.known.get("last-delivered-id", b"?").decode(),
                lost_in_hand=watched.known.get("pending"),
            )

    async def _revive(self, watched: Watched) -> None:
        subscriber = watched.subscriber
        if subscriber.running and not all(task.done() for task in subscriber.tasks):
            return
        log.warning("subscriber had stopped, starting it again", stream=watched.label)
        await subscriber.stop()
        # It would make a group that went away meanwhile at the end of the stream.
        await self._create_group(watched)
        try:
            await subscriber.start()
        except ResponseError as problem:
            if is_outage(problem):
                return
            raise Broken(f"{watched.key}: {problem}") from problem

    def _see_readers(self) -> None:
        """Count what the read loops did, whatever the server says: Redis before 7.2 does not notice reads without news."""
        now = time.monotonic()
        for watched in self.watched:
            in_hand = watched.busy_since is not None and now - watched.busy_since < BATCH_SECONDS
            if watched.reads != watched.reads_seen or in_hand:
                watched.reads_seen = watched.reads
                self._saw(watched)

    def _saw(self, watched: Watched) -> None:
        self._health.beat(f"subscriber {watched.label}", SUBSCRIBER_SILENCE_SECONDS)

    async def _measure(self, groups: list[dict[str, Any] | None], now_ms: int) -> None:
        """Tell how old the oldest unread entry is; only streams with unread entries are asked for it."""
        pipe = self._client.pipeline(transaction=False)
        asked = []
        for watched, about in zip(self.watched, groups, strict=True):
            # Redis 6.2 has no lag, 7 and later answer None when they cannot tell.
            if about is not None and about.get("lag") != 0:
                pipe.xrange(watched.key, f"({about['last-delivered-id'].decode()}", "+", count=1)
                asked.append(watched)
            else:
                self._health.behind(watched.label, 0.0)
        if not asked:
            return
        for watched, unread in zip(asked, await pipe.execute(raise_on_error=False), strict=True):
            if isinstance(unread, Exception):
                _raise_unless_missing(watched, unread)
                continue
            oldest_ms = int(unread[0][0].partition(b"-")[0]) if unread else now_ms
            self._health.behind(watched.label, max(0.0, (now_ms - oldest_ms) / 1000))


def _raise_unless_missing(watched: Watched, problem: Exception) -> None:
    """A missing stream or group is healed at the next look; anything else is an outage or beyond repair."""
    if is_outage(problem):
        raise problem
    if isinstance(problem, RedisError) and any(word in str(problem) for word in ("NOGROUP", "no such key")):
        return
    raise Broken(f"{watched.key}: {problem}") from problem
