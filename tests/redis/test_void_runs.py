from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.contracts.deployments import DeploymentDeleted
from penstock.contracts.runs import SubmitRuns
from tests.definitions import define_deployment, define_pool
from tests.dispatching import announce, assigned, by_schedule, one_run, places, report, state_of, submit, told, words
from tests.support import read_events

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore

HOUR_MS = 3_600_000


async def changed(client: Redis, store: DispatchStore) -> int:
    """The deployment is defined anew, now."""
    ident = await define_deployment(client, revision=2, revised_ms=await redis_now_ms(client))
    return await store.void_runs(0, ident, "Schedules were changed")


async def test_future_runs_of_a_changed_schedule_are_removed_with_their_last_event_and_no_record(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    soon = await redis_now_ms(client) + HOUR_MS
    run_ids = await submit(store, "etl", count=450, due_ms=soon, deployment=deployment, scheduled_by=by_schedule())

    assert await changed(client, store) == 450

    assert await places(client, pool) == []
    assert await client.zcard(keys.key(0, "deployment_waiting", deployment)) == 0
    assert [await state_of(client, run_id) for run_id in run_ids[:3]] == ["", "", ""]
    assert await told(client, run_ids[0]) == ["Scheduled", "Cancelled"]
    assert (await read_events(client))[-1]["resource"]["prefect.state-message"] == "Schedules were changed"
    assert await client.zcard(keys.key(0, "pool_finished", pool.id)) == 0


async def test_what_somebody_submitted_what_is_due_and_what_is_in_flight_stays(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    now_ms = await redis_now_ms(client)
    (due,) = await submit(store, "etl", due_ms=now_ms - 1000, deployment=deployment, scheduled_by=by_schedule())
    (theirs,) = await submit(store, "etl", due_ms=now_ms + HOUR_MS, deployment=deployment)
    await announce(store, pool, "early", slots=1, prefetch_ms=2 * HOUR_MS)
    (flying,) = [run["id"] for run in await assigned(client, "etl", "early")]
    assert flying == due
    (late,) = await submit(store, "etl", due_ms=now_ms - 500, deployment=deployment, scheduled_by=by_schedule())
    (gone,) = await submit(store, "etl", due_ms=now_ms + HOUR_MS, deployment=deployment, scheduled_by=by_schedule())

    assert await changed(client, store) == 1

    assert await state_of(client, gone) == ""
    assert [await state_of(client, run_id) for run_id in (due, theirs, late)] == ["PENDING", "SCHEDULED", "SCHEDULED"]


async def test_runs_of_the_present_revision_stay(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    deployment = await define_deployment(client, revision=2, revised_ms=1)
    soon = await redis_now_ms(client) + HOUR_MS
    (run_id,) = await submit(store, "etl", due_ms=soon, deployment=deployment, scheduled_by=by_schedule(2))

    assert await store.void_runs(0, deployment, "Schedules were changed") == 0

    assert await state_of(client, run_id) == "SCHEDULED"


async def test_a_run_removed_can_be_made_again_under_its_key(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    deployment = await define_deployment(client)
    soon = await redis_now_ms(client) + HOUR_MS
    await submit(store, "etl", due_ms=soon, deployment=deployment, scheduled_by=by_schedule(), idempotency_key="k")

    await changed(client, store)

    again = one_run("default", soon, deployment=deployment, scheduled_by=by_schedule(2), idempotency_key="k")
    answers, _ = await store.submit_runs(0, [SubmitRuns(pool="etl", runs=[again])])
    assert words(answers) == [["accepted"]]


@pytest.mark.parametrize("moved", [True, False])
async def test_of_a_deployment_that_is_gone_everything_waiting_is_cancelled_unless_it_has_moved(
    client: Redis, store: DispatchStore, moved: bool
) -> None:
    await define_pool(client, "etl")
    deployment = await define_deployment(client)
    soon = await redis_now_ms(client) + HOUR_MS
    (scheduled,) = await submit(store, "etl", due_ms=soon, deployment=deployment, scheduled_by=by_schedule())
    (theirs,) = await submit(store, "etl", due_ms=soon, deployment=deployment)
    await client.delete(keys.key(0, "deployment", deployment))

    message = DeploymentDeleted(
        deployment_id=deployment, deployment="hello/demo", pool="etl", moved_to="far" if moved else None
    )
    assert await store.cancel_deployment(0, message) == (1 if moved else 2)

    assert await state_of(client, scheduled) == ("" if moved else "CANCELLED")
    assert await state_of(client, theirs) == ("SCHEDULED" if moved else "CANCELLED")


async def test_what_was_due_after_the_change_is_removed_however_late_that_is_heard_of(
    client: Redis, store: DispatchStore
) -> None:
    await define_pool(client, "etl")
    deployment = await define_deployment(client)
    then_ms = await redis_now_ms(client) - 10_000
    about: Any = {"deployment": deployment, "scheduled_by": by_schedule()}
    (at_once,) = await submit(store, "etl", due_ms=then_ms, **about)
    (after,) = await submit(store, "etl", due_ms=then_ms + 1, **about)
    await define_deployment(client, revision=2, revised_ms=then_ms)

    assert await store.void_runs(0, deployment, "Schedules were changed") == 1

    assert [await state_of(client, run_id) for run_id in (at_once, after)] == ["SCHEDULED", ""]


async def test_what_is_due_of_a_deployment_that_has_moved_stays(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    deployment = await define_deployment(client)
    now_ms = await redis_now_ms(client)
    (due,) = await submit(store, "etl", due_ms=now_ms - 1, deployment=deployment, scheduled_by=by_schedule())
    await client.delete(keys.key(0, "deployment", deployment))

    assert await store.void_runs(0, deployment, "Moved") == 0

    assert await state_of(client, due) == "SCHEDULED"


async def test_a_run_that_was_handed_out_once_stays(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    await announce(store, pool, prefetch_ms=2 * HOUR_MS)
    soon = await redis_now_ms(client) + HOUR_MS
    (run_id,) = await submit(store, "etl", due_ms=soon, deployment=deployment, scheduled_by=by_schedule())
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "true")
    await report(store, "etl", (await assigned(client, "etl"))[0], "SCHEDULED")

    assert await changed(client, store) == 0

    assert await state_of(client, run_id) == "SCHEDULED"


async def test_what_waits_in_a_queue_that_is_gone_is_left_to_its_deletion_and_what_has_no_record_is_forgotten(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", queues={"old": {"priority": 1}})
    deployment = await define_deployment(client)
    soon = await redis_now_ms(client) + HOUR_MS
    about: Any = {"due_ms": soon, "deployment": deployment, "scheduled_by": by_schedule()}
    left = await submit(store, "etl", "old", count=250, **about)
    (lost,) = await submit(store, "etl", **about)
    await client.delete(keys.key(0, "queue", pool.queues["old"]), keys.key(0, "run", lost))
    events = len(await read_events(client))

    assert await changed(client, store) == 1

    assert [await state_of(client, run_id) for run_id in left] == ["SCHEDULED"] * 250
    assert len(await read_events(client)) == events
    assert await client.zscore(keys.key(0, "deployment_waiting", deployment), lost) is None


async def test_no_output_stays_of_a_run_that_is_removed(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    deployment = await define_deployment(client)
    soon = await redis_now_ms(client) + HOUR_MS
    (run_id,) = await submit(store, "etl", due_ms=soon, deployment=deployment, scheduled_by=by_schedule())
    await client.xadd(keys.key(0, "logs", run_id), {"text": "line"})

    await changed(client, store)

    assert await client.exists(keys.key(0, "logs", run_id)) == 0
