from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock import keys
from penstock.contracts.deployments import DeploymentChanged
from penstock.contracts.pools import QueueGone
from penstock.contracts.runs import SubmitRuns
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import DispatchStore
from tests.definitions import define_deployment, define_pool
from tests.dispatching import announce, assigned, in_flight, lose, one_run, places, report, state_of, submit

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
