"""The monitor's only door to Redis: one method per transition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

import orjson

from penstock import keys, lua
from penstock.bus.connection import redis_now_ms
from penstock.bus.trimming import trim_before
from penstock.contracts.workers import MISSED_HEARTBEATS
from penstock.streams import DEAD, DEAD_MAX_AGE_SECONDS, EVENTS, EVENTS_MAX_AGE_SECONDS
from services.heartbeat_monitor import rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from penstock.bus.routing import Delivery
    from penstock.contracts.pools import PoolDeleted
    from penstock.contracts.workers import Heartbeat

APPLY_HEARTBEATS = lua.load("services.heartbeat_monitor", "apply_heartbeats")
EXPIRE_WORKERS = lua.load("services.heartbeat_monitor", "expire_workers")
BIND_QUEUES = lua.load("services.heartbeat_monitor", "bind_queues")
FORGET_POOL = lua.load("services.heartbeat_monitor", "forget_pool")
FORGET_QUEUE = lua.load("services.heartbeat_monitor", "forget_queue")
FORGET_DELIVERIES = lua.load("services.heartbeat_monitor", "forget_deliveries")
FORGET_WORKERS = lua.load("services.heartbeat_monitor", "forget_workers")

JUDGED_AT_ONCE: Final = 200
"""Workers declared OFFLINE by one script call: short enough not to hold up Redis."""
FORGOTTEN_AT_ONCE: Final = 1000
"""Deliveries forgotten by one script call: about a millisecond."""
GROUP: Final = "heartbeat_monitor"
"""Consumer group of the heartbeats; a sweep looks at what it has not read yet."""


class Sweep(NamedTuple):
    """What one sweep of one partition found.

    Attributes:
        verdict: ``judged``; ``extended`` when there had been an outage; ``behind`` when heartbeats lie unread and
            nobody was judged.
        lost: how many workers went OFFLINE.
        wait_ms: until the next deadline; None if nobody is ONLINE.
    """

    verdict: Literal["judged", "extended", "behind"]
    lost: int
    wait_ms: int | None


class MonitorStore:
    """Workers and their liveness in Redis.

    Args:
        client: of the service.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def apply_heartbeats(self, partition: int, heartbeats: Sequence[Delivery[Heartbeat]]) -> list[rules.Decision]:
        """Apply heartbeats of one partition in their order, in one round trip.

        Returns:
            What became of each.
        """
        rest: list[lua.Value] = []
        for delivery in heartbeats:
            beat, entry = delivery.message, delivery.entry
            deadline = rules.deadline_ms(entry.added_ms, rules.milliseconds(beat.interval_seconds))
            rest += (beat.pool, beat.worker, entry.id, beat.seq, deadline, facts(beat))
        words: list[bytes] = await APPLY_HEARTBEATS(self._client, partition, rest=rest, kept=rules.SUPERSEDED_KEPT)
        return [cast("rules.Decision", word.decode()) for word in words]

    async def expire_workers(self, partitions: int) -> list[Sweep]:
        """Judge everybody whose deadline has passed, in every partition, in one round trip.

        Args:
            partitions: how many there are.

        Returns:
            One sweep for each partition.
        """
        calls = [
            EXPIRE_WORKERS.bind(
                partition,
                group=GROUP,
                outage_ms=rules.OUTAGE_MS,
                in_hand_ms=rules.IN_HAND_MS,
                again_ms=rules.AGAIN_MS,
                missed=MISSED_HEARTBEATS,
                limit=JUDGED_AT_ONCE,
            )
            for partition in range(partitions)
        ]
        return [
            Sweep(verdict.decode(), lost, wait if wait >= 0 else None)
            for verdict, lost, wait in await lua.run_all(self._client, calls)
        ]

    async def bind_queues(self, partition: int, pool_ids: Iterable[str]) -> int:
        """Recompute who serves which queue of these pools.

        Returns:
            For how many workers something changed.
        """
        return sum(
            await lua.run_all(self._client, [BIND_QUEUES.bind(partition, pool_id=pool_id) for pool_id in pool_ids])
        )

    async def forget_pool(self, partition: int, message: PoolDeleted) -> int:
        """Forget a deleted pool's workers.

        Returns:
            How many were ONLINE.
        """
        queue_ids = [queue.id for queue in message.queues]
        call = FORGET_POOL.bind(partition, rest=queue_ids, pool_id=message.pool_id, pool_name=message.pool)
        return int((await lua.run_all(self._client, [call]))[0])

    async def forget_queue(self, partition: int, queue_id: str) -> None:
        """Forget who served a deleted queue."""
        await FORGET_QUEUE(self._client, partition, queue_id=queue_id)

    async def forget_workers(self, partition: int) -> int:
        """Drop the names of workers that have been OFFLINE for so long that their records expired.

        Returns:
            How many names were dropped.
        """
        pool_ids: list[Any] = await self._client.hvals(keys.key(partition, "pools"))
        calls = [FORGET_WORKERS.bind(partition, pool_id=pool_id.decode()) for pool_id in pool_ids]
        return sum(await lua.run_all(self._client, calls))

    async def forget_deliveries(self, partition: int) -> int:
        """Let go of events that groups were given, did not acknowledge, and that are trimmed: nobody can read them any more.

        What a group pins is bounded by what is kept then, even where its consumers never acknowledge anything.

        Returns:
            How many deliveries were forgotten.
        """
        total = 0
        while count := int(await FORGET_DELIVERIES(self._client, partition, most=FORGOTTEN_AT_ONCE)):
            total += count
        return total

    async def count_dead(self, partitions: int) -> int:
        """Count what could not be handled and was not sent again or dropped, in one round trip."""
        pipe = self._client.pipeline(transaction=False)
        for partition in range(partitions):
            pipe.xlen(keys.key(partition, DEAD.name))
        return sum(await pipe.execute())

    async def trim_streams(self, partition: int) -> int:
        """Drop events and dead letters that are older than they are kept.

        Returns:
            How many entries were dropped; Redis drops whole blocks, so some stay a little longer.
        """
        now_ms = await redis_now_ms(self._client)
        return sum(
            [
                await trim_before(self._client, keys.key(partition, stream.name), str(now_ms - seconds * 1000))
                for stream, seconds in ((EVENTS, EVENTS_MAX_AGE_SECONDS), (DEAD, DEAD_MAX_AGE_SECONDS))
            ]
        )


def facts(beat: Heartbeat) -> bytes:
    """Spell what a heartbeat says of its worker as fields of the worker's hash; equal texts mean nothing new."""
    fields = {
        "type": beat.worker_type,
        "boot_id": beat.boot_id,
        "interval_ms": str(rules.milliseconds(beat.interval_seconds)),
        "slots": str(beat.slots),
        "queues": orjson.dumps(beat.queues).decode(),
        "prefetch_ms": str(rules.milliseconds(beat.prefetch_seconds)),
        "version": beat.version,
        "host": beat.host,
        "pid": str(beat.pid),
        "draining": "1" if beat.draining else "0",
        "resource_id": rules.resource_id(beat.worker_type, beat.worker),
    }
    if beat.stopping:
        fields["stopping"] = "1"
    return orjson.dumps(fields)
