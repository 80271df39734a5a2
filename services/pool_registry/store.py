"""The registry's only door to Redis. A method that changes something is one script; its answer is on its way to the caller then."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from penstock import keys, lua
from penstock.bus.connection import redis_now_ms
from penstock.bus.delivery import answer
from penstock.contracts.deployments import DeploymentChanges, Schedule, flow_id
from penstock.contracts.pools import Pool, PoolChanges, Queue
from penstock.contracts.queues import DEFAULT_QUEUE, DEFAULT_QUEUE_DESCRIPTION
from penstock.contracts.replies import Reply, ReplyError
from penstock.contracts.runs import new_run_id
from penstock.errors import Expired, NotFound
from services.pool_registry import checks, rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

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
    from penstock.contracts.queues import CreateQueue, DeleteQueue, PauseQueue, ResumeQueue, UpdateQueue
    from penstock.errors import Refused

FEW: Final = 10
"""So many names are a better hint than a command that lists them."""
PACKAGE: Final = "services.pool_registry"
CREATE_POOL: Final = lua.load(PACKAGE, "create_pool")
UPDATE_POOL: Final = lua.load(PACKAGE, "update_pool")
PAUSE_POOL: Final = lua.load(PACKAGE, "pause_pool")
RESUME_POOL: Final = lua.load(PACKAGE, "resume_pool")
DELETE_POOL: Final = lua.load(PACKAGE, "delete_pool")
CREATE_QUEUE: Final = lua.load(PACKAGE, "create_queue")
UPDATE_QUEUE: Final = lua.load(PACKAGE, "update_queue")
PAUSE_QUEUE: Final = lua.load(PACKAGE, "pause_queue")
RESUME_QUEUE: Final = lua.load(PACKAGE, "resume_queue")
DELETE_QUEUE: Final = lua.load(PACKAGE, "delete_queue")
CREATE_DEPLOYMENT: Final = lua.load(PACKAGE, "create_deployment")
UPDATE_DEPLOYMENT: Final = lua.load(PACKAGE, "update_deployment")
PAUSE_DEPLOYMENT: Final = lua.load(PACKAGE, "pause_deployment")
RESUME_DEPLOYMENT: Final = lua.load(PACKAGE, "resume_deployment")
DELETE_DEPLOYMENT: Final = lua.load(PACKAGE, "delete_deployment")
CREATE_SCHEDULE: Final = lua.load(PACKAGE, "create_schedule")
UPDATE_SCHEDULE: Final = lua.load(PACKAGE, "update_schedule")
DELETE_SCHEDULE: Final = lua.load(PACKAGE, "delete_schedule")


class RegistryStore:
    """Definitions of pools, queues and deployments.

    Args:
        client: shared by all methods.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def create_pool(self, place: rules.Place, command: CreatePool) -> Reply:
        """Create a pool and its default queue, or answer or overwrite the one there is."""
        return await self._run(
            CREATE_POOL,
            place,
            command,
            rest=rules.texts(command, PoolChanges.model_fields),
            pool=command.pool,
            worker_type=rules.json_text(command.worker_type),
            is_paused=rules.json_text(command.is_paused),
            if_missing=command.if_missing,
            overwrite=command.overwrite,
            pool_id=str(uuid.uuid4()),
            queue_id=str(uuid.uuid4()),
            queue_name=DEFAULT_QUEUE,
            queue_description=rules.json_text(DEFAULT_QUEUE_DESCRIPTION),
        )

    async def update_pool(self, place: rules.Place, command: UpdatePool) -> Reply:
        """Set the fields that were given."""
        rest = rules.texts(command.changes, rules.given(command.changes))
        return await self._run(UPDATE_POOL, place, command, rest=rest, pool=command.pool)

    async def pause_pool(self, place: rules.Place, command: PausePool) -> Reply:
        """Hand out nothing more from a pool."""
        return await self._run(PAUSE_POOL, place, command, pool=command.pool)

    async def resume_pool(self, place: rules.Place, command: ResumePool) -> Reply:
        """Hand out again."""
        return await self._run(RESUME_POOL, place, command, pool=command.pool)

    async def delete_pool(self, place: rules.Place, command: DeletePool) -> Reply:
        """Delete a pool and its queues."""
        return await self._run(DELETE_POOL, place, command, pool=command.pool)

    async def create_queue(self, place: rules.Place, command: CreateQueue) -> Reply:
        """Create a queue, or answer the one there is."""
        return await self._run(
            CREATE_QUEUE,
            place,
            command,
            pool=command.pool,
            queue=command.queue,
            priority=command.priority,
            description=rules.json_text(command.description),
            concurrency_limit=rules.json_text(command.concurrency_limit),
            is_paused=rules.json_text(command.is_paused),
            if_missing=command.if_missing,
            queue_id=str(uuid.uuid4()),
        )

    async def update_queue(self, place: rules.Place, command: UpdateQueue) -> Reply:
        """Set the fields that were given."""
        changes, given = command.changes, rules.given(command.changes)
        return await self._run(
            UPDATE_QUEUE,
            place,
            command,
            rest=rules.texts(changes, given),
            pool=command.pool,
            queue=command.queue,
            new_name=changes.name if "name" in given else "",
            priority=changes.priority if "priority" in given else None,
        )

    async def pause_queue(self, place: rules.Place, command: PauseQueue) -> Reply:
        """Hand out nothing more from a queue."""
        return await self._run(PAUSE_QUEUE, place, command, pool=command.pool, queue=command.queue)

    async def resume_queue(self, place: rules.Place, command: ResumeQueue) -> Reply:
        """Hand out again."""
        return await self._run(RESUME_QUEUE, place, command, pool=command.pool, queue=command.queue)

    async def delete_queue(self, place: rules.Place, command: DeleteQueue) -> Reply:
        """Delete a queue."""
        return await self._run(DELETE_QUEUE, place, command, pool=command.pool, queue=command.queue)

    async def create_deployment(self, place: rules.Place, command: CreateDeployment) -> Reply:
        """Create a deployment with its schedules, or overwrite the one there is."""
        flow, _, label = command.deployment.partition("/")
        schedules = None if command.schedules is None else await self._rows(place.partition, command.schedules)
        return await self._run(
            CREATE_DEPLOYMENT,
            place,
            command,
            rest=rules.texts(command, DeploymentChanges.model_fields),
            deployment=command.deployment,
            flow=rules.json_text(flow),
            label=rules.json_text(label),
            flow_id=rules.json_text(flow_id(flow)),
            deployment_id=command.deployment_id or str(uuid.uuid4()),
            pool=command.pool,
            paused=rules.json_text(command.paused),
            schedules=rules.json_text(schedules),
            overwrite=command.overwrite,
        )

    async def update_deployment(self, place: rules.Place, command: UpdateDeployment) -> Reply:
        """Set the fields that were given."""
        changes, given = command.changes, rules.given(command.changes)
        return await self._run(
            UPDATE_DEPLOYMENT,
            place,
            command,
            rest=rules.texts(changes, given),
            deployment=command.deployment,
            pool=changes.pool if "pool" in given else "",
        )

    async def pause_deployment(self, place: rules.Place, command: PauseDeployment) -> Reply:
        """Stop the schedules of a deployment."""
        return await self._run(PAUSE_DEPLOYMENT, place, command, deployment=command.deployment)

    async def resume_deployment(self, place: rules.Place, command: ResumeDeployment) -> Reply:
        """Let its schedules go on."""
        return await self._run(RESUME_DEPLOYMENT, place, command, deployment=command.deployment)

    async def delete_deployment(self, place: rules.Place, command: DeleteDeployment) -> Reply:
        """Delete a deployment and its schedules."""
        moved_to = rules.json_text(command.moved_to)
        return await self._run(DELETE_DEPLOYMENT, place, command, deployment=command.deployment, moved_to=moved_to)

    async def create_schedule(self, place: rules.Place, command: CreateSchedule) -> Reply:
        """Add a schedule to a deployment."""
        (row,) = await self._rows(place.partition, [command.schedule])
        return await self._run(
            CREATE_SCHEDULE,
            place,
            command,
            deployment=command.deployment,
            schedule=rules.json_text(row),
            slug=command.schedule.slug,
        )

    async def update_schedule(self, place: rules.Place, command: UpdateSchedule) -> Reply:
        """Replace a schedule, or switch it on and off."""
        wanted = command.schedule
        if wanted is not None and command.active is not None:
            wanted = wanted.model_copy(update={"active": command.active})
        return await self._run(
            UPDATE_SCHEDULE,
            place,
            command,
            deployment=command.deployment,
            schedule_id=command.schedule_id,
            schedule=rules.json_text((await self._rows(place.partition, [wanted]))[0]) if wanted else "",
            slug=wanted.slug if wanted else "",
            active=rules.json_text(command.active),
        )

    async def delete_schedule(self, place: rules.Place, command: DeleteSchedule) -> Reply:
        """Delete a schedule of a deployment."""
        ident = command.schedule_id
        return await self._run(DELETE_SCHEDULE, place, command, deployment=command.deployment, schedule_id=ident)

    async def know(
        self, place: rules.Place, command: Command, deployment: str, pool: str | None = None
    ) -> checks.Known:
        """Read what is needed to check a command about a deployment.

        Args:
            place: of the command.
            command: may have been executed before.
            deployment: its name.
            pool: the one it is to be in; None means the one it is in.
        """
        now_ms = await redis_now_ms(self._client)
        partition = place.partition
        ident: Any = await self._client.hget(keys.key(partition, "deployments"), deployment)
        settled = command.id and await self._client.exists(keys.key(partition, "answer", command.id))
        newest: Any = await self._client.get(keys.key(partition, "last_applied", f"deployment/{deployment}"))
        if place.again and newest:
            settled = settled or rules.is_overtaken(place.entry, newest.decode())
        fields = await self._find_deployment(partition, ident.decode()) if ident else None
        name = pool or (fields and fields["pool"])
        found = await self._find_pool(partition, name) if name else None
        template = found.base_job_template if found else None
        return checks.Known(bool(settled), datetime.fromtimestamp(now_ms // 1000, UTC), fields, template)

    async def _find_deployment(self, partition: int, ident: str) -> dict[str, Any] | None:
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.key(partition, "deployment", ident))
            pipe.hvals(keys.key(partition, "schedules", ident))
            fields, schedules = await pipe.execute()
        if not fields:
            return None
        return {**_record(fields), "schedules": [Schedule.model_validate_json(text) for text in schedules]}

    async def _rows(self, partition: int, schedules: Iterable[ScheduleSpec]) -> list[rules.ScheduleRow]:
        """Spell schedules as scripts take them, with ids in their order."""
        now_ms = await redis_now_ms(self._client)
        now = datetime.fromtimestamp(now_ms / 1000, UTC)
        return [rules.schedule_row(schedule, new_run_id(partition, now_ms), now) for schedule in schedules]

    async def read_pool(self, place: rules.Place, command: ReadPool) -> Reply:
        """Answer a pool with its queues by priority.

        Raises:
            NotFound: there is no such pool.
            Expired: the deadline has passed.
        """
        partition = place.partition
        if command.deadline is not None and await redis_now_ms(self._client) > command.deadline:
            raise Expired("the deadline had passed before the command was read", "send it again with a later deadline")
        pool = await self._find_pool(partition, command.pool)
        if pool is None:
            raise NotFound(f"there is no pool '{command.pool}'", await self._names_hint(partition))
        reply = Reply(id=command.id, ok=True, result=pool.model_dump(mode="json"))
        await answer(self._client, partition, reply)
        return reply

    async def refuse(self, place: rules.Place, command: Command, refusal: Refused) -> Reply:
        """Answer a command that breaks a rule which needs no state."""
        error = ReplyError(code=refusal.code, message=refusal.message, hint=refusal.hint)
        reply = Reply(id=command.id, ok=False, error=error)
        await answer(self._client, place.partition, reply)
        return reply

    async def _run(self, script: lua.Script, place: rules.Place, command: Command, **arguments: Any) -> Reply:
        answered = await script(
            self._client,
            place.partition,
            command_id=command.id,
            deadline=command.deadline,
            entry=place.entry,
            again=place.again,
            **arguments,
        )
        return Reply.model_validate_json(answered)

    async def _names_hint(self, partition: int) -> str:
        """Say which pools there are, as the scripts do in definitions.lua."""
        name = keys.key(partition, "pools")
        if not 0 < await self._client.hlen(name) <= FEW:
            return "`penstock work-pool ls` lists what exists"
        names: Any = await self._client.hkeys(name)
        return f"there is: {', '.join(sorted(found.decode() for found in names))}"

    async def _find_pool(self, partition: int, name: str) -> Pool | None:
        pool_id: Any = await self._client.hget(keys.key(partition, "pools"), name)
        if pool_id is None:
            return None
        ident = pool_id.decode()
        # A queue that is deleted between the two transactions is left out.
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.key(partition, "pool", ident))
            pipe.zrange(keys.key(partition, "pool_queues", ident), 0, -1)
            pipe.scard(keys.key(partition, "pool_online", ident))
            pipe.scard(keys.key(partition, "pool_online_any", ident))
            fields, queue_ids, online, online_any = await pipe.execute()
        if not fields:
            return None
        async with self._client.pipeline(transaction=True) as pipe:
            for queue_id in queue_ids:
                pipe.hgetall(keys.key(partition, "queue", queue_id.decode()))
                pipe.scard(keys.key(partition, "queue_online", queue_id.decode()))
            found = await pipe.execute()
        record = _record(fields)
        status = rules.pool_status(is_paused=record["is_paused"], online=online)
        queues = [
            _queue(queue_id.decode(), name, hash_, online_any, named)
            for queue_id, hash_, named in zip(queue_ids, found[::2], found[1::2], strict=True)
            if hash_
        ]
        return Pool(**record, id=ident, status=status, queues=queues)


def _record(fields: dict[bytes, bytes]) -> dict[str, Any]:
    # Not orjson: it would turn a whole number of more than 64 bits into a float.
    return {name.decode(): json.loads(text) for name, text in fields.items() if name != b"pool_id"}


def _queue(ident: str, pool: str, fields: dict[bytes, bytes], online_any: int, online_named: int) -> Queue:
    record = _record(fields)
    status = rules.queue_status(is_paused=record["is_paused"], online_any=online_any, online_named=online_named)
    return Queue(**record, id=ident, pool=pool, status=status)
