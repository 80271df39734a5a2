"""Ask why a run is where it is."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from penstock.client.explanation import (
    SHOWN_HOLDERS,
    Explanation,
    deployment_obstacle,
    obstacle,
    of_deleted_queue,
    of_other,
    of_waiting,
)
from penstock.client.flow_runs import FlowRuns
from penstock.client.waiting import Place, all_reasons, taking
from penstock.client.waiting_store import Holders
from penstock.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.client.explanation import Obstacle
    from penstock.client.records import Worker
    from penstock.client.waiting import Reason
    from penstock.contracts.pools import Pool, Queue
    from penstock.contracts.runs import Run


class Explaining(FlowRuns):
    """The part of :class:`~penstock.client.sdk.Penstock` that says why a run is where it is."""

    async def explain_run(self, run_id: str) -> Explanation:
        """Say why a run is not running: the first thing that stops it, who holds what it waits for, and what one may do.

        For a run that does not wait: who has it since when, or how it ended.
        """
        run = await self.read_run(run_id)
        if run.state != "SCHEDULED":
            return of_other(run)
        try:
            pool = await self.read_pool(run.pool)
            queue = next(one for one in pool.queues if one.name == run.queue)
        except (NotFound, StopIteration):
            return of_deleted_queue(run)
        now_ms = await self.now_ms()
        due_ms = round(datetime.fromisoformat(run.scheduled_time).timestamp() * 1000)
        workers = await self._store.read_workers(pool)
        in_flight = await self._store.read_in_flight(pool)
        reasons = all_reasons(pool, queue, in_flight, workers, due_ms=due_ms, now_ms=now_ms)
        obstacles = [obstacle(run, reason, await self._who_holds(pool, queue, workers, reason)) for reason in reasons]
        obstacles += await self._deployment(run, pool)
        position = await self._waiting.position(pool, Place(queue.priority, due_ms, run.id), now_ms)
        return of_waiting(run, obstacles, position)

    async def _who_holds(self, pool: Pool, queue: Queue, workers: Sequence[Worker], reason: Reason) -> Holders | None:
        match reason.blocker:
            case "pool_limit":
                return await self._waiting.pool_holders(pool, SHOWN_HOLDERS)
            case "queue_limit":
                return await self._waiting.queue_holders(pool, queue, SHOWN_HOLDERS)
            case "workers_full":
                full = [worker.name for worker in taking(queue.name, workers)]
                held = [run for runs in await self._waiting.read_held(pool, full) for run in runs]
                return Holders(len(held), sorted(held, key=lambda run: run.claimed_ms or 0))
            case _:
                return None

    async def _deployment(self, run: Run, pool: Pool) -> list[Obstacle]:
        if run.deployment is None or run.deployment_id is None:
            return []
        try:
            deployment = await self.read_deployment(run.deployment)
        except NotFound:
            return []
        holders = await self._waiting.deployment_holders(pool, run.deployment_id, SHOWN_HOLDERS)
        found = deployment_obstacle(deployment, holders)
        return [found] if found else []
