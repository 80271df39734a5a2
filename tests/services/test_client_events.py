from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys
from penstock.bus.connection import connect, redis_now_ms
from penstock.client import Penstock
from penstock.client.events import BATCH
from penstock.errors import CursorExpired, Invalid

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis


async def publish(client: Redis, name: str, partition: int = 0, *, entry_id: str = "*") -> str:
    body = {"id": name, "occurred": "2030-01-31T12:00:00Z", "event": name, "resource": {}}
    fields: dict[Any, Any] = {"type": name, "__data__": orjson.dumps(body)}
    added: Any = await client.xadd(keys.key(partition, "events"), fields, id=entry_id)
    return str(added.decode())


async def names(penstock: Penstock, **options: Any) -> list[str]:
    return [event.event async for _, event in penstock.events(follow=False, **options)]


async def test_everything_kept_is_read_from_the_beginning(client: Redis) -> None:
    for name in ("a", "b", "c"):
        await publish(client, name)

    assert await names(Penstock(client, 1), since="0") == ["a", "b", "c"]


async def test_an_empty_stream_has_an_end_too(client: Redis) -> None:
    assert await names(Penstock(client, 1), since="0") == []
    assert await names(Penstock(client, 1)) == []


async def test_reading_on_after_a_cursor_misses_and_repeats_nothing(client: Redis) -> None:
    for name in ("a", "b", "c"):
        await publish(client, name)
    penstock = Penstock(client, 1)
    cursors = [cursor async for cursor, _ in penstock.events(since="0", follow=False)]

    assert await names(penstock, since=cursors[0]) == ["b", "c"]
    assert await names(penstock, since=cursors[2]) == []


async def test_only_names_that_match_a_glob_are_handed_out(client: Redis) -> None:
    for name in ("prefect.work-pool.ready", "prefect.work-queue.ready", "penstock.worker.online"):
        await publish(client, name)

    found = await names(Penstock(client, 1), since="0", names=["prefect.work-pool.*", "*.online"])

    assert found == ["prefect.work-pool.ready", "penstock.worker.online"]


async def test_a_duration_reaches_back_by_the_clock_of_redis(client: Redis) -> None:
    now_ms = await redis_now_ms(client)
    await publish(client, "long ago", entry_id=f"{now_ms - 60_000}-0")
    await publish(client, "lately", entry_id=f"{now_ms - 20_000}-0")

    assert await names(Penstock(client, 1), since=timedelta(seconds=30)) == ["lately"]


async def test_following_hands_out_what_happens_later(client: Redis) -> None:
    await publish(client, "before")
    async with aclosing(Penstock(client, 1).events()) as events:
        coming = asyncio.ensure_future(anext(events))
        # Its first read is on its way; what comes after the start must arrive in any case.
        while not coming.done():
            await publish(client, "after")
            await asyncio.wait([coming], timeout=0.05)

    assert coming.result()[1].event == "after"


async def test_a_follower_rides_out_an_outage_of_redis(own_redis: EmbeddedRedis) -> None:
    client = connect(own_redis.url, retries=0)
    await publish(client, "before")
    async with aclosing(Penstock(client, 1).events(since="0")) as events:
        assert (await anext(events))[1].event == "before"
        coming = asyncio.ensure_future(anext(events))
        await asyncio.to_thread(own_redis.stop)
        await asyncio.to_thread(own_redis.start)
        await publish(client, "after")

        assert (await asyncio.wait_for(coming, 20))[1].event == "after"
    await client.aclose()


async def test_an_expired_cursor_is_refused_with_the_oldest_event_kept(client: Redis) -> None:
    first, _, third = [await publish(client, name) for name in ("a", "b", "c")]
    await client.xtrim(keys.key(0, "events"), maxlen=1, approximate=False)

    with pytest.raises(CursorExpired, match="have been trimmed") as refusal:
        await names(Penstock(client, 1), since=first)

    assert refusal.value.oldest == third
    assert third in refusal.value.hint
    assert await names(Penstock(client, 1), since="0") == ["c"]


async def test_a_cursor_is_expired_also_when_nothing_is_kept(client: Redis) -> None:
    first, last = [await publish(client, name) for name in ("a", "b")]
    await client.xtrim(keys.key(0, "events"), maxlen=0, approximate=False)

    with pytest.raises(CursorExpired):
        await names(Penstock(client, 1), since=first)
    assert await names(Penstock(client, 1), since=last) == []


async def test_a_reader_that_trimming_has_overtaken_is_told(client: Redis) -> None:
    for number in range(BATCH + 1):
        await publish(client, f"n{number}")
    events = Penstock(client, 1).events(since="0", follow=False)
    async with aclosing(events):
        await anext(events)
        for number in range(2 * BATCH):
            await publish(client, f"later{number}")
        await client.xtrim(keys.key(0, "events"), maxlen=BATCH, approximate=False)

        with pytest.raises(CursorExpired):
            async for _ in events:
                pass


async def test_what_is_no_event_is_passed_over(client: Redis) -> None:
    await publish(client, "a")
    garbage: list[dict[Any, Any]] = [{"x": "y"}, {"type": "t", "__data__": "{"}, {"__data__": "[]"}]
    for fields in garbage:
        await client.xadd(keys.key(0, "events"), fields)
    await publish(client, "b")

    assert await names(Penstock(client, 1), since="0") == ["a", "b"]


@pytest.mark.parametrize("since", ["x", "1-2-3", "-1", "1,2", "1-0,", f"{2**64}", f"1-{2**64}", "\u0663-0"])
async def test_what_is_no_cursor_is_refused(client: Redis, since: str) -> None:
    with pytest.raises(Invalid, match="is no cursor"):
        await names(Penstock(client, 1), since=since)


async def test_one_cursor_covers_all_partitions(client: Redis) -> None:
    for partition in range(3):
        await publish(client, f"p{partition}", partition)
    penstock = Penstock(client, 3)
    seen = [(cursor, event.event) async for cursor, event in penstock.events(since="0", follow=False)]

    assert sorted(name for _, name in seen) == ["p0", "p1", "p2"]
    assert await names(penstock, since=seen[-1][0]) == []
    rest = await names(penstock, since=seen[0][0])
    assert sorted([seen[0][1], *rest]) == ["p0", "p1", "p2"]
