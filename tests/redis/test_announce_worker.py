from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import keys
from penstock.contracts.runs import CancelRuns
from tests.definitions import define_pool, define_queue
from tests.dispatching import announce, assigned, in_flight, lose, report, state_of, submit
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore


async def test_a_worker_gets_the_work_that_waits_as_soon_as_it_is_announced(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await submit(store, "etl", count=3)

    await announce(store, pool, slots=2)

    messages = await read_messages(client, "inbox", "etl/w1")
    assert [message["type"] for message in messages] == ["accept_worker", "assign_runs"]
    assert messages[0] == {"type": "accept_worker", "boot_id": "boot-1", "slots": 2}
    assert len(messages[1]["runs"]) == 2


async def test_an_older_announcement_after_a_newer_changes_nothing(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    assert await announce(store, pool, slots=3, seq=1_000_005)

    assert not await announce(store, pool, slots=99, seq=1_000_004)

    await submit(store, "etl", count=5)
    assert len(await assigned(client, "etl")) == 3


async def test_slots_are_absolute_so_the_same_announcement_adds_nothing(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=2)
    await announce(store, pool, slots=2)

    await submit(store, "etl", count=9)

    assert len(await assigned(client, "etl")) == 2


async def test_fewer_slots_take_nothing_away_and_give_nothing_new_until_enough_are_free(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=3)
    await submit(store, "etl", count=9)
    await announce(store, pool, slots=1)
    runs = await assigned(client, "etl")
    assert len(runs) == 3

    await report(store, "etl", runs[0], "COMPLETED")
    await report(store, "etl", runs[1], "COMPLETED")
    assert len(await assigned(client, "etl")) == 3
    await report(store, "etl", runs[2], "COMPLETED")

    assert len(await assigned(client, "etl")) == 4


async def test_draining_means_zero_slots_and_nothing_new(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await announce(store, pool, slots=0)

    await submit(store, "etl", count=3)

    assert await assigned(client, "etl") == []


async def test_a_new_life_voids_the_claims_of_the_old(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=2, boot_id="old")
    pending, running = await submit(store, "etl", count=2)
    old = {run["id"]: run for run in await assigned(client, "etl")}
    await report(store, "etl", old[running], "RUNNING")

    await announce(store, pool, slots=2, boot_id="new")

    assert await state_of(client, running) == "CRASHED"
    messages = await read_messages(client, "inbox", "etl/w1")
    assert [message["type"] for message in messages] == ["accept_worker", "assign_runs"]
    assert messages[1]["boot_id"] == "new"
    (again,) = messages[1]["runs"]
    assert (again["id"], again["epoch"]) == (pending, 2)
    assert await report(store, "etl", old[pending], "COMPLETED") == "fenced"
    assert await report(store, "etl", old[running], "COMPLETED") == "fenced"


async def test_a_worker_that_changes_its_queues_is_offered_for_the_new_ones_only(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", queues={"a": {"priority": 1}, "b": {"priority": 2}})
    await announce(store, pool, queues=["a"])
    await announce(store, pool, queues=["b"])

    await submit(store, "etl", "a", 1)
    await submit(store, "etl", "b", 1)

    assert [run["queue"] for run in await assigned(client, "etl")] == ["b"]


async def test_a_queue_created_later_is_served_after_the_next_announcement(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, queues=["later"])
    await define_queue(client, pool, "later")
    await submit(store, "etl", "later", 1)
    assert await assigned(client, "etl") == []

    await announce(store, pool, queues=["later"])

    assert len(await assigned(client, "etl")) == 1


async def test_an_announcement_for_a_deleted_pool_leaves_nothing_behind(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await client.delete(keys.key(0, "pool", pool.id))
    await client.hdel(keys.key(0, "pools"), "etl")

    assert not await announce(store, pool)

    assert await client.keys("*slots*") == []


async def test_two_pools_may_have_workers_of_the_same_name(client: Redis, store: DispatchStore) -> None:
    one, two = await define_pool(client, "one"), await define_pool(client, "two")
    await announce(store, one, "w1", slots=1)
    await announce(store, two, "w1", slots=1)
    await submit(store, "one", count=2)
    await submit(store, "two", count=2)

    await lose(store, one)

    assert await in_flight(client, two) == 1
    assert len(await assigned(client, "two")) == 1
    assert [event for event in await read_events(client) if event["event"].startswith("penstock.")] != []


async def test_an_announcement_that_comes_again_is_an_old_one(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    assert await announce(store, pool, seq=4_000_001)

    assert not await announce(store, pool, seq=4_000_001)


async def test_what_lies_in_the_inbox_of_a_worker_nobody_knew_stays_there(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await client.xadd(keys.key(0, "inbox", "etl/w1"), {"type": "refuse_worker", "__data__": '{"type":"refuse_worker"}'})

    await announce(store, pool)

    messages = await read_messages(client, "inbox", "etl/w1")
    assert [message["type"] for message in messages] == ["refuse_worker", "accept_worker"]


async def test_a_worker_that_served_every_queue_and_names_some_is_offered_for_those_only(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", queues={"a": {"priority": 1}, "b": {"priority": 2}})
    await announce(store, pool)
    await announce(store, pool, queues=["b"])

    await submit(store, "etl", "a", 1)

    assert await assigned(client, "etl") == []


async def test_a_life_that_comes_back_keeps_what_is_its_own(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", on_worker_lost="keep")
    await announce(store, pool, boot_id="old")
    (run_id,) = await submit(store, "etl")
    await report(store, "etl", (await assigned(client, "etl"))[0], "RUNNING")
    await announce(store, pool, boot_id="new")
    await store.cancel_runs(0, CancelRuns(runs=[run_id]))

    await announce(store, pool, boot_id="old")

    assert await state_of(client, run_id) == "CANCELLING"


async def test_the_inbox_of_a_worker_that_comes_back_does_not_expire(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await submit(store, "etl")
    (run,) = await assigned(client, "etl")
    await lose(store, pool)
    await report(store, "etl", run, "RUNNING")
    assert await client.ttl(keys.key(0, "inbox", "etl/w1")) > 0

    await announce(store, pool)

    assert await client.ttl(keys.key(0, "inbox", "etl/w1")) == -1


async def test_a_queue_that_is_gone_is_offered_nobody(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", queues={"a": {"priority": 1}})
    await announce(store, pool, queues=["a", "default"])
    await submit(store, "etl")
    gone = pool.queues["a"]
    await client.delete(keys.key(0, "queue", gone), keys.key(0, "queue_free", gone))

    await report(store, "etl", (await assigned(client, "etl"))[0], "COMPLETED")

    assert await client.exists(keys.key(0, "queue_free", gone)) == 0
