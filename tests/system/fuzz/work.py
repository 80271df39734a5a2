"""Good runs between all the bad entries: submitted all the time, executed by workers that know the bus only, counted twice."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from penstock.client import NewRun, Penstock
from penstock.contracts.runs import TERMINAL
from tests.system.bus_worker import BusWorker
from tests.system.fuzz.messages import GOOD, HANDS, STRANGE

if TYPE_CHECKING:
    from random import Random

    from redis.asyncio import Redis

PAUSE_SECONDS: Final = 0.15
SETTLE_SECONDS: Final = 60.0
_RUN: Final = "prefect.flow-run."


class GoodWork:
    """Submits good runs, follows the event stream through the SDK, and says what became of them.

    Args:
        client: of its own.
        url: of Redis, for the workers.
        chance: decides how many.
    """

    def __init__(self, client: Redis, url: str, chance: Random) -> None:
        self._penstock = Penstock(client, 1, timeout_seconds=30)
        self._chance = chance
        self.workers = [
            BusWorker(url, GOOD, "good-1", slots=10, interval=30),
            BusWorker(url, GOOD, "good-2", slots=10, interval=30),
            BusWorker(url, STRANGE, "strange-1", slots=500, interval=30, work_seconds=0.005),
        ]
        self.submitted: list[str] = []
        self.by_hand: list[str] = []
        self.ended: Counter[str] = Counter()
        """Run id -> terminal events."""
        self.last: dict[str, tuple[str, str]] = {}
        """Run id -> its terminal state, and the message of that."""
        self.events = 0
        self.on = True
        self._moved = asyncio.Event()

    async def define(self) -> None:
        """Create the pools nothing may happen to."""
        for pool in (GOOD, STRANGE, HANDS):
            await self._penstock.create_pool(pool)

    async def submit_logged(self) -> str:
        """Submit the run whose output anybody may write to; answers its id."""
        (run_id,) = await self._penstock.submit_runs(GOOD, [NewRun(command="true")])
        self.submitted.append(run_id)
        return run_id

    async def submit(self) -> None:
        """Submit, until it is switched off."""
        while self.on:
            runs = [NewRun(command="true", parameters={"n": n}) for n in range(self._chance.randint(1, 8))]
            self.submitted += await self._penstock.submit_runs(GOOD, runs)
            if self._chance.random() < 0.2:
                self.by_hand += await self._penstock.submit_runs(HANDS, [NewRun(command="true")])
            await asyncio.sleep(PAUSE_SECONDS)

    async def follow(self) -> None:
        """Read every event, rubbish between them or not."""
        async for _, event in self._penstock.events(since="0"):
            self.events += 1
            resource = event.resource.get("prefect.resource.id", "")
            if event.event.startswith(_RUN) and event.resource.get("prefect.state-type") in TERMINAL:
                self.ended[resource.removeprefix(_RUN)] += 1
                self._moved.set()
                told = (event.resource["prefect.state-type"], event.resource.get("prefect.state-message", ""))
                self.last[resource.removeprefix(_RUN)] = told

    async def settle(self) -> None:
        """Wait until the good runs have ended; what has not after a minute is told by :meth:`wrong`."""
        end = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < end and any(run not in self.ended for run in [*self.submitted, *self.by_hand]):
            self._moved.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), 1)

    def wrong(self) -> list[str]:
        """Good runs that were not completed exactly once."""
        executed = Counter(run for worker in self.workers for run in worker.executed)
        found = [f"good run {run} ended {self.ended[run]} times" for run in self.submitted if self.ended[run] != 1]
        found += [f"good run {run} was executed {executed[run]} times" for run in self.submitted if executed[run] != 1]
        every = [*self.submitted, *self.by_hand]
        found += [
            f"good run {run} ended as {self.last.get(run)}"
            for run in every
            if self.last.get(run, ("",))[0] != "COMPLETED"
        ]
        return found[:20]
