from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.contracts.workers import DrainWorker
from services.dispatcher import rules
from tests.definitions import define_pool
from tests.dispatching import announce, assigned, lose, report, submit
from tests.support import read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore


async def drain(
    client: Redis, store: DispatchStore, pool: str = "etl", *, ident: str = "c1", worker: str = "w1", **fields: Any
) -> dict[str, Any]:
    """Send the command and answer the first answer to it."""
    await store.drain_worker(0, DrainWorker(pool=pool, worker=worker, id=ident, **fields))
    answer: Any = await client.lindex(keys.key(0, "reply", ident), 0)
    return dict(orjson.loads(answer))


async def stops(client: Redis, pool: str = "etl") -> list[dict[str, Any]]:
    messages = await read_messages(client, "inbox", f"{pool}/w1")
    return [message for message in messages if message["type"] == "stop_worker"]


async def test_a_worker_that_is_drained_gets_nothing_more_even_if_it_never_reads_that(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=3)
    await submit(store, "etl")

    answer = await drain(client, store, deadline_seconds=60)

    assert answer["ok"]
    assert answer["result"] == {"worker": "w1", "boot_id": "boot-1", "runs": 1}
    assert await stops(client) == [{"type": "stop_worker", "boot_id": "boot-1", "deadline_seconds": 60.0}]
    await submit(store, "etl", count=3)
    # It heartbeats on as if nothing had happened, and finishes what it holds.
    await announce(store, pool, slots=4)
    (run,) = await assigned(client, "etl")
    await report(store, "etl", run, "COMPLETED")
    assert len(await assigned(client, "etl")) == 1


async def test_the_work_of_a_drained_worker_goes_to_the_others(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=9)
    await announce(store, pool, "w2", slots=2)
    await drain(client, store)

    await submit(store, "etl", count=5)

    assert len(await assigned(client, "etl", "w2")) == 2
    assert await assigned(client, "etl", "w1") == []


async def test_a_worker_that_names_queues_is_offered_in_none_of_them(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", queues={"a": {"priority": 1}})
    await announce(store, pool, queues=["a", "default"])

    await drain(client, store)

    await submit(store, "etl", "a")
    await submit(store, "etl")
    assert await assigned(client, "etl") == []


async def test_without_a_deadline_the_worker_uses_its_own(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)

    await drain(client, store)

    assert [stop["deadline_seconds"] for stop in await stops(client)] == [None]


async def test_said_again_it_replaces_the_deadline(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)

    await drain(client, store, ident="c1", deadline_seconds=600)
    await drain(client, store, ident="c2", deadline_seconds=0)

    assert [stop["deadline_seconds"] for stop in await stops(client)] == [600.0, 0.0]


async def test_a_command_that_is_delivered_again_finds_its_answer_and_tells_nobody(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)

    first = await drain(client, store)
    again = await drain(client, store)

    assert first == again
    assert len(await stops(client)) == 1


async def test_a_command_whose_deadline_has_passed_drains_nobody(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)

    answer = await drain(client, store, deadline=await redis_now_ms(client) - 1)

    assert answer["error"]["code"] == "expired"
    await submit(store, "etl")
    assert len(await assigned(client, "etl")) == 1


@pytest.mark.parametrize(("pool", "worker"), [("nowhere", "w1"), ("etl", "nobody"), ("etl", "lost")])
async def test_who_is_not_online_cannot_be_drained(client: Redis, store: DispatchStore, pool: str, worker: str) -> None:
    defined = await define_pool(client, "etl")
    await announce(store, defined)
    await announce(store, defined, "lost")
    await lose(store, defined, "lost")

    answer = await drain(client, store, pool, worker=worker)

    assert answer["error"]["code"] == "not_found"
    told = await read_messages(client, "inbox", f"{pool}/{worker}")
    assert "stop_worker" not in [message["type"] for message in told]


async def test_a_life_that_was_lost_while_it_drained_and_comes_back_is_told_again_how_long_it_has(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await drain(client, store, deadline_seconds=60)
    await lose(store, pool)
    assert await stops(client) == []
    until = int(await client.hget(keys.key(0, "slots", f"{pool.id}/w1"), "drain_until") or 0)

    await announce(store, pool)

    (stop,) = await stops(client)
    left = rules.drain_left_ms(until, await redis_now_ms(client))
    assert left is not None
    assert left / 1000 <= stop["deadline_seconds"] <= 60
    await submit(store, "etl")
    assert await assigned(client, "etl") == []


async def test_one_that_says_it_drains_is_not_told_again(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await drain(client, store)

    await announce(store, pool, slots=0)

    assert len(await stops(client)) == 1


async def test_the_next_life_of_a_drained_worker_gets_work(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, boot_id="old")
    await drain(client, store)

    await announce(store, pool, boot_id="new")

    await submit(store, "etl")
    assert len(await assigned(client, "etl")) == 1
    assert await stops(client) == []


async def test_so_does_the_next_life_of_one_that_does_not_name_its_lives(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, boot_id="")
    await drain(client, store)
    await lose(store, pool, boot_id="")

    await announce(store, pool, boot_id="")

    await submit(store, "etl")
    assert len(await assigned(client, "etl")) == 1


@pytest.mark.parametrize(
    ("slots", "held", "boot_id", "draining"),
    [(3, 1, "b", None), (3, 3, "b", None), (1, 3, "b", None), (3, 1, "b", "b"), (3, 0, "b", "older"), (2, 0, "", "")],
)
async def test_the_script_offers_what_the_rule_says(
    client: Redis, store: DispatchStore, slots: int, held: int, boot_id: str, draining: str | None
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=held or 1, boot_id=boot_id)
    await submit(store, "etl", count=held) if held else None
    if draining is not None:
        await client.hset(keys.key(0, "slots", f"{pool.id}/w1"), mapping={"draining": draining, "drain_until": ""})

    await announce(store, pool, slots=slots, boot_id=boot_id)

    free = await client.zscore(keys.key(0, "pool_free", pool.id), "w1")
    assert (free or 0) == rules.free_slots(slots, held, boot_id=boot_id, draining=draining)
