from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.contracts.runs import CancelRuns, DeleteRuns, new_run_id
from services.dispatcher.rules import deleted
from tests.definitions import define_pool
from tests.dispatching import announce, answered, assigned, report, state_of, submit
from tests.support import read_events

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore


@pytest.mark.parametrize(
    "state", ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
)
async def test_only_finished_runs_are_deleted(client: Redis, store: DispatchStore, state: str) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=int(state != "SCHEDULED"))
    (run_id,) = await submit(store, "etl")
    await client.xadd(keys.key(0, "logs", run_id), {"type": "run.log"})
    if state == "CANCELLING":
        await store.cancel_runs(0, CancelRuns(runs=[run_id]))
    elif state not in ("SCHEDULED", "PENDING"):
        await report(store, "etl", (await assigned(client, "etl"))[0], state, started_ms=1)
    events = await read_events(client)

    words = await store.delete_runs(0, DeleteRuns(runs=[run_id]))

    assert words == [deleted(state)]
    there = words == ["unfinished"]
    assert await state_of(client, run_id) == (state if there else "")
    assert await client.exists(keys.key(0, "logs", run_id)) == int(there)
    assert await client.zscore(keys.key(0, "pool_finished", pool.id), run_id) is None
    assert await read_events(client) == events


async def test_a_run_that_is_not_there_is_unknown_and_deleting_twice_is_harmless(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")
    await report(store, "etl", (await assigned(client, "etl"))[0], "COMPLETED")
    message = DeleteRuns(runs=[run_id, new_run_id(0)])

    assert await store.delete_runs(0, message) == ["deleted", "unknown"]
    assert await store.delete_runs(0, message) == ["unknown", "unknown"]


async def test_the_answer_is_given_with_the_deletion(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    (waiting, ended), unknown = await submit(store, "etl", count=2), new_run_id(0)
    await store.cancel_runs(0, CancelRuns(runs=[ended]))

    await store.delete_runs(0, DeleteRuns(id="c1", runs=[waiting, ended, unknown]))

    (reply,) = await answered(client, "c1")
    assert (reply.ok, reply.result) == (True, {"deleted": [ended], "unfinished": [waiting], "unknown": [unknown]})


async def test_a_deletion_that_comes_again_is_answered_as_before(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    (ended,) = await submit(store, "etl")
    await store.cancel_runs(0, CancelRuns(runs=[ended]))
    message = DeleteRuns(id="c1", runs=[ended])

    assert await store.delete_runs(0, message) == ["deleted"]
    assert await store.delete_runs(0, message) == "answered"

    first, second = await answered(client, "c1")
    assert first == second


async def test_past_its_deadline_a_deletion_changes_nothing(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    (ended,) = await submit(store, "etl")
    await store.cancel_runs(0, CancelRuns(runs=[ended]))
    late = await redis_now_ms(client) - 1

    assert await store.delete_runs(0, DeleteRuns(id="c1", deadline=late, runs=[ended])) == "expired"

    assert await state_of(client, ended) == "CANCELLED"
    (reply,) = await answered(client, "c1")
    assert (reply.ok, reply.error and reply.error.code) == (False, "expired")
