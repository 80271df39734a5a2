"""Play worker and submitter against the dispatcher's store, without the services around it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from penstock import keys
from penstock.client.records import queue_id_of
from penstock.contracts.replies import Reply
from penstock.contracts.runs import (
    ReportRuns,
    RunReport,
    RunSpec,
    ScheduledBy,
    SubmitRuns,
    SubmittedRun,
    new_run_id,
)
from penstock.contracts.workers import AnnounceWorker, LoseWorker
from tests.support import read_events

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from penstock.contracts.runs import CatchUp
    from services.dispatcher.answers import Submitted
    from services.dispatcher.store import DispatchStore
    from tests.definitions import DefinedPool

_seq = itertools.count(1)


SCHEDULE = "0b9c8d7e-1111-4222-8333-944455566677"


def by_schedule(revision: int = 1, catch_up: CatchUp = "all", schedule: str = SCHEDULE) -> ScheduledBy:
    """What a scheduler says of the runs it makes."""
    return ScheduledBy(schedule=schedule, revision=revision, catch_up=catch_up)


def one_run(queue: str = "default", due_ms: int | None = None, **fields: Any) -> SubmittedRun:
    """A run to submit; fields as in its contract."""
    when = None if due_ms is None else datetime.fromtimestamp(due_ms / 1000, UTC)
    given: dict[str, Any] = {"name": "run", "spec": RunSpec(command=["true"]), **fields}
    return SubmittedRun(id=new_run_id(0), queue=queue, scheduled_time=when, **given)


def words(answers: Iterable[Submitted]) -> list[str | list[str]]:
    """What became of submissions: of each in one word, or in one word a run."""
    return [answer.words for answer in answers]


async def submit(
    store: DispatchStore,
    pool: str,
    queue: str = "default",
    count: int = 1,
    due_ms: int | None = None,
    **fields: Any,
) -> list[str]:
    """Submit runs and answer their ids."""
    runs = [one_run(queue, due_ms, **{"name": f"run-{number}", **fields}) for number in range(count)]
    answers, _ = await store.submit_runs(0, [SubmitRuns(pool=pool, runs=runs)])
    assert words(answers) == [["accepted"] * count], answers
    return [run.id for run in runs]


async def answered(client: Redis, command_id: str) -> list[Reply]:
    """What is left for the caller of a command."""
    found: Any = await client.lrange(keys.key(0, "reply", command_id), 0, -1)
    return [Reply.model_validate_json(one) for one in found]


async def announce(
    store: DispatchStore,
    pool: DefinedPool,
    worker: str = "w1",
    slots: int = 10,
    *,
    queues: Sequence[str] = (),
    boot_id: str = "boot-1",
    prefetch_ms: int = 0,
    seq: int | None = None,
) -> bool:
    """Announce a worker as the monitor would."""
    message = AnnounceWorker(
        pool_id=pool.id,
        pool=pool.name,
        worker=worker,
        boot_id=boot_id,
        seq=seq or next(_seq),
        slots=slots,
        queues=list(queues),
        prefetch_ms=prefetch_ms,
    )
    return (await store.announce_worker(0, message))[0]


async def lose(
    store: DispatchStore, pool: DefinedPool, worker: str = "w1", *, boot_id: str = "boot-1", seq: int | None = None
) -> int:
    """Lose a worker as the monitor would; answers how many claims were taken back."""
    message = LoseWorker(
        pool_id=pool.id, pool=pool.name, worker=worker, boot_id=boot_id, seq=seq or next(_seq), reason="heartbeat-lost"
    )
    return (await store.lose_worker(0, message))[0]


async def assigned(client: Redis, pool: str, worker: str = "w1") -> list[dict[str, Any]]:
    """Every assignment in a worker's inbox, in order."""
    entries: Any = await client.xrange(keys.key(0, "inbox", f"{pool}/{worker}"))
    messages = [orjson.loads(fields[b"__data__"]) for _, fields in entries]
    return [run for message in messages if message["type"] == "assign_runs" for run in message["runs"]]


async def report(
    store: DispatchStore, pool: str, run: dict[str, Any], state: Any, *, worker: str = "w1", **fields: Any
) -> str:
    """Report one assigned run; answers 'applied', 'known' or 'fenced'."""
    said = RunReport(run=run["id"], token=run["token"], epoch=run["epoch"], state=state, **fields)
    answers, _ = await store.report_runs(0, [ReportRuns(pool=pool, worker=worker, reports=[said])])
    return answers[0][0]


async def state_of(client: Redis, run_id: str) -> str:
    """The state a run is in."""
    found: Any = await client.hmget(keys.key(0, "run", run_id), ["state", "name"])
    state, name = found
    return str(state.decode()) if state else "SCHEDULED" if name else ""


async def queue_of(client: Redis, run_id: str) -> str:
    """The id of the queue a run is of; '' where there is no such run."""
    found: Any = await client.hgetall(keys.key(0, "run", run_id))
    return queue_id_of(found)


async def in_flight(client: Redis, pool: DefinedPool, queue: str | None = None) -> int:
    """How many runs hold a slot of the pool, or of one of its queues."""
    if queue:
        return int(await client.zcard(keys.key(0, "queue_in_flight", pool.queues[queue])))
    return int(await client.zcard(keys.key(0, "pool_in_flight", pool.id)))


async def places(client: Redis, pool: DefinedPool, queue: str = "default", deployment: str = "") -> list[str]:
    """What waits in a queue, in order; with a deployment what is parked there because of its limit."""
    ident = pool.queues[queue]
    name = keys.key(0, "parked", f"{ident}/{deployment}") if deployment else keys.key(0, "waiting", ident)
    found: Any = await client.zrange(name, 0, -1)
    return [run_id.decode() for run_id in found]


async def told(client: Redis, run_id: str) -> list[str]:
    """The last part of the names of a run's events, in order."""
    resource = f"prefect.flow-run.{run_id}"
    return [
        event["event"].rpartition(".")[2]
        for event in await read_events(client)
        if event["resource"]["prefect.resource.id"] == resource
    ]
