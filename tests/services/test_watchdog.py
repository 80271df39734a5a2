"""Health by what the read loops do, on whatever Redis: a quiet service is live, a stuck subscriber is not."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from penstock import streams
from penstock.bus import broker as broker_module
from penstock.bus import health as health_module
from penstock.bus import service as service_module
from penstock.bus import watchdog as watchdog_module
from penstock.bus.connection import connect
from penstock.bus.health import Health
from penstock.bus.requests import publish
from penstock.bus.routing import Route, Subscription
from penstock.bus.service import Runner, Service
from penstock.bus.watchdog import BATCH_SECONDS, SUBSCRIBER_SILENCE_SECONDS, Watched
from penstock.contracts.workers import Heartbeat
from penstock.settings import Settings
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

STEP_SECONDS = 4.0
"""Below every limit of the parts that do make progress."""
STUCK = "subscriber heartbeats/0 made no progress for"


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """One clock for all that judges; what really waits does so for a blink."""
    clock = Clock()
    for module in (health_module, service_module, watchdog_module):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(broker_module, "BLOCK_MS", 20)
    monkeypatch.setattr(watchdog_module, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(service_module, "RECLAIM_SECONDS", 0.02)
    return clock


class Toy:
    """A running service of one subscriber, whose handler waits until it is told to go on."""

    def __init__(self, redis_url: str, clock: Clock) -> None:
        self.go_on = asyncio.Event()
        self.health = Health("toy")
        self._clock = clock
        self.runner = Runner(
            Service(
                "toy",
                Settings(redis_url=redis_url, health_port=-1),
                connect(redis_url),
                self.health,
                [Subscription(streams.HEARTBEATS, "toy", [Route(Heartbeat, self._handle)])],
            )
        )

    async def _handle(self, _: list[Any]) -> None:
        await self.go_on.wait()

    @property
    def watched(self) -> Watched:
        (watched,) = self.runner._watchdog.watched
        return watched

    async def let_pass(self, seconds: float) -> None:
        """Move the clock in steps; in each the watchdog and the reclaimer come round, and so does what else is alive."""
        end = self._clock.now + seconds
        while self._clock.now < end:
            self._clock.now += STEP_SECONDS

            async def came_round() -> bool:
                beats = self.health._beats
                return all(beats[part][0] == self._clock.now for part in ("watchdog", "reclaimer", "redis"))

            await wait_until(came_round, what="watchdog and reclaimer have come round")

    async def is_ready(self) -> bool:
        return self.health.ready() == []


@asynccontextmanager
async def running(redis_url: str, clock: Clock) -> AsyncIterator[Toy]:
    toy = Toy(redis_url, clock)
    task = asyncio.create_task(toy.runner.run())
    try:
        await wait_until(toy.is_ready, what="the service is ready")
        yield toy
    finally:
        toy.go_on.set()
        toy.runner._stop.set()
        assert await task == 0


@pytest.mark.usefixtures("client")
async def test_a_service_that_nobody_sends_anything_stays_live_and_ready(redis_url: str, clock: Clock) -> None:
    async with running(redis_url, clock) as toy:
        for _ in range(int(3 * SUBSCRIBER_SILENCE_SECONDS / STEP_SECONDS)):
            before = toy.watched.reads
            await toy.let_pass(STEP_SECONDS)

            async def has_read(before: int = before) -> bool:
                return toy.watched.reads >= before + 2

            await wait_until(has_read, what="two more reads without news have come back")
        await wait_until(toy.is_ready, what="the quiet service is ready", timeout=5)
        assert toy.health.live() == []


@pytest.mark.usefixtures("client")
async def test_a_subscriber_whose_read_never_comes_back_is_reported(redis_url: str, clock: Clock) -> None:
    async with running(redis_url, clock) as toy:
        stuck = asyncio.Event()

        async def hang(**_: Any) -> Any:
            stuck.set()
            await toy.go_on.wait()
            await asyncio.sleep(0)  # as a real read, it lets others run
            raise ConnectionResetError

        toy.watched.subscriber._xreadgroup = hang
        await asyncio.wait_for(stuck.wait(), 10)
        await toy.let_pass(SUBSCRIBER_SILENCE_SECONDS + 2 * STEP_SECONDS)
        (reason,) = toy.health.live()
        assert reason.startswith(STUCK)
        assert reason in toy.health.ready()


async def test_a_batch_in_hand_excuses_a_subscriber_for_a_minute_and_no_longer(
    client: Redis, redis_url: str, clock: Clock
) -> None:
    async with running(redis_url, clock) as toy:
        await publish(client, streams.HEARTBEATS, 0, Heartbeat(pool="etl", worker="w1", worker_type="process"))

        async def busy() -> bool:
            return toy.watched.busy_since is not None

        await wait_until(busy, what="the batch is in hand")
        await toy.let_pass(BATCH_SECONDS - 2 * STEP_SECONDS)
        assert toy.health.live() == []
        await toy.let_pass(SUBSCRIBER_SILENCE_SECONDS + 4 * STEP_SECONDS)
        (reason,) = toy.health.live()
        assert reason.startswith(STUCK)
