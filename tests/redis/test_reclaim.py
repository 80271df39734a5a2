"""What a dead consumer left is taken over; poison is buried; what is done is trimmed; who left is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from penstock import keys, streams
from penstock.bus import reclaim
from penstock.bus.reclaim import CLAIM_AT_ONCE, MAX_DELIVERIES, Reclaimer
from penstock.bus.requests import publish
from penstock.bus.routing import Delivery, Route, Subscription
from penstock.contracts.workers import Heartbeat
from penstock.errors import NoReply
from tests.support import read_messages, wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis

STREAM = keys.key(0, "heartbeats")
GROUP = "monitor"


class Handled:
    """A handler that remembers the workers it saw, or raises what it is told to."""

    def __init__(self) -> None:
        self.workers: list[str] = []
        self.again: list[bool] = []
        self.raises: Exception | None = None

    async def __call__(self, batch: list[Delivery[Any]]) -> None:
        if self.raises:
            raise self.raises
        self.workers += [delivery.message.worker for delivery in batch]
        self.again += [delivery.entry.again for delivery in batch]


@pytest.fixture
def handled() -> Handled:
    return Handled()


def reclaimer(client: Redis, handled: Handled, idle_ms: int = 0, *, trims: bool = True) -> Reclaimer:
    subscription = Subscription(streams.HEARTBEATS, GROUP, [Route(Heartbeat, handled)], trims=trims)
    return Reclaimer(client, subscription, 0, "living", idle_ms)


async def left_behind(client: Redis, *workers: str, consumer: str = "dead") -> list[str]:
    """Entries that a consumer read and never acknowledged."""
    ids = [
        await publish(client, streams.HEARTBEATS, 0, Heartbeat(pool="etl", worker=worker, worker_type="process"))
        for worker in workers
    ]
    if not await client.xinfo_groups(STREAM):
        await client.xgroup_create(STREAM, GROUP, "0")
    await client.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=1000)
    return ids


async def pending(client: Redis) -> list[Any]:
    found: Any = await client.xpending_range(STREAM, GROUP, "-", "+", 1000)
    return list(found)


async def test_what_a_dead_consumer_left_is_handled_once_and_acknowledged(client: Redis, handled: Handled) -> None:
    await left_behind(client, "w1", "w2", "w3")
    taker = reclaimer(client, handled)
    assert await taker.reclaim() == 3
    assert await taker.reclaim() == 0
    assert handled.workers == ["w1", "w2", "w3"]
    assert handled.again == [True, True, True]
    assert await pending(client) == []


async def test_what_a_living_consumer_has_in_hand_is_not_stolen(client: Redis, handled: Handled) -> None:
    await left_behind(client, "w1")
    assert await reclaimer(client, handled, idle_ms=60_000).reclaim() == 0
    assert handled.workers == []
    assert [entry["consumer"] for entry in await pending(client)] == [b"dead"]


async def test_catching_up_handles_what_anybody_has_in_hand_in_order_up_to_what_comes_next(
    client: Redis, handled: Handled
) -> None:
    """Also what another living process has in hand right now: it is carried out twice, which changes nothing."""
    await left_behind(client, "w1")
    await left_behind(client, "w2", consumer="living")
    await left_behind(client, "w3", consumer="another")
    *_, newest = await left_behind(client, "w4", consumer="living")

    assert await reclaimer(client, handled, idle_ms=60_000).catch_up(newest, lambda: True)

    assert handled.workers == ["w1", "w2", "w3"]
    assert handled.again == [True, True, True]
    assert [one["message_id"].decode() for one in await pending(client)] == [newest]


async def test_what_fails_while_catching_up_stays_pending_and_is_not_counted(client: Redis, handled: Handled) -> None:
    await left_behind(client, "w1", "w2")
    handled.raises = RuntimeError("no")

    for _ in range(MAX_DELIVERIES):
        assert await reclaimer(client, handled).catch_up("+", lambda: True)

    assert [one["times_delivered"] for one in await pending(client)] == [1, 1]
    assert await read_messages(client, "dead") == []


async def test_catching_up_passes_over_what_is_trimmed_however_much_that_is(client: Redis, handled: Handled) -> None:
    ids = await left_behind(client, *(f"w{number}" for number in range(2 * CLAIM_AT_ONCE + 5)))
    await client.xtrim(STREAM, minid=ids[-2], approximate=False)

    assert await reclaimer(client, handled).catch_up("+", lambda: True)

    assert handled.workers == [f"w{2 * CLAIM_AT_ONCE + 3}", f"w{2 * CLAIM_AT_ONCE + 4}"]
    assert await pending(client) == []


async def test_catching_up_ends_when_it_is_told_to(client: Redis, handled: Handled) -> None:
    await left_behind(client, "w1", "w2", "w3")

    assert not await reclaimer(client, handled).catch_up("+", lambda: len(handled.workers) < 2)

    assert handled.workers == ["w1", "w2"]


async def test_where_the_order_counts_a_stop_finishes_nothing_behind_what_others_have_in_hand(
    client: Redis, handled: Handled
) -> None:
    await left_behind(client, "w1", consumer="living")
    await left_behind(client, "w2", consumer="another")
    await left_behind(client, "w3", consumer="living")
    subscription = Subscription(streams.HEARTBEATS, GROUP, [Route(Heartbeat, handled)], ordered=True)

    assert await Reclaimer(client, subscription, 0, "living").finish() == 1

    assert handled.workers == ["w1"]
    assert handled.again == [True], "a Redis that was set back may have handed it out before"


def in_order(client: Redis, handled: Handled, idle_ms: int = 0) -> Reclaimer:
    subscription = Subscription(streams.HEARTBEATS, GROUP, [Route(Heartbeat, handled)], ordered=True)
    return Reclaimer(client, subscription, 0, "living", idle_ms)


async def test_where_the_order_counts_nothing_is_handled_before_what_somebody_has_in_hand(
    client: Redis, handled: Handled
) -> None:
    first, _ = await left_behind(client, "w1", "w2")
    idle_ms = 300

    async def idle_long_enough() -> bool:
        return all(entry["time_since_delivered"] >= idle_ms for entry in await pending(client))

    await wait_until(idle_long_enough, what="both have been idle")
    await client.xclaim(STREAM, GROUP, "another", 0, [first])

    assert await in_order(client, handled, idle_ms).reclaim() == 0
    assert handled.workers == []
    await wait_until(idle_long_enough, what="both have been idle again")
    assert await in_order(client, handled, idle_ms).reclaim() == 2
    assert handled.workers == ["w1", "w2"]


@pytest.mark.parametrize("problem", [NoReply("another service is away"), ResponseError("OOM command not allowed")])
async def test_where_the_order_counts_nothing_is_handled_before_what_has_to_wait(
    client: Redis, handled: Handled, problem: Exception
) -> None:
    await left_behind(client, "w1", "w2")
    handled.raises = problem

    assert await in_order(client, handled).reclaim() == 0
    with pytest.raises(type(problem)):
        await in_order(client, handled).catch_up("+", lambda: True)

    first, second = await pending(client)
    assert (first["consumer"], second["consumer"]) == (b"living", b"dead"), "the second was not tried"
    handled.raises = None
    assert await in_order(client, handled).reclaim() == 2
    assert handled.workers == ["w1", "w2"]


async def test_two_reclaimers_do_not_both_take_an_entry(client: Redis, handled: Handled) -> None:
    await left_behind(client, "w1")
    idle_ms = 50

    async def idle_long_enough() -> bool:
        return bool((await pending(client))[0]["time_since_delivered"] >= idle_ms)

    await wait_until(idle_long_enough, what="the entry has been idle")
    first, second = (reclaimer(client, handled, idle_ms) for _ in range(2))
    listed = await pending(client)
    assert await first._take(listed[0]["message_id"], 1) == 1
    await left_behind(client)  # the group exists still; nothing new
    assert await second._take(listed[0]["message_id"], 1) == 0
    assert handled.workers == ["w1"]


async def test_poison_is_buried_after_its_last_delivery_with_the_count(client: Redis, handled: Handled) -> None:
    [entry_id] = await left_behind(client, "w1")
    handled.raises = ValueError("cannot be handled")
    taker = reclaimer(client, handled)
    for delivery in range(2, MAX_DELIVERIES):
        await taker.reclaim()
        assert await read_messages(client, "dead") == [], f"delivery {delivery} is not the last"
    await taker.reclaim()
    [letter] = await read_messages(client, "dead")
    assert letter["deliveries"] == MAX_DELIVERIES
    assert letter["entry_id"] == entry_id
    assert letter["stream"] == STREAM
    assert letter["reason"] == f"failed {MAX_DELIVERIES} times, last with ValueError: cannot be handled"
    assert await pending(client) == []


async def test_a_message_that_succeeds_at_last_is_not_buried(client: Redis, handled: Handled) -> None:
    await left_behind(client, "w1")
    taker = reclaimer(client, handled)
    handled.raises = ValueError("not yet")
    await taker.reclaim()
    handled.raises = None
    assert await taker.reclaim() == 1
    assert await read_messages(client, "dead") == []


async def test_poison_does_not_hold_up_what_was_left_beside_it(client: Redis, handled: Handled) -> None:
    await left_behind(client, "w1")
    await client.xadd(STREAM, {"__data__": "no message"})
    await left_behind(client, "w2")
    await reclaimer(client, handled).reclaim()
    assert handled.workers == ["w1", "w2"]
    [letter] = await read_messages(client, "dead")
    assert letter["deliveries"] == 2
    assert await pending(client) == []


async def test_a_turn_ends_in_time_so_that_other_streams_get_theirs(
    client: Redis, handled: Handled, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left_behind(client, "w1", "w2")
    monkeypatch.setattr(reclaim, "TURN_SECONDS", -1)
    assert await reclaimer(client, handled).reclaim() == 0
    monkeypatch.setattr(reclaim, "TURN_SECONDS", 1)
    assert await reclaimer(client, handled).reclaim() == 2


async def test_an_outage_is_no_failed_delivery(client: Redis, handled: Handled) -> None:
    await left_behind(client, "w1")
    taker = reclaimer(client, handled)
    handled.raises = RedisConnectionError("gone")
    for _ in range(MAX_DELIVERIES + 1):
        with pytest.raises(RedisConnectionError):
            await taker.reclaim()
    assert await read_messages(client, "dead") == []
    assert len(await pending(client)) == 1


@pytest.mark.parametrize(
    "problem",
    [
        ResponseError("OOM command not allowed when used memory > 'maxmemory'."),
        ResponseError("READONLY You can't write against a read only replica."),
        NoReply("nobody answered create_queue within 2 s"),
    ],
)
async def test_what_no_message_is_to_blame_for_makes_none_poison(
    client: Redis, handled: Handled, problem: Exception
) -> None:
    await left_behind(client, "w1")
    taker = reclaimer(client, handled)
    handled.raises = problem
    for _ in range(MAX_DELIVERIES + 1):
        await taker.reclaim()
    assert await read_messages(client, "dead") == []
    handled.raises = None
    assert await taker.reclaim() == 1


async def test_an_entry_trimmed_while_pending_does_not_wedge_the_others(client: Redis, handled: Handled) -> None:
    ids = await left_behind(client, "w1", "w2", "w3")
    await client.xdel(STREAM, ids[0])
    taker = reclaimer(client, handled)
    assert await taker.reclaim() == 2
    assert handled.workers == ["w2", "w3"]
    assert await pending(client) == []


async def grown(client: Redis) -> list[str]:
    """More entries than one node of a stream holds, so that approximate trimming has something to cut."""
    return await left_behind(client, *(f"w{number}" for number in range(250)))


async def test_trimming_drops_what_is_acknowledged(client: Redis, handled: Handled) -> None:
    ids = await grown(client)
    await client.xack(STREAM, GROUP, *ids)
    await reclaimer(client, handled).trim()
    assert 1 <= await client.xlen(STREAM) <= 101
    assert await client.xrange(STREAM, ids[-1], ids[-1])


async def test_trimming_drops_all_that_is_acknowledged_however_much_that_is(client: Redis, handled: Handled) -> None:
    """One XTRIM drops about 10,000 entries; at 20,000 heartbeats a second that is half a second's."""
    first = await left_behind(client, "w0")
    pipe = client.pipeline(transaction=False)
    for _ in range(25_000):
        pipe.xadd(STREAM, {"type": "worker.heartbeat"})
    await pipe.execute()
    await client.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=30_000, noack=True)
    await client.xack(STREAM, GROUP, *first)
    await reclaimer(client, handled).trim()
    assert 1 <= await client.xlen(STREAM) <= 101


async def test_trimming_keeps_what_is_pending_and_all_after_it(client: Redis, handled: Handled) -> None:
    ids = await grown(client)
    await client.xack(STREAM, GROUP, *ids[:120], *ids[130:])
    await reclaimer(client, handled).trim()
    left: Any = await client.xrange(STREAM)
    kept = [entry_id.decode() for entry_id, _ in left]
    assert kept[-130:] == ids[120:]
    assert len(kept) < 250, "and drops something before it"


async def test_trimming_keeps_what_nobody_has_read(client: Redis, handled: Handled) -> None:
    read = await left_behind(client, "w0")
    await client.xack(STREAM, GROUP, *read)
    for number in range(250):
        await publish(client, streams.HEARTBEATS, 0, Heartbeat(pool="etl", worker=f"w{number}", worker_type="process"))
    await reclaimer(client, handled).trim()
    assert await client.xlen(STREAM) == 251
    fresh: Any = await client.xreadgroup(GROUP, "c", {STREAM: ">"}, count=1000)
    assert len(fresh[0][1]) == 250


async def test_trimming_keeps_what_is_delivered_while_it_looks(
    client: Redis, handled: Handled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delivered between the two questions: neither unread any more nor acknowledged yet."""
    read = await left_behind(client, "w0")
    await client.xack(STREAM, GROUP, *read)
    asked = client.xpending

    async def then_read(*arguments: Any) -> Any:
        answer = await asked(*arguments)
        await grown(client)
        return answer

    monkeypatch.setattr(client, "xpending", then_read)
    await reclaimer(client, handled).trim()
    assert len(await pending(client)) == 250
    assert await client.xlen(STREAM) == 251


async def test_only_the_group_that_owns_a_stream_trims_it(client: Redis, handled: Handled) -> None:
    ids = await grown(client)
    await client.xack(STREAM, GROUP, *ids)
    await reclaimer(client, handled, trims=False).trim()
    assert await client.xlen(STREAM) == 250


async def consumers(client: Redis) -> set[bytes]:
    return {about["name"] for about in await client.xinfo_consumers(STREAM, GROUP)}


async def test_consumers_that_left_are_forgotten_unless_something_is_pending_for_them(
    client: Redis, handled: Handled, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left_behind(client, "w1", consumer="holds")
    for name in ("gone", "living"):
        await client.xgroup_createconsumer(STREAM, GROUP, name)
    taker = reclaimer(client, handled)
    await taker.forget_consumers()
    assert await consumers(client) == {b"holds", b"gone", b"living"}, "silent for a moment only"
    monkeypatch.setattr(reclaim, "CONSUMER_GONE_MS", -1)
    await taker.forget_consumers()
    assert await consumers(client) == {b"holds", b"living"}
    assert len(await pending(client)) == 1
