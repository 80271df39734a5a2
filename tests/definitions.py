"""Definitions for tests, written straight into the keys the registry owns: its readers must not need it to run."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock import keys
from penstock.contracts.deployments import flow_id

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


async def define_deployment(
    client: Redis,
    name: str = "hello/demo",
    *,
    pool: str = "etl",
    limit: int | None = None,
    strategy: str = "enqueue",
    revision: int = 1,
    revised_ms: int = 0,
    partition: int = 0,
    **fields: Any,
) -> str:
    """Write one deployment and answer its id; writing it again changes it.

    Args:
        fields: further fields of its hash, as values.
    """
    by_name = keys.key(partition, "deployments")
    known: Any = await client.hget(by_name, name)
    ident = known.decode() if known else str(uuid.uuid4())
    flow, _, label = name.partition("/")
    values = {
        "name": name,
        "flow": flow,
        "label": label,
        "flow_id": flow_id(flow),
        "pool": pool,
        "queue": "default",
        "entrypoint": "hello.py:hello",
        "command": None,
        "working_dir": None,
        "parameters": {},
        "parameter_schema": None,
        "job_variables": {},
        "tags": [],
        "description": None,
        "version": None,
        "concurrency_limit": limit,
        "collision_strategy": strategy,
        "retries": 0,
        "retry_delay_seconds": 0,
        "paused": False,
        "revision": revision,
        "revised_ms": revised_ms,
        "created": LONG_AGO,
        "updated": LONG_AGO,
        **fields,
    }
    mapping: Any = {field: _json(value) for field, value in values.items()}
    await client.hset(keys.key(partition, "deployment", ident), mapping=mapping)
    await client.hset(by_name, name, ident)
    return ident


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
