from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import keys
from penstock.contracts.pools import PoolDeleted, QueueGone
from tests.definitions import define_pool
from tests.dispatching import announce, assigned, report, state_of, submit
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore
    from tests.definitions import DefinedPool


async def delete_definition(client: Redis, pool: DefinedPool) -> PoolDeleted:
    for queue_id in pool.queues.values():
        await client.delete(keys.key(0, "queue", queue_id))
    await client.delete(keys.key(0, "pool", pool.id), keys.key(0, "pool_queues", pool.id))
    await client.delete(keys.key(0, "pool_queue_names", pool.id))
    await client.hdel(keys.key(0, "pools"), pool.name)
    queues = [QueueGone(id=queue_id, name=name) for name, queue_id in pool.queues.items()]
    return PoolDeleted(pool_id=pool.id, pool=pool.name, worker_type=pool.type, queues=queues)


async def test_a_deleted_pools_runs_are_cancelled_wherever_they_are(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=2)
    run_ids = await submit(store, "etl", count=5)
    await report(store, "etl", (await assigned(client, "etl"))[0], "RUNNING")
    told = await delete_definition(client, pool)

    assert await store.cancel_pool(0, told) == 5

    assert {await state_of(client, run_id) for run_id in run_ids} == {"CANCELLED"}
    assert (await read_events(client))[-1]["resource"]["prefect.state-message"] == "Work pool 'etl' was deleted"


async def test_workers_are_told_to_stop_what_they_hold(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=2)
    run_ids = await submit(store, "etl", count=2)

    await store.cancel_pool(0, await delete_definition(client, pool))

    revoked = (await read_messages(client, "inbox", "etl/w1"))[-1]
    assert revoked["type"] == "revoke_runs"
    assert sorted(run["id"] for run in revoked["runs"]) == sorted(run_ids)
    assert {run["epoch"] for run in revoked["runs"]} == {1}


async def test_a_late_report_for_a_cancelled_run_is_fenced(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")
    (run,) = await assigned(client, "etl")
    await store.cancel_pool(0, await delete_definition(client, pool))

    assert await report(store, "etl", run, "COMPLETED") == "fenced"

    assert await state_of(client, run_id) == "CANCELLED"


async def test_nothing_of_the_dispatchers_outlives_a_deleted_pool_without_an_expiry(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    await submit(store, "etl", count=3)
    await store.cancel_pool(0, await delete_definition(client, pool))

    permanent = {name async for name in client.scan_iter("*") if await client.ttl(name) == -1}

    assert permanent == {keys.key(0, "events").encode(), keys.key(0, "event_ledger").encode()} & permanent


async def test_more_runs_in_flight_than_one_call_takes_are_all_cancelled(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=450)
    run_ids = await submit(store, "etl", count=450)

    assert await store.cancel_pool(0, await delete_definition(client, pool)) == 450

    assert {await state_of(client, run_id) for run_id in run_ids} == {"CANCELLED"}
