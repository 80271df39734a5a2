"""Why a run is not running: one test for each reason, and for what becomes of a run that waits no more."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.bus.requests import publish
from penstock.client import NewRun, Penstock
from penstock.client.explanation import SHOWN_HOLDERS
from penstock.contracts.workers import Heartbeat
from penstock.errors import Invalid, NotFound
from penstock.settings import Settings
from penstock.streams import HEARTBEATS
from tests.installation import HandWorker
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from penstock.client.explanation import Explanation

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


async def beat(live: Redis, pool: str, **fields: Any) -> None:
    """A heartbeat of worker w1."""
    heartbeat = {"pool": pool, "worker": "w1", "worker_type": "process", "boot_id": "b1", **fields}
    await publish(live, HEARTBEATS, 0, Heartbeat.model_validate(heartbeat))


async def explained(penstock: Penstock, run_id: str, code: str) -> Explanation:
    """The explanation, once it is the one that is expected."""
    why: list[Explanation] = []

    async def as_expected() -> bool:
        why[:] = [await penstock.explain_run(run_id)]
        return why[0].code == code

    await wait_until(as_expected, what=f"{code}; last seen {why}")
    return why[0]


async def holding(live: Redis, penstock: Penstock, pool: str, *, slots: int = 10, count: int = 1) -> list[Any]:
    """Let a worker join and hold so many runs."""
    worker = HandWorker(live, pool, slots=slots)
    await worker.join()
    await penstock.submit_runs(pool, [TRUE] * count)
    return await worker.take(count)


async def test_a_paused_pool(penstock: Penstock, pool: str) -> None:
    await penstock.pause_pool(pool)
    (run_id,) = await penstock.submit_runs(pool, [TRUE])

    why = await penstock.explain_run(run_id)

    assert (why.code, why.text, why.command) == ("pool_paused", "pool paused", f"penstock work-pool resume '{pool}'")
    assert (why.state, why.position) == ("SCHEDULED", 0)
    assert [other.code for other in why.further] == ["no_worker"]


async def test_a_paused_queue(penstock: Penstock, live: Redis, pool: str) -> None:
    await holding(live, penstock, pool)
    await penstock.pause_queue(pool, "default")
    (run_id,) = await penstock.submit_runs(pool, [TRUE])

    why = await penstock.explain_run(run_id)

    assert (why.code, why.text, why.further) == ("queue_paused", "queue paused", [])
    assert why.command == f"penstock work-queue resume 'default' --pool '{pool}'"


async def test_a_full_pool_and_who_fills_it(penstock: Penstock, live: Redis, pool: str) -> None:
    await penstock.update_pool(pool, concurrency_limit=2)
    held = await holding(live, penstock, pool, count=2)
    (run_id,) = await penstock.submit_runs(pool, [TRUE])

    why = await penstock.explain_run(run_id)

    assert (why.code, why.text, why.holders_total) == ("pool_limit", "pool limit 2/2", 2)
    assert sorted(one.id for one in why.holders) == sorted(run["id"] for run in held)
    assert {(one.state, one.worker) for one in why.holders} == {("PENDING", "w1")}


async def test_a_full_queue_names_the_first_ten_that_fill_it(penstock: Penstock, live: Redis, pool: str) -> None:
    await penstock.update_queue(pool, "default", concurrency_limit=12)
    held = await holding(live, penstock, pool, slots=50, count=12)
    (run_id,) = await penstock.submit_runs(pool, [TRUE])

    why = await penstock.explain_run(run_id)

    assert (why.code, why.text, why.holders_total) == ("queue_limit", "queue limit 12/12", 12)
    assert len(why.holders) == SHOWN_HOLDERS
    assert {one.id for one in why.holders} < {run["id"] for run in held}


async def test_nobody_serves_the_queue(penstock: Penstock, live: Redis, pool: str) -> None:
    await beat(live, pool, queues=["elsewhere"], slots=5)
    (run_id,) = await penstock.submit_runs(pool, [TRUE])

    why = await penstock.explain_run(run_id)

    assert (why.code, why.text) == ("no_worker", "no online worker serves the queue")
    assert why.command == f"penstock worker start --pool '{pool}' --work-queue 'default'"


async def test_everybody_who_serves_the_queue_is_draining(penstock: Penstock, live: Redis, pool: str) -> None:
    await beat(live, pool, draining=True, slots=5)
    (run_id,) = await penstock.submit_runs(pool, [TRUE])

    why = await explained(penstock, run_id, "draining")

    assert why.text == "every worker that serves the queue is draining"


async def test_the_slots_of_the_workers_are_full(penstock: Penstock, live: Redis, pool: str) -> None:
    held = await holding(live, penstock, pool, slots=12, count=12)
    (run_id,) = await penstock.submit_runs(pool, [TRUE])

    why = await penstock.explain_run(run_id)

    assert (why.code, why.text, why.holders_total) == ("workers_full", "all workers full (12/12 slots)", 12)
    assert len(why.holders) == SHOWN_HOLDERS
    assert {one.id for one in why.holders} < {run["id"] for run in held}


async def test_a_run_that_is_not_due_yet(penstock: Penstock, live: Redis, pool: str) -> None:
    await holding(live, penstock, pool)
    due = datetime(2040, 1, 31, 8, tzinfo=UTC)
    (run_id,) = await penstock.submit_runs(pool, [NewRun(command="true", scheduled_time=due)])

    why = await penstock.explain_run(run_id)

    assert (why.code, why.text) == ("not_due", "due at 2040-01-31T08:00:00.000Z")
    assert why.command == f"penstock flow-run watch {run_id}"


async def test_a_run_that_waits_for_its_next_attempt(penstock: Penstock, live: Redis, pool: str) -> None:
    worker = HandWorker(live, pool)
    await worker.join()
    (run_id,) = await penstock.submit_runs(pool, [NewRun(command="true", retries=1, retry_delay_seconds=3600)])
    (run,) = await worker.take(1)
    await worker.report(run, "FAILED", "ValueError: boom")

    why = await explained(penstock, run_id, "awaiting_retry")

    assert why.text.startswith("waits for its next attempt, due at ")
    assert (why.state, why.state_name) == ("SCHEDULED", "AwaitingRetry")


async def test_the_limit_of_a_deployment_and_who_fills_it(penstock: Penstock, live: Redis, pool: str) -> None:
    name = f"hello/{pool}"
    await penstock.create_deployment(name, pool=pool, command=["true"], concurrency_limit=1)
    worker = HandWorker(live, pool)
    await worker.join()
    first = await penstock.run_deployment(name)
    second = await penstock.run_deployment(name)
    other = (await penstock.submit_runs(pool, [TRUE]))[0]
    assert [run["id"] for run in await worker.take(2)] == [first, other], (
        "a run that waits for its deployment hides none"
    )

    why = await explained(penstock, second, "deployment_limit")

    assert (why.text, why.holders_total) == (f"limit of deployment '{name}' 1/1", 1)
    assert [one.id for one in why.holders] == [first]
    assert why.command == f"penstock deployment inspect '{name}'"
    assert why.position == 0
    run = await penstock.read_run(second)
    assert (run.deployment, run.state) == (name, "SCHEDULED")


async def test_a_parked_run_is_one_that_waits_wherever_one_looks(penstock: Penstock, live: Redis, pool: str) -> None:
    name = f"hello/{pool}"
    await penstock.create_deployment(name, pool=pool, command=["true"], concurrency_limit=1)
    worker = HandWorker(live, pool)
    await worker.join()
    dues = [datetime.now(UTC).replace(microsecond=0) - timedelta(hours=hours) for hours in (3, 2, 1)]
    ids = [await penstock.run_deployment(name, scheduled_time=due) for due in dues]
    await worker.take(1)
    queue = (await penstock.read_queue(pool, "default")).id
    deployment = (await penstock.read_deployment(name)).id
    parked = keys.key(0, "parked", f"{queue}/{deployment}")
    assert await live.zcard(parked) == 2, "they are not in the waiting set"

    assert [run.id for run in await penstock.read_runs(pool)] == ids
    pages = [await penstock.read_runs(pool, limit=1, offset=start) for start in range(4)]
    assert [run.id for page in pages for run in page] == ids
    assert [run.id for run in await penstock.read_runs(states=["SCHEDULED"], deployment=name)] == ids[1:]
    assert [run.id for run in (await penstock.preview(pool)).runs] == ids[1:]
    (backlog,) = (await penstock.explain_slots(pool)).waiting
    assert (backlog.waiting, backlog.due, backlog.blocker) == (2, 2, "deployment_limit")
    assert backlog.reason == "2 runs wait for the limit of the deployment"
    assert datetime.fromisoformat((await penstock.read_run(ids[1])).scheduled_time) == dues[1]
    await penstock.pause_pool(pool)
    between = [NewRun(command="true", scheduled_time=dues[1] + timedelta(minutes=minutes)) for minutes in (-1, 1)]
    before, after = await penstock.submit_runs(pool, between)
    line = [before, ids[1], after, ids[2]]
    assert [(await penstock.explain_run(run_id)).position for run_id in line] == [0, 1, 2, 3]


async def test_several_reasons_are_told_in_the_order_of_the_claim(penstock: Penstock, live: Redis, pool: str) -> None:
    await penstock.update_pool(pool, concurrency_limit=1)
    await penstock.update_queue(pool, "default", concurrency_limit=1)
    await holding(live, penstock, pool, slots=1)
    await penstock.pause_queue(pool, "default")
    await penstock.pause_pool(pool)
    due = datetime(2040, 1, 31, 8, tzinfo=UTC)
    (run_id,) = await penstock.submit_runs(pool, [NewRun(command="true", scheduled_time=due)])

    why = await penstock.explain_run(run_id)

    codes = ["pool_paused", "queue_paused", "pool_limit", "queue_limit", "workers_full", "not_due"]
    assert [why.code, *(other.code for other in why.further)] == codes
    assert [other.holders_total for other in why.further] == [0, 1, 1, 1, 0]


async def test_the_position_is_the_place_in_the_preview(penstock: Penstock, pool: str) -> None:
    for number, queue in enumerate(("critical", "high"), 1):
        await penstock.create_queue(pool, queue, priority=number)
    now = datetime.now(UTC)
    dues = [
        None,
        now - timedelta(hours=1),
        now + timedelta(hours=1),
        now + timedelta(hours=1),
        now - timedelta(hours=1),
    ]
    for queue in ("default", "high", "critical"):
        runs = [NewRun(command="true", queue=queue, scheduled_time=due) for due in dues]
        await penstock.submit_runs(pool, runs)

    order = [run.id for run in (await penstock.preview(pool)).runs]

    assert len(order) == 15
    assert [(await penstock.explain_run(run_id)).position for run_id in order] == list(range(15))


async def test_nothing_stops_a_run_that_is_being_handed_out(penstock: Penstock, live: Redis, pool: str) -> None:
    """Of two runs for which slots have become free nothing stops either, but the dispatcher has not looked yet."""
    await penstock.pause_pool(pool)
    ids = await penstock.submit_runs(pool, [TRUE, TRUE])
    await beat(live, pool, slots=5)

    pool_id = (await penstock.read_pool(pool)).id
    await wait_until(lambda: live.exists(keys.key(0, "slots", f"{pool_id}/w1")), what="the announcement of the worker")
    # Behind the dispatcher's back: it is not told.
    await live.hset(keys.key(0, "pool", pool_id), "is_paused", "false")

    told = [await penstock.explain_run(run_id) for run_id in ids]

    assert [(why.code, why.position) for why in told] == [("being_handed_out", 0), ("being_handed_out", 1)]
    assert told[1].text == "being handed out after 1 that comes before it"


async def test_a_run_that_its_worker_has_not_started_yet_one_that_runs_and_one_that_is_to_be_ended(
    penstock: Penstock, live: Redis, pool: str
) -> None:
    worker = HandWorker(live, pool)
    await worker.join()
    (run_id,) = await penstock.submit_runs(pool, [TRUE])
    (run,) = await worker.take(1)

    pending = await penstock.explain_run(run_id)
    assert (pending.code, pending.position) == ("pending", None)
    assert pending.text.startswith("handed to worker 'w1' at ")
    await worker.report(run, "RUNNING")
    running = await explained(penstock, run_id, "running")
    assert running.text.startswith("running on worker 'w1' since ")
    await penstock.cancel_runs([run_id])
    cancelling = await explained(penstock, run_id, "cancelling")
    assert cancelling.text.startswith("worker 'w1' ends it since ")
    assert cancelling.command == f"penstock flow-run cancel {run_id} --force"


@pytest.mark.parametrize(
    ("state", "code", "command"),
    [("COMPLETED", "completed", "logs"), ("FAILED", "failed", "retry"), ("CRASHED", "crashed", "retry")],
)
async def test_a_run_that_has_ended(
    penstock: Penstock, live: Redis, pool: str, state: str, code: str, command: str
) -> None:
    worker = HandWorker(live, pool)
    await worker.join()
    (run_id,) = await penstock.submit_runs(pool, [TRUE])
    (run,) = await worker.take(1)
    await worker.report(run, state, "the reason")

    why = await explained(penstock, run_id, code)

    assert why.text.startswith(f"{state} at ")
    assert why.text.endswith(": the reason")
    assert why.command == f"penstock flow-run {command} {run_id}"


async def test_a_run_whose_pool_was_deleted(penstock: Penstock, pool: str) -> None:
    (run_id,) = await penstock.submit_runs(pool, [TRUE])
    await penstock.delete_pool(pool)

    why = await explained(penstock, run_id, "cancelled")

    assert why.text.endswith(f"Work pool '{pool}' was deleted")


async def test_what_does_not_exist_cannot_be_explained(penstock: Penstock) -> None:
    with pytest.raises(NotFound, match="there is no run"):
        await penstock.explain_run("0198c0de-0000-7000-8000-000000000000")
    with pytest.raises(Invalid, match="is not a run id"):
        await penstock.explain_run("nonsense")
