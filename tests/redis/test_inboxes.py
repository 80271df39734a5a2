"""A worker that never deletes what it has read, or never reads at all, does not fill Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys, streams
from penstock.contracts.runs import CancelRuns, ReportRuns, RunReport, new_run_id
from penstock.contracts.workers import DrainWorker
from tests.definitions import define_pool
from tests.dispatching import announce, assigned, report, submit

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore
    from tests.definitions import DefinedPool

INBOX = keys.key(0, "inbox", "etl/w1")
SLOTS = 2
MOST = 2 * SLOTS + streams.INBOX_BEYOND_SLOTS + 100
"""Redis drops whole blocks of a hundred."""
OFTEN = MOST + 200


@pytest.fixture
async def pool(client: Redis, store: DispatchStore) -> DefinedPool:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=SLOTS)
    return pool


async def newest(client: Redis) -> dict[str, Any]:
    found: Any = await client.xrevrange(INBOX, count=1)
    message: dict[str, Any] = orjson.loads(found[0][1][b"__data__"])
    return message


@pytest.mark.usefixtures("pool")
async def test_assignments_that_are_never_deleted_do_not_pile_up(client: Redis, store: DispatchStore) -> None:
    for _ in range(2):
        await submit(store, "etl", count=OFTEN // 2)
    for _ in range(OFTEN):
        (run, *_) = (await newest(client))["runs"]
        await report(store, "etl", run, "COMPLETED")
    assert await client.xlen(INBOX) <= MOST


@pytest.mark.usefixtures("pool")
async def test_an_assignment_nobody_has_read_yet_stays_whatever_comes_after_it(
    client: Redis, store: DispatchStore
) -> None:
    await submit(store, "etl", count=SLOTS)
    for _ in range(streams.INBOX_BEYOND_SLOTS):
        await store.drain_worker(0, DrainWorker(pool="etl", worker="w1"))
    assert len(await assigned(client, "etl")) == SLOTS


@pytest.mark.usefixtures("pool")
async def test_word_of_what_a_worker_does_not_hold_does_not_pile_up(client: Redis, store: DispatchStore) -> None:
    stranger = RunReport(run=new_run_id(0), token="none", epoch=1, state="COMPLETED")
    message = ReportRuns(pool="etl", worker="w1", reports=[stranger])
    await store.report_runs(0, [message] * OFTEN)
    assert await client.xlen(INBOX) <= MOST
    assert (await newest(client))["type"] == "revoke_runs"


@pytest.mark.usefixtures("pool")
async def test_a_run_that_is_cancelled_again_and_again_does_not_fill_the_inbox(
    client: Redis, store: DispatchStore
) -> None:
    (run_id,) = await submit(store, "etl")
    for _ in range(OFTEN):
        await store.cancel_runs(0, CancelRuns(runs=[run_id]))
    assert await client.xlen(INBOX) <= MOST
    assert (await newest(client))["type"] == "stop_runs"


async def test_a_worker_that_changes_its_slots_all_the_time_does_not_fill_its_inbox(
    client: Redis, store: DispatchStore, pool: DefinedPool
) -> None:
    for number in range(OFTEN):
        await announce(store, pool, slots=1 + number % SLOTS)
    assert await client.xlen(INBOX) <= MOST
    assert (await newest(client))["type"] == "accept_worker"
