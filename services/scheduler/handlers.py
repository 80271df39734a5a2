"""One handler per message: bring the plans in line, then let the planner work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from penstock.bus.routing import Delivery
    from penstock.contracts.deployments import DeploymentChanged, DeploymentDeleted
    from penstock.contracts.pools import PoolDeleted, QueueDeleted
    from services.scheduler.planner import Planner
    from services.scheduler.store import SchedulerStore

log = structlog.get_logger("scheduler")


class Handlers:
    """Handlers of ``definitions``.

    Args:
        store: the door to state.
        planner: woken when there is something to plan.
    """

    def __init__(self, store: SchedulerStore, planner: Planner) -> None:
        self._store = store
        self._planner = planner

    async def deployment_changed(self, batch: list[Delivery[DeploymentChanged]]) -> None:
        """Plan the schedules of new and changed deployments at once."""
        partition = batch[0].partition
        ids = dict.fromkeys(delivery.message.deployment_id for delivery in batch)
        idents = await self._store.defined_idents(partition, ids)
        begun = await self._store.follow_schedules(partition, await self._planner.now_ms(), idents)
        self._planner.wake()
        log.info("deployments changed", deployments=len(ids), plans_begun=begun)

    async def deployment_deleted(self, batch: list[Delivery[DeploymentDeleted]]) -> None:
        """Forget the plans of deployments that are gone."""
        partition = batch[0].partition
        idents = await self._store.planned_idents(partition, {delivery.message.deployment_id for delivery in batch})
        await self._store.follow_schedules(partition, await self._planner.now_ms(), idents)
        log.info("deployments deleted", deployments=len(batch), plans=len(idents))

    async def pool_deleted(self, batch: list[Delivery[PoolDeleted]]) -> None:
        """Begin again with the schedules of a deleted pool: their future runs went with it, and it may come back."""
        for delivery in batch:
            restarted = await self._planner.postpone_pool(delivery.partition, delivery.message.pool)
            log.info("pool deleted", pool=delivery.message.pool, plans=restarted)

    async def queue_deleted(self, batch: list[Delivery[QueueDeleted]]) -> None:
        """Make the future runs anew that went with a queue: a schedule goes on, and its queue is created when needed."""
        for delivery in batch:
            message = delivery.message
            restarted = await self._planner.restart_queue(delivery.partition, message.pool, message.queue.name)
            if restarted:
                log.info("queue deleted", pool=message.pool, queue=message.queue.name, plans=restarted)
