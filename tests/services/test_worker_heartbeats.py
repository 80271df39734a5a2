"""Heartbeats go on while the worker's event loop does not, and stop when it never goes on."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import connect
from penstock.bus.health import Health
from penstock.contracts.workers import MISSED_HEARTBEATS, Heartbeat
from penstock.worker.clock import RedisClock
from penstock.worker.heartbeats import Heartbeats
from penstock.worker.process import ProcessType
from tests.support import read_messages, wait_until
from tests.worker_rig import claim, working

if TYPE_CHECKING:
    from redis.asyncio import Redis

INTERVAL = 0.2


class Rude(ProcessType):
    """A kind of infrastructure that waits without giving the event loop back."""

    seconds = 2.0

    async def start(self, job: Any, watcher: Any) -> Any:
        time.sleep(self.seconds)  # noqa: ASYNC251 - that is the point
        return await super().start(job, watcher)


async def gaps(client: Redis) -> list[float]:
    """Seconds between the heartbeats so far."""
    entries: Any = await client.xrange(keys.key(0, "heartbeats"))
    at = [int(entry_id.partition(b"-")[0]) for entry_id, _ in entries]
    return [(after - before) / 1000 for before, after in pairwise(at)]


def heartbeats(client: Redis, **options: Any) -> Heartbeats:
    def describe(seq: int, last: bool) -> Heartbeat:
        return Heartbeat(pool="etl", worker="w1", worker_type="process", seq=seq, stopping=last)

    return Heartbeats(
        client,
        0,
        describe=describe,
        interval_seconds=INTERVAL,
        clock=RedisClock(),
        health=Health("worker"),
        **options,
    )


async def at_least(client: Redis, count: int) -> bool:
    return len(await read_messages(client, "heartbeats")) >= count


async def test_a_stalled_event_loop_does_not_stop_the_heartbeats(client: Redis) -> None:
    async with working(client, kind=Rude(), heartbeat_seconds=INTERVAL) as rig:
        run = claim(command="true")
        await rig.assign(run)
        await rig.completed(run)
        beats = await read_messages(client, "heartbeats")

    assert len(beats) > Rude.seconds / INTERVAL * 0.6
    assert max(await gaps(client)) < MISSED_HEARTBEATS * INTERVAL, "it would be OFFLINE by now"


async def test_a_worker_that_is_stuck_for_good_falls_silent_and_is_heard_again_when_it_goes_on(client: Redis) -> None:
    beating = heartbeats(client, stuck_seconds=1.2)
    task = asyncio.create_task(beating.run())
    await wait_until(lambda: at_least(client, 3), what="heartbeats")

    time.sleep(3.0)  # noqa: ASYNC251 - that is the point

    silent_after = len(await read_messages(client, "heartbeats"))
    await wait_until(lambda: at_least(client, silent_after + 3), what="heartbeats again")
    await end_tasks([task])
    assert 1.0 < max(await gaps(client)) < 3.0


async def test_nothing_comes_after_the_last_heartbeat(client: Redis) -> None:
    for _ in range(20):
        beating = heartbeats(client)
        task = asyncio.create_task(beating.run())
        beating.soon()
        await wait_until(lambda: at_least(client, 1), what="a heartbeat", every=0.001)
        beating.soon()
        await end_tasks([task])
        await beating.farewell()
    messages = await read_messages(client, "heartbeats")
    lasts = [index for index, message in enumerate(messages) if message["stopping"]]
    assert len(lasts) == 20
    # After each last one comes the first of the next life, or nothing.
    assert all(messages[index + 1]["seq"] == 1 for index in lasts if index + 1 < len(messages))
    assert lasts[-1] == len(messages) - 1


async def test_what_has_changed_is_said_at_once(client: Redis) -> None:
    beating = heartbeats(client)
    beating._interval = 60.0
    task = asyncio.create_task(beating.run())
    await wait_until(lambda: at_least(client, 1), what="the first")
    beating.soon()
    await wait_until(lambda: at_least(client, 2), what="another", timeout=2)
    await end_tasks([task])


async def test_a_heartbeat_that_cannot_be_made_ends_the_worker_with_its_reason(client: Redis) -> None:
    def describe(seq: int, last: bool) -> Heartbeat:
        raise ValueError(f"number {seq}, {last}")

    beating = heartbeats(client)
    beating._describe = describe
    with pytest.raises(ValueError, match="number 1, False"):
        await asyncio.wait_for(beating.run(), 5)


async def test_a_dead_redis_does_not_hold_up_the_end(client: Redis) -> None:
    nowhere = connect("redis://127.0.0.1:1/0", retries=0)
    beating = heartbeats(nowhere)
    task = asyncio.create_task(beating.run())
    await asyncio.wait({task}, timeout=0.3)
    await end_tasks([task])
    began = time.monotonic()
    await beating.farewell()
    assert time.monotonic() - began < 5
    await nowhere.aclose()
    assert await read_messages(client, "heartbeats") == []
