"""Wiring: which message goes to which handler, and the loops: the sweep, the housekeeping, what groups leave behind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Gauge

from penstock.bus.routing import Route, Subscription
from penstock.bus.service import Service
from penstock.contracts.pools import PoolChanged, PoolDeleted, QueueDeleted
from penstock.contracts.workers import Heartbeat
from penstock.streams import DEFINITIONS, HEARTBEATS
from services.heartbeat_monitor.handlers import Handlers
from services.heartbeat_monitor.store import GROUP, MonitorStore

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.bus.health import Health
    from services.heartbeat_monitor.settings import HeartbeatMonitorSettings

log = structlog.get_logger("heartbeat_monitor")

SERVICE: Final = GROUP
SWEEP_SECONDS: Final = 1.0
"""The sweep wakes at the next deadline, but at least this often: its tick is how the end of an outage is noticed."""
HOUSEKEEPING_SECONDS: Final = 3600.0
"""Ages are counted in days, so an hour more or less does not matter."""

FORGET_SECONDS: Final = 5.0
"""How often deliveries of trimmed events are forgotten: at 20,000 events a second that is 10 MB a careless group piles up."""
FORGET_SILENCE_SECONDS: Final = 60.0
"""Far above what a round takes."""
COUNT_SECONDS: Final = 5.0
"""How often dead letters are counted: people look, nothing waits for it."""

# One party counts for all, or a sum over the services would be several times too high.
DEAD_LETTERS = Gauge("penstock_dead_letters_kept", "Entries on the dead streams of all partitions")


class Loops:
    """What the monitor does without being told.

    Args:
        store: the door to state.
        partitions: how many there are.
        health: told that the loops make progress.
        sooner: set by the handlers when a deadline may have become earlier.
    """

    def __init__(self, store: MonitorStore, partitions: int, health: Health, sooner: asyncio.Event) -> None:
        self._store = store
        self._partitions = partitions
        self._health = health
        self._sooner = sooner

    async def sweep(self) -> None:
        """Judge who is alive, for ever, each time somebody's deadline passes."""
        while True:
            self._sooner.clear()
            pause = await self.sweep_once()
            self._health.beat("sweep")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._sooner.wait(), pause)

    async def sweep_once(self) -> float:
        """Judge who is alive now.

        Returns:
            Seconds until the next sweep is due.
        """
        sweeps = await self._store.expire_workers(self._partitions)
        for partition, sweep in enumerate(sweeps):
            if sweep.lost or sweep.verdict != "judged":
                log.info("swept", partition=partition, verdict=sweep.verdict, lost=sweep.lost)
        waits = [sweep.wait_ms / 1000 for sweep in sweeps if sweep.wait_ms is not None]
        return min([SWEEP_SECONDS, *waits])

    async def housekeeping(self) -> None:
        """Drop what is too old, once an hour."""
        while True:
            for partition in range(self._partitions):
                trimmed = await self._store.trim_streams(partition)
                forgotten = await self._store.forget_workers(partition)
                if trimmed or forgotten:
                    log.info("cleaned up", partition=partition, entries=trimmed, workers=forgotten)
            self._health.beat("housekeeping", 2 * HOUSEKEEPING_SECONDS)
            await asyncio.sleep(HOUSEKEEPING_SECONDS)

    async def forget_deliveries(self) -> None:
        """Keep groups that never acknowledge from piling up what they were given, for ever."""
        while True:
            for partition in range(self._partitions):
                forgotten = await self._store.forget_deliveries(partition)
                if forgotten:
                    log.warning(
                        "events were trimmed before a group acknowledged them", partition=partition, count=forgotten
                    )
                self._health.beat("deliveries", FORGET_SILENCE_SECONDS)
            await asyncio.sleep(FORGET_SECONDS)

    async def count_dead(self) -> None:
        """Keep the number of dead letters in health and metrics. It is information: a bad message is its sender's fault."""
        while True:
            count = await self._store.count_dead(self._partitions)
            DEAD_LETTERS.set(count)
            self._health.inform("dead_letters", count)
            self._health.beat("dead letters", 10 * COUNT_SECONDS)
            await asyncio.sleep(COUNT_SECONDS)


def subscriptions(handlers: Handlers) -> list[Subscription]:
    """Say what the monitor reads."""
    return [
        Subscription(HEARTBEATS, SERVICE, [Route(Heartbeat, handlers.apply_heartbeats)], trims=True),
        Subscription(
            DEFINITIONS,
            SERVICE,
            [
                Route(PoolChanged, handlers.bind_queues),
                Route(QueueDeleted, handlers.forget_queue),
                Route(PoolDeleted, handlers.forget_pool),
            ],
            ignores_unknown=True,
        ),
    ]


def build(settings: HeartbeatMonitorSettings, client: Redis, health: Health) -> Service:
    """Make the service."""
    store = MonitorStore(client)
    sooner = asyncio.Event()
    loops = Loops(store, settings.partitions, health, sooner)
    return Service(
        name=SERVICE,
        settings=settings,
        client=client,
        health=health,
        subscriptions=subscriptions(Handlers(store, sooner)),
        loops={
            "sweep": loops.sweep,
            "housekeeping": loops.housekeeping,
            "deliveries": loops.forget_deliveries,
            "dead letters": loops.count_dead,
        },
    )
