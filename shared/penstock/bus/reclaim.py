"""Take over what a dead consumer left, bury what fails again and again, trim what is done, forget who left.

FastStream's own ``min_idle_time`` subscriber reads nothing new and is wedged by one trimmed entry on Redis 6.2; this one uses
the native client and XPENDING + XCLAIM, which behave the same from 6.2 to 8.
"""

from __future__ import annotations

import time
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

import structlog
from prometheus_client import Counter

from penstock import keys, lua
from penstock.bus.connection import OUTAGES, refuses_everybody
from penstock.bus.dead_letters import DeadLetter, bury
from penstock.bus.delivery import deliver
from penstock.bus.entries import Entry
from penstock.bus.trimming import trim_before
from penstock.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from penstock.bus.routing import Subscription

log = structlog.get_logger("penstock.bus")

IDLE_MS: Final = 4000
"""Pending this long means the consumer is dead or failed: far above any handler (milliseconds), low enough to be back in 10 s."""
MAX_DELIVERIES: Final = 5
"""A message that failed this often is poison."""
CLAIM_AT_ONCE: Final = 200
TURN_SECONDS: Final = 2.0
"""A turn ends after this long, whatever is left: other streams wait for theirs."""
CONSUMER_GONE_MS: Final = 600_000

FORGET_CONSUMER = lua.load("penstock.bus", "forget_consumer")
RECLAIMED = Counter("penstock_reclaimed_total", "Entries taken over from another consumer", ["stream"])


class _Later(Exception):
    """An entry could not be handled now, which is not its fault; where the order counts, nothing after it may be."""

    def __init__(self, problem: Exception) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Reclaimer:
    """Keeps one subscription's group clean in one partition.

    Args:
        client: a client of its own.
        subscription: whose group.
        partition: where.
        consumer: the name to claim for.
        idle_ms: how long an entry must have been pending.
    """

    def __init__(
        self, client: Redis, subscription: Subscription, partition: int, consumer: str, idle_ms: int = IDLE_MS
    ) -> None:
        self._client = client
        self._subscription = subscription
        self._partition = partition
        self._consumer = consumer
        self._idle_ms = idle_ms
        self._stream = keys.key(partition, subscription.stream.name)

    async def reclaim(self) -> int:
        """Deliver abandoned entries again, one by one, so that a poisonous one fails alone.

        Where the order counts nothing is handled before what is in somebody's hand or could not be handled now.

        Returns:
            How many were handled or buried.
        """
        group, ordered = self._subscription.group, self._subscription.ordered
        waiting: Any = await self._client.xpending_range(
            self._stream, group, min="-", max="+", count=CLAIM_AT_ONCE, idle=None if ordered else self._idle_ms
        )
        done = 0
        end = time.monotonic() + TURN_SECONDS
        for pending in waiting:
            if time.monotonic() > end or pending["time_since_delivered"] < self._idle_ms:
                break
            try:
                done += await self._take(pending["message_id"], int(pending["times_delivered"]))
            except _Later:
                break
        return done

    async def catch_up(self, before: str, going_on: Callable[[], bool]) -> bool:
        """Deliver again what the whole group has in hand, each entry once, as far as it came before one that is to be handled next.

        A Redis that has forgotten its last moments hands out newer commands while older ones, carried out once before, wait to be
        taken over. In the wrong order an older one would undo what a newer one had changed. What another process has in hand right
        now is carried out once all the same: commands know when they come again. What fails here is left to the reclaimer and
        does not count as a delivery; where no message is to blame, nothing after it is handled.

        Args:
            before: id of an entry; '+' for none.
            going_on: asked before each entry.

        Returns:
            False when it did not go on to the end.

        Raises:
            Exception: Redis, or another service, refuses everybody.
        """
        group, first = self._subscription.group, "-"
        last = before
        if before == "+":
            about: Any = await self._client.xpending(self._stream, group)
            if not about["pending"]:
                return True
            last = about["max"].decode()
        while True:
            waiting: Any = await self._client.xpending_range(
                self._stream, group, min=first, max=last if before == "+" else f"({last}", count=CLAIM_AT_ONCE
            )
            for one in waiting:
                if not going_on():
                    return False
                try:
                    await self._take(one["message_id"], int(one["times_delivered"]), idle_ms=0, counts=False)
                except _Later as later:
                    raise later.problem from later
            if len(waiting) < CLAIM_AT_ONCE:
                return True
            first = f"({waiting[-1]['message_id'].decode()}"

    async def finish(self) -> int:
        """Deliver what was handed to this consumer while it stopped; without that it would wait for another one's reclaimer.

        What has failed before stays for the others; where the order counts, so does what came after something that is in hand.

        Returns:
            How many were handled.
        """
        own: Any = await self._client.xpending_range(
            self._stream, self._subscription.group, min="-", max="+", count=CLAIM_AT_ONCE, consumername=self._consumer
        )
        if self._subscription.ordered:
            everybodys: Any = await self._client.xpending_range(
                self._stream, self._subscription.group, min="-", max="+", count=len(own) or 1
            )
            in_front = takewhile(
                lambda pair: pair[0]["message_id"] == pair[1]["message_id"], zip(own, everybodys, strict=False)
            )
            own = [one for one, _ in in_front]
        done = 0
        end = time.monotonic() + TURN_SECONDS
        for pending in own:
            if pending["times_delivered"] == 1 and time.monotonic() < end:
                try:
                    done += await self._take(pending["message_id"], 0, idle_ms=0)
                except _Later:
                    break
        return done

    async def _take(
        self, message_id: bytes, deliveries: int, idle_ms: int | None = None, *, counts: bool = True
    ) -> int:
        group = self._subscription.group
        found: Any = await self._client.xrange(self._stream, message_id, message_id)
        if not found:
            # Trimmed while pending; Redis 6.2 would hand out nil for it for ever.
            await self._client.xack(self._stream, group, message_id)
            return 0
        claimed = await self._client.xclaim(
            self._stream,
            group,
            self._consumer,
            self._idle_ms if idle_ms is None else idle_ms,
            [message_id],
            retrycount=None if counts else deliveries,
            justid=False,
        )
        if not claimed:
            return 0
        # Also what a stopping service was only just handed: a Redis that was set back may have handed it out before.
        entry = Entry(self._partition, self._subscription.stream.name, message_id.decode(), found[0][1], again=True)
        RECLAIMED.labels(self._subscription.stream.name).inc()
        try:
            await deliver(self._client, self._subscription, [entry], deliveries + 1)
        except OUTAGES:
            raise
        except Exception as problem:
            if counts:
                await self._give_up_or_wait(entry, deliveries + 1, problem)
            if self._subscription.ordered and _may_pass(problem):
                raise _Later(problem) from problem
            return 0
        await self._client.xack(self._stream, group, message_id)
        return 1

    async def _give_up_or_wait(self, entry: Entry, deliveries: int, problem: Exception) -> None:
        reason = f"failed {deliveries} times, last with {type(problem).__name__}: {problem}"
        log.error(
            "delivery failed again", stream=entry.stream, entry=entry.id, deliveries=deliveries, error=str(problem)
        )
        if deliveries >= MAX_DELIVERIES and not _may_pass(problem):
            group = self._subscription.group
            await bury(self._client, [DeadLetter(entry, reason, deliveries)], group)
            await self._client.xack(self._stream, group, entry.id)

    async def trim(self) -> None:
        """Drop what the owning group has acknowledged."""
        if not self._subscription.trims:
            return
        # In this order: what is delivered between the two reads is beyond the bound, so it is not dropped while pending.
        bound = await self._last_delivered()
        pending: Any = await self._client.xpending(self._stream, self._subscription.group)
        if pending["pending"]:
            bound = min(bound, pending["min"], key=_order)
        await trim_before(self._client, self._stream, bound)

    async def _last_delivered(self) -> bytes:
        for group in await self._client.xinfo_groups(self._stream):
            if group["name"] == self._subscription.group.encode():
                return bytes(group["last-delivered-id"])
        return b"0-0"

    async def forget_consumers(self) -> None:
        """Delete consumers that have been silent for long and hold nothing."""
        group = self._subscription.group
        for about in await self._client.xinfo_consumers(self._stream, group):
            name = about["name"].decode()
            if about["idle"] > CONSUMER_GONE_MS and about["pending"] == 0 and name != self._consumer:
                await FORGET_CONSUMER(self._client, self._partition, stream=self._stream, group=group, consumer=name)


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number or 0)


def _may_pass(problem: Exception) -> bool:
    """Say whether no message is to blame: Redis refuses everybody (full, read only, ...), or another service is away."""
    return isinstance(problem, Unavailable) or refuses_everybody(problem)
