"""One handler per message: message -> one call of the store -> log."""

from __future__ import annotations

from collections import Counter as Tally
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter

from services.heartbeat_monitor import rules

if TYPE_CHECKING:
    import asyncio

    from penstock.bus.routing import Delivery
    from penstock.contracts.pools import PoolChanged, PoolDeleted, QueueDeleted
    from penstock.contracts.workers import Heartbeat
    from services.heartbeat_monitor.store import MonitorStore

log = structlog.get_logger("heartbeat_monitor")

HEARTBEATS = Counter("penstock_heartbeats_total", "Heartbeats by what became of them", ["decision"])


class Handlers:
    """Handlers of ``heartbeats`` and ``definitions``.

    Args:
        store: the door to state.
        sooner: set when a deadline may have become earlier than the sweep knows.
    """

    def __init__(self, store: MonitorStore, sooner: asyncio.Event) -> None:
        self._store = store
        self._sooner = sooner

    async def apply_heartbeats(self, batch: list[Delivery[Heartbeat]]) -> None:
        """Apply a batch in the order of the stream."""
        heartbeats = rules.coalesce(batch)
        decisions = await self._store.apply_heartbeats(batch[0].partition, heartbeats)
        for decision, count in Tally(decisions).items():
            HEARTBEATS.labels(decision).inc(count)
        for delivery, decision in zip(heartbeats, decisions, strict=True):
            if decision == "changed":
                self._sooner.set()
                _log(delivery.message, "worker changed")
            elif decision in rules.REFUSALS:
                _log(delivery.message, "heartbeat refused", decision)

    async def bind_queues(self, batch: list[Delivery[PoolChanged]]) -> None:
        """A pool or its queues changed: see who serves what now."""
        pools = {delivery.message.pool_id: delivery.message.pool for delivery in batch}
        moved = await self._store.bind_queues(batch[0].partition, pools)
        if moved:
            log.info("queues bound", pools=sorted(pools.values()), workers=moved)

    async def forget_pool(self, batch: list[Delivery[PoolDeleted]]) -> None:
        """A pool is gone, and with it its workers."""
        for delivery in batch:
            online = await self._store.forget_pool(delivery.partition, delivery.message)
            log.info("pool forgotten", pool=delivery.message.pool, workers_online=online)

    async def forget_queue(self, batch: list[Delivery[QueueDeleted]]) -> None:
        """A queue is gone."""
        for delivery in batch:
            await self._store.forget_queue(delivery.partition, delivery.message.queue.id)
            log.info("queue forgotten", pool=delivery.message.pool, queue=delivery.message.queue.name)


def _log(beat: Heartbeat, what: str, reason: str = "") -> None:
    about = {"pool": beat.pool, "worker": beat.worker, "boot_id": beat.boot_id}
    if reason:
        log.warning(what, **about, reason=reason)
    else:
        log.info(what, **about, slots=beat.slots, draining=beat.draining, stopping=beat.stopping)
