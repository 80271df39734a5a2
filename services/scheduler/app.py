"""Wiring: which message goes to which handler, and the two loops: the planner and the reconciliation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.bus.requests import request
from penstock.bus.routing import Route, Subscription
from penstock.bus.service import Service
from penstock.contracts.deployments import DeploymentChanged, DeploymentDeleted
from penstock.contracts.pools import PoolDeleted, QueueDeleted
from penstock.contracts.results import Submission
from penstock.streams import DEFINITIONS, DISPATCH
from services.scheduler.handlers import Handlers
from services.scheduler.planner import Planner
from services.scheduler.store import SchedulerStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from penstock.bus.health import Health
    from penstock.contracts.runs import SubmitRuns
    from services.scheduler.settings import SchedulerSettings

SERVICE: Final = "scheduler"
SUBMIT_SECONDS: Final = 5.0
"""How long the dispatcher may take to answer; past it nobody accepts the runs, and they are submitted again."""


def subscription(handlers: Handlers) -> Subscription:
    """Say what the scheduler reads."""
    return Subscription(
        DEFINITIONS,
        SERVICE,
        [
            Route(PoolDeleted, handlers.pool_deleted),
            Route(QueueDeleted, handlers.queue_deleted),
            Route(DeploymentDeleted, handlers.deployment_deleted),
            Route(DeploymentChanged, handlers.deployment_changed),
        ],
        ignores_unknown=True,
    )


def submitter(client: Redis) -> Callable[[int, SubmitRuns], Awaitable[Submission]]:
    """Make what hands runs to the dispatcher."""

    async def submit(partition: int, command: SubmitRuns) -> Submission:
        return Submission.model_validate(await request(client, DISPATCH, partition, command, SUBMIT_SECONDS))

    return submit


def build(
    settings: SchedulerSettings, client: Redis, health: Health, clock: Callable[[], Awaitable[int]] | None = None
) -> Service:
    """Make the service.

    Args:
        settings: of the scheduler.
        client: for both directions.
        health: told of progress.
        clock: see :class:`services.scheduler.planner.Planner`.
    """
    store = SchedulerStore(client)
    planner = Planner(store, settings, health, submitter(client), clock)
    return Service(
        name=SERVICE,
        settings=settings,
        client=client,
        health=health,
        subscriptions=[subscription(Handlers(store, planner))],
        loops={"planner": planner.run, "reconcile": planner.reconcile},
    )
