"""Services inside a test's own loop: what is sent to them is answered, in any number of partitions."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.delivery import deliver
from penstock.bus.entries import Entry
from penstock.bus.health import Health
from services.dispatcher import app as dispatcher
from services.dispatcher.settings import DispatcherSettings
from services.pool_registry import app as registry
from services.pool_registry.settings import PoolRegistrySettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from penstock.bus.routing import Subscription

BLOCK_MS = 1000


@asynccontextmanager
async def answering(client: Redis, url: str, partitions: int = 1) -> AsyncIterator[None]:
    """Let registry and dispatcher answer, without groups, timers and second tries.

    Args:
        client: of an empty Redis.
        url: of the same.
        partitions: all of them are served.
    """
    settings: dict[str, Any] = {"redis_url": url, "partitions": partitions}
    built = [
        registry.build(PoolRegistrySettings(**settings), client, Health(registry.SERVICE)),
        dispatcher.build(DispatcherSettings(**settings), client, Health(dispatcher.NAME)),
    ]
    tasks = [asyncio.create_task(_serve(client, one, partitions)) for service in built for one in service.subscriptions]
    try:
        yield
    finally:
        failed = [task for task in tasks if task.done()]
        await end_tasks(tasks)
        for task in failed:
            task.result()


async def _serve(client: Redis, subscription: Subscription, partitions: int) -> None:
    stream = subscription.stream.name
    names = {keys.key(partition, stream).encode(): partition for partition in range(partitions)}
    last: Any = dict.fromkeys(names, b"0")
    while True:
        answer: Any = await client.xread(last, block=BLOCK_MS)
        for name, entries in answer or []:
            last[name] = entries[-1][0]
            found = [Entry(names[name], stream, entry_id.decode(), fields) for entry_id, fields in entries]
            await deliver(client, subscription, found)
