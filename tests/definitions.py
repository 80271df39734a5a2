"""Pools and queues for tests, written straight into the keys the registry owns: its readers must not need it to run."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

LONG_AGO = "2026-01-01T00:00:00.000000Z"


class DefinedPool(NamedTuple):
    """A pool that exists: its id, its name, its worker type, the ids of its queues by name."""

    id: str
    name: str
    type: str
    queues: dict[str, str]


async def define_pool(
    client: Redis,
    name: str,
    *,
    type: str = "process",  # noqa: A002 - the word of the definition
    queues: Mapping[str, Mapping[str, Any]] | None = None,
    paused: bool = False,
    limit: int | None = None,
    partition: int = 0,
    **fields: Any,
) -> DefinedPool:
    """Write one pool, its queues and its default queue.

    Args:
        queues: name -> any of ``priority``, ``limit``, ``paused``, ``description``; a queue without a priority takes
            the first free number, and so does ``default`` where it is not named.
        fields: further fields of the pool's hash (``on_worker_lost``, ``max_attempts``, ...), as values.
    """
    pool_id = str(uuid.uuid4())
    pool = DefinedPool(pool_id, name, type, {})
    asked = {"default": {}, **(queues or {})}
    for queue in sorted(asked, key=lambda queue: "priority" not in asked[queue]):
        await define_queue(client, pool, queue, partition=partition, **asked[queue])
    values = {
        "name": name,
        "type": type,
        "description": None,
        "is_paused": paused,
        "concurrency_limit": limit,
        "base_job_template": {},
        "on_worker_lost": "crash",
        "max_attempts": 3,
        "default_queue_id": pool.queues["default"],
        "created": LONG_AGO,
        "updated": LONG_AGO,
        **fields,
    }
    await client.hset(keys.key(partition, "pool", pool_id), mapping={field: _json(values[field]) for field in values})
    await client.hset(keys.key(partition, "pools"), name, pool_id)
    return pool


async def define_queue(
    client: Redis,
    pool: DefinedPool,
    name: str,
    *,
    priority: int | None = None,
    limit: int | None = None,
    paused: bool = False,
    description: str | None = None,
    partition: int = 0,
) -> str:
    """Write one queue of a pool and answer its id, which is added to ``pool.queues`` too."""
    queue_id = str(uuid.uuid4())
    by_priority = keys.key(partition, "pool_queues", pool.id)
    if priority is None:
        found: Any = await client.zrange(by_priority, 0, -1, withscores=True)
        taken = {int(score) for _, score in found}
        priority = next(number for number in range(1, len(taken) + 2) if number not in taken)
    values = {
        "name": name,
        "description": description,
        "priority": priority,
        "concurrency_limit": limit,
        "is_paused": paused,
        "created": LONG_AGO,
        "updated": LONG_AGO,
    }
    mapping: Any = {"pool_id": pool.id, **{field: _json(value) for field, value in values.items()}}
    await client.hset(keys.key(partition, "queue", queue_id), mapping=mapping)
    await client.zadd(by_priority, {queue_id: priority})
    await client.hset(keys.key(partition, "pool_queue_names", pool.id), name, queue_id)
    pool.queues[name] = queue_id
    return queue_id


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
