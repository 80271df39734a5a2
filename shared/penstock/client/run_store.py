"""The SDK's door to runs, and it only reads. Who writes which key: see :mod:`penstock.keys`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.client.outage import needs_redis
from penstock.client.records import queue_and_pool_of, to_run
from penstock.contracts.runs import IN_FLIGHT, LATE_AFTER_SECONDS, TERMINAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from redis.asyncio import Redis

    from penstock.client.run_filter import RunFilter
    from penstock.contracts.pools import Pool
    from penstock.contracts.runs import Run

PAGE: Final = 500
"""How many runs are read in one round trip."""
_WAITS: Final = frozenset({"SCHEDULED"})


class Section(NamedTuple):
    """A sorted set of run ids that is part of a list.

    Attributes:
        name: its key.
        states: in which its runs may be.
        exact: all of its runs are of the queue and the deployment that are asked for.
        latest_first: read from its end.
        until: only scores up to it.
    """

    name: str
    states: frozenset[str]
    exact: bool = True
    latest_first: bool = False
    until: float = float("inf")


class RunStore:
    """Reads runs.

    Args:
        client: reads only.
        partitions: of the installation.
    """

    def __init__(self, client: Redis, partitions: int) -> None:
        self._client = client
        self._partitions = partitions

    @needs_redis
    async def read_runs(self, run_ids: Sequence[str]) -> list[Run]:
        """Those of the runs that (still) exist, in the order of the ids."""
        runs: list[Run] = []
        now_ms = await redis_now_ms(self._client) if run_ids else 0
        for start in range(0, len(run_ids), PAGE):
            runs += await self._runs(run_ids[start : start + PAGE], now_ms)
        return runs

    @needs_redis
    async def existing(self, run_ids: Sequence[str]) -> set[str]:
        """Which of the runs exist."""
        found: set[str] = set()
        for start in range(0, len(run_ids), PAGE):
            page = run_ids[start : start + PAGE]
            pipe = self._client.pipeline(transaction=False)
            for run_id in page:
                pipe.exists(keys.key(keys.partition_of_run(run_id), "run", run_id))
            found |= {run_id for run_id, there in zip(page, await pipe.execute(), strict=True) if there}
        return found

    async def list_runs(self, pools: Sequence[Pool], wanted: RunFilter, limit: int, offset: int = 0) -> list[Run]:
        """Runs of some pools.

        Args:
            pools: with their queues.
            wanted: which runs.
            limit: how many at most.
            offset: how many are passed over.

        Returns:
            Pool by pool: first those in flight, latest claim first; then the waiting ones, queue by queue in the order they
            will be handed out, behind them those that wait for the limit of their deployment; then the finished ones,
            latest first. Of a deployment: those in flight, those that wait, and the finished ones pool by pool.
        """
        runs: dict[str, Run] = {}
        skip, taken = offset, 0
        async for section in self._sections(pools, wanted):
            whole = section.exact and section.until == float("inf") and wanted.is_all_of(section.states)
            start = 0
            if whole and skip:
                size = await self._size(section)
                start, skip = min(skip, size), max(skip - size, 0)
            while taken < limit:
                ids = await self._range(section, start, min(PAGE, limit - taken) if whole else PAGE)
                if not ids:
                    break
                start += len(ids)
                # One that moves on while we read is met twice; the later look counts.
                found = [run for run in await self.read_runs(ids) if wanted.matches(run)]
                if not whole:
                    passed = min(skip, len(found))
                    skip -= passed
                    found = found[passed : passed + limit - taken]
                # What is passed over unread is counted by ids, so what is read has to be, too: else pages would overlap.
                taken += len(ids) if whole else len(found)
                runs.update((run.id, run) for run in found)
            if taken >= limit:
                break
        return list(runs.values())

    async def _sections(self, pools: Sequence[Pool], wanted: RunFilter) -> AsyncIterator[Section]:
        until = float("inf")
        if wanted.only_late:
            until = await self._now_ms() - LATE_AFTER_SECONDS * 1000
        if wanted.deployment is not None:
            for partition in sorted({self._partition(pool.name) for pool in pools}):
                for family, states in (("deployment_in_flight", IN_FLIGHT), ("deployment_waiting", _WAITS)):
                    if wanted.may_match(states):
                        name = keys.key(partition, family, wanted.deployment)
                        before = until if states is _WAITS else float("inf")
                        yield Section(name, states, wanted.pool is None, states is IN_FLIGHT, before)
        for pool in pools:
            partition = self._partition(pool.name)
            if wanted.deployment is None:
                async for section in self._of_pool(partition, pool, wanted, until):
                    yield section
            if wanted.may_match(TERMINAL):
                name = keys.key(partition, "pool_finished", pool.id)
                yield Section(name, TERMINAL, wanted.deployment is None and wanted.queue is None, latest_first=True)

    async def _of_pool(self, partition: int, pool: Pool, wanted: RunFilter, until: float) -> AsyncIterator[Section]:
        queues = [queue for queue in pool.queues if wanted.queue in (None, queue.name)]
        if wanted.may_match(IN_FLIGHT):
            held = (
                [("pool_in_flight", pool.id)] if wanted.queue is None else [("queue_in_flight", q.id) for q in queues]
            )
            for family, ident in held:
                yield Section(keys.key(partition, family, ident), IN_FLIGHT, latest_first=True)
        if wanted.may_match(_WAITS):
            for queue in queues:
                for name in await self.waiting_sets(partition, queue.id):
                    yield Section(name, _WAITS, until=until)

    @needs_redis
    async def waiting_sets(self, partition: int, queue_id: str) -> list[str]:
        """The keys in which the runs of a queue wait: first those in line, then those parked for the limit of a deployment."""
        parked: Any = await self._client.smembers(keys.key(partition, "queue_parked", queue_id))
        places = sorted(f"{queue_id}/{deployment.decode()}" for deployment in parked)
        return [keys.key(partition, "waiting", queue_id), *(keys.key(partition, "parked", place) for place in places)]

    @needs_redis
    async def _size(self, section: Section) -> int:
        return int(await self._client.zcard(section.name))

    @needs_redis
    async def _range(self, section: Section, start: int, count: int) -> list[str]:
        members: Any
        if section.until == float("inf"):
            members = await self._client.zrange(section.name, start, start + count - 1, desc=section.latest_first)
        else:
            members = await self._client.zrangebyscore(section.name, "-inf", section.until, start=start, num=count)
        return [member.decode() for member in members]

    @needs_redis
    async def _now_ms(self) -> int:
        return await redis_now_ms(self._client)

    def _partition(self, pool_name: str) -> int:
        return keys.partition_of_pool(pool_name, self._partitions)

    async def _runs(self, run_ids: Sequence[str], now_ms: int) -> list[Run]:
        pipe = self._client.pipeline(transaction=False)
        for run_id in run_ids:
            pipe.hgetall(keys.key(keys.partition_of_run(run_id), "run", run_id))
        found = {run_id: fields for run_id, fields in zip(run_ids, await pipe.execute(), strict=True) if fields}
        await self._add_due(found)
        places = {(keys.partition_of_run(run_id), fields.get(b"queue_id", b"")) for run_id, fields in found.items()}
        names = {place: await self._names(*place) for place in places}
        deployments = await self._deployment_names(
            {
                (keys.partition_of_run(run_id), fields[b"deployment_id"].decode())
                for run_id, fields in found.items()
                if b"deployment_id" in fields
            }
        )
        runs = []
        for run_id, fields in found.items():
            pool, queue = names[keys.partition_of_run(run_id), fields.get(b"queue_id", b"")]
            if not pool and b"pool_id" in fields:
                pool = await self._pool_name(keys.partition_of_run(run_id), fields[b"pool_id"])
            deployment = deployments.get(fields.get(b"deployment_id", b"").decode())
            runs.append(to_run(run_id, fields, pool, queue, deployment=deployment, now_ms=now_ms))
        return runs

    async def _add_due(self, found: dict[str, dict[bytes, bytes]]) -> None:
        """A run that waits keeps its due time in the set it waits in; what its hash says is older."""
        waiting = [run_id for run_id, fields in found.items() if fields.get(b"state", b"SCHEDULED") == b"SCHEDULED"]
        pipe = self._client.pipeline(transaction=False)
        for run_id in waiting:
            partition, queue_id = keys.partition_of_run(run_id), found[run_id].get(b"queue_id", b"-").decode()
            pipe.zscore(keys.key(partition, "waiting", queue_id), run_id)
            deployment = found[run_id].get(b"deployment_id", b"-").decode()
            pipe.zscore(keys.key(partition, "parked", f"{queue_id}/{deployment}"), run_id)
        answers = await pipe.execute()
        for run_id, line, parked in zip(waiting, answers[::2], answers[1::2], strict=True):
            due = parked if line is None else line
            if due is not None:
                found[run_id][b"due"] = str(int(due)).encode()

    async def _names(self, partition: int, queue_id: bytes) -> tuple[str, str]:
        """Names of the pool and the queue of a queue id; of what has been deleted those of its last claim, or ''."""
        if not queue_id:
            return "", ""
        ident = queue_id.decode()
        name, pool_id = await self._fields(keys.key(partition, "queue", ident), "name", "pool_id")
        if name and pool_id:
            return await self._pool_name(partition, pool_id), str(orjson.loads(name))
        related: Any = await self._client.get(keys.key(partition, "related", ident))
        return queue_and_pool_of(related or b"[]")

    async def _pool_name(self, partition: int, pool_id: bytes) -> str:
        (name,) = await self._fields(keys.key(partition, "pool", pool_id.decode()), "name")
        return str(orjson.loads(name)) if name else ""

    async def _fields(self, name: str, *fields: str) -> list[bytes | None]:
        found: Any = await self._client.hmget(name, fields)
        return list(found)

    async def _deployment_names(self, wanted: Iterable[tuple[int, str]]) -> dict[str, str]:
        """Names of deployments by id; one that has moved is looked for in the other partitions, too."""
        names: dict[str, str] = {}
        for partition, ident in wanted:
            for where in dict.fromkeys([partition, *range(self._partitions)]):
                (name,) = await self._fields(keys.key(where, "deployment", ident), "name")
                if name:
                    names[ident] = str(orjson.loads(name))
                    break
        return names
