"""Tell workers what they hold: each now and then, and everybody at once whenever Redis may have forgotten something."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import structlog

from penstock.bus.connection import reconnections

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.bus.health import Health
    from services.dispatcher.store import DispatchStore

log = structlog.get_logger("dispatcher")

LOOK_SECONDS: Final = 1.0
"""How often is looked whose turn it is, and whether Redis has been away; each dispatcher does it for all."""


class Audits:
    """Audits workers, for ever.

    Args:
        client: the service's; a connection of it that had to be made anew means that Redis may have been away.
        store: the door to state.
        partitions: how many there are.
        health: told of every round.
    """

    def __init__(self, client: Redis, store: DispatchStore, partitions: int, health: Health) -> None:
        self._client = client
        self._store = store
        self._partitions = partitions
        self._health = health
        # What Redis forgot before we came, the dispatchers before us may not have lived to ask.
        self._asked_at: int | None = None

    async def run(self) -> None:
        """Run for ever."""
        while True:
            await self.look()
            self._health.beat("audits")
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Audit whose turn it is; everybody at the start and after an outage."""
        connections = reconnections(self._client)
        everybody = connections != self._asked_at
        for partition in range(self._partitions):
            told = await self._store.audit_runs(partition, everybody=everybody)
            if told and everybody:
                log.info("Redis may have forgotten something: workers are told what they hold", workers=told)
        # Only now: what failed is done again.
        self._asked_at = connections
