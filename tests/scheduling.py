"""Schedulers for tests: a clock that is set by hand, and the real dispatcher behind them, without the bus between."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from penstock import keys
from penstock.bus.delivery import deliver
from penstock.bus.entries import Entry
from penstock.bus.health import Health
from penstock.client.records import spec_of
from penstock.contracts.deployments import Schedule, ScheduleSpec
from penstock.contracts.replies import Reply
from penstock.contracts.results import Submission
from penstock.errors import refusal
from services.dispatcher.app import build as build_dispatcher
from services.dispatcher.settings import DispatcherSettings
from services.scheduler.handlers import Handlers
from services.scheduler.planner import Planner
from services.scheduler.settings import SchedulerSettings
from services.scheduler.store import SchedulerStore

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.contracts.base import Message
    from penstock.contracts.runs import SubmitRuns


class Clock:
    """A clock that stands still until it is set.

    Args:
        now_ms: milliseconds since 1970.
    """

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    async def __call__(self) -> int:
        return self.now_ms


class Dispatch:
    """Hands submissions to the dispatcher's own handlers, in this process.

    Attributes:
        submitted: how many runs were sent to it, again and again ones included.
        failing: raised instead of answering, after the runs were accepted.
        away: raised before anything is accepted.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._service = build_dispatcher(DispatcherSettings(), client, Health("dispatcher"))
        self.submitted = 0
        self.failing: Exception | None = None
        self.away: Exception | None = None

    async def submit(self, partition: int, command: SubmitRuns) -> Submission:
        if self.away:
            raise self.away
        self.submitted += len(command.runs)
        sent = command.model_copy(update={"id": uuid.uuid4().hex})
        await self.tell(sent, partition=partition)
        raw: Any = await self._client.lpop(keys.key(partition, "reply", sent.id))
        if self.failing:
            raise self.failing
        reply = Reply.model_validate_json(raw)
        if reply.error:
            raise refusal(reply.error.code, reply.error.message, reply.error.hint)
        return Submission.model_validate(reply.result)

    async def tell(self, message: Message, *, stream: str = "dispatch", partition: int = 0) -> None:
        """Deliver one message to the dispatcher."""
        subscription = next(one for one in self._service.subscriptions if one.stream.name == stream)
        await deliver(self._client, subscription, [Entry(partition, stream, "1-0", {b"__data__": message.wire()})])


class Scheduler(NamedTuple):
    """One scheduler: its parts, and what it talks to."""

    store: SchedulerStore
    planner: Planner
    handlers: Handlers
    dispatch: Dispatch

    async def settle(self, partition: int = 0) -> None:
        """Plan until nothing is due any more."""
        while not await self.planner.plan_due(partition):
            pass


def scheduler(client: Redis, clock: Clock | None = None, **settings: Any) -> Scheduler:
    """Make a scheduler.

    Args:
        client: for it and for the dispatcher behind it.
        clock: None takes Redis TIME.
        settings: of the scheduler.
    """
    store, dispatch = SchedulerStore(client), Dispatch(client)
    planner = Planner(store, SchedulerSettings(**settings), Health("scheduler"), dispatch.submit, clock)
    return Scheduler(store, planner, Handlers(store, planner), dispatch)


async def define_schedule(
    client: Redis, deployment: str, *, schedule_id: str | None = None, partition: int = 0, **fields: Any
) -> str:
    """Write one schedule of a deployment straight into the keys the registry owns, and answer its id."""
    ident = schedule_id or str(uuid.uuid4())
    schedule = Schedule(id=ident, **ScheduleSpec.model_validate(fields).model_dump())
    await client.hset(keys.key(partition, "schedules", deployment), ident, schedule.model_dump_json())
    return ident


class MadeRun(NamedTuple):
    """A run a schedule made."""

    due_ms: int
    schedule: str
    revision: int
    spec: dict[str, Any]


async def made_runs(client: Redis, deployment: str, partition: int = 0) -> list[MadeRun]:
    """The waiting runs of a deployment's schedules, by due time."""
    waiting: Any = await client.zrange(keys.key(partition, "deployment_waiting", deployment), 0, -1, withscores=True)
    found = []
    for run_id, due in waiting:
        row: Any = await client.hmget(keys.key(partition, "run", run_id.decode()), ["auto", "spec"])
        schedule, revision, _ = row[0].decode().split()
        found.append(MadeRun(int(due), schedule, int(revision), orjson.loads(spec_of({b"spec": row[1]}))))
    return found


async def due_ms(client: Redis, deployment: str) -> list[int]:
    """When the waiting runs of a deployment's schedules are due, ascending."""
    return [run.due_ms for run in await made_runs(client, deployment)]
