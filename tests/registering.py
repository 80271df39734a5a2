"""The pool registry for tests: commands in, replies, events and definitions out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock import keys
from penstock.contracts.deployments import CreateDeployment, CreateSchedule, ScheduleSpec, UpdateDeployment
from penstock.contracts.events import deployment_identity, event_id
from penstock.contracts.pools import CreatePool
from penstock.contracts.queues import CreateQueue, UpdateQueue
from services.pool_registry.rules import Place
from services.pool_registry.store import RegistryStore
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.contracts.base import Command
    from penstock.contracts.replies import Reply


class Registry:
    """Hands commands to the store, as a handler does, and shows what became of them."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.store = RegistryStore(client)
        self._seen = {"events": 0, "definitions": 0}

    async def answer(self, command: Command, entry: str = "", *, again: bool = False) -> Reply:
        execute = getattr(self.store, command.model_dump()["type"])
        reply: Reply = await execute(Place(0, entry, again), command)
        return reply

    async def result(self, command: Command) -> Any:
        reply = await self.answer(command)
        assert reply.ok, reply.error
        return reply.result

    async def error(self, command: Command) -> tuple[str, str]:
        """The code, and message and hint in one text."""
        reply = await self.answer(command)
        assert reply.error, reply.result
        return reply.error.code, f"{reply.error.message} | {reply.error.hint}"

    async def pool(self, name: str = "etl", **fields: Any) -> dict[str, Any]:
        created: dict[str, Any] = await self.result(CreatePool(pool=name, **fields))
        return created

    async def queue(self, name: str, pool: str = "etl", **fields: Any) -> dict[str, Any]:
        created: dict[str, Any] = await self.result(CreateQueue(pool=pool, queue=name, **fields))
        return created

    async def change_queue(self, name: str, pool: str = "etl", /, **changes: Any) -> dict[str, Any]:
        changed: dict[str, Any] = await self.result(
            UpdateQueue.model_validate({"pool": pool, "queue": name, "changes": changes})
        )
        return changed

    async def deployment(self, name: str = "hello/demo", **fields: Any) -> dict[str, Any]:
        """A deployment of a function, in the pool ``etl`` unless another is named."""
        work = {} if "command" in fields else {"entrypoint": "hello.py:hello"}
        command = CreateDeployment.model_validate({"deployment": name, "pool": "etl", **work, **fields})
        created: dict[str, Any] = await self.result(command)
        return created

    async def change_deployment(self, name: str = "hello/demo", /, **changes: Any) -> dict[str, Any]:
        command = UpdateDeployment.model_validate({"deployment": name, "changes": changes})
        changed: dict[str, Any] = await self.result(command)
        return changed

    async def schedule(self, deployment: str = "hello/demo", /, **spec: Any) -> dict[str, Any]:
        """Add a schedule, an hourly one unless something else is said; answers the schedule."""
        when = {} if {"cron", "rrule"} & spec.keys() else {"interval_seconds": 3600}
        changed = await self.result(
            CreateSchedule(deployment=deployment, schedule=ScheduleSpec.model_validate({**when, **spec}))
        )
        newest: dict[str, Any] = changed["schedules"][-1]
        return newest

    async def events(self) -> list[dict[str, Any]]:
        """What was published since this was last asked."""
        return self._new("events", await read_events(self.client))

    async def names(self) -> list[str]:
        """Names of the events since this was last asked, without their common prefix, and whose they are."""
        return [
            f"{event['event'].removeprefix('prefect.')} {event['resource']['prefect.resource.name']}"
            for event in await self.events()
        ]

    async def definitions(self) -> list[dict[str, Any]]:
        """What readers of definitions were told since this was last asked."""
        return self._new("definitions", await read_messages(self.client, "definitions"))

    def _new(self, stream: str, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        new = messages[self._seen[stream] :]
        self._seen[stream] = len(messages)
        return new

    async def forget(self) -> None:
        """What was published so far does not matter."""
        await self.events()
        await self.definitions()

    async def quiet(self) -> bool:
        """Say whether neither an event nor a definition was published since this was last asked."""
        return not await self.events() and not await self.definitions()

    async def come_online(self, pool_id: str, worker: str = "w1", queue_id: str | None = None) -> None:
        """A worker of the monitor's: serves one queue, or all of them."""
        await self.client.sadd(keys.key(0, "pool_online", pool_id), worker)
        if queue_id is None:
            await self.client.sadd(keys.key(0, "pool_online_any", pool_id), worker)
        else:
            await self.client.sadd(keys.key(0, "queue_online", queue_id), worker)

    async def state(self) -> dict[bytes, bytes | None]:
        """Every key but the replies on their way."""
        replies = keys.key(0, "reply", "x").removesuffix("x").encode()
        names = sorted([name async for name in self.client.scan_iter()])
        return {name: await self.client.dump(name) for name in names if not name.startswith(replies)}


def has_id_of_deployment(event: dict[str, Any], deployment: dict[str, Any]) -> bool:
    """Say whether an event's id is the one anybody can compute for it."""
    resource = f"prefect.deployment.{deployment['id']}"
    expected = event_id(deployment_identity(resource, deployment["created"]), event["seq"])
    return bool(event["resource"]["prefect.resource.id"] == resource and event["id"] == expected)


async def assert_again_is_silent(registry: Registry, command: Command) -> None:
    """Deliver a command twice: the second time changes nothing, publishes nothing and answers the same."""
    command = command.model_copy(update={"id": "c-1"})
    first = await registry.answer(command)
    before = await registry.state()

    again = await registry.answer(command)

    assert first.ok
    assert again == first
    assert await registry.state() == before
    assert (
        await registry.client.lrange(keys.key(0, "reply", "c-1"), 0, -1)
        == [await registry.client.get(keys.key(0, "answer", "c-1"))] * 2
    )


def is_just_now(anchor: str, at: str) -> bool:
    """Whether a whole second is that of a moment, or of the check a moment before it."""
    apart = datetime.fromisoformat(at) - datetime.fromisoformat(anchor)
    return anchor[19:] == "Z" and timedelta(0) <= apart < timedelta(seconds=5)
