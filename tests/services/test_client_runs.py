"""The life of runs as a program sees it: cancelled, deleted, retried, followed, listed, submitted to those who answer late."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest

from penstock import keys
from penstock.bus.connection import connect, redis_now_ms
from penstock.bus.delivery import answer
from penstock.bus.entries import entry_fields
from penstock.client import NewRun, Penstock, flow_runs, run_store
from penstock.client.sync import Penstock as BlockingPenstock
from penstock.contracts.logs import LogLine, RunLog
from penstock.contracts.replies import Reply, ReplyError
from penstock.contracts.results import Ended
from penstock.contracts.runs import PastState, new_run_id
from penstock.errors import Conflict, Invalid, NoReply, NotFound
from penstock.settings import Settings
from tests.definitions import define_pool
from tests.installation import HandWorker
from tests.support import read_messages, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from penstock.contracts.runs import Run

TRUE = NewRun(command="true")


@pytest.fixture
async def live(url: str) -> AsyncIterator[Redis]:
    client = connect(url)
    yield client
    await client.aclose()


@pytest.fixture
async def penstock(url: str) -> AsyncIterator[Penstock]:
    async with Penstock.connect(Settings(redis_url=url)) as penstock:
        yield penstock


@pytest.fixture
async def pool(penstock: Penstock) -> str:
    name = f"pool-{uuid.uuid4().hex[:8]}"
    await penstock.create_pool(name)
    return name


@pytest.fixture
async def worker(live: Redis, pool: str) -> HandWorker:
    worker = HandWorker(live, pool)
    await worker.join()
    return worker


async def in_state(penstock: Penstock, run_id: str, state: str) -> Run:
    async def there() -> Run | None:
        run = await penstock.read_run(run_id)
        return run if state in (run.state, run.state_name) else None

    found: Run = await wait_until(there, what=f"{run_id} {state}")
    return found


async def say(client: Redis, run_id: str, text: str) -> None:
    """What a worker does with the output of a run."""
    line = LogLine(at_ms=await redis_now_ms(client), source="stdout", text=text)
    await client.xadd(keys.key(0, "logs", run_id), entry_fields(RunLog(run=run_id, lines=[line])))


# Cancelling, deleting, retrying


async def test_cancelling_does_in_each_state_what_its_table_says(
    penstock: Penstock, live: Redis, pool: str, worker: HandWorker
) -> None:
    ids = await penstock.submit_runs(pool, [TRUE] * 3)
    pending, running, completed = await worker.take(3)
    await worker.report(running, "RUNNING")
    await worker.report(completed, "COMPLETED")
    await in_state(penstock, running["id"], "RUNNING")
    await in_state(penstock, completed["id"], "COMPLETED")
    await penstock.pause_pool(pool)
    (waiting,) = await penstock.submit_runs(pool, [TRUE])
    unknown = new_run_id(0)

    done = await penstock.cancel_runs([waiting, *ids, unknown, new_run_id(7)], message="not needed")

    assert (done.cancelled, sorted(done.cancelling)) == ([waiting], sorted([pending["id"], running["id"]]))
    assert done.ended == [Ended(run=completed["id"], state="COMPLETED")]
    assert unknown in done.unknown
    assert len(done.unknown) == 2, "also one whose id names a partition that does not exist"
    assert {(await penstock.read_run(run_id)).message for run_id in (waiting, pending["id"])} == {"not needed"}
    told = await read_messages(live, "inbox", f"{pool}/w1")
    assert {run["id"] for message in told if message["type"] == "stop_runs" for run in message["runs"]} == set(
        done.cancelling
    )

    again = await penstock.cancel_runs([pending["id"]])
    assert again.cancelling == [pending["id"]]
    forced = await penstock.cancel_runs([pending["id"]], force=True)
    assert forced.cancelled == [pending["id"]]
    assert (await penstock.read_run(pending["id"])).state == "CANCELLED"
    too_late = await penstock.cancel_runs([waiting, running["id"]])
    assert (too_late.cancelled, too_late.cancelling) == ([], [running["id"]])
    assert too_late.ended == [Ended(run=waiting, state="CANCELLED")]


async def test_only_runs_that_have_ended_are_deleted_with_their_output(
    penstock: Penstock, live: Redis, pool: str, worker: HandWorker
) -> None:
    (run_id,) = await penstock.submit_runs(pool, [TRUE])
    (run,) = await worker.take(1)
    await say(live, run_id, "hello")
    assert (await penstock.delete_runs([run_id])).unfinished == [run_id]
    await worker.report(run, "COMPLETED")
    await in_state(penstock, run_id, "COMPLETED")

    done = await penstock.delete_runs([run_id, new_run_id(0)])

    assert (done.deleted, len(done.unknown)) == ([run_id], 1)
    with pytest.raises(NotFound):
        await penstock.read_run(run_id)
    assert not await live.exists(keys.key(0, "logs", run_id))


async def test_a_retry_is_a_new_run_with_the_same_specification(
    penstock: Penstock, pool: str, worker: HandWorker
) -> None:
    old = NewRun(
        entrypoint="a.py:f",
        parameters={"day": 1},
        queue="low",
        env={"A": "1", "B": None},
        tags=["t"],
        labels={"l": "x"},
    )
    (run_id,) = await penstock.submit_runs(pool, [old])
    (run,) = await worker.take(1)
    with pytest.raises(Conflict, match="is PENDING; only a run that has ended is retried"):
        await penstock.retry_run(run_id)
    await worker.report(run, "FAILED", "boom")
    first = await in_state(penstock, run_id, "FAILED")

    again = await penstock.read_run(await penstock.retry_run(run_id))

    assert again.id != run_id
    assert (again.queue, again.pool) == ("low", pool)
    assert again.spec == {**first.spec, "labels": {"l": "x", "penstock.retry-of": run_id}}
    assert await penstock.read_run(run_id) == first, "an end is final"


async def test_a_run_that_goes_on_is_not_retried_but_watched_or_ended(
    penstock: Penstock, pool: str, worker: HandWorker
) -> None:
    (run_id,) = await penstock.submit_runs(pool, [TRUE])
    (run,) = await worker.take(1)
    with pytest.raises(Conflict, match="is PENDING") as waits:
        await penstock.retry_run(run_id)
    await worker.report(run, "RUNNING")
    await in_state(penstock, run_id, "RUNNING")

    with pytest.raises(Conflict, match="is RUNNING; only a run that has ended is retried") as goes_on:
        await penstock.retry_run(run_id)

    assert f"flow-run explain {run_id}" in waits.value.hint
    assert f"flow-run watch {run_id}" in goes_on.value.hint
    assert f"flow-run cancel {run_id}" in goes_on.value.hint


async def test_a_run_of_a_deleted_pool_is_not_retried(penstock: Penstock, pool: str, worker: HandWorker) -> None:
    (run_id,) = await penstock.submit_runs(pool, [TRUE])
    await worker.take(1)
    await penstock.delete_pool(pool)
    await in_state(penstock, run_id, "CANCELLED")

    with pytest.raises(NotFound, match=r"the work pool 'pool-\w+' of run .* was deleted"):
        await penstock.retry_run(run_id)


async def test_a_retry_of_a_deployments_run_is_one_of_it_again(
    penstock: Penstock, pool: str, worker: HandWorker
) -> None:
    name = f"hello/{pool}"
    await penstock.create_deployment(name, pool=pool, command=["true"])
    run_id = await penstock.run_deployment(name)
    (run,) = await worker.take(1)
    await worker.report(run, "FAILED", "boom")
    await in_state(penstock, run_id, "FAILED")
    await penstock.update_deployment(name, retries=3)

    again = await penstock.read_run(await penstock.retry_run(run_id))

    assert (again.deployment, again.retries_left) == (name, 3)
    await penstock.delete_deployment(name)
    assert (await penstock.read_run(await penstock.retry_run(run_id))).deployment_id is None


async def test_runs_of_several_partitions_are_cancelled_each_where_it_is(client: Redis) -> None:
    ids = [new_run_id(partition) for partition in (0, 3, 3, 0)]
    asking = asyncio.create_task(Penstock(client, 4, timeout_seconds=5).cancel_runs(ids))
    for partition in (0, 3):

        async def sent(partition: int = partition) -> list[dict[str, Any]]:
            return await read_messages(client, "dispatch", partition=partition)

        (message,) = await wait_until(sent, what=f"the command for partition {partition}")
        assert message["runs"] == [run_id for run_id in ids if keys.partition_of_run(run_id) == partition]
        result = {"cancelled": message["runs"], "cancelling": [], "ended": [], "unknown": []}
        await answer(client, partition, Reply(id=message["id"], ok=True, result=result))

    assert sorted((await asking).cancelled) == sorted(ids)


# Records


async def test_a_run_knows_the_states_it_has_been_in(penstock: Penstock, pool: str, worker: HandWorker) -> None:
    (run_id,) = await penstock.submit_runs(pool, [NewRun(command="true", retries=1, retry_delay_seconds=0)])
    (run,) = await worker.take(1)
    await worker.report(run, "RUNNING")
    await in_state(penstock, run_id, "RUNNING")
    await worker.report(run, "FAILED", "first try")
    (run,) = await worker.take(1)
    await worker.report(run, "RUNNING")
    await in_state(penstock, run_id, "RUNNING")
    await worker.report(run, "COMPLETED")

    ended = await in_state(penstock, run_id, "COMPLETED")

    told = [(state.state, state.name, state.message) for state in ended.states]
    assert told[:3] == [("SCHEDULED", "Scheduled", ""), ("PENDING", "Pending", ""), ("RUNNING", "Running", "")]
    waits = [one for one in told if one[1] == "AwaitingRetry"]
    assert len(waits) == 1
    assert waits[0][0] == "SCHEDULED"
    assert "first try" in waits[0][2]
    assert [name for _, name, _ in told[-3:]] == ["Pending", "Running", "Completed"]
    times = [state.at_ms for state in ended.states[1:]]
    assert times == sorted(times)
    assert (ended.run_count, ended.retries_left) == (2, 0)


async def test_a_run_is_late_when_it_should_have_been_handed_out_a_while_ago(
    penstock: Penstock, live: Redis, pool: str
) -> None:
    ids = await penstock.submit_runs(pool, [TRUE, TRUE, TRUE])
    queue = (await penstock.read_queue(pool, "default")).id
    now_ms = await redis_now_ms(live)
    await live.zadd(keys.key(0, "waiting", queue), {ids[0]: now_ms - 16_000, ids[1]: now_ms - 13_000})

    runs = {run.id: run for run in await penstock.read_runs(pool)}

    assert [(runs[one].state, runs[one].state_name) for one in ids] == [
        ("SCHEDULED", "Late"),
        ("SCHEDULED", "Scheduled"),
        ("SCHEDULED", "Scheduled"),
    ]
    assert [run.id for run in await penstock.read_runs(pool, states=["Late"])] == ids[:1]
    assert [run.id for run in await penstock.read_runs(pool, states=["late", "running"])] == ids[:1]
    assert len(await penstock.read_runs(pool, states=["SCHEDULED"])) == 3
    assert await penstock.read_runs(pool, states=["AWAITING_RETRY"]) == []


async def test_what_was_claimed_keeps_the_names_of_its_pool_and_queue_when_they_are_deleted(
    penstock: Penstock, pool: str, worker: HandWorker
) -> None:
    ids = await penstock.submit_runs(pool, [NewRun(command="true", queue="low")])
    await worker.take(1)
    await penstock.delete_pool(pool)

    run = await in_state(penstock, ids[0], "CANCELLED")

    assert (run.pool, run.queue) == (pool, "low")


async def test_runs_are_listed_by_queue_deployment_and_name(penstock: Penstock, pool: str, worker: HandWorker) -> None:
    deployment = f"hello/{pool}"
    await penstock.create_deployment(deployment, pool=pool, queue="low", command=["true"])
    deployed = [await penstock.run_deployment(deployment, run_name=f"load-{number}") for number in range(3)]
    (other,) = await penstock.submit_runs(pool, [NewRun(command="true", name="load-x", queue="high")])
    held = await worker.take(4)
    first = next(run for run in held if run["id"] == deployed[0])
    await worker.report(first, "FAILED", "boom")
    await in_state(penstock, deployed[0], "FAILED")

    async def listed(**conditions: Any) -> set[str]:
        return {run.id for run in await penstock.read_runs(**conditions)}

    assert await listed(pool=pool, queue="low") == set(deployed)
    assert await listed(pool=pool, queue="high") == {other}
    assert await listed(deployment=deployment) == set(deployed)
    assert await listed(deployment=deployment, states=["FAILED"]) == {deployed[0]}
    assert await listed(pool=pool, name="load-[x2]") == {other, deployed[2]}
    assert await listed(pool=pool, queue="low", name="*-2") == {deployed[2]}
    assert (await penstock.read_run(deployed[1])).deployment == deployment
    with pytest.raises(NotFound, match="no work queue 'lwo'"):
        await listed(pool=pool, queue="lwo")
    with pytest.raises(NotFound, match="no deployment"):
        await listed(deployment="hello/nobody")
    with pytest.raises(Invalid, match="'failled' is no state of a run"):
        await listed(pool=pool, states=["failled"])


class Mixed(NamedTuple):
    """Runs of a pool, by what becomes of them; ``all`` in the order in which they are listed."""

    held: list[str]
    due: list[str]
    retried: list[str]
    finished: list[str]
    planned: list[str]

    @property
    def all(self) -> list[str]:
        return [run_id for part in self for run_id in part]


@pytest.fixture
async def mixed(penstock: Penstock, pool: str, worker: HandWorker) -> Mixed:
    await penstock.create_deployment(f"hello/{pool}", pool=pool, command=["true"], retries=1, retry_delay_seconds=3600)
    again = [await penstock.run_deployment(f"hello/{pool}", run_name=f"n{number}") for number in range(2)]
    ids = await penstock.submit_runs(pool, [NewRun(command="true", name=f"n{number}") for number in range(8)])
    taken = {run["id"]: run for run in await worker.take(10)}
    finished: list[str] = []
    for run_id in ids[:4]:
        await worker.report(taken[run_id], "COMPLETED")
        await in_state(penstock, run_id, "COMPLETED")
        finished.insert(0, run_id)
    for run_id in again:
        await worker.report(taken[run_id], "FAILED", "boom")
        await in_state(penstock, run_id, "AwaitingRetry")
    await penstock.pause_pool(pool)
    due, planned = [], []
    for queue in ("default", "q0", "q1"):
        runs = [NewRun(command="true", name=f"n{number}", queue=queue) for number in range(3)]
        due += await penstock.submit_runs(pool, runs)
        later = [datetime.now(UTC) + timedelta(minutes=30 + 60 * number) for number in range(3)]
        planned += await penstock.submit_runs(
            pool, [replace(run, scheduled_time=moment) for run, moment in zip(runs, later, strict=True)]
        )
    held = await penstock.read_runs(pool, states=["PENDING"])
    return Mixed([run.id for run in held], due, again, finished, planned)


async def test_what_goes_on_is_listed_before_what_has_ended_and_what_is_planned_comes_last(
    penstock: Penstock, pool: str, mixed: Mixed
) -> None:
    assert [run.id for run in await penstock.read_runs(pool)] == mixed.all
    assert await penstock.count_planned(pool) == len(mixed.planned) + len(mixed.retried)
    assert await penstock.count_planned(pool, queue="q1") == 3
    assert await penstock.count_planned(deployment=f"hello/{pool}") == 2
    assert await penstock.count_planned(pool, name="n*") is None
    deployed = await penstock.read_runs(deployment=f"hello/{pool}", states=["SCHEDULED", "COMPLETED"])
    assert [run.id for run in deployed] == mixed.retried


async def test_a_run_that_is_due_this_moment_is_listed_once(
    penstock: Penstock, live: Redis, pool: str, mixed: Mixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = await penstock.read_queue(pool, "q1")
    at_ms = await redis_now_ms(live)
    await live.zadd(keys.key(0, "waiting", queue.id), {mixed.due[-1]: at_ms})

    async def fixed(_: Redis) -> int:
        return at_ms

    monkeypatch.setattr(run_store, "redis_now_ms", fixed)

    for size in (1, 4):
        pages = [await penstock.read_runs(pool, limit=size, offset=start) for start in range(0, len(mixed.all), size)]
        assert [run.id for page in pages for run in page] == mixed.all
    assert await penstock.count_planned(pool, queue="q1") == 3


async def test_of_many_planned_runs_only_the_next_are_looked_at_for_retried_ones_and_none_is_lost(
    penstock: Penstock, pool: str, mixed: Mixed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_store, "PAGE", 2)

    listed = [run.id for run in await penstock.read_runs(pool)]

    # One planned for half an hour comes before the retried ones, so that of the two that are looked at one is retried.
    assert listed.index(mixed.retried[0]) < listed.index(mixed.finished[0]) < listed.index(mixed.retried[1])
    assert sorted(listed) == sorted(mixed.all)
    pages = [await penstock.read_runs(pool, limit=3, offset=start) for start in range(0, len(listed), 3)]
    assert [run.id for page in pages for run in page] == listed


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"name": "n*"},
        {"name": "n[12]"},
        {"states": ["SCHEDULED"]},
        {"states": ["SCHEDULED", "COMPLETED"]},
        {"states": ["AWAITINGRETRY", "COMPLETED"]},
        {"states": ["LATE", "COMPLETED"]},
        {"queue": "default"},
        {"queue": "q1"},
    ],
)
async def test_pages_of_any_size_show_every_run_once(
    penstock: Penstock, pool: str, mixed: Mixed, conditions: dict[str, Any]
) -> None:
    whole = [run.id for run in await penstock.read_runs(pool, **conditions)]
    assert len(set(whole)) == len(whole)
    assert set(whole) <= set(mixed.all)

    for size in (1, 2, 3, 4, 7):
        pages = [
            [run.id for run in await penstock.read_runs(pool, limit=size, offset=start, **conditions)]
            for start in range(0, len(mixed.all), size)
        ]
        assert [run_id for page in pages for run_id in page] == whole, size


async def test_pages_of_a_deployment_show_every_run_once(penstock: Penstock, pool: str, mixed: Mixed) -> None:
    name = f"hello/{pool}"
    await penstock.resume_pool(pool)
    later = [await penstock.run_deployment(name, scheduled_time=datetime(2040, 1, 1, tzinfo=UTC)) for _ in range(2)]
    expected = [*mixed.retried, *later]

    for conditions in ({}, {"pool": pool}, {"pool": pool, "queue": "default"}):
        for size in (1, 3, 10):
            pages = [
                await penstock.read_runs(deployment=name, limit=size, offset=start, **conditions)
                for start in range(0, 10, size)
            ]
            assert [run.id for page in pages for run in page] == expected, (conditions, size)


async def test_records_that_have_expired_do_not_make_pages_overlap(
    penstock: Penstock, live: Redis, pool: str, worker: HandWorker
) -> None:
    await penstock.submit_runs(pool, [TRUE] * 9)
    held = await worker.take(9)
    for run in held:
        await worker.report(run, "COMPLETED")
        await in_state(penstock, run["id"], "COMPLETED")
    gone = {held[index]["id"] for index in (2, 3, 8)}
    await live.delete(*(keys.key(0, "run", run_id) for run_id in gone))

    pages = [await penstock.read_runs(pool, limit=2, offset=start) for start in range(0, 10, 2)]

    assert sorted(run.id for page in pages for run in page) == sorted({run["id"] for run in held} - gone)


# Following


def told(step: PastState | LogLine) -> str:
    return step.name if isinstance(step, PastState) else step.text


async def test_following_tells_states_and_output_in_their_order(
    penstock: Penstock, live: Redis, pool: str, worker: HandWorker
) -> None:
    (run_id,) = await penstock.submit_runs(pool, [TRUE])
    steps: list[str] = []

    async def follow() -> None:
        async with aclosing(penstock.follow_run(run_id)) as found:
            async for step in found:
                steps.append(told(step))  # noqa: PERF401 - others look at it meanwhile

    async def seen(text: str) -> None:
        async def there() -> bool:
            return text in steps

        await wait_until(there, what=f"{text} in {steps}")

    following = asyncio.create_task(follow())
    (run,) = await worker.take(1)
    await seen("Pending")
    await worker.report(run, "RUNNING")
    await seen("Running")
    await say(live, run_id, "one")
    await seen("one")
    await say(live, run_id, "two")
    await say(live, run_id, "three")
    await worker.report(run, "COMPLETED")
    await asyncio.wait_for(following, 10)

    assert steps == ["Scheduled", "Pending", "Running", "one", "two", "three", "Completed"]
    again = [step async for step in penstock.follow_run(run_id)]
    assert [told(step) for step in again] == steps


async def test_following_survives_events_that_were_trimmed(
    penstock: Penstock, live: Redis, pool: str, worker: HandWorker
) -> None:
    (run_id,) = await penstock.submit_runs(pool, [TRUE])
    (run,) = await worker.take(1)
    await worker.report(run, "COMPLETED")
    await in_state(penstock, run_id, "COMPLETED")
    await live.xtrim(keys.key(0, "events"), maxlen=0)

    steps = [step async for step in penstock.follow_run(run_id)]

    assert [step.name for step in steps if isinstance(step, PastState)][-1] == "Completed"


async def test_following_what_does_not_exist_says_so(penstock: Penstock) -> None:
    with pytest.raises(NotFound, match="there is no run"):
        await anext(penstock.follow_run(new_run_id(0)))


# Submitting to those who answer late, partly, or with another run


async def test_a_known_idempotency_key_answers_with_the_run_there_is(penstock: Penstock, pool: str) -> None:
    key = NewRun(command="true", idempotency_key="once")
    (first,) = await penstock.submit_runs(pool, [key])

    ids = await penstock.submit_runs(pool, [TRUE, key, TRUE])

    assert ids[1] == first
    assert len(set(ids)) == 3
    assert len(await penstock.read_runs(pool)) == 3


async def submitted(client: Redis, count: int) -> list[dict[str, Any]]:
    async def there() -> list[dict[str, Any]] | None:
        messages = await read_messages(client, "dispatch")
        return messages if len(messages) == count else None

    return list(await wait_until(there, what=f"{count} messages"))


async def take(client: Redis, message: dict[str, Any]) -> list[str]:
    """Play a dispatcher that takes the runs of a submission and dies before it answers."""
    ids = [run["id"] for run in message["runs"]]
    for run_id in ids:
        await client.hset(keys.key(0, "run", run_id), mapping={"name": "n", "spec": "{}"})
    return ids


async def accept(client: Redis, message: dict[str, Any]) -> None:
    """Play the dispatcher: accept the runs of a submission."""
    result = {"accepted": await take(client, message), "refused": [], "same": {}}
    await answer(client, 0, Reply(id=message["id"], ok=True, result=result))


async def test_all_messages_are_on_their_way_before_the_first_is_answered(client: Redis) -> None:
    await define_pool(client, "etl")
    asking = asyncio.create_task(Penstock(client, 1).submit_runs("etl", [TRUE] * 1400))

    messages = await submitted(client, 3)
    for message in reversed(messages):
        await accept(client, message)

    assert await asking == [run["id"] for message in messages for run in message["runs"]]
    assert [len(message["runs"]) for message in messages] == [500, 500, 400]


async def test_who_answers_only_in_part_leaves_an_exact_count(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_runs, "SECONDS_PER_MESSAGE", 0.1)
    await define_pool(client, "etl")
    told: list[tuple[int, int]] = []
    asking = asyncio.create_task(
        Penstock(client, 1, timeout_seconds=1).submit_runs(
            "etl", [TRUE] * 1400, progress=lambda done, total: told.append((done, total))
        )
    )
    first, second, third = await submitted(client, 3)
    await accept(client, third)
    error = ReplyError(code="expired", message="too late")
    await answer(client, 0, Reply(id=second["id"], ok=False, error=error))

    with pytest.raises(NoReply, match=r"^1000 of 1400 runs were not submitted and will not be later: "):
        await asking
    assert (400, 1400) in told
    assert len(first["runs"]) == 500


async def test_runs_that_were_taken_without_an_answer_are_not_called_missing(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_runs, "SECONDS_PER_MESSAGE", 0.1)
    await define_pool(client, "etl")
    asking = asyncio.create_task(Penstock(client, 1, timeout_seconds=0.5).submit_runs("etl", [TRUE] * 600))
    first, second = await submitted(client, 2)
    await accept(client, first)
    await take(client, second)

    assert len(await asking) == 600


async def test_what_is_refused_is_counted_over_all_messages(client: Redis) -> None:
    await define_pool(client, "etl")
    asking = asyncio.create_task(Penstock(client, 1).submit_runs("etl", [TRUE] * 600))
    for message in await submitted(client, 2):
        ids = [run["id"] for run in message["runs"]]
        rows = [{"run": run_id, "code": "not_found", "message": "no such queue"} for run_id in ids[:50]]
        result = {"accepted": ids[50:], "refused": rows}
        await answer(client, 0, Reply(id=message["id"], ok=True, result=result))

    with pytest.raises(NotFound, match=r"^100 of 600 runs were refused: no such queue"):
        await asking


async def test_the_deadline_grows_with_the_number_of_messages(client: Redis) -> None:
    await define_pool(client, "etl")
    before = await redis_now_ms(client)
    asking = asyncio.create_task(Penstock(client, 1, timeout_seconds=10).submit_runs("etl", [TRUE] * 10_000))

    messages = await submitted(client, 20)
    asking.cancel()

    assert {message["deadline"] for message in messages} == {messages[0]["deadline"]}
    assert messages[0]["deadline"] - before > 19_000


async def test_cancelling_counts_what_was_not_answered(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_runs, "SECONDS_PER_MESSAGE", 0.1)
    ids = [new_run_id(0) for _ in range(1500)]
    asking = asyncio.create_task(Penstock(client, 1, timeout_seconds=0.5).cancel_runs([*ids, ids[0]]))
    first, _ = await submitted(client, 2)
    result = {"cancelled": first["runs"], "cancelling": [], "ended": [], "unknown": []}
    await answer(client, 0, Reply(id=first["id"], ok=True, result=result))

    with pytest.raises(NoReply, match="only 1000 of 1500 runs"):
        await asking


async def test_a_number_json_does_not_have_is_refused_by_its_place(client: Redis) -> None:
    await define_pool(client, "etl")
    bad = NewRun(command="true", parameters={"a": {"b": [1.0, float("nan")]}})

    with pytest.raises(Invalid, match=r"^run 2: parameters\.a\.b\[1\] is nan; JSON has no such number"):
        await Penstock(client, 1).submit_runs("etl", [TRUE, bad])
    assert await client.xlen(keys.key(0, "dispatch")) == 0


# The blocking face


def test_a_program_without_a_loop_does_the_same(url: str) -> None:
    name = f"pool-{uuid.uuid4().hex[:8]}"
    with BlockingPenstock.connect(Settings(redis_url=url)) as penstock:
        penstock.create_pool(name)
        ids = penstock.submit_runs(name, [TRUE, TRUE])
        assert [run.id for run in penstock.read_runs(name)] == ids
        with pytest.raises(TimeoutError):
            penstock.wait_for_runs(ids, timeout=0.05)
        assert penstock.cancel_runs(ids).cancelled == ids
        steps = [step for step in penstock.follow_run(ids[0]) if isinstance(step, PastState)]
        assert [step.name for step in steps] == ["Scheduled", "Cancelled"]
        cursor, event = next(penstock.events(since="0"))
        assert (event.event, "-" in cursor) == ("prefect.work-queue.created", True)
        assert isinstance(penstock.dead.read(1), list)
        with pytest.raises(NotFound):
            penstock.read_pool(f"{name}x")


async def test_a_notebook_in_which_a_loop_runs_may_block(url: str) -> None:
    with BlockingPenstock.connect(Settings(redis_url=url)) as penstock:
        assert penstock.now_ms() > 0
        assert orjson.dumps([pool.name for pool in penstock.read_pools()])
