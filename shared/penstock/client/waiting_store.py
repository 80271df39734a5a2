"""The SDK's door to what waits and what holds slots, and it only reads. Who writes which key: see :mod:`penstock.keys`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from penstock import keys
from penstock.client.outage import needs_redis
from penstock.client.waiting import Backlog, Place
from penstock.contracts.runs import IN_FLIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from penstock.client.run_store import RunStore
    from penstock.contracts.pools import Pool, Queue
    from penstock.contracts.runs import Run


class Holders(NamedTuple):
    """Who holds slots: how many, and the first of them, the longest claimed first."""

    total: int
    runs: list[Run]


class WaitingStore:
    """Reads waiting sets and in-flight sets.

    Args:
        client: reads only.
        partitions: of the installation.
        runs: reads the runs themselves.
    """

    def __init__(self, client: Redis, partitions: int, runs: RunStore) -> None:
        self._client = client
        self._partitions = partitions
        self._runs = runs

    @needs_redis
    async def read_held(self, pool: Pool, workers: Sequence[str]) -> list[list[Run]]:
        """The runs that each of a pool's workers holds, the first submitted first."""
        partition = self._partition(pool.name)
        pipe = self._client.pipeline(transaction=False)
        for name in workers:
            pipe.smembers(keys.key(partition, "slots_in_flight", keys.worker_ident(pool.id, name)))
        held = [sorted(member.decode() for member in members) for members in await pipe.execute()]
        runs = {run.id: run for run in await self._runs.read_runs([run_id for ids in held for run_id in ids])}
        return [[runs[run_id] for run_id in ids if run_id in runs] for ids in held]

    async def pool_holders(self, pool: Pool, limit: int) -> Holders:
        """Who holds a slot of a pool."""
        return await self._holders(keys.key(self._partition(pool.name), "pool_in_flight", pool.id), limit)

    async def queue_holders(self, pool: Pool, queue: Queue, limit: int) -> Holders:
        """Who holds a slot of a queue."""
        return await self._holders(keys.key(self._partition(pool.name), "queue_in_flight", queue.id), limit)

    async def deployment_holders(self, pool: Pool, deployment_id: str, limit: int) -> Holders:
        """Who holds a slot of a deployment, in the partition of a pool."""
        return await self._holders(keys.key(self._partition(pool.name), "deployment_in_flight", deployment_id), limit)

    @needs_redis
    async def _holders(self, name: str, limit: int) -> Holders:
        pipe = self._client.pipeline(transaction=False)
        pipe.zcard(name)
        pipe.zrange(name, 0, limit - 1)
        count, members = await pipe.execute()
        runs = await self._runs.read_runs([raw.decode() for raw in members])
        return Holders(count, [run for run in runs if run.state in IN_FLIGHT])

    @needs_redis
    async def read_backlogs(self, pool: Pool, now_ms: int) -> dict[str, Backlog]:
        """What waits in each of a pool's queues, by queue id; queues in which nothing waits are left out."""
        partition = self._partition(pool.name)
        sets = {queue.id: await self._runs.waiting_sets(partition, queue.id) for queue in pool.queues}
        pipe = self._client.pipeline(transaction=False)
        for names in sets.values():
            for name in names:
                pipe.zcard(name)
                pipe.zcount(name, "-inf", now_ms)
                pipe.zrange(name, 0, 0, withscores=True)
        answers = await pipe.execute()
        found = {}
        for queue_id, names in sets.items():
            mine, answers = answers[: 3 * len(names)], answers[3 * len(names) :]
            first = [int(rows[0][1]) if rows else None for rows in mine[2::3]]
            known = [due for due in first if due is not None]
            if known:
                found[queue_id] = Backlog(sum(mine[::3]), sum(mine[1::3]), min(known), sum(mine[3::3]), first[0])
        return found

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
        sets = [
            (queue.priority, name) for queue in queues for name in await self._runs.waiting_sets(partition, queue.id)
        ]
        pipe = self._client.pipeline(transaction=False)
        for _, name in sets:
            pipe.zrangebyscore(name, "-inf", until, start=0, num=limit, withscores=True)
            pipe.zcount(name, "-inf", until)
        answers = await pipe.execute()
        places = [
            Place(priority, int(due), raw.decode())
            for (priority, _), members in zip(sets, answers[::2], strict=True)
            for raw, due in members
        ]
        return places, sum(answers[1::2])

    @needs_redis
    async def position(self, pool: Pool, place: Place, now_ms: int) -> int:
        """How many waiting runs of a pool come before one in :func:`penstock.client.waiting.in_order`.

        Counted by ranks, so that a million waiting runs cost no more than ten.
        """
        partition = self._partition(pool.name)
        due, before = place.due_ms, f"({place.due_ms}"
        pipe = self._client.pipeline(transaction=False)
        count = 0
        for queue in pool.queues:
            for name in await self._runs.waiting_sets(partition, queue.id):
                if queue.priority == place.priority:
                    count += await self._rank(name, place)
                elif due > now_ms:
                    pipe.zcount(name, "-inf", due if queue.priority < place.priority else before)
                elif queue.priority < place.priority:
                    pipe.zcount(name, "-inf", now_ms)
        return count + int(sum(await pipe.execute()))

    async def _rank(self, name: str, place: Place) -> int:
        """How many in a set come before a run, which may be in another: by when they are due, then by their ids."""
        rank: Any = await self._client.zrank(name, place.run_id)
        if rank is not None:
            return int(rank)
        earlier: Any = await self._client.zcount(name, "-inf", f"({place.due_ms}")
        same: Any = await self._client.zrangebyscore(name, place.due_ms, place.due_ms)
        return int(earlier) + sum(1 for raw in same if raw.decode() < place.run_id)

    def _partition(self, pool_name: str) -> int:
        return keys.partition_of_pool(pool_name, self._partitions)
