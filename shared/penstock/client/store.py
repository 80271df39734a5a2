"""The SDK's one door to state, and it only reads. Who writes which key: see :mod:`penstock.keys`."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any, Final

import orjson

from penstock import keys
from penstock.client.outage import needs_redis
from penstock.client.records import InFlight, Worker, to_pool, to_queue, to_run, to_worker
from penstock.client.waiting import Backlog, Place
from penstock.contracts.runs import IN_FLIGHT, TERMINAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence

    from redis.asyncio import Redis

    from penstock.contracts.pools import Pool, Queue
    from penstock.contracts.runs import Run

PAGE: Final = 500
"""How many runs are read in one round trip."""


class Store:
    """Reads pools, queues, workers and runs.

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
        answers = await pipe.execute()
        return [to_worker(pool.name, fields, used) for fields, used in _pairs(answers) if fields]

    @needs_redis
    async def read_held(self, pool: Pool, workers: Sequence[str]) -> list[list[Run]]:
        """The runs that each of a pool's workers holds, the first submitted first."""
        partition = self._partition(pool.name)
        pipe = self._client.pipeline(transaction=False)
        for name in workers:
            pipe.smembers(keys.key(partition, "slots_in_flight", keys.worker_ident(pool.id, name)))
        held = [sorted(member.decode() for member in members) for members in await pipe.execute()]
        runs = {run.id: run for run in await self.read_runs([run_id for ids in held for run_id in ids])}
        return [[runs[run_id] for run_id in ids if run_id in runs] for ids in held]

    @needs_redis
    async def read_holders(self, pool: Pool, limit: int) -> list[Run]:
        """The runs that hold a slot of a pool, the longest claimed first."""
        name = keys.key(self._partition(pool.name), "pool_in_flight", pool.id)
        members: Any = await self._client.zrange(name, 0, limit - 1)
        return [run for run in await self.read_runs([raw.decode() for raw in members]) if run.state in IN_FLIGHT]

    @needs_redis
    async def read_backlogs(self, pool: Pool, now_ms: int) -> dict[str, Backlog]:
        """What waits in each of a pool's queues, by queue id; queues in which nothing waits are left out."""
        partition = self._partition(pool.name)
        pipe = self._client.pipeline(transaction=False)
        for queue in pool.queues:
            waiting = keys.key(partition, "waiting", queue.id)
            pipe.zcard(waiting)
            pipe.zcount(waiting, "-inf", now_ms)
            pipe.zrange(waiting, 0, 0, withscores=True)
        answers = await pipe.execute()
        found = zip(pool.queues, answers[::3], answers[1::3], answers[2::3], strict=True)
        return {
            queue.id: Backlog(waiting, due, int(first[0][1]))
            for queue, waiting, due, first in found
            if waiting and first
        }

    @needs_redis
    async def read_places(
        self, pool: Pool, queues: Sequence[Queue], until_ms: int | None, limit: int
    ) -> tuple[list[Place], int]:
        """Which runs wait.

        Args:
            pool: whose.
            queues: of the pool; only theirs.
            until_ms: only those due by then; None means all.
            limit: how many at most of each queue, the first due first.

        Returns:
            Where they stand, and how many there are.
        """
        partition, until = self._partition(pool.name), "+inf" if until_ms is None else until_ms
        pipe = self._client.pipeline(transaction=False)
        for queue in queues:
            waiting = keys.key(partition, "waiting", queue.id)
            pipe.zrangebyscore(waiting, "-inf", until, start=0, num=limit, withscores=True)
            pipe.zcount(waiting, "-inf", until)
        answers = _pairs(await pipe.execute())
        places = [
            Place(queue.priority, int(due), raw.decode())
            for queue, (members, _) in zip(queues, answers, strict=True)
            for raw, due in members
        ]
        return places, sum(count for _, count in answers)

    @needs_redis
    async def read_runs(self, run_ids: Sequence[str]) -> list[Run]:
        """Those of the runs that (still) exist, in the order of the ids."""
        runs: list[Run] = []
        for start in range(0, len(run_ids), PAGE):
            runs += await self._runs(run_ids[start : start + PAGE])
        return runs

    async def list_runs(self, pool: Pool, states: Collection[str], limit: int) -> list[Run]:
        """Runs of a pool in certain states.

        Args:
            pool: with its queues.
            states: none means all.
            limit: how many at most.

        Returns:
            First those in flight, latest claim first; then the waiting ones, queue by queue in the order they will be
            handed out; then the finished ones, latest first.
        """
        wanted = frozenset(states) or IN_FLIGHT | TERMINAL | {"SCHEDULED"}
        runs: dict[str, Run] = {}
        async for page in self._pages(pool, wanted):
            # One that moves on while we read is met twice; the later look counts.
            runs.update((run.id, run) for run in await self.read_runs(page) if run.state in wanted)
            if len(runs) >= limit:
                break
        return list(runs.values())[:limit]

    async def _pages(self, pool: Pool, wanted: frozenset[str]) -> AsyncIterator[list[str]]:
        partition = self._partition(pool.name)
        if wanted & IN_FLIGHT:
            async for page in self._page(keys.key(partition, "pool_in_flight", pool.id), latest_first=True):
                yield page
        if "SCHEDULED" in wanted:
            for queue in pool.queues:
                async for page in self._page(keys.key(partition, "waiting", queue.id), latest_first=False):
                    yield page
        if wanted & TERMINAL:
            async for page in self._page(keys.key(partition, "pool_finished", pool.id), latest_first=True):
                yield page

    async def _page(self, name: str, *, latest_first: bool) -> AsyncIterator[list[str]]:
        start = 0
        while page := await self._range(name, start, latest_first=latest_first):
            yield page
            start += PAGE

    @needs_redis
    async def _range(self, name: str, start: int, *, latest_first: bool) -> list[str]:
        members: Any = await self._client.zrange(name, start, start + PAGE - 1, desc=latest_first)
        return [member.decode() for member in members]

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

    async def _runs(self, run_ids: Sequence[str]) -> list[Run]:
        pipe = self._client.pipeline(transaction=False)
        for run_id in run_ids:
            pipe.hgetall(keys.key(keys.partition_of_run(run_id), "run", run_id))
        found = {run_id: fields for run_id, fields in zip(run_ids, await pipe.execute(), strict=True) if fields}
        await self._add_due(found)
        places = {(keys.partition_of_run(run_id), fields.get(b"queue_id", b"")) for run_id, fields in found.items()}
        names = {place: await self._names(*place) for place in places}
        runs = []
        for run_id, fields in found.items():
            pool, queue = names[keys.partition_of_run(run_id), fields.get(b"queue_id", b"")]
            if not pool and b"pool_id" in fields:
                pool = await self._pool_name(keys.partition_of_run(run_id), fields[b"pool_id"])
            runs.append(to_run(run_id, fields, pool, queue))
        return runs

    async def _add_due(self, found: dict[str, dict[bytes, bytes]]) -> None:
        """A run that still waits keeps its due time in its queue's waiting set only."""
        waiting = [run_id for run_id, fields in found.items() if b"due" not in fields]
        pipe = self._client.pipeline(transaction=False)
        for run_id in waiting:
            queue_id = found[run_id].get(b"queue_id", b"-").decode()
            pipe.zscore(keys.key(keys.partition_of_run(run_id), "waiting", queue_id), run_id)
        for run_id, due in zip(waiting, await pipe.execute(), strict=True):
            if due is not None:
                found[run_id][b"due"] = str(int(due)).encode()

    async def _names(self, partition: int, queue_id: bytes) -> tuple[str, str]:
        """Names of the pool and the queue of a queue id; '' for what has been deleted."""
        if not queue_id:
            return "", ""
        found: Any = await self._client.hmget(keys.key(partition, "queue", queue_id.decode()), ["name", "pool_id"])
        name, pool_id = found
        return (await self._pool_name(partition, pool_id), str(orjson.loads(name))) if name else ("", "")

    async def _pool_name(self, partition: int, pool_id: bytes) -> str:
        name: Any = await self._client.hget(keys.key(partition, "pool", pool_id.decode()), "name")
        return str(orjson.loads(name)) if name else ""


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
