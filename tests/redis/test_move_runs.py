from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import keys
from penstock.bus.connection import redis_now_ms
from tests.definitions import define_deployment, define_pool
from tests.dispatching import announce, assigned, places, submit

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore


async def test_what_waits_of_a_deployment_moves_with_it_and_keeps_its_time(client: Redis, store: DispatchStore) -> None:
    old = await define_pool(client, "old")
    new = await define_pool(client, "new", queues={"fast": {"priority": 1}})
    deployment = await define_deployment(client, pool="old")
    soon = await redis_now_ms(client) + 3_600_000
    later = await submit(store, "old", count=250, due_ms=soon, deployment=deployment)
    (now,) = await submit(store, "old", deployment=deployment)
    (others,) = await submit(store, "old")

    await define_deployment(client, pool="new", queue="fast")
    assert await store.move_runs(0, deployment) == 251

    assert await places(client, old) == [others]
    assert set(await places(client, new, "fast")) == {now, *later}
    assert await client.zscore(keys.key(0, "waiting", new.queues["fast"]), later[0]) == soon
    assert await client.zcard(keys.key(0, "deployment_waiting", deployment)) == 251
    await announce(store, new, slots=10)
    assert [run["id"] for run in await assigned(client, "new")] == [now]


async def test_parked_runs_move_too_and_what_is_there_already_stays(client: Redis, store: DispatchStore) -> None:
    old = await define_pool(client, "old")
    new = await define_pool(client, "new")
    deployment = await define_deployment(client, pool="old", limit=1)
    await announce(store, old, slots=10)
    _, parked = await submit(store, "old", count=2, deployment=deployment)
    assert await places(client, old, deployment=deployment) == [parked]

    await define_deployment(client, pool="new", limit=1)
    assert await store.move_runs(0, deployment) == 1
    assert await store.move_runs(0, deployment) == 0

    assert await places(client, new) == [parked]


async def test_nothing_moves_to_a_pool_or_queue_that_does_not_exist(client: Redis, store: DispatchStore) -> None:
    old = await define_pool(client, "old")
    deployment = await define_deployment(client, pool="old")
    (run_id,) = await submit(store, "old", deployment=deployment)

    await define_deployment(client, pool="nowhere")
    assert await store.move_runs(0, deployment) == 0

    assert await places(client, old) == [run_id]
