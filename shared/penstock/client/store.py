"""The SDK's door to pools, queues and workers, and it only reads. Who writes which key: see :mod:`penstock.keys`."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.client.outage import needs_redis
from penstock.client.records import InFlight, Worker, to_pool, to_queue, to_worker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from penstock.contracts.pools import Pool, Queue


class Store:
    """Reads pools, queues and workers.

    Args:
        client: reads only.
        partitions: of the installation.
    """

    def __init__(self, client: Redis, partitions: int) -> None:
        self._client = client
        self._partitions = partitions

    @needs_redis
    async def pool_names(self) -> list[str]:
        """Names of all pools, sorted."""
        names: list[str] = []
        for partition in range(self._partitions):
            found: Any = await self._client.hkeys(keys.key(partition, "pools"))
            names += [name.decode() for name in found]
        return sorted(names)

    @needs_redis
    async def queue_names(self, pool: str) -> list[str]:
        """Names of a pool's queues, sorted; none when there is no such pool."""
        partition, pool_id = await self._find(pool)
        if not pool_id:
            return []
        found: Any = await self._client.hkeys(keys.key(partition, "pool_queue_names", pool_id))
        return sorted(name.decode() for name in found)

    @needs_redis
    async def read_pool(self, name: str) -> Pool | None:
        """One pool with its queues by priority; None when there is none of this name."""
        partition, pool_id = await self._find(name)
        pools = await self._pools(partition, [pool_id] if pool_id else [])
        return pools[0] if pools else None

    @needs_redis
    async def read_pools(self) -> list[Pool]:
        """All pools with their queues, by name."""
        pools: list[Pool] = []
        for partition in range(self._partitions):
            ids: Any = await self._client.hvals(keys.key(partition, "pools"))
            pools += await self._pools(partition, [pool_id.decode() for pool_id in ids])
        return sorted(pools, key=lambda pool: pool.name)

    async def read_template(self, name: str) -> bytes | None:
        """A pool's base job template as JSON; None when there is no such pool."""
        name = unicodedata.normalize("NFC", name)
        return await read_template(self._client, self._partition(name), name)

    @needs_redis
    async def read_in_flight(self, pool: Pool) -> InFlight:
        """How many runs hold a slot."""
        partition = self._partition(pool.name)
        pipe = self._client.pipeline(transaction=False)
        pipe.zcard(keys.key(partition, "pool_in_flight", pool.id))
        for queue in pool.queues:
            pipe.zcard(keys.key(partition, "queue_in_flight", queue.id))
        total, *counts = await pipe.execute()
        return InFlight(total, {queue.name: count for queue, count in zip(pool.queues, counts, strict=True)})

    @needs_redis
    async def read_workers(self, pool: Pool) -> list[Worker]:
        """All known workers of a pool, by name."""
        partition = self._partition(pool.name)
        found: Any = await self._client.smembers(keys.key(partition, "pool_workers", pool.id))
        pipe = self._client.pipeline(transaction=False)
        for name in sorted(found):
            ident = keys.worker_ident(pool.id, name.decode())
            pipe.hgetall(keys.key(partition, "worker", ident))
            pipe.scard(keys.key(partition, "slots_in_flight", ident))
        answers, now_ms = await pipe.execute(), await redis_now_ms(self._client)
        return [to_worker(pool.name, fields, used, now_ms) for fields, used in _pairs(answers) if fields]

    def _partition(self, pool_name: str) -> int:
        return keys.partition_of_pool(pool_name, self._partitions)

    async def _find(self, pool_name: str) -> tuple[int, str]:
        name = unicodedata.normalize("NFC", pool_name)
        partition = self._partition(name)
        pool_id: Any = await self._client.hget(keys.key(partition, "pools"), name)
        return partition, pool_id.decode() if pool_id else ""

    async def _pools(self, partition: int, pool_ids: Sequence[str]) -> list[Pool]:
        pipe = self._client.pipeline(transaction=False)
        for pool_id in pool_ids:
            pipe.hgetall(keys.key(partition, "pool", pool_id))
            pipe.scard(keys.key(partition, "pool_online", pool_id))
            pipe.scard(keys.key(partition, "pool_online_any", pool_id))
            pipe.zrange(keys.key(partition, "pool_queues", pool_id), 0, -1)
        answers = await pipe.execute()
        pools = []
        for index, pool_id in enumerate(pool_ids):
            fields, online, any_queue, queue_ids = answers[4 * index : 4 * index + 4]
            if fields:
                pool = to_pool(pool_id, fields, online, [])
                queues = await self._queues(partition, pool, [raw.decode() for raw in queue_ids], any_queue)
                pools.append(pool.model_copy(update={"queues": queues}))
        return pools

    async def _queues(self, partition: int, pool: Pool, queue_ids: Sequence[str], any_queue: int) -> list[Queue]:
        pipe = self._client.pipeline(transaction=False)
        for queue_id in queue_ids:
            pipe.hgetall(keys.key(partition, "queue", queue_id))
            pipe.scard(keys.key(partition, "queue_online", queue_id))
        found = zip(queue_ids, _pairs(await pipe.execute()), strict=True)
        return [
            to_queue(queue_id, pool.name, fields, any_queue + online) for queue_id, (fields, online) in found if fields
        ]


@needs_redis
async def read_template(client: Redis, partition: int, pool: str) -> bytes | None:
    """Read a pool's base job template, for those who know its partition.

    Args:
        client: reads only.
        partition: of the pool.
        pool: its name, normalised.

    Returns:
        JSON; None when there is no such pool.
    """
    pool_id: Any = await client.hget(keys.key(partition, "pools"), pool)
    if pool_id is None:
        return None
    found: Any = await client.hget(keys.key(partition, "pool", pool_id.decode()), "base_job_template")
    return None if found is None else bytes(found)


def _pairs(answers: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(answers[::2], answers[1::2], strict=True))
