"""What travels is what is published: every entry on every stream of a life of pools, workers and runs fits its schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from jsonschema import Draft202012Validator, FormatChecker

from penstock import keys
from penstock.bus.connection import connect
from penstock.bus.requests import publish, request
from penstock.client import NewRun, Penstock
from penstock.contracts.catalogue import CHANNELS, REPLY, message_schema, result_schema
from penstock.contracts.deployments import (
    CreateDeployment,
    CreateSchedule,
    DeleteDeployment,
    DeleteSchedule,
    DeploymentChanges,
    PauseDeployment,
    ResumeDeployment,
    ScheduleSpec,
    UpdateDeployment,
    UpdateSchedule,
)
from penstock.contracts.pools import CreatePool, DeletePool, PausePool, ReadPool, ResumePool
from penstock.contracts.queues import CreateQueue, DeleteQueue, PauseQueue
from penstock.contracts.replies import Reply
from penstock.contracts.results import RESULTS
from penstock.contracts.runs import CancelRuns, ClaimRuns, DeleteRuns, RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.contracts.workers import DrainWorker, Heartbeat
from penstock.errors import Refused
from penstock.streams import COMMANDS, DISPATCH, HEARTBEATS
from tests.installation import HandWorker
from tests.support import read_events, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from penstock.contracts.base import Command
    from penstock.streams import Stream


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    client = connect(url)
    yield client
    await client.aclose()


def problems(schema: dict[str, Any], message: Any) -> list[str]:
    found = Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(message)
    return [f"{error.json_path}: {error.message}" for error in found]


async def seen(redis: Redis, event: str, count: int = 1) -> None:
    async def there() -> bool:
        return [each["event"] for each in await read_events(redis)].count(event) >= count

    await wait_until(there, what=f"{count} of {event}")


async def beat(redis: Redis, worker: str, **fields: Any) -> None:
    message = {"pool": "etl", "worker_type": "process", "boot_id": "b1", "interval_seconds": 30, **fields}
    await publish(redis, HEARTBEATS, 0, Heartbeat(worker=worker, **message))


async def live(redis: Redis) -> None:
    """Make every kind of event happen that does not take long."""
    penstock = Penstock(redis, 1)
    await penstock.create_pool("etl", concurrency_limit=5)
    await penstock.create_queue("etl", "critical", priority=1)
    await penstock.create_queue("etl", "spare")
    await penstock.update_pool("etl", description="a 'quoted' \"text\"", concurrency_limit=6)
    await penstock.pause_queue("etl", "critical")
    await penstock.resume_queue("etl", "critical")
    worker = HandWorker(redis, "etl", slots=10)
    await worker.join()
    await penstock.submit_runs("etl", [NewRun(command="true", queue="critical") for _ in range(4)])
    runs = await worker.take(4)
    await beat(redis, "w1", slots=10, draining=True, version="1.2.3")
    await seen(redis, "penstock.worker.draining")
    for run, state in zip(runs, ("COMPLETED", "FAILED", "CRASHED", "SCHEDULED"), strict=True):
        await worker.report(run, state, "said so")
    await worker.report(runs[0], "RUNNING")
    await beat(redis, "stranger", worker_type="kubernetes")
    await beat(redis, "early", pool="nowhere")
    await redis.xadd(keys.key(0, "heartbeats"), {"__data__": "{"})
    await redis.xadd(keys.key(0, "dispatch"), {"x": "y"})
    await beat(redis, "w2", slots=1)
    await HandWorker(redis, "etl", "w2").take(1)
    await beat(redis, "w2", boot_id="b2", slots=0)
    await seen(redis, "penstock.run.claim-expired")
    await beat(redis, "w2", boot_id="b2", slots=0, stopping=True)
    await seen(redis, "prefect.worker.stopped")
    await live_deployed(redis, penstock)
    await penstock.pause_pool("etl")
    await penstock.delete_queue("etl", "critical")
    await penstock.delete_pool("etl")
    await seen(redis, "prefect.flow-run.Cancelled")
    await seen(redis, "penstock.worker.offline", 2)


async def live_deployed(redis: Redis, penstock: Penstock) -> None:
    """The same of a deployment, its schedules and runs."""
    await penstock.create_deployment("hello/demo", pool="etl", command="true", retries=1, retry_delay_seconds=60)
    await penstock.update_deployment("hello/demo", concurrency_limit=5, tags=["a"])
    await penstock.create_schedule("hello/demo", ScheduleSpec(interval_seconds=3600, slug="hourly"))
    await penstock.pause_deployment("hello/demo")
    worker = HandWorker(redis, "etl", "w3", slots=5)
    await worker.join()
    run_ids = [await penstock.run_deployment("hello/demo", run_name=name) for name in ("fails", "is stopped")]
    taken: dict[str, Any] = {}
    while not {"fails", "is stopped"} <= taken.keys():
        taken |= {run["name"]: run for run in await worker.take(1)}
    await worker.report(taken["fails"], "FAILED", "said so")
    await seen(redis, "prefect.flow-run.AwaitingRetry")
    await penstock.cancel_runs(run_ids)
    await seen(redis, "prefect.flow-run.Cancelling")
    await worker.report(taken["is stopped"], "CANCELLED")
    await penstock.delete_deployment("hello/demo")


async def entries(redis: Redis) -> list[tuple[str, str, dict[bytes, bytes]]]:
    """(channel, type, fields) of every entry on every stream."""
    found = []
    async for name in redis.scan_iter(keys.key(0, "events").removesuffix("events") + "*", _type="STREAM"):
        channel = name.decode().partition("}:")[2].partition(":")[0]
        stream: Any = await redis.xrange(name)
        found += [(channel, fields.get(b"type", b"").decode(), fields) for _, fields in stream]
    return found


async def test_every_entry_on_every_stream_fits_the_schema_of_its_type(redis: Redis) -> None:
    await live(redis)

    found = await entries(redis)
    wrong, kinds = [], set()
    for channel, kind, fields in found:
        if not kind:
            continue  # what this test itself wrote to be buried
        kinds.add(kind)
        message = orjson.loads(fields[b"__data__"])
        if kind not in CHANNELS[channel].messages:
            wrong.append(f"{channel} carries {kind}")
        wrong += [f"{kind}{problem}" for problem in problems(message_schema(kind), message)]

    assert wrong == []
    assert set(CHANNELS["events"].messages) - kinds == set()
    assert {"dead.letter", "refuse_worker", "assign_runs", "stop_runs"} <= kinds
    assert set(CHANNELS["definitions"].messages) <= kinds


async def ask(redis: Redis, stream: Stream, command: Command) -> Any:
    return await request(redis, stream, 0, command)


async def test_every_result_fits_the_schema_of_its_command(redis: Redis) -> None:
    run = SubmittedRun(id=new_run_id(0), name="r", spec=RunSpec(command="true"))
    told: list[tuple[Stream, Command]] = [
        (COMMANDS, CreatePool(pool="results")),
        (COMMANDS, ReadPool(pool="results")),
        (COMMANDS, PausePool(pool="results")),
        (COMMANDS, ResumePool(pool="results")),
        (COMMANDS, CreateQueue(pool="results", queue="q")),
        (COMMANDS, PauseQueue(pool="results", queue="q")),
        (DISPATCH, SubmitRuns(pool="results", runs=[run])),
        (DISPATCH, ClaimRuns(pool="results")),
        (COMMANDS, CreateDeployment(deployment="a/b", pool="results", command="true")),
        (COMMANDS, UpdateDeployment(deployment="a/b", changes=DeploymentChanges(tags=["x"]))),
        (COMMANDS, CreateSchedule(deployment="a/b", schedule=ScheduleSpec(cron="@daily", slug="s"))),
        (COMMANDS, UpdateSchedule(deployment="a/b", schedule_id="s", active=False)),
        (COMMANDS, PauseDeployment(deployment="a/b")),
        (COMMANDS, ResumeDeployment(deployment="a/b")),
        (COMMANDS, DeleteSchedule(deployment="a/b", schedule_id="s")),
        (COMMANDS, DeleteDeployment(deployment="a/b")),
        (DISPATCH, DeleteRuns(runs=[run.id, new_run_id(0)])),
        (DISPATCH, CancelRuns(runs=[run.id, new_run_id(0)])),
        (DISPATCH, DeleteRuns(runs=[run.id])),
        (COMMANDS, DeleteQueue(pool="results", queue="q")),
        (COMMANDS, DeletePool(pool="results")),
    ]
    await ask(redis, COMMANDS, CreatePool(pool="drained"))
    await beat(redis, "w1", pool="drained", slots=0)
    await wait_until(lambda: redis.xlen(keys.key(0, "inbox", "drained/w1")), what="the worker is accepted")
    told.append((DISPATCH, DrainWorker(pool="drained", worker="w1")))
    wrong = []
    for stream, command in told:
        kind = str(command.model_dump()["type"])
        wrong += [f"{kind}{problem}" for problem in problems(result_schema(kind), await ask(redis, stream, command))]

    assert wrong == []
    assert {str(command.model_dump()["type"]) for _, command in told} | {
        "update_pool",
        "update_queue",
        "resume_queue",
    } == set(RESULTS)


async def test_replies_fit_their_schema_whether_they_accept_or_refuse(redis: Redis) -> None:
    with pytest.raises(Refused):
        await ask(redis, COMMANDS, PausePool(pool="missing", id="refused"))
    await ask(redis, COMMANDS, CreatePool(pool="answered", id="accepted"))

    for command_id, ok in (("refused", False), ("accepted", True)):
        answer: Any = await redis.get(keys.key(0, "answer", command_id))
        assert problems(message_schema(REPLY), orjson.loads(answer)) == []
        assert Reply.model_validate_json(answer).ok is ok
