from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.contracts.deployments import DeploymentDeleted
from penstock.contracts.runs import CancelRuns
from services.dispatcher.bounds import RECALL_AT_MOST
from services.dispatcher.store import RECALL_RUNS
from tests.definitions import define_deployment, define_pool
from tests.dispatching import announce, assigned, by_schedule, in_flight, report, state_of, submit, told
from tests.support import read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore

MINUTE_MS = 60_000


async def changed(client: Redis, store: DispatchStore) -> int:
    """The deployment is defined anew, now."""
    ident = await define_deployment(client, revision=2, revised_ms=await redis_now_ms(client))
    return await store.recall_runs(0, ident, "Schedules were changed")


async def test_a_run_handed_out_ahead_of_its_time_is_taken_back_when_its_schedule_is_changed(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", limit=1)
    deployment = await define_deployment(client)
    await announce(store, pool, slots=1, prefetch_ms=10 * MINUTE_MS)
    soon = await redis_now_ms(client) + MINUTE_MS
    (early,) = await submit(
        store, "etl", due_ms=soon, deployment=deployment, scheduled_by=by_schedule(), idempotency_key="k"
    )
    (run,) = await assigned(client, "etl")

    assert await changed(client, store) == 1

    assert await state_of(client, early) == ""
    assert await told(client, early) == ["Scheduled", "Pending", "Cancelled"]
    last = (await read_messages(client, "inbox", "etl/w1"))[-1]
    assert last == {"type": "revoke_runs", "runs": [{"id": early, "epoch": 1}]}
    assert await report(store, "etl", run, "RUNNING") == "fenced"
    assert await in_flight(client, pool) == 0
    assert await client.zcard(keys.key(0, "deployment_in_flight", deployment)) == 0
    await submit(store, "etl", deployment=deployment, scheduled_by=by_schedule(2), idempotency_key="k")
    assert len(await assigned(client, "etl")) == 2


async def test_what_is_due_what_has_begun_and_what_somebody_submitted_stays_with_its_worker(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    await announce(store, pool, slots=10, prefetch_ms=10 * MINUTE_MS)
    now_ms = await redis_now_ms(client)
    (due,) = await submit(store, "etl", due_ms=now_ms, deployment=deployment, scheduled_by=by_schedule())
    (theirs,) = await submit(store, "etl", due_ms=now_ms + MINUTE_MS, deployment=deployment)
    (begun,) = await submit(store, "etl", due_ms=now_ms + MINUTE_MS, deployment=deployment, scheduled_by=by_schedule())
    runs = {run["id"]: run for run in await assigned(client, "etl")}
    await report(store, "etl", runs[begun], "RUNNING")

    assert await changed(client, store) == 0

    assert [await state_of(client, run_id) for run_id in (due, theirs, begun)] == ["PENDING", "PENDING", "RUNNING"]


async def test_the_slot_of_a_run_whose_deployment_went_to_another_partition_goes_to_another_run(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", limit=1)
    deployment = await define_deployment(client)
    await announce(store, pool, slots=1, prefetch_ms=10 * MINUTE_MS)
    soon = await redis_now_ms(client) + MINUTE_MS
    await submit(store, "etl", due_ms=soon, deployment=deployment, scheduled_by=by_schedule())
    (waits,) = await submit(store, "etl", due_ms=soon + MINUTE_MS)
    await client.delete(keys.key(0, "deployment", deployment))

    message = DeploymentDeleted(deployment_id=deployment, deployment="hello/demo", pool="etl", moved_to="far")
    assert await store.cancel_deployment(0, message) == 1

    due, _, _ = await store.due_pools(0)
    await store.claim_runs(0, due)
    assert await state_of(client, waits) == "PENDING"


async def test_of_what_lies_ahead_only_what_an_old_revision_made_and_nobody_asked_to_stop_or_has_begun_is_taken_back(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    await announce(store, pool, slots=10, prefetch_ms=10 * MINUTE_MS)
    about: dict[str, Any] = {"due_ms": await redis_now_ms(client) + MINUTE_MS, "deployment": deployment}
    await client.zadd(keys.key(0, "deployment_in_flight", deployment), {"nobody-knows-it": 1})
    (stopped,) = await submit(store, "etl", scheduled_by=by_schedule(), **about)
    await store.cancel_runs(0, CancelRuns(runs=[stopped]))
    (retried,) = await submit(store, "etl", scheduled_by=by_schedule(), retries=1, retry_delay_seconds=60, **about)
    runs = {run["id"]: run for run in await assigned(client, "etl")}
    await report(store, "etl", runs[retried], "FAILED", started_ms=1)
    await define_deployment(client, revision=2, revised_ms=await redis_now_ms(client))
    (present,) = await submit(store, "etl", scheduled_by=by_schedule(2), **about)

    assert await store.recall_runs(0, deployment, "Schedules were changed") == 0

    states = [await state_of(client, run_id) for run_id in (stopped, retried, present)]
    assert states == ["CANCELLING", "PENDING", "PENDING"]


async def test_what_is_due_within_the_margin_is_left_to_begin(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    await announce(store, pool, slots=10, prefetch_ms=10 * MINUTE_MS)
    soon = await redis_now_ms(client) + MINUTE_MS
    await submit(store, "etl", due_ms=soon, deployment=deployment, scheduled_by=by_schedule())
    await define_deployment(client, revision=2, revised_ms=await redis_now_ms(client))

    removed = await RECALL_RUNS(
        client, 0, deployment_id=deployment, message="", margin=2 * MINUTE_MS, max_runs=RECALL_AT_MOST
    )

    assert removed == 0


async def test_the_call_looks_at_a_bounded_number(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    await announce(store, pool, slots=10, prefetch_ms=10 * MINUTE_MS)
    soon = await redis_now_ms(client) + MINUTE_MS
    await submit(store, "etl", count=3, due_ms=soon, deployment=deployment, scheduled_by=by_schedule())
    await define_deployment(client, revision=2, revised_ms=await redis_now_ms(client))

    assert await RECALL_RUNS(client, 0, deployment_id=deployment, message="", margin=0, max_runs=2) == 2
