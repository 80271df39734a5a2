"""Wiring: which message goes to which handler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.bus.requests import request
from penstock.bus.routing import Route, Subscription
from penstock.bus.service import Service
from penstock.contracts.deployments import DeploymentChanged, DeploymentDeleted
from penstock.contracts.pools import PoolChanged, PoolDeleted, QueueDeleted
from penstock.contracts.runs import CancelRuns, ClaimRuns, DeleteRuns, ReportRuns, SubmitRuns
from penstock.contracts.workers import AnnounceWorker, DrainWorker, LoseWorker
from penstock.streams import COMMANDS, DEFINITIONS, DISPATCH
from services.dispatcher.audits import Audits
from services.dispatcher.due import DueClock
from services.dispatcher.handlers import DispatchHandlers
from services.dispatcher.store import DispatchStore

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.bus.health import Health
    from penstock.contracts.queues import CreateQueue
    from services.dispatcher.settings import DispatcherSettings

NAME = "dispatcher"
CREATE_QUEUE_SECONDS = 2.0
"""How long a submission waits for a queue it names first; past it the submission stays pending and is tried again."""


def build(settings: DispatcherSettings, client: Redis, health: Health) -> Service:
    """Put the dispatcher together."""
    store = DispatchStore(client, settings)
    clock = DueClock(store, settings.partitions, health)

    async def create_queue(partition: int, command: CreateQueue) -> Any:
        return await request(client, COMMANDS, partition, command, CREATE_QUEUE_SECONDS)

    handlers = DispatchHandlers(client, store, clock, create_queue)
    return Service(
        name=NAME,
        settings=settings,
        client=client,
        health=health,
        subscriptions=[
            Subscription(
                DISPATCH,
                NAME,
                [
                    # Reports first: they free the slots that submissions of the same batch may take.
                    Route(LoseWorker, handlers.lose_worker),
                    Route(AnnounceWorker, handlers.announce_worker),
                    # Before anything that hands out.
                    Route(DrainWorker, handlers.drain_worker),
                    Route(ReportRuns, handlers.report_runs, array="reports"),
                    Route(SubmitRuns, handlers.submit_runs, array="runs"),
                    # After submissions: what was sent before a cancellation is there to be cancelled.
                    Route(CancelRuns, handlers.cancel_runs),
                    Route(DeleteRuns, handlers.delete_runs),
                    Route(ClaimRuns, handlers.claim_runs),
                ],
                trims=True,
            ),
            Subscription(
                DEFINITIONS,
                NAME,
                [
                    Route(PoolChanged, handlers.pool_changed),
                    Route(PoolDeleted, handlers.pool_deleted),
                    Route(QueueDeleted, handlers.queue_deleted),
                    Route(DeploymentChanged, handlers.deployment_changed),
                    Route(DeploymentDeleted, handlers.deployment_deleted),
                ],
            ),
        ],
        loops={"due clock": clock.run, "audits": Audits(client, store, settings.partitions, health).run},
    )
