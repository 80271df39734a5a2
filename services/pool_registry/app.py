"""Wiring: the stream ``commands``, one route for each command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from penstock.bus.routing import Route, Subscription
from penstock.bus.service import Service
from penstock.contracts.deployments import (
    CreateDeployment,
    CreateSchedule,
    DeleteDeployment,
    DeleteSchedule,
    PauseDeployment,
    ResumeDeployment,
    UpdateDeployment,
    UpdateSchedule,
)
from penstock.contracts.pools import CreatePool, DeletePool, PausePool, ReadPool, ResumePool, UpdatePool
from penstock.contracts.queues import CreateQueue, DeleteQueue, PauseQueue, ResumeQueue, UpdateQueue
from penstock.streams import COMMANDS
from services.pool_registry.handlers import Handlers
from services.pool_registry.store import RegistryStore

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.bus.health import Health
    from services.pool_registry.settings import PoolRegistrySettings

SERVICE: Final = "pool_registry"


def subscription(handlers: Handlers) -> Subscription:
    """Say what the registry reads: commands, one after the other as they were sent."""
    return Subscription(
        stream=COMMANDS,
        group=SERVICE,
        routes=[
            Route(CreatePool, handlers.create_pool),
            Route(UpdatePool, handlers.update_pool),
            Route(PausePool, handlers.pause_pool),
            Route(ResumePool, handlers.resume_pool),
            Route(DeletePool, handlers.delete_pool),
            Route(ReadPool, handlers.read_pool),
            Route(CreateQueue, handlers.create_queue),
            Route(UpdateQueue, handlers.update_queue),
            Route(PauseQueue, handlers.pause_queue),
            Route(ResumeQueue, handlers.resume_queue),
            Route(DeleteQueue, handlers.delete_queue),
            Route(CreateDeployment, handlers.create_deployment),
            Route(UpdateDeployment, handlers.update_deployment),
            Route(PauseDeployment, handlers.pause_deployment),
            Route(ResumeDeployment, handlers.resume_deployment),
            Route(DeleteDeployment, handlers.delete_deployment),
            Route(CreateSchedule, handlers.create_schedule),
            Route(UpdateSchedule, handlers.update_schedule),
            Route(DeleteSchedule, handlers.delete_schedule),
        ],
        trims=True,
        ordered=True,
    )


def build(settings: PoolRegistrySettings, client: Redis, health: Health) -> Service:
    """Make the service."""
    handlers = Handlers(RegistryStore(client))
    return Service(SERVICE, settings, client, health, [subscription(handlers)])
