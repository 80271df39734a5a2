"""One handler for each command: check what needs no state, call the store once, log the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from penstock.errors import Refused
from services.pool_registry import rules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock.bus.delivery import Delivery
    from penstock.contracts.base import Command
    from penstock.contracts.pools import CreatePool, DeletePool, PausePool, ReadPool, ResumePool, UpdatePool
    from penstock.contracts.queues import CreateQueue, DeleteQueue, PauseQueue, ResumeQueue, UpdateQueue
    from penstock.contracts.replies import Reply
    from services.pool_registry.store import RegistryStore

log = structlog.get_logger("penstock.pool_registry")


class Handlers:
    """The registry's answers to commands.

    Args:
        store: where definitions live.
    """

    def __init__(self, store: RegistryStore) -> None:
        self._store = store

    async def create_pool(self, deliveries: list[Delivery[CreatePool]]) -> None:
        """Create pools; ``overwrite`` gives an existing one every field of the command, and pauses but never resumes it.

        Without a template, or with ``{}``, a pool gets the default one of its type.
        """

        async def create(partition: int, command: CreatePool) -> Reply:
            rules.refuse_reserved(command.pool)
            rules.check_template(command.base_job_template)
            template = rules.starting_template(command.worker_type, command.base_job_template)
            command = command.model_copy(update={"base_job_template": template})
            return await self._store.create_pool(partition, command)

        await self._each(deliveries, create)

    async def update_pool(self, deliveries: list[Delivery[UpdatePool]]) -> None:
        """Change the fields that were given."""

        async def update(partition: int, command: UpdatePool) -> Reply:
            rules.refuse_reserved(command.pool, command.changes.model_fields_set)
            rules.check_template(command.changes.base_job_template)
            return await self._store.update_pool(partition, command)

        await self._each(deliveries, update)

    async def pause_pool(self, deliveries: list[Delivery[PausePool]]) -> None:
        """Pause pools."""
        await self._each(deliveries, self._store.pause_pool)

    async def resume_pool(self, deliveries: list[Delivery[ResumePool]]) -> None:
        """Resume pools."""
        await self._each(deliveries, self._store.resume_pool)

    async def delete_pool(self, deliveries: list[Delivery[DeletePool]]) -> None:
        """Delete pools with their queues."""

        async def delete(partition: int, command: DeletePool) -> Reply:
            rules.refuse_reserved(command.pool)
            return await self._store.delete_pool(partition, command)

        await self._each(deliveries, delete)

    async def read_pool(self, deliveries: list[Delivery[ReadPool]]) -> None:
        """Answer what pools are."""
        await self._each(deliveries, self._store.read_pool)

    async def create_queue(self, deliveries: list[Delivery[CreateQueue]]) -> None:
        """Create queues."""
        await self._each(deliveries, self._store.create_queue)

    async def update_queue(self, deliveries: list[Delivery[UpdateQueue]]) -> None:
        """Change the fields that were given."""
        await self._each(deliveries, self._store.update_queue)

    async def pause_queue(self, deliveries: list[Delivery[PauseQueue]]) -> None:
        """Pause queues."""
        await self._each(deliveries, self._store.pause_queue)

    async def resume_queue(self, deliveries: list[Delivery[ResumeQueue]]) -> None:
        """Resume queues."""
        await self._each(deliveries, self._store.resume_queue)

    async def delete_queue(self, deliveries: list[Delivery[DeleteQueue]]) -> None:
        """Delete queues."""
        await self._each(deliveries, self._store.delete_queue)

    async def _each(self, deliveries: list[Delivery[Any]], execute: Callable[[int, Any], Awaitable[Reply]]) -> None:
        for delivery in deliveries:
            command: Command = delivery.message
            try:
                reply = await execute(delivery.partition, command)
            except Refused as refusal:
                reply = await self._store.refuse(delivery.partition, command, refusal)
            about = command.model_dump(include={"type", "pool", "queue"})
            if reply.error:
                log.info("refused", command=about, code=reply.error.code, reason=reply.error.message)
            else:
                log.info("done", command=about)
