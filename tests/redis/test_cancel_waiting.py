from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import keys
from penstock.contracts.pools import QueueDeleted, QueueGone
from tests.definitions import define_pool
from tests.dispatching import announce, assigned, report, state_of, submit
from tests.support import read_events

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore
    from tests.definitions import DefinedPool


def gone(pool: DefinedPool, queue: str) -> QueueDeleted:
    return QueueDeleted(
        pool_id=pool.id, pool=pool.name, worker_type=pool.type, queue=QueueGone(id=pool.queues[queue], name=queue)
    )


async def delete_definition(client: Redis, pool: DefinedPool, queue: str) -> None:
    await client.delete(keys.key(0, "queue", pool.queues[queue]))
    await client.zrem(keys.key(0, "pool_queues", pool.id), pool.queues[queue])
    await client.hdel(keys.key(0, "pool_queue_names", pool.id), queue)


async def test_every_waiting_run_of_a_deleted_queue_is_cancelled_and_says_why(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", queues={"old": {"priority": 5}})
    run_ids = await submit(store, "etl", "old", 450)
    await delete_definition(client, pool, "old")

    assert await store.cancel_queue(0, gone(pool, "old")) == 450

    assert {await state_of(client, run_id) for run_id in run_ids} == {"CANCELLED"}
    last = (await read_events(client))[-1]
    assert last["event"] == "prefect.flow-run.Cancelled"
    assert last["resource"]["prefect.state-message"] == "Work queue 'old' was deleted"
    assert [related["prefect.resource.name"] for related in last["related"]] == ["old", "etl"]
    assert await client.exists(keys.key(0, "waiting", pool.queues["old"])) == 0


async def test_runs_in_flight_of_a_deleted_queue_go_on_to_their_end(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", queues={"old": {"priority": 5}})
    await announce(store, pool)
    (run_id,) = await submit(store, "etl", "old")
    await delete_definition(client, pool, "old")

    await store.cancel_queue(0, gone(pool, "old"))

    (run,) = await assigned(client, "etl")
    assert await report(store, "etl", run, "COMPLETED") == "applied"
    assert await state_of(client, run_id) == "COMPLETED"
    assert (await read_events(client))[-1]["related"][0]["prefect.resource.name"] == "old"


async def test_telling_it_twice_cancels_nothing_more(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", queues={"old": {"priority": 5}})
    await submit(store, "etl", "old", 2)
    await store.cancel_queue(0, gone(pool, "old"))
    before = await read_events(client)

    assert await store.cancel_queue(0, gone(pool, "old")) == 0

    assert await read_events(client) == before
