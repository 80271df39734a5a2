from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.client import NewRun, Penstock
from penstock.contracts.runs import new_run_id
from penstock.errors import BadSettings, Conflict, Invalid, NoReply, NotFound, Reserved, Unavailable
from penstock.settings import Settings
from tests.definitions import define_pool
from tests.installation import HandWorker
from tests.support import read_messages, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from penstock.contracts.runs import Run

TEMPLATE = {"job_configuration": {"command": "{{ command }}"}, "variables": {"properties": {"command": {}}}}


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
def name() -> str:
    """Name of a pool that no other test uses."""
    return f"pool-{uuid.uuid4().hex[:8]}"


async def test_a_created_pool_is_read_back_as_it_was_answered(penstock: Penstock, name: str) -> None:
    created = await penstock.create_pool(
        name, description="nightly ☂", concurrency_limit=5, base_job_template=TEMPLATE, on_worker_lost="requeue"
    )

    assert await penstock.read_pool(name) == created.model_copy(update={"queues": await penstock.read_queues(name)})
    assert (created.status, created.concurrency_limit, created.base_job_template) == ("NOT_READY", 5, TEMPLATE)
    assert [queue.name for queue in await penstock.read_queues(name)] == ["default"]
    assert name in [pool.name for pool in await penstock.read_pools()]


async def test_a_change_touches_only_the_fields_that_are_given(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name, description="old", concurrency_limit=5, max_attempts=7)

    changed = await penstock.update_pool(name, concurrency_limit=None)

    assert (changed.concurrency_limit, changed.description, changed.max_attempts) == (None, "old", 7)


async def test_pause_and_resume_show_in_the_status(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)
    await penstock.create_queue(name, "low")

    await penstock.pause_pool(name)
    await penstock.pause_queue(name, "low")
    assert (await penstock.read_pool(name)).status == "PAUSED"
    assert (await penstock.read_queue(name, "low")).status == "PAUSED"

    await penstock.resume_pool(name)
    await penstock.resume_queue(name, "low")
    assert (await penstock.read_pool(name)).status == "NOT_READY"
    assert (await penstock.read_queue(name, "low")).status == "NOT_READY"


async def test_queues_come_by_priority(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)
    await penstock.create_queue(name, "low", priority=10)
    await penstock.create_queue(name, "critical", priority=1, concurrency_limit=1)

    assert [queue.name for queue in await penstock.read_queues(name)] == ["critical", "default", "low"]

    await penstock.update_queue(name, "critical", priority=20, concurrency_limit=None)
    await penstock.delete_queue(name, "low")

    assert [queue.name for queue in await penstock.read_queues(name)] == ["default", "critical"]


async def test_what_the_registry_refuses_is_raised_as_what_it_is(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)

    with pytest.raises(Conflict):
        await penstock.create_pool(name)
    with pytest.raises(Reserved):
        await penstock.create_pool("prefect-agents")
    assert (await penstock.create_pool(name, if_missing=True)).name == name


@pytest.mark.parametrize("bad", ["a/b", "50%", "", " ", "x" * 201])
async def test_a_bad_name_is_refused_before_anything_is_sent(penstock: Penstock, live: Redis, bad: str) -> None:
    before = await live.xlen(keys.key(0, "commands"))

    with pytest.raises(Invalid, match="name"):
        await penstock.create_pool(bad)

    assert await live.xlen(keys.key(0, "commands")) <= before


@pytest.mark.parametrize("change", [{"concurrency_limit": -1}, {"concurency_limit": 1}, {"on_worker_lost": "cry"}])
async def test_a_bad_change_is_refused_with_the_name_of_its_field(
    penstock: Penstock, name: str, change: dict[str, object]
) -> None:
    with pytest.raises(Invalid, match=next(iter(change))):
        await penstock.update_pool(name, **change)


async def test_an_unknown_pool_gets_a_suggestion_wherever_it_is_named(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)

    for action in (
        lambda: penstock.read_pool(f"{name}x"),
        lambda: penstock.pause_pool(f"{name}x"),
        lambda: penstock.read_queue(f"{name}x", "default"),
        lambda: penstock.submit_runs(f"{name}x", [NewRun(command="true")]),
        lambda: penstock.read_runs(f"{name}x"),
        lambda: penstock.read_workers(f"{name}x"),
    ):
        with pytest.raises(NotFound, match=f"there is no work pool '{name}x'") as refusal:
            await action()
        assert refusal.value.hint == f"did you mean '{name}'?"


async def test_an_unknown_queue_gets_a_suggestion(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)

    for action in (penstock.pause_queue, penstock.read_queue):
        with pytest.raises(NotFound, match=f"there is no work queue 'defualt' in work pool '{name}'") as refusal:
            await action(name, "defualt")
        assert refusal.value.hint == "did you mean 'default'?"


async def test_a_deleted_pool_is_gone(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)

    await penstock.delete_pool(name)

    with pytest.raises(NotFound):
        await penstock.read_pool(name)


async def test_a_name_in_another_normal_form_is_the_same_pool(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(f"{name}-caf\u00e9")

    ids = await penstock.submit_runs(f"{name}-cafe\u0301", [NewRun(command="true")])

    assert (await penstock.read_run(ids[0])).pool == f"{name}-caf\u00e9"
    assert (await penstock.read_pool(f"{name}-cafe\u0301")).name == f"{name}-caf\u00e9"


async def test_the_ids_of_runs_are_of_the_pools_partition_however_its_name_is_spelled(client: Redis) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    partition = keys.partition_of_pool(composed, 16)
    assert partition != keys.partition_of_pool(decomposed, 16)

    with pytest.raises(NoReply):
        await Penstock(client, 16, timeout_seconds=0.1).submit_runs(decomposed, [NewRun(command="true")])

    (sent,) = await read_messages(client, "dispatch", partition=partition)
    assert keys.partition_of_run(sent["runs"][0]["id"]) == partition


async def test_a_submitted_run_waits_with_everything_it_was_given(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)
    due = datetime(2040, 1, 31, 8, 0, tzinfo=UTC)

    ids = await penstock.submit_runs(
        name,
        [
            NewRun(
                entrypoint="flows.py:load",
                parameters={"day": 1, "word": "ü"},
                queue="new",
                name="mine",
                scheduled_time=due,
                env={"A": "1", "B": None},
                working_dir="/srv",
                tags=["t"],
            )
        ],
    )

    run = await penstock.read_run(ids[0])
    assert (run.name, run.pool, run.queue, run.state, run.state_name) == ("mine", name, "new", "SCHEDULED", "Scheduled")
    assert datetime.fromisoformat(run.scheduled_time) == due
    assert run.spec["parameters"] == {"day": 1, "word": "ü"}
    assert run.spec["env"] == {"A": "1", "B": None}
    assert [queue.name for queue in await penstock.read_queues(name)] == ["default", "new"]


async def test_many_runs_keep_their_order(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)

    ids = await penstock.submit_runs(name, [NewRun(command="true", name=f"n{number}") for number in range(1201)])

    runs = await penstock.read_runs(name, limit=5000)
    assert [run.id for run in runs] == ids
    assert [run.name for run in runs[:2]] == ["n0", "n1"]
    assert [run.id for run in await penstock.read_runs(name, limit=3)] == ids[:3]


async def test_runs_are_followed_to_their_end(penstock: Penstock, live: Redis, name: str) -> None:
    await penstock.create_pool(name)
    worker = HandWorker(live, name)
    await worker.join()
    ids = await penstock.submit_runs(name, [NewRun(command="true") for _ in range(3)])
    waiting = asyncio.create_task(penstock.wait_for_runs(ids, timeout=20))

    first, second, third = await worker.take(3)
    await worker.report(first, "COMPLETED")
    await worker.report(second, "FAILED", "ValueError: boom")
    assert not waiting.done()
    await worker.report(third, "COMPLETED")

    runs = await waiting
    assert [run.id for run in runs] == ids
    assert [run.state for run in runs] == ["COMPLETED", "FAILED", "COMPLETED"]
    assert (runs[1].message, runs[1].worker, runs[1].queue) == ("ValueError: boom", "w1", "default")
    assert await penstock.wait_for_runs(ids, timeout=20) == runs
    assert {run.id for run in await penstock.read_runs(name, states=["FAILED"])} == {ids[1]}


async def test_a_run_that_ends_while_one_looks_at_it_is_not_missed(
    penstock: Penstock, live: Redis, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await penstock.create_pool(name)
    worker = HandWorker(live, name)
    await worker.join()
    ids = await penstock.submit_runs(name, [NewRun(command="true")])
    (run,) = await worker.take(1)
    read_runs = penstock._runs.read_runs

    async def read_then_end(run_ids: list[str]) -> list[Run]:
        stale: list[Run] = await read_runs(run_ids)
        await worker.report(run, "COMPLETED")

        async def ended() -> bool:
            return (await read_runs(run_ids))[0].state == "COMPLETED"

        await wait_until(ended, what="the end of the run")
        monkeypatch.setattr(penstock._runs, "read_runs", read_runs)
        return stale

    monkeypatch.setattr(penstock._runs, "read_runs", read_then_end)

    assert [run.state for run in await penstock.wait_for_runs(ids, timeout=5)] == ["COMPLETED"]


async def test_runs_in_flight_come_first_and_hold_slots(penstock: Penstock, live: Redis, name: str) -> None:
    await penstock.create_pool(name)
    worker = HandWorker(live, name, slots=1)
    await worker.join()
    ids = await penstock.submit_runs(name, [NewRun(command="true") for _ in range(2)])
    await worker.take(1)

    runs = await penstock.read_runs(name)
    assert [(run.id, run.state) for run in runs] == [(ids[0], "PENDING"), (ids[1], "SCHEDULED")]
    assert runs[0].claimed_ms is not None
    assert await penstock.read_slots(name) == (1, {"default": 1})

    seen = (await penstock.read_workers(name))[0]
    assert (seen.name, seen.pool, seen.status, seen.type) == ("w1", name, "ONLINE", "process")
    assert (seen.slots, seen.slots_used, seen.queues, seen.version) == (1, 1, [], "1.2.3")
    assert (await penstock.read_pool(name)).status == "READY"
    assert (await penstock.read_queue(name, "default")).status == "READY"


async def test_waiting_gives_up_at_its_time_out(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)
    ids = await penstock.submit_runs(name, [NewRun(command="true")])

    with pytest.raises(TimeoutError, match=r"1 of 1 runs have not finished within 0\.1 s"):
        await penstock.wait_for_runs(ids, timeout=0.1)


async def test_runs_of_a_deleted_pool_end_as_cancelled(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)
    ids = await penstock.submit_runs(name, [NewRun(command="true")])
    waiting = asyncio.create_task(penstock.wait_for_runs(ids, timeout=20))

    await penstock.delete_pool(name)

    (run,) = await waiting
    assert (run.state, run.pool, run.queue) == ("CANCELLED", "", "")


@pytest.mark.parametrize("run_id", ["x", "dcd85929-8824-4591-a4a5-29cb17cbde4e", ""])
async def test_what_is_no_run_id_is_refused(penstock: Penstock, run_id: str) -> None:
    with pytest.raises(Invalid, match="is not a run id"):
        await penstock.read_run(run_id)


@pytest.mark.parametrize("partition", [0, 7])
async def test_a_run_that_does_not_exist_is_not_found(penstock: Penstock, partition: int) -> None:
    with pytest.raises(NotFound, match="there is no run"):
        await penstock.read_run(new_run_id(partition))


async def test_events_of_a_command_are_there_when_it_has_answered(penstock: Penstock, name: str) -> None:
    await penstock.create_pool(name)

    seen = [
        event.event
        async for _, event in penstock.events(since=timedelta(minutes=1), follow=False, names=["prefect.work-pool.*"])
        if event.resource["prefect.resource.name"] == name
    ]

    assert seen == ["prefect.work-pool.created", "prefect.work-pool.not-ready"]


async def test_nobody_answers_when_no_service_runs(client: Redis) -> None:
    with pytest.raises(NoReply, match="nobody answered"):
        await Penstock(client, 1, timeout_seconds=0.2).create_pool("etl")


async def test_a_silent_redis_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        async with Penstock.connect(Settings(redis_url="redis://127.0.0.1:1/0")):
            pass


async def test_every_read_raises_a_silent_redis_as_unavailable() -> None:
    penstock = Penstock(connect("redis://127.0.0.1:1/0", retries=0), 1)
    for action in (
        lambda: penstock.read_pool("etl"),
        penstock.read_pools,
        lambda: penstock.read_run(new_run_id(0)),
        penstock.read_runs,
        penstock.now_ms,
        lambda: penstock.dead.read(1),
        lambda: penstock.wait_for_runs([new_run_id(0)], timeout=5),
        lambda: anext(penstock.events(since="0", follow=False)),
    ):
        with pytest.raises(Unavailable, match="does not answer"):
            await action()


async def test_the_number_of_partitions_is_the_installations(client: Redis, redis_url: str) -> None:
    await client.set(keys.PARTITIONS_KEY, 4)
    await define_pool(client, "etl", partition=keys.partition_of_pool("etl", 4))

    async with Penstock.connect(Settings(redis_url=redis_url)) as penstock:
        assert (await penstock.read_pool("etl")).name == "etl"
    with pytest.raises(BadSettings, match="first started with 4"):
        async with Penstock.connect(Settings(redis_url=redis_url, partitions=2)):
            pass


async def test_a_refused_submission_leaves_its_reason_for_operators(penstock: Penstock, name: str) -> None:
    with pytest.raises(NotFound):
        await penstock.submit_runs(name, [NewRun(command="true")])

    async def buried() -> bool:
        return any(name in entry.reason for entry in await penstock.dead.read(50))

    await wait_until(buried, what="the dead letter")
