"""Redis goes away at the very moment at which a service begins to read."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from penstock import streams
from penstock.bus.connection import connect
from penstock.bus.health import Health, HealthServer
from penstock.bus.requests import publish
from penstock.bus.service import Runner
from penstock.contracts.workers import Heartbeat
from tests.services.toy_service import SEEN, ToySettings, build
from tests.support import wait_until

if TYPE_CHECKING:
    from penstock.cli.embedded_redis import EmbeddedRedis


async def test_it_waits_until_redis_is_back_and_reads_then(own_redis: EmbeddedRedis) -> None:
    settings = ToySettings.read(redis_url=own_redis.url, health_port=-1)
    health, client = Health("toy"), connect(own_redis.url)
    runner = Runner(build(settings, client, health))
    assert await runner._wait_for_redis()
    own_redis.kill()
    serving = asyncio.create_task(runner._serve(HealthServer(health, settings)))

    async def missed() -> bool:
        assert not serving.done(), serving.exception()
        return health._outage_at > float("-inf")

    await wait_until(missed, what="it to miss Redis")
    own_redis.start()
    await publish(client, streams.HEARTBEATS, 0, Heartbeat(pool="etl", worker="w1", worker_type="process"))

    async def handled() -> bool:
        return await client.hget(SEEN, "w1") == b"1"

    await wait_until(handled, what="the first message to be handled")
    assert not serving.done()
    runner._stop.set()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    await client.aclose()
