"""Look ahead and ask why: what will be handed out next, who holds the slots, what waits for them."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

from penstock.bus.connection import redis_now_ms
from penstock.client.admin import Administration, checked
from penstock.client.events import EventStream
from penstock.client.outage import needs_redis
from penstock.client.run_store import RunStore
from penstock.client.waiting import describe, in_order
from penstock.client.waiting_store import WaitingStore
from penstock.client.wording import did_you_mean
from penstock.contracts.results import Draining
from penstock.contracts.workers import DrainWorker
from penstock.errors import CursorExpired, NotFound
from penstock.keys import partition_of_pool
from penstock.streams import DISPATCH

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from penstock.client.records import InFlight, Worker
    from penstock.client.waiting import Waiting
    from penstock.contracts.pools import Pool
    from penstock.contracts.runs import Run

SHOWN: Final = 200
"""Runs that are read unless more are asked for."""


class Preview(NamedTuple):
    """What will be handed out.

    Attributes:
        runs: in this order; at most as many as were asked for.
        total: how many there are.
        now_ms: Redis TIME when this was so; what is due before it is late.
    """

    runs: list[Run]
    total: int
    now_ms: int


class Slots(NamedTuple):
    """Who holds the slots of a pool, and what waits for one.

    Attributes:
        pool: with its queues.
        in_flight: how many hold one.
        holders: the runs that do, the longest claimed first; at most as many as were asked for.
        waiting: queues with waiting runs, in the order in which they are served.
        now_ms: Redis TIME when this was so.
    """

    pool: Pool
    in_flight: InFlight
    holders: list[Run]
    waiting: list[Waiting]
    now_ms: int


class Watching(Administration):
    """The part of :class:`~penstock.client.sdk.Penstock` that shows what goes on inside."""

    @needs_redis
    async def now_ms(self) -> int:
        """Redis TIME in milliseconds: the clock that decides when something is due."""
        return await redis_now_ms(self._client)

    async def preview(
        self, pool: str, *, queue: str | None = None, within: timedelta | None = None, limit: int = SHOWN
    ) -> Preview:
        """Say which waiting runs will be handed out next, in this order, if nothing stops them.

        Args:
            pool: whose.
            queue: only this one's.
            within: only those due so long from now at most; None means all.
            limit: how many at most.
        """
        found = await self.read_pool(pool)
        queues = found.queues if queue is None else [await self.read_queue(pool, queue)]
        now_ms = await self.now_ms()
        until_ms = None if within is None else now_ms + round(within.total_seconds() * 1000)
        places, total = await self._waiting.read_places(found, queues, until_ms, limit)
        ids = [place.run_id for place in in_order(places, now_ms)][:limit]
        # What was claimed while this was read waits no more.
        runs = [run for run in await self._runs.read_runs(ids) if run.state == "SCHEDULED"]
        return Preview(runs, total, now_ms)

    async def explain_slots(self, pool: str, *, limit: int = SHOWN) -> Slots:
        """Say who holds the slots of a pool, and why what waits for one does not get it.

        Args:
            pool: whose.
            limit: how many holders at most.
        """
        found = await self.read_pool(pool)
        workers = await self._store.read_workers(found)
        now_ms = await self.now_ms()
        backlogs = await self._waiting.read_backlogs(found, now_ms)
        in_flight = await self._store.read_in_flight(found)
        waiting = [
            describe(found, queue, backlogs[queue.id], in_flight, workers, now_ms)
            for queue in found.queues
            if queue.id in backlogs
        ]
        holders = await self._waiting.pool_holders(found, limit)
        return Slots(found, in_flight, holders.runs, waiting, now_ms)

    async def read_worker(self, pool: str, name: str) -> Worker:
        """One worker of a pool."""
        workers = {worker.name: worker for worker in await self._store.read_workers(await self.read_pool(pool))}
        if name not in workers:
            hint = did_you_mean(name, workers) or f"`penstock worker ls --pool '{pool}'` lists them"
            raise NotFound(f"there is no worker '{name}' in work pool '{pool}'", hint)
        return workers[name]

    async def read_held(self, workers: Sequence[Worker]) -> list[list[Run]]:
        """The runs that each of some workers holds, in the order of the workers; of each, the first submitted first."""
        held: dict[tuple[str, str], list[Run]] = {}
        for name in sorted({worker.pool for worker in workers}):
            pool = await self._store.read_pool(name)
            if pool:
                theirs = [worker.name for worker in workers if worker.pool == name]
                runs = await self._waiting.read_held(pool, theirs)
                held.update(((name, worker), of_one) for worker, of_one in zip(theirs, runs, strict=True))
        return [held.get((worker.pool, worker.name), []) for worker in workers]

    async def drain_worker(self, pool: str, name: str, deadline_seconds: float | None = None) -> Draining:
        """Have a worker, wherever it runs, take nothing new, finish what it holds and end.

        Once this has returned nothing more is assigned to it, even if it never reads that. Said again it moves the deadline.

        Args:
            pool: whose.
            name: the worker's.
            deadline_seconds: how long its runs may go on, 0 to a day; then the pool's policy for lost workers decides what
                becomes of them. None leaves that to the worker (its ``PENSTOCK_WORKER_DRAIN_SECONDS``).

        Returns:
            The life of the worker that is meant, and how many runs it holds.

        Raises:
            NotFound: no such worker is ONLINE.
        """
        command = checked(lambda: DrainWorker(pool=pool, worker=name, deadline_seconds=deadline_seconds))
        try:
            return Draining.model_validate(await self._command(command, stream=DISPATCH))
        except NotFound as problem:
            worker = await self.read_worker(pool, name)
            if worker.status == "ONLINE":
                raise
            raise NotFound(f"worker '{name}' of work pool '{pool}' is OFFLINE", problem.hint) from problem

    async def wait_for_worker_end(self, pool: str, name: str, boot_id: str, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the caller's budget
        """Wait until a life of a worker is over; woken by the event stream, never by a timer.

        Args:
            pool: whose.
            name: the worker's.
            boot_id: its life, as :meth:`drain_worker` answered it.
            timeout: seconds; None waits for ever.

        Raises:
            TimeoutError: it still lives.
        """
        partition = partition_of_pool(pool, self._partitions)
        async with asyncio.timeout(timeout):
            while True:
                stream = EventStream(self._client, [partition], ["penstock.worker.offline", "prefect.worker.started"])
                # First the position, then the look: an end in between is seen by both rather than by neither.
                await stream.start(None)
                try:
                    async with aclosing(stream.read(follow=True)) as events:
                        if not await self._lives(pool, name, boot_id):
                            return
                        async for _, event in events:
                            mine = event.resource.get("prefect.resource.name") == name
                            if mine and not await self._lives(pool, name, boot_id):
                                return
                except CursorExpired:
                    # Overtaken by trimming: a fresh look at the state is as good as the events missed.
                    continue

    # Inside

    async def _lives(self, pool: str, name: str, boot_id: str) -> bool:
        try:
            worker = await self.read_worker(pool, name)
        except NotFound:
            return False
        return worker.status == "ONLINE" and worker.boot_id == boot_id

    @cached_property
    def _runs(self) -> RunStore:
        return RunStore(self._client, self._partitions)

    @cached_property
    def _waiting(self) -> WaitingStore:
        return WaitingStore(self._client, self._partitions, self._runs)
