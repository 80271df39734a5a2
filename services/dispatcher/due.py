"""Wake exactly when a run falls due: sleep until the earliest due time, sooner when an earlier one is submitted."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from services.dispatcher.bounds import DUE_AT_ONCE

if TYPE_CHECKING:
    from penstock.bus.health import Health
    from services.dispatcher.store import DispatchStore

LOOK_AGAIN_SECONDS: Final = 1.0
"""Not how due times are found, but how soon those of a dispatcher that died are: each knows only what passed through its hands."""


class DueClock:
    """Claims in every pool at the moment something in it falls due.

    Args:
        store: the door to state.
        partitions: how many there are.
        health: told of every round.
    """

    def __init__(self, store: DispatchStore, partitions: int, health: Health) -> None:
        self._store = store
        self._partitions = partitions
        self._health = health
        self._sooner = asyncio.Event()
        self._next_ms: dict[int, int] = {}

    def expect(self, partition: int, due_ms: int) -> None:
        """Hear that something falls due; wakes the clock if that is earlier than it knew."""
        if due_ms < self._next_ms.get(partition, due_ms + 1):
            self._next_ms[partition] = due_ms
            self._sooner.set()

    async def run(self) -> None:
        """Run for ever."""
        while True:
            self._sooner.clear()
            wait = LOOK_AGAIN_SECONDS
            for partition in range(self._partitions):
                wait = min(wait, await self._look(partition))
            self._health.beat("due clock")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._sooner.wait(), wait)

    async def _look(self, partition: int) -> float:
        """Claim where something is due; give up waiting for workers that do not end what was cancelled.

        Returns:
            Seconds until the next due time of this partition, at most :data:`LOOK_AGAIN_SECONDS`.
        """
        self._next_ms.pop(partition, None)
        await self._store.expire_cancelling(partition)
        due, next_ms, now_ms = await self._store.due_pools(partition)
        if due:
            claimed = await self._store.claim_runs(partition, due)
            known = [claim.next_due_ms for claim in claimed if claim.next_due_ms is not None]
            next_ms = min([*known, *([next_ms] if next_ms is not None else [])], default=None)
        if len(due) == DUE_AT_ONCE:
            return 0.0  # there may be more that is due already
        if next_ms is None:
            return LOOK_AGAIN_SECONDS
        self._next_ms[partition] = next_ms
        return min(LOOK_AGAIN_SECONDS, max(0.0, (next_ms - now_ms) / 1000))
