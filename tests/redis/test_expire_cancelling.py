from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.contracts.runs import CancelRuns
from services.dispatcher.store import EXPIRE_CANCELLING
from tests.definitions import define_pool
from tests.dispatching import announce, assigned, lose, report, state_of, submit, told
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore


async def overdue(client: Redis, run_id: str) -> None:
    """Let its time be over."""
    await client.zadd(keys.key(0, "cancelling"), {run_id: await redis_now_ms(client) - 1})


async def test_what_the_worker_has_not_ended_in_time_is_cancelled_and_its_slot_used(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    first, second = await submit(store, "etl", count=2)
    await store.cancel_runs(0, CancelRuns(runs=[first]))
    await overdue(client, first)

    await store.expire_cancelling(0)

    assert await told(client, first) == ["Scheduled", "Pending", "Cancelling", "Cancelled"]
    assert await state_of(client, second) == "PENDING"
    kinds = [message["type"] for message in await read_messages(client, "inbox", "etl/w1")]
    assert kinds == ["accept_worker", "assign_runs", "stop_runs", "revoke_runs", "assign_runs"]


async def test_before_its_time_nothing_happens(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")
    await store.cancel_runs(0, CancelRuns(runs=[run_id]))

    await store.expire_cancelling(0)

    assert await state_of(client, run_id) == "CANCELLING"
    assert await client.zcard(keys.key(0, "cancelling")) == 1


async def test_a_run_that_has_ended_meanwhile_is_left_as_it_is(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")
    (run,) = await assigned(client, "etl")
    await store.cancel_runs(0, CancelRuns(runs=[run_id]))
    await report(store, "etl", run, "COMPLETED", started_ms=1)
    await overdue(client, run_id)
    events = await read_events(client)

    await store.expire_cancelling(0)

    assert await read_events(client) == events
    assert await client.zcard(keys.key(0, "cancelling")) == 0


async def test_the_slot_of_a_kept_run_whose_worker_never_returns_is_freed_by_cancelling_it(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", on_worker_lost="keep", limit=1)
    await announce(store, pool, slots=1)
    kept, waits = await submit(store, "etl", count=2)
    (run,) = await assigned(client, "etl")
    await report(store, "etl", run, "RUNNING")
    await lose(store, pool)
    await announce(store, pool, "w2", slots=1)
    assert await state_of(client, waits) == "SCHEDULED"

    await store.cancel_runs(0, CancelRuns(runs=[kept]))
    await overdue(client, kept)
    await store.expire_cancelling(0)

    assert (await state_of(client, kept), await state_of(client, waits)) == ("CANCELLED", "PENDING")


async def test_if_its_dispatcher_dies_right_after_it_the_due_clock_of_another_uses_the_slot(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    first, _ = await submit(store, "etl", count=2)
    await store.cancel_runs(0, CancelRuns(runs=[first]))
    await overdue(client, first)

    await EXPIRE_CANCELLING(client, 0, message="", max_runs=10, retention=60, kept=10)

    assert (await store.due_pools(0))[0] == ["etl"]
