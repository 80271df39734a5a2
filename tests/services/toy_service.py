"""A service that does next to nothing, run as a real process by test_runner.py.

It reads ``heartbeats`` and counts each message under its worker's name; some names make it misbehave. A hash of the test's own
stands for state.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic_settings import SettingsConfigDict

from penstock import streams
from penstock.bus.routing import Delivery, Route, Subscription
from penstock.bus.service import Service, main
from penstock.contracts.workers import Heartbeat
from penstock.settings import Settings

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.bus.health import Health

SEEN = "toy:seen"
SETUPS = "toy:setups"
LOOP_FAILS = "toy:loop-fails"
TURNS = "toy:turns"
SLOW_SECONDS = 6.0


class ToySettings(Settings):
    model_config = SettingsConfigDict(env_prefix="PENSTOCK_DEMO_")
    party = "DEMO"

    greeting: str = "hello"


def build(settings: ToySettings, client: Redis, health: Health) -> Service:
    async def setup() -> None:
        await client.incr(SETUPS)

    async def beat(batch: list[Delivery[Any]]) -> None:
        for delivery in batch:
            if delivery.message.worker == "poison":
                raise ValueError("this one cannot be handled")
            if delivery.message.worker == "slow":
                await asyncio.sleep(SLOW_SECONDS)
        for delivery in batch:
            await client.hincrby(SEEN, delivery.message.worker, 1)

    async def loop() -> None:
        while True:
            if await client.exists(LOOP_FAILS):
                raise RuntimeError("the loop is told to fail")
            await client.incr(TURNS)
            health.beat("toy loop")
            await asyncio.sleep(0.5)

    routes = [Route(Heartbeat, beat)]
    return Service(
        "toy",
        settings,
        client,
        health,
        subscriptions=[Subscription(streams.HEARTBEATS, "toy", routes, trims=True)],
        loops={"toy loop": loop},
        setup=setup,
    )


if __name__ == "__main__":
    main("toy", ToySettings, build)
