"""Heartbeats for tests, applied through the monitor's store as the service applies them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.bus.entries import Entry, entry_fields
from penstock.bus.routing import Delivery
from penstock.contracts.workers import Heartbeat
from services.heartbeat_monitor.store import MonitorStore
from tests.support import read_events

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.heartbeat_monitor.rules import Decision
    from tests.definitions import DefinedPool


def heartbeat(pool: str, worker: str = "w1", **fields: Any) -> Heartbeat:
    return Heartbeat(pool=pool, worker=worker, **{"worker_type": "process", "boot_id": "boot-1", **fields})


def delivered(message: Heartbeat, entry_id: str, partition: int = 0) -> Delivery[Heartbeat]:
    fields: Any = entry_fields(message)
    return Delivery(Entry(partition, "heartbeats", entry_id, fields), message)


class Monitor:
    """A monitor's store, and a sender of heartbeats with the entry ids a stream would give them."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.store = MonitorStore(client)
        self._sent = 0

    async def beat(
        self, pool: str, worker: str = "w1", *, entry_id: str = "", partition: int = 0, **fields: Any
    ) -> Decision:
        """Apply one heartbeat, by default as new as Redis TIME."""
        entry_id = entry_id or await self.next_entry_id()
        applied = await self.store.apply_heartbeats(
            partition, [delivered(heartbeat(pool, worker, **fields), entry_id, partition)]
        )
        return applied[0]

    async def next_entry_id(self) -> str:
        self._sent += 1
        return f"{await redis_now_ms(self.client)}-{self._sent}"

    async def sweep(self) -> tuple[str, int, int | None]:
        return (await self.store.expire_workers(1))[0]

    async def just_judged(self) -> None:
        """As if a sweep had run a moment ago, so that the next one sees no outage."""
        await self.client.set(keys.key(0, "liveness_tick"), await redis_now_ms(self.client))

    async def worker(self, pool: DefinedPool, worker: str = "w1") -> dict[str, str]:
        return await read_hash(self.client, keys.key(0, "worker", keys.worker_ident(pool.id, worker)))

    async def deadline(self, pool: DefinedPool, worker: str = "w1") -> float | None:
        score: Any = await self.client.zscore(keys.key(0, "liveness"), keys.worker_ident(pool.id, worker))
        return None if score is None else float(score)


async def read_hash(client: Redis, name: str) -> dict[str, str]:
    found: Any = await client.hgetall(name)
    return {field.decode(): value.decode() for field, value in found.items()}


async def event_names(client: Redis, since: int = 0) -> list[str]:
    """Names of the events so far, each with the name of its resource."""
    return [
        f"{event['event']} {event['resource']['prefect.resource.name']}"
        for event in (await read_events(client))[since:]
    ]
