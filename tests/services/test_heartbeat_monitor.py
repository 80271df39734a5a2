"""The heartbeat monitor, with its handlers in this process and as real processes that are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.broker import ensure_group
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import connect, redis_now_ms
from penstock.bus.delivery import deliver
from penstock.bus.entries import Entry
from penstock.bus.health import Health
from penstock.bus.requests import publish
from penstock.contracts.pools import PoolChanged, PoolDeleted, QueueDeleted, QueueGone
from penstock.streams import DEAD_MAX_AGE_SECONDS, DEFINITIONS, EVENTS_MAX_AGE_SECONDS, HEARTBEATS
from services.heartbeat_monitor.app import SERVICE, Loops, subscriptions
from services.heartbeat_monitor.handlers import Handlers
from services.heartbeat_monitor.store import MonitorStore
from tests.definitions import define_pool, define_queue
from tests.heartbeats import event_names, heartbeat
from tests.support import read_events, read_messages, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from redis.asyncio import Redis

    from penstock.bus.routing import Subscription
    from penstock.cli.embedded_redis import EmbeddedRedis
    from penstock.streams import Stream


class Reader:
    """Delivers what lies on the monitor's streams, as its subscribers do."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.sooner = asyncio.Event()
        self.store = MonitorStore(client)
        self.heartbeats, self.definitions = subscriptions(Handlers(self.store, self.sooner))

    async def read(self, subscription: Subscription) -> None:
        name = keys.key(0, subscription.stream.name)
        await ensure_group(self.client, subscription.stream, 0, SERVICE)
        found: Any = await self.client.xreadgroup(SERVICE, "test", {name: ">"})
        for _, entries in found:
            batch = [Entry(0, subscription.stream.name, entry_id.decode(), fields) for entry_id, fields in entries]
            await deliver(self.client, subscription, batch)
            await self.client.xack(name, SERVICE, *(entry.id for entry in batch))


@pytest.fixture
def reader(client: Redis) -> Reader:
    return Reader(client)


async def add(client: Redis, stream: Stream, text: str) -> None:
    """Append what a program that knows nothing of Penstock would."""
    await client.xadd(keys.key(0, stream.name), {"__data__": text})


async def test_bad_heartbeats_of_a_batch_are_buried_and_the_good_ones_applied(reader: Reader, client: Redis) -> None:
    await define_pool(client, "etl")
    good = '{"type":"worker.heartbeat","pool":"etl","worker":"%s","worker_type":"process"}'
    for text in (
        good % "w1",
        "not json",
        "[]",
        '{"type":"worker.heartbeat","pool":"etl","worker":"w/2","worker_type":"process"}',
        '{"type":"worker.heartbeat","pool":"etl","worker":"w3","worker_type":"process","slots":-1}',
        '{"type":"worker.heartbeat","pool":"etl","worker":"w4","worker_type":"process","interval_seconds":0}',
        good % "w5",
    ):
        await add(client, HEARTBEATS, text)

    await reader.read(reader.heartbeats)

    assert [name for name in await event_names(client) if "online" in name] == [
        "penstock.worker.online w1",
        "penstock.worker.online w5",
    ]
    assert len(await read_messages(client, "dead")) == 5


async def test_a_batch_is_applied_in_order_and_delivering_it_again_is_silent(reader: Reader, client: Redis) -> None:
    await define_pool(client, "etl")
    for slots, boot in ((1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "b")):
        await publish(client, HEARTBEATS, 0, heartbeat("etl", boot_id=boot, slots=slots))
    await reader.read(reader.heartbeats)
    announced = await read_messages(client, "dispatch")
    before = await read_events(client)

    await client.xgroup_setid(keys.key(0, "heartbeats"), SERVICE, "0")
    await reader.read(reader.heartbeats)

    assert [(message["boot_id"], message["slots"]) for message in announced] == [("a", 2), ("b", 3), ("b", 5)]
    assert await read_messages(client, "dispatch") == announced
    assert await read_events(client) == before


async def test_definitions_that_change_are_followed(reader: Reader, client: Redis) -> None:
    pool = await define_pool(client, "etl")
    await publish(client, HEARTBEATS, 0, heartbeat("etl", queues=["urgent"]))
    await reader.read(reader.heartbeats)
    assert [command["queue"] for command in await read_messages(client, "commands")] == ["urgent"]

    queue_id = await define_queue(client, pool, "urgent")
    await publish(client, DEFINITIONS, 0, PoolChanged(pool_id=pool.id, pool="etl"))
    await reader.read(reader.definitions)
    assert (await event_names(client))[-1] == "prefect.work-queue.ready urgent"

    gone = QueueGone(id=queue_id, name="urgent")
    await publish(client, DEFINITIONS, 0, QueueDeleted(pool_id=pool.id, pool="etl", worker_type="process", queue=gone))
    await reader.read(reader.definitions)
    assert await client.exists(keys.key(0, "queue_online", queue_id)) == 0

    await client.hdel(keys.key(0, "pools"), "etl")
    deleted = PoolDeleted(pool_id=pool.id, pool="etl", worker_type="process", queues=[])
    await publish(client, DEFINITIONS, 0, deleted)
    await add(client, DEFINITIONS, '{"type":"something.of.tomorrow"}')
    await reader.read(reader.definitions)
    assert [message["code"] for message in await read_messages(client, "inbox", "etl/w1")] == ["pool_deleted"]
    assert await read_messages(client, "dead") == []


async def test_the_sweep_wakes_at_the_next_deadline_and_when_one_may_have_become_earlier(
    reader: Reader, client: Redis
) -> None:
    await define_pool(client, "etl")
    loops = Loops(reader.store, 1, Health("test"), reader.sooner)
    assert await loops.sweep_once() == 1.0
    await publish(client, HEARTBEATS, 0, heartbeat("etl", interval_seconds=0.1))

    await reader.read(reader.heartbeats)

    assert reader.sooner.is_set()
    assert await loops.sweep_once() <= 0.301


async def test_housekeeping_drops_only_what_is_too_old(client: Redis) -> None:
    now = await redis_now_ms(client)
    kept = 0
    for family, seconds in (("events", EVENTS_MAX_AGE_SECONDS), ("dead", DEAD_MAX_AGE_SECONDS)):
        name = keys.key(0, family)
        pipe = client.pipeline(transaction=False)
        for n in range(300):
            pipe.xadd(name, {"n": n}, id=f"{now - seconds * 1000 - 60_000}-{n}")
        pipe.xadd(name, {"n": 300}, id=f"{now - seconds * 1000 + 60_000}-0")
        await pipe.execute()
        kept += 1

    # Redis drops whole blocks of a hundred.
    assert await MonitorStore(client).trim_streams(0) == kept * 300


@contextmanager
def monitor_process(redis_url: str, log_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One monitor as a process, killed at the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    environment |= {"PENSTOCK_REDIS_URL": redis_url, "PENSTOCK_HEALTH_PORT": "-1"}
    command = [sys.executable, "-m", "services.heartbeat_monitor"]
    with log_file.open("ab") as log:
        process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2], stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Pulse:
    """A worker that only beats, with its own patience for a Redis that does not answer."""

    def __init__(self, client: Redis, worker: str, interval_seconds: float) -> None:
        self.client, self.worker, self.interval = client, worker, interval_seconds
        self.last_ms = 0

    async def beat_for_ever(self) -> None:
        while True:
            try:
                message = heartbeat("etl", self.worker, interval_seconds=self.interval)
                entry_id = await publish(self.client, HEARTBEATS, 0, message)
                self.last_ms = int(entry_id.partition("-")[0])
                await asyncio.sleep(self.interval / 2)
            except (OSError, RedisError):
                await asyncio.sleep(0.2)


@pytest.fixture
async def own_client(own_redis: EmbeddedRedis) -> AsyncIterator[Redis]:
    client = connect(own_redis.url)
    yield client
    await client.aclose()


async def stop(task: asyncio.Task[None]) -> None:
    await end_tasks([task])


def when(event: dict[str, Any]) -> float:
    """Milliseconds since 1970."""
    seconds, _, fraction = event["occurred"].removesuffix("Z").partition(".")
    return (time.mktime(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S")) - time.timezone) * 1000 + int(fraction) / 1000


async def offline_events(client: Redis) -> list[dict[str, Any]]:
    return [event for event in await read_events(client) if event["event"] == "penstock.worker.offline"]


@pytest.mark.system
async def test_a_silent_worker_is_offline_within_three_intervals_and_a_second_also_with_two_monitors(
    own_redis: EmbeddedRedis, own_client: Redis, tmp_path: Path
) -> None:
    await define_pool(own_client, "etl")
    log = tmp_path / "monitor.log"
    with monitor_process(own_redis.url, log), monitor_process(own_redis.url, log) as second:
        alive, dying = Pulse(own_client, "alive", 0.5), Pulse(own_client, "dying", 0.5)
        tasks = [asyncio.create_task(pulse.beat_for_ever()) for pulse in (alive, dying)]
        await wait_until(lambda: _online(own_client, 2), what="both ONLINE")

        await stop(tasks[1])
        (offline,) = await wait_until(lambda: offline_events(own_client), what="the silent one OFFLINE")

        assert offline["resource"]["prefect.resource.name"] == "dying"
        assert 1500 <= when(offline) - dying.last_ms <= 2500
        second.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(second.wait, 20) == 0, log.read_text()
        await stop(tasks[0])
        offline = (await wait_until(lambda: _offline(own_client, 2), what="the other OFFLINE"))[1]
        assert 1500 <= when(offline) - alive.last_ms <= 2500
    names = await event_names(own_client)
    assert [names.count(f"prefect.work-pool.{status} etl") for status in ("ready", "not-ready")] == [1, 1]


async def _online(client: Redis, count: int) -> bool:
    return await client.zcard(keys.key(0, "liveness")) == count


async def _offline(client: Redis, count: int) -> list[dict[str, Any]]:
    events = await offline_events(client)
    return events if len(events) == count else []


def freeze(server: EmbeddedRedis) -> None:
    assert server.process
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(6)
    server.process.send_signal(signal.SIGCONT)


def crash(server: EmbeddedRedis) -> None:
    server.kill()
    time.sleep(6)
    server.start()


@pytest.mark.system
@pytest.mark.parametrize("outage", [freeze, crash])
async def test_an_outage_of_redis_kills_nobody_and_afterwards_the_dead_are_found_again(
    own_redis: EmbeddedRedis, own_client: Redis, tmp_path: Path, outage: Any
) -> None:
    await define_pool(own_client, "etl")
    with monitor_process(own_redis.url, tmp_path / "monitor.log") as process:
        alive, dead = Pulse(own_client, "alive", 0.5), Pulse(own_client, "dead", 1)
        tasks = [asyncio.create_task(pulse.beat_for_ever()) for pulse in (alive, dead)]
        await wait_until(lambda: _online(own_client, 2), what="both ONLINE")
        # One second on, so that a Redis that crashes has written them down.
        await asyncio.sleep(1.2)
        await stop(tasks[1])

        # In this thread: while it is blocked, nobody beats either, as if the whole network were gone.
        outage(own_redis)
        returned_ms = await _redis_answers(own_redis)

        (offline,) = await wait_until(lambda: offline_events(own_client), what="the dead one OFFLINE")
        assert offline["resource"]["prefect.resource.name"] == "dead"
        # Three intervals, and up to ten seconds until everybody is back at work.
        assert 2900 <= when(offline) - returned_ms <= 13_000, (tmp_path / "monitor.log").read_text()
        await _beats_applied(own_client, alive)
        assert len(await offline_events(own_client)) == 1
        assert process.poll() is None
        await stop(tasks[0])


async def _redis_answers(server: EmbeddedRedis) -> int:
    client = connect(server.url)
    try:
        return await redis_now_ms(client)
    finally:
        await client.aclose()


async def _beats_applied(client: Redis, pulse: Pulse) -> None:
    """Wait until heartbeats sent from now on have been applied."""
    since = pulse.last_ms
    pool_id: Any = await client.hget(keys.key(0, "pools"), "etl")

    async def applied() -> bool:
        last: Any = await client.hget(keys.key(0, "worker", f"{pool_id.decode()}/{pulse.worker}"), "last_heartbeat_ms")
        return int(last) > since

    await wait_until(applied, what=f"a newer heartbeat of {pulse.worker} applied")


@pytest.mark.system
async def test_a_monitor_that_returns_after_all_were_down_judges_nobody_it_has_not_heard_out(
    own_redis: EmbeddedRedis, own_client: Redis, tmp_path: Path
) -> None:
    await define_pool(own_client, "etl")
    log = tmp_path / "monitor.log"
    pulse = Pulse(own_client, "alive", 0.5)
    task = asyncio.create_task(pulse.beat_for_ever())
    with monitor_process(own_redis.url, log):
        await wait_until(lambda: _online(own_client, 1), what="ONLINE")
    await asyncio.sleep(4)

    with monitor_process(own_redis.url, log):
        await _beats_applied(own_client, pulse)
        await asyncio.sleep(2)

        assert await offline_events(own_client) == [], log.read_text()
    await stop(task)
    assert await event_names(own_client) == [
        "prefect.worker.started alive",
        "penstock.worker.online alive",
        "prefect.work-pool.ready etl",
        "prefect.work-queue.ready default",
    ]


async def test_dead_letters_of_all_partitions_are_counted_and_change_nothing_about_readiness(client: Redis) -> None:
    for partition in (0, 1, 1):
        await client.xadd(keys.key(partition, "dead"), {"__data__": "{}"})
    health = Health("heartbeat_monitor")
    health.beat("redis", 60)
    loops = Loops(MonitorStore(client), 2, health, asyncio.Event())
    counting = asyncio.create_task(loops.count_dead())

    async def told() -> bool:
        return b'"dead_letters":3' in health.report(health.ready())

    await wait_until(told, what="the count")
    assert health.ready() == []
    await end_tasks([counting])
