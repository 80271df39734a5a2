from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.contracts.deployments import DeploymentChanged
from penstock.contracts.pools import QueueGone
from penstock.contracts.runs import CancelRuns, SubmitRuns
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import UNPARK_RUNS, DispatchStore
from tests.definitions import define_deployment, define_pool
from tests.dispatching import (
    announce,
    assigned,
    by_schedule,
    in_flight,
    lose,
    one_run,
    places,
    report,
    state_of,
    submit,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_a_blocked_run_hides_nothing_behind_it(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    for _ in range(3):
        await submit(store, "etl", count=700, deployment=deployment)
    (free,) = await submit(store, "etl")

    await announce(store, pool, slots=10)

    assert len(await assigned(client, "etl")) == 2
    assert await state_of(client, free) == "PENDING"
    assert len(await places(client, pool, deployment=deployment)) == 2099


async def test_the_slot_a_run_frees_goes_to_the_next_of_its_deployment_in_the_same_step(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=2)
    await announce(store, pool, slots=10)
    run_ids = await submit(store, "etl", count=6, deployment=deployment)
    order = []
    while open_runs := [run for run in await assigned(client, "etl") if await state_of(client, run["id"]) == "PENDING"]:
        assert len(open_runs) <= 2
        order.append(open_runs[0]["id"])
        await report(store, "etl", open_runs[0], "COMPLETED", started_ms=1)

    assert order == run_ids
    assert await client.zcard(keys.key(0, "deployment_in_flight", deployment)) == 0


async def test_a_run_of_a_better_queue_goes_before_one_parked_earlier(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", queues={"critical": {"priority": 1}, "low": {"priority": 9}})
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool, slots=10)
    (first,) = await submit(store, "etl", "low", deployment=deployment)
    (low,) = await submit(store, "etl", "low", deployment=deployment)
    (critical,) = await submit(store, "etl", "critical", deployment=deployment)

    for expected in (first, critical, low):
        (run,) = [run for run in await assigned(client, "etl") if await state_of(client, run["id"]) == "PENDING"]
        assert run["id"] == expected
        await report(store, "etl", run, "COMPLETED", started_ms=1)


@pytest.mark.parametrize(("limit", "expected"), [(3, 3), (None, 10), (0, 1)])
async def test_a_limit_that_is_changed_counts_at_once(
    client: Redis, store: DispatchStore, limit: int | None, expected: int
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool, slots=100)
    await submit(store, "etl", count=10, deployment=deployment)
    assert await in_flight(client, pool) == 1

    await define_deployment(client, limit=limit)
    message = DeploymentChanged(deployment_id=deployment, deployment="hello/demo", pool="etl", revision=1)
    await store.unpark_runs(0, message.deployment_id, [message.pool])

    assert await in_flight(client, pool) == expected
    assert await client.zcard(keys.key(0, "deployment_in_flight", deployment)) == expected


async def test_more_than_one_call_can_unpark_is_unparked_in_several(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool, slots=1)
    for _ in range(3):
        await submit(store, "etl", count=700, deployment=deployment)
    await announce(store, pool, "w2", slots=1)
    assert len(await places(client, pool, deployment=deployment)) == 2099

    await define_deployment(client, limit=None)
    await store.unpark_runs(0, deployment, ["etl"])

    assert len(await places(client, pool)) == 2098
    assert await places(client, pool, deployment=deployment) == []
    assert await client.exists(keys.key(0, "deployment_parked", deployment)) == 0


async def test_runs_in_flight_before_a_limit_was_set_count(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    await announce(store, pool, slots=100)
    await submit(store, "etl", count=5, deployment=deployment)

    await define_deployment(client, limit=5)
    await submit(store, "etl", count=5, deployment=deployment)

    assert await in_flight(client, pool) == 5


async def test_what_a_lost_worker_held_frees_its_deployments_slot(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool, slots=1)
    first, second = await submit(store, "etl", count=2, deployment=deployment)
    (run,) = await assigned(client, "etl")
    await report(store, "etl", run, "RUNNING")
    await announce(store, pool, "w2", slots=1)

    await lose(store, pool)

    assert [await state_of(client, run_id) for run_id in (first, second)] == ["CRASHED", "PENDING"]


async def test_a_collision_cancels_a_new_run_and_says_why(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1, strategy="cancel_new")
    await announce(store, pool, slots=10)
    first, second = await submit(store, "etl", count=2, deployment=deployment)

    assert [await state_of(client, run_id) for run_id in (first, second)] == ["PENDING", "CANCELLED"]
    message = await client.hget(keys.key(0, "run", second), "message")
    assert message == b"Deployment concurrency limit reached"


async def test_parked_runs_end_with_their_queue(client: Redis) -> None:
    store = DispatchStore(client, DispatcherSettings())
    pool = await define_pool(client, "etl", queues={"old": {"priority": 5}})
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool, slots=10)
    runs = [one_run("old", deployment=deployment) for _ in range(3)]
    await store.submit_runs(0, [SubmitRuns(pool="etl", runs=runs)])

    await store._cancel_waiting(0, pool.id, "etl", "process", _gone(pool.queues["old"]), "Work queue 'old' was deleted")

    assert [await state_of(client, run.id) for run in runs] == ["PENDING", "CANCELLED", "CANCELLED"]
    assert await client.exists(keys.key(0, "queue_parked", pool.queues["old"])) == 0


def _gone(ident: str) -> QueueGone:
    return QueueGone(id=ident, name="old")


async def test_one_that_was_to_follow_and_is_cancelled_makes_room_for_the_next(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool, slots=10)
    first, second, third = await submit(store, "etl", count=3, deployment=deployment)
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "true")
    await report(store, "etl", (await assigned(client, "etl"))[0], "COMPLETED", started_ms=1)
    assert await places(client, pool) == [second]

    await store.cancel_runs(0, CancelRuns(runs=[second]))
    assert await places(client, pool) == [third]
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "false")
    await store.claim_runs(0, ["etl"])

    assert [await state_of(client, run_id) for run_id in (first, second, third)] == [
        *("COMPLETED", "CANCELLED", "PENDING")
    ]


async def test_whatever_made_room_the_next_claim_finds_it(client: Redis, store: DispatchStore) -> None:
    """A limit that was raised a moment ago, for example: nobody has told the dispatcher yet."""
    pool = await define_pool(client, "etl", queues={"critical": {"priority": 1}, "low": {"priority": 9}})
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool, slots=10)
    _, parked = await submit(store, "etl", "critical", count=2, deployment=deployment)

    await define_deployment(client, limit=2)
    (low,) = await submit(store, "etl", "low", deployment=deployment)

    assert [await state_of(client, run_id) for run_id in (parked, low)] == ["PENDING", "SCHEDULED"]


async def test_of_parked_runs_that_were_missed_the_latest_runs_as_soon_as_there_is_room(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool, slots=10)
    now_ms = await redis_now_ms(client)
    await submit(store, "etl", deployment=deployment)
    about: Any = {"deployment": deployment, "scheduled_by": by_schedule(catch_up="latest")}
    parked = []
    for offset in (-5000, -4000, -3000, -2000, -1000):
        parked += await submit(store, "etl", due_ms=now_ms + offset, **about)

    await report(store, "etl", (await assigned(client, "etl"))[0], "COMPLETED", started_ms=1)

    assert [await state_of(client, run_id) for run_id in parked] == [*["CANCELLED"] * 4, "PENDING"]


async def test_a_run_that_was_handed_out_once_is_neither_missed_nor_cancelled_by_a_collision(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1, strategy="cancel_new")
    await announce(store, pool, slots=1)
    long_ago = await redis_now_ms(client) - 50_000
    about: Any = {"deployment": deployment, "retries": 1, "scheduled_by": by_schedule(catch_up="none")}
    (run_id,) = await submit(store, "etl", due_ms=long_ago, **about)
    (run,) = await assigned(client, "etl")
    await client.zadd(keys.key(0, "deployment_in_flight", deployment), {"another": 1})
    await client.hset(keys.key(0, "run", run_id), "due", str(long_ago - 100_000))

    await report(store, "etl", run, "SCHEDULED", message="Worker is draining")

    assert await state_of(client, run_id) == "SCHEDULED"
    assert await places(client, pool, deployment=deployment) == [run_id]
    await client.zrem(keys.key(0, "deployment_in_flight", deployment), "another")
    await store.claim_runs(0, ["etl"])
    assert await state_of(client, run_id) == "PENDING"


async def test_a_retry_of_an_older_run_does_not_overtake_the_latest(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    await announce(store, pool, slots=1)
    about: Any = {"deployment": deployment, "scheduled_by": by_schedule(catch_up="latest")}
    now_ms = await redis_now_ms(client)
    (older,) = await submit(store, "etl", due_ms=now_ms - 9000, retries=1, **about)
    (newer,) = await submit(store, "etl", due_ms=now_ms - 1000, **about)

    await report(store, "etl", (await assigned(client, "etl"))[0], "FAILED", started_ms=1)

    assert await state_of(client, newer) == "PENDING"
    await report(store, "etl", (await assigned(client, "etl"))[1], "COMPLETED", started_ms=1)
    assert await state_of(client, older) == "PENDING"


async def test_a_run_does_not_begin_again_when_its_deployment_is_gone(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    await announce(store, pool)
    (run_id,) = await submit(store, "etl", deployment=deployment, retries=5)
    await client.delete(keys.key(0, "deployment", deployment))

    await report(store, "etl", (await assigned(client, "etl"))[0], "FAILED", started_ms=1)

    assert await state_of(client, run_id) == "FAILED"


async def test_thousands_of_missed_runs_are_dropped_at_a_cost_that_grows_with_their_number_only(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    about: Any = {"deployment": deployment, "scheduled_by": by_schedule(catch_up="latest")}
    now_ms = await redis_now_ms(client)
    missed = []
    for block in range(5):
        runs = [one_run("default", now_ms - 10_000_000 + 1000 * (1000 * block + n), **about) for n in range(1000)]
        await store.submit_runs(0, [SubmitRuns(pool="etl", runs=runs)])
        missed += [run.id for run in runs]
    before: Any = await client.info("commandstats")

    await announce(store, pool)

    after: Any = await client.info("commandstats")
    looked = after["cmdstat_hmget"]["calls"] - before["cmdstat_hmget"]["calls"]
    assert await state_of(client, missed[-1]) == "PENDING"
    assert await state_of(client, missed[-2]) == "CANCELLED"
    assert looked < 5 * 5000, "a few looks at each, however many wait behind it"


async def test_one_that_was_parked_and_is_due_before_those_that_stay_goes_when_another_makes_room(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", paused=True)
    full = await define_deployment(client, limit=0, strategy="cancel_new")
    await announce(store, pool, prefetch_ms=60_000)
    now_ms = await redis_now_ms(client)
    (stays,) = await submit(store, "etl", due_ms=now_ms + 30_000, deployment=full)
    parking = await define_deployment(client, "hello/parked", limit=1)
    by = by_schedule(catch_up="none")
    (missed,) = await submit(store, "etl", due_ms=now_ms - 100_000, deployment=parking, scheduled_by=by)
    (next_one,) = await submit(store, "etl", due_ms=now_ms - 500, deployment=parking)
    queue = pool.queues["default"]
    for run_id, due_ms in ((missed, now_ms - 100_000), (next_one, now_ms - 500)):
        await client.zrem(keys.key(0, "waiting", queue), run_id)
        await client.zadd(keys.key(0, "parked", f"{queue}/{parking}"), {run_id: due_ms})
    await client.sadd(keys.key(0, "queue_parked", queue), parking)
    await client.sadd(keys.key(0, "deployment_parked", parking), queue)
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "false")

    await store.claim_runs(0, ["etl"])

    assert [await state_of(client, run_id) for run_id in (missed, next_one, stays)] == [
        *("CANCELLED", "PENDING", "SCHEDULED")
    ]


@pytest.mark.parametrize("lost", [False, True])
async def test_a_slot_given_back_in_one_pool_is_told_to_the_pool_in_which_the_next_run_waits(
    client: Redis, store: DispatchStore, lost: bool
) -> None:
    one, two = await define_pool(client, "one"), await define_pool(client, "two")
    deployment = await define_deployment(client, limit=1)
    await announce(store, one)
    await announce(store, two)
    await submit(store, "one", deployment=deployment)
    (parked,) = await submit(store, "two", deployment=deployment)
    assert await places(client, two, deployment=deployment) == [parked]

    (run,) = await assigned(client, "one")
    await report(store, "one", run, "RUNNING" if lost else "COMPLETED", started_ms=1)
    if lost:
        await lose(store, one)

    due, _, _ = await store.due_pools(0)
    assert due == ["two"]
    await store.claim_runs(0, due)
    assert await state_of(client, parked) == "PENDING"


async def test_as_many_are_taken_back_as_there_is_room_for(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool)
    _, first, second, third = await submit(store, "etl", count=4, deployment=deployment)
    await define_deployment(client, limit=2)

    assert await UNPARK_RUNS(client, 0, deployment_id=deployment, max_runs=1000) == 1

    assert await places(client, pool) == [first]
    assert await places(client, pool, deployment=deployment) == [second, third]


@pytest.mark.parametrize("gone", ["queue", "pool"])
async def test_what_is_parked_where_the_definition_is_gone_is_taken_back_and_nobody_told(
    client: Redis, store: DispatchStore, gone: str
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=0)
    await announce(store, pool)
    await submit(store, "etl", deployment=deployment)
    await client.delete(keys.key(0, gone, pool.id if gone == "pool" else pool.queues["default"]))
    await define_deployment(client, limit=None)

    assert await UNPARK_RUNS(client, 0, deployment_id=deployment, max_runs=1000) == 1

    assert await client.zcard(keys.key(0, "due")) == 0


async def test_nobody_is_told_where_nothing_is_parked_any_more(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=0)
    await announce(store, pool)
    (run_id,) = await submit(store, "etl", deployment=deployment)
    await store.cancel_runs(0, CancelRuns(runs=[run_id]))
    await define_deployment(client, limit=None)

    assert await UNPARK_RUNS(client, 0, deployment_id=deployment, max_runs=1000) == 0

    assert await client.zcard(keys.key(0, "due")) == 0
    assert await client.exists(keys.key(0, "queue_parked", pool.queues["default"])) == 0
