from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.broker import ensure_group
from penstock.bus.connection import redis_now_ms
from penstock.bus.entries import entry_fields
from penstock.contracts.workers import LoseWorker
from penstock.streams import HEARTBEATS
from services.heartbeat_monitor import rules
from services.heartbeat_monitor.store import GROUP, JUDGED_AT_ONCE, MonitorStore
from tests.definitions import define_pool
from tests.heartbeats import Monitor, delivered, event_names, heartbeat
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
async def monitor(client: Redis) -> Monitor:
    """A monitor whose last sweep was a moment ago."""
    monitor = Monitor(client)
    await monitor.just_judged()
    return monitor


async def ago(client: Redis, ms: int) -> str:
    return f"{await redis_now_ms(client) - ms}-0"


def fields_of(pool: str) -> Any:
    return entry_fields(heartbeat(pool, "alive"))


async def test_a_worker_not_heard_of_for_three_intervals_goes_offline_with_its_pool_and_queues(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl", queues={"urgent": {"priority": 1}})
    await monitor.beat("etl", entry_id="1789000000123-0", interval_seconds=1)
    seen = len(await read_events(client))

    verdict, lost, wait_ms = await monitor.sweep()

    assert (verdict, lost, wait_ms) == ("judged", 1, None)
    assert await event_names(client, seen) == [
        "penstock.worker.offline w1",
        "prefect.work-pool.not-ready etl",
        "prefect.work-queue.not-ready urgent",
        "prefect.work-queue.not-ready default",
    ]
    offline = (await read_events(client))[seen]
    assert offline["payload"] == {"reason": "heartbeat-lost", "last_heartbeat": "2026-09-10T00:26:40.123000Z"}
    announced, told = await read_messages(client, "dispatch")
    assert LoseWorker.model_validate(told) == LoseWorker(
        pool_id=pool.id, pool="etl", worker="w1", boot_id="boot-1", seq=announced["seq"] + 1, reason="heartbeat-lost"
    )
    assert (await monitor.worker(pool))["status"] == "OFFLINE"
    assert await monitor.deadline(pool) is None
    assert 0 < await client.ttl(keys.key(0, "worker", f"{pool.id}/w1")) <= 86_400


async def test_sweeping_again_says_nothing_more(monitor: Monitor, client: Redis) -> None:
    await define_pool(client, "etl")
    await monitor.beat("etl", entry_id=await ago(client, 10_000), interval_seconds=1)
    await monitor.sweep()
    before = await read_events(client), await read_messages(client, "dispatch")

    assert (await monitor.sweep())[1] == 0

    assert (await read_events(client), await read_messages(client, "dispatch")) == before


async def test_a_pool_stays_ready_until_its_last_worker_is_lost(monitor: Monitor, client: Redis) -> None:
    await define_pool(client, "etl")
    await monitor.beat("etl", "w1", entry_id=await ago(client, 10_000), interval_seconds=1)
    await monitor.beat("etl", "w2", entry_id=await ago(client, 1), interval_seconds=1)
    seen = len(await read_events(client))

    _, lost, wait_ms = await monitor.sweep()

    assert lost == 1
    assert wait_ms is not None
    assert 2000 < wait_ms <= 3000
    assert await event_names(client, seen) == ["penstock.worker.offline w1"]


async def test_one_call_judges_a_bounded_number_and_asks_to_be_called_again_at_once(
    monitor: Monitor, client: Redis
) -> None:
    await define_pool(client, "etl")
    old = await redis_now_ms(client) - 10_000
    batch = [delivered(heartbeat("etl", f"w{n}", interval_seconds=1), f"{old}-{n}") for n in range(JUDGED_AT_ONCE + 5)]
    await monitor.store.apply_heartbeats(0, batch)

    assert await monitor.sweep() == ("judged", JUDGED_AT_ONCE, 0)
    assert await monitor.sweep() == ("judged", 5, None)


async def test_after_an_outage_everybody_gets_three_intervals_from_its_end(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    now = await redis_now_ms(client)
    await monitor.beat("etl", "silent", entry_id=f"{now - 60_000}-0", interval_seconds=10)
    await monitor.beat("etl", "fresh", entry_id=f"{now}-0", interval_seconds=20)
    await client.set(keys.key(0, "liveness_tick"), now - 60_000)
    seen = len(await read_events(client))

    verdict, lost, wait_ms = await monitor.sweep()

    assert (verdict, lost) == ("extended", 0)
    assert wait_ms is not None
    assert 29_000 < wait_ms <= 30_001
    deadline = await monitor.deadline(pool, "silent")
    assert deadline is not None
    assert now + 30_000 <= deadline < now + 31_000
    assert await event_names(client, seen) == []
    assert (await monitor.sweep())[0] == "judged"


async def test_an_extension_takes_time_from_nobody_not_even_when_the_clock_was_set_back(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    now = await redis_now_ms(client)
    await monitor.beat("etl", entry_id=f"{now + 60_000}-0", interval_seconds=1)
    await client.delete(keys.key(0, "liveness_tick"))

    assert (await monitor.sweep())[0] == "extended"

    assert await monitor.deadline(pool) == now + 63_000


async def test_a_heartbeat_sent_before_an_outage_ended_does_not_take_the_extension_back(
    monitor: Monitor, client: Redis
) -> None:
    pool = await define_pool(client, "etl")
    now = await redis_now_ms(client)
    await monitor.beat("etl", entry_id=f"{now - 60_000}-0", interval_seconds=10)
    await client.delete(keys.key(0, "liveness_tick"))
    await monitor.sweep()
    extended = await monitor.deadline(pool)

    assert await monitor.beat("etl", entry_id=f"{now - 50_000}-0", interval_seconds=10) == "renewed"

    assert await monitor.deadline(pool) == extended


async def test_nobody_is_judged_while_heartbeats_lie_unread_and_afterwards_only_after_an_extension(
    monitor: Monitor, client: Redis
) -> None:
    await define_pool(client, "etl")
    await ensure_group(client, HEARTBEATS, 0, GROUP)
    now = await redis_now_ms(client)
    await monitor.beat("etl", entry_id=f"{now - 60_000}-0", interval_seconds=1)
    stream = keys.key(0, "heartbeats")
    await client.xadd(stream, fields_of("etl"), id=f"{now - 4000}-0")

    assert await monitor.sweep() == ("behind", 0, None)

    await client.xreadgroup(GROUP, "reader", {stream: ">"})
    verdict, lost, _ = await monitor.sweep()
    assert (verdict, lost) == ("extended", 0)


async def test_a_fresh_unread_heartbeat_does_not_keep_the_dead_alive(monitor: Monitor, client: Redis) -> None:
    await define_pool(client, "etl")
    await ensure_group(client, HEARTBEATS, 0, GROUP)
    await monitor.beat("etl", "dead", entry_id=await ago(client, 10_000), interval_seconds=1)
    await client.xadd(keys.key(0, "heartbeats"), fields_of("etl"))

    assert (await monitor.sweep())[:2] == ("judged", 1)


async def test_a_worker_is_not_judged_before_heartbeats_sent_until_its_deadline_are_read_and_applied(
    monitor: Monitor, client: Redis
) -> None:
    await define_pool(client, "etl")
    await ensure_group(client, HEARTBEATS, 0, GROUP)
    stream = keys.key(0, "heartbeats")
    now = await redis_now_ms(client)
    await monitor.beat("etl", "hopeless", entry_id=f"{now - 10_000}-0", interval_seconds=1)
    await monitor.beat("etl", "overdue", entry_id=f"{now - 3_500}-0", interval_seconds=1)
    entry_id = await client.xadd(stream, fields_of("etl"), id=f"{now - 1_000}-0")

    assert await monitor.sweep() == ("judged", 1, rules.AGAIN_MS)

    await client.xreadgroup(GROUP, "reader", {stream: ">"})
    assert await monitor.sweep() == ("judged", 0, rules.AGAIN_MS)

    await client.xack(stream, GROUP, entry_id)
    assert await monitor.sweep() == ("judged", 1, None)


async def test_what_a_dead_monitor_left_in_its_hands_holds_up_nobody(monitor: Monitor, client: Redis) -> None:
    await define_pool(client, "etl")
    await ensure_group(client, HEARTBEATS, 0, GROUP)
    stream = keys.key(0, "heartbeats")
    now = await redis_now_ms(client)
    await monitor.beat("etl", "overdue", entry_id=f"{now - 3_500}-0", interval_seconds=1)
    entry_id: Any = await client.xadd(stream, fields_of("etl"), id=f"{now - 1_000}-0")
    await client.xreadgroup(GROUP, "reader", {stream: ">"})
    await client.xclaim(stream, GROUP, "reader", 0, [entry_id], idle=rules.IN_HAND_MS + 1)

    assert await monitor.sweep() == ("judged", 1, None)


async def test_a_worker_whose_pool_is_gone_is_dropped_without_a_word(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl", entry_id=await ago(client, 10_000), interval_seconds=1)
    await client.delete(keys.key(0, "pool", pool.id))
    seen = len(await read_events(client))

    assert await monitor.sweep() == ("judged", 0, None)

    assert len(await read_events(client)) == seen


async def test_who_is_offline_already_is_not_lost_a_second_time(monitor: Monitor, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    await monitor.beat("etl")
    await monitor.beat("etl", stopping=True)
    await client.zadd(keys.key(0, "liveness"), {f"{pool.id}/w1": 1})
    seen = len(await read_events(client))

    assert await monitor.sweep() == ("judged", 0, None)

    assert len(await read_events(client)) == seen


async def test_partitions_are_swept_each_for_itself(client: Redis) -> None:
    store = MonitorStore(client)
    for partition in (0, 1):
        await define_pool(client, "etl", partition=partition)
        await client.set(keys.key(partition, "liveness_tick"), await redis_now_ms(client))
    old = await ago(client, 10_000)
    await store.apply_heartbeats(1, [delivered(heartbeat("etl", interval_seconds=1), old, 1)])

    assert [sweep.lost for sweep in await store.expire_workers(2)] == [0, 1]


@pytest.mark.parametrize("seed", range(25))
async def test_the_script_and_the_rules_agree_on_random_deadlines_and_outages(
    monitor: Monitor, client: Redis, seed: int
) -> None:
    rng = random.Random(seed)
    pool = await define_pool(client, "etl")
    now = await redis_now_ms(client)
    workers = {
        f"w{n}": (now - rng.choice([0, 4_000, 5_500, 40_000, 90_000]), rng.choice([1, 10, 20, 40])) for n in range(12)
    }
    for name, (at, interval) in workers.items():
        await monitor.beat("etl", name, entry_id=f"{at}-0", interval_seconds=interval)
    unread = rng.choice([None, now - 100, now - 2_000])
    if unread is not None:
        await ensure_group(client, HEARTBEATS, 0, GROUP)
        await client.xadd(keys.key(0, "heartbeats"), fields_of("etl"), id=f"{unread}-0")
    tick = rng.choice([None, now, now - 1000, now - rules.OUTAGE_MS - 1, now - 90_000])
    await client.delete(keys.key(0, "liveness_tick"))
    if tick is not None:
        await client.set(keys.key(0, "liveness_tick"), tick)

    await monitor.sweep()

    # A few ms pass between this clock and the script's; no deadline above lies that close.
    for name, (at, interval) in workers.items():
        deadline = rules.deadline_ms(at, interval * 1000)
        if rules.was_outage(tick, now):
            deadline = rules.extended_deadline_ms(deadline, now, interval * 1000)
        if rules.is_lost(deadline, rules.heard_ms(now, unread, None)):
            assert await monitor.deadline(pool, name) is None
            assert (await monitor.worker(pool, name))["status"] == "OFFLINE"
        else:
            found = await monitor.deadline(pool, name)
            assert found is not None
            assert 0 <= found - deadline < 1000
            assert (await monitor.worker(pool, name))["status"] == "ONLINE"
