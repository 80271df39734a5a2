"""One handler for each command: check what needs no state, call the store once, log the answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from penstock.contracts.queues import CreateQueue
from penstock.errors import Overtaken, Refused
from services.pool_registry import checks, rules
from services.pool_registry.rules import Place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock.bus.dead_letters import DeadLetter
    from penstock.bus.routing import Delivery
    from penstock.contracts.base import Command
    from penstock.contracts.deployments import (
        CreateDeployment,
        CreateSchedule,
        DeleteDeployment,
        DeleteSchedule,
        PauseDeployment,
        ResumeDeployment,
        ScheduleSpec,
        UpdateDeployment,
        UpdateSchedule,
    )
    from penstock.contracts.pools import CreatePool, DeletePool, PausePool, ReadPool, ResumePool, UpdatePool
    from penstock.contracts.queues import DeleteQueue, PauseQueue, ResumeQueue, UpdateQueue
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

    async def create_pool(self, deliveries: list[Delivery[CreatePool]]) -> list[DeadLetter]:
        """Create pools; ``overwrite`` gives an existing one every field of the command, and pauses but never resumes it.

        Without a template, or with ``{}``, a pool gets the default one of its type.
        """

        async def create(place: Place, command: CreatePool) -> Reply:
            rules.refuse_reserved(command.pool)
            rules.check_template(command.base_job_template)
            template = rules.starting_template(command.worker_type, command.base_job_template)
            command = command.model_copy(update={"base_job_template": template})
            return await self._store.create_pool(place, command)

        return await self._each(deliveries, create)

    async def update_pool(self, deliveries: list[Delivery[UpdatePool]]) -> list[DeadLetter]:
        """Change the fields that were given."""

        async def update(place: Place, command: UpdatePool) -> Reply:
            rules.refuse_reserved(command.pool, command.changes.model_fields_set)
            rules.check_template(command.changes.base_job_template)
            return await self._store.update_pool(place, command)

        return await self._each(deliveries, update)

    async def pause_pool(self, deliveries: list[Delivery[PausePool]]) -> list[DeadLetter]:
        """Pause pools."""
        return await self._each(deliveries, self._store.pause_pool)

    async def resume_pool(self, deliveries: list[Delivery[ResumePool]]) -> list[DeadLetter]:
        """Resume pools."""
        return await self._each(deliveries, self._store.resume_pool)

    async def delete_pool(self, deliveries: list[Delivery[DeletePool]]) -> list[DeadLetter]:
        """Delete pools with their queues."""

        async def delete(place: Place, command: DeletePool) -> Reply:
            rules.refuse_reserved(command.pool)
            return await self._store.delete_pool(place, command)

        return await self._each(deliveries, delete)

    async def read_pool(self, deliveries: list[Delivery[ReadPool]]) -> list[DeadLetter]:
        """Answer what pools are."""
        return await self._each(deliveries, self._store.read_pool)

    async def create_queue(self, deliveries: list[Delivery[CreateQueue]]) -> list[DeadLetter]:
        """Create queues."""
        return await self._each(deliveries, self._store.create_queue)

    async def update_queue(self, deliveries: list[Delivery[UpdateQueue]]) -> list[DeadLetter]:
        """Change the fields that were given."""
        return await self._each(deliveries, self._store.update_queue)

    async def pause_queue(self, deliveries: list[Delivery[PauseQueue]]) -> list[DeadLetter]:
        """Pause queues."""
        return await self._each(deliveries, self._store.pause_queue)

    async def resume_queue(self, deliveries: list[Delivery[ResumeQueue]]) -> list[DeadLetter]:
        """Resume queues."""
        return await self._each(deliveries, self._store.resume_queue)

    async def delete_queue(self, deliveries: list[Delivery[DeleteQueue]]) -> list[DeadLetter]:
        """Delete queues."""
        return await self._each(deliveries, self._store.delete_queue)

    async def create_deployment(self, deliveries: list[Delivery[CreateDeployment]]) -> list[DeadLetter]:
        """Create deployments, each with the queue it names; ``overwrite`` gives an existing one every field of the command."""

        async def create(place: Place, command: CreateDeployment) -> Reply:
            known = await self._store.know(place, command, command.deployment, command.pool)
            if not known.settled and (known.deployment is None or command.overwrite):
                given, kept = command.schedules, (known.deployment or {}).get("schedules", [])
                checks.check_parameters(command.parameter_schema, command.parameters, kept if given is None else given)
                checks.check_job_variables(known.template, command.job_variables)
                await self._check_calendar(given or [], known)
                checks.check_size(given or [])
                await self._have_queue(place, command, known, command.pool, command.queue)
            return await self._store.create_deployment(place, command)

        return await self._each(deliveries, create)

    async def update_deployment(self, deliveries: list[Delivery[UpdateDeployment]]) -> list[DeadLetter]:
        """Change the fields that were given; what is executed takes the place of what was."""

        async def update(place: Place, command: UpdateDeployment) -> Reply:
            changes = command.changes
            given = {name: getattr(changes, name) for name in changes.model_fields_set}
            changes = changes.model_copy(update=rules.completed_work(given))
            known = await self._store.know(place, command, command.deployment, given.get("pool"))
            if known.deployment and not known.settled:
                after = {**known.deployment, **given}
                if not {"parameters", "parameter_schema"}.isdisjoint(given):
                    checks.check_parameters(after["parameter_schema"], after["parameters"], after["schedules"])
                if not {"job_variables", "pool"}.isdisjoint(given):
                    checks.check_job_variables(known.template, after["job_variables"])
                if not {"queue", "pool"}.isdisjoint(given):
                    await self._have_queue(place, command, known, after["pool"], after["queue"])
            return await self._store.update_deployment(place, command.model_copy(update={"changes": changes}))

        return await self._each(deliveries, update)

    async def pause_deployment(self, deliveries: list[Delivery[PauseDeployment]]) -> list[DeadLetter]:
        """Stop the schedules of deployments."""
        return await self._each(deliveries, self._store.pause_deployment)

    async def resume_deployment(self, deliveries: list[Delivery[ResumeDeployment]]) -> list[DeadLetter]:
        """Let the schedules of deployments go on."""
        return await self._each(deliveries, self._store.resume_deployment)

    async def delete_deployment(self, deliveries: list[Delivery[DeleteDeployment]]) -> list[DeadLetter]:
        """Delete deployments with their schedules."""
        return await self._each(deliveries, self._store.delete_deployment)

    async def create_schedule(self, deliveries: list[Delivery[CreateSchedule]]) -> list[DeadLetter]:
        """Add schedules to deployments."""

        async def create(place: Place, command: CreateSchedule) -> Reply:
            await self._check_schedule(place, command, command.deployment, command.schedule)
            return await self._store.create_schedule(place, command)

        return await self._each(deliveries, create)

    async def update_schedule(self, deliveries: list[Delivery[UpdateSchedule]]) -> list[DeadLetter]:
        """Replace schedules, or switch them on and off."""

        async def update(place: Place, command: UpdateSchedule) -> Reply:
            if command.schedule is not None:
                await self._check_schedule(place, command, command.deployment, command.schedule, command.schedule_id)
            return await self._store.update_schedule(place, command)

        return await self._each(deliveries, update)

    async def delete_schedule(self, deliveries: list[Delivery[DeleteSchedule]]) -> list[DeadLetter]:
        """Delete schedules of deployments."""
        return await self._each(deliveries, self._store.delete_schedule)

    async def _check_schedule(
        self, place: Place, command: Command, deployment: str, schedule: ScheduleSpec, replaced: str = ""
    ) -> None:
        """Check a new schedule, or one that takes the place of the one of that id or slug."""
        known = await self._store.know(place, command, deployment)
        if known.deployment and not known.settled:
            fields = known.deployment
            checks.check_parameters(fields["parameter_schema"], fields["parameters"], [schedule])
            await self._check_calendar([schedule], known)
            others = [one for one in fields["schedules"] if not replaced or replaced not in (one.id, one.slug)]
            checks.check_size([*others, schedule])

    async def _check_calendar(self, schedules: list[ScheduleSpec], known: checks.Known) -> None:
        """Look for first fire times beside the loop: a hundred contrived rules take minutes, and the service must stay alive."""
        if schedules:
            await asyncio.to_thread(checks.check_schedules, schedules, known.now)

    async def _have_queue(self, place: Place, command: Command, known: checks.Known, pool: str, queue: str) -> None:
        """Create the queue of a deployment if it is missing, and if its pool is there; too late is too late for both."""
        if known.template is not None:
            wanted = CreateQueue(pool=pool, queue=queue, if_missing=True, deadline=command.deadline)
            error = (await self._store.create_queue(place, wanted)).error
            if error and error.code == Overtaken.code:
                raise Overtaken(error.message, error.hint)

    async def _each(
        self, deliveries: list[Delivery[Any]], execute: Callable[[Place, Any], Awaitable[Reply]]
    ) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        for delivery in deliveries:
            command: Command = delivery.message
            if not command.id:
                # Whoever sent it waits for nothing, but when it comes again it must be known all the same.
                command = command.model_copy(update={"id": f"entry {delivery.entry.id}"})
            place = Place(delivery.partition, delivery.entry.id, delivery.entry.again)
            try:
                reply = await execute(place, command)
            except Refused as refusal:
                reply = await self._store.refuse(place, command, refusal)
            about = command.model_dump(include={"type", "pool", "queue", "deployment"})
            if not reply.error:
                log.info("done", command=about)
                continue
            log.info("refused", command=about, code=reply.error.code, reason=reply.error.message)
            if reply.error.code == Overtaken.code and not delivery.message.id:
                # Nobody hears that it has to be sent again.
                letters.append(delivery.dead(reply.error.message))
        return letters
