"""The SDK's door to runs, and it only reads. Who writes which key: see :mod:`penstock.keys`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.client.outage import needs_redis
from penstock.client.records import queue_and_pool_of, queue_id_of, to_run
from penstock.contracts.runs import IN_FLIGHT, LATE_AFTER_SECONDS, TERMINAL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

    from redis.asyncio import Redis

    from penstock.client.run_filter import RunFilter
    from penstock.contracts.pools import Pool
    from penstock.contracts.runs import Run, RunState

PAGE: Final = 500
"""How many runs are read in one round trip. Of the planned ones of a queue, so many are looked at for those that are retried."""
RETRIED: Final = b"AwaitingRetry"
"""Label of a run that waits for its next attempt."""
_WAITS: Final = frozenset({"SCHEDULED"})


class Section(NamedTuple):
    """Some of the run ids of a sorted set, as a part of a list.

    Attributes:
        name: its key.
        states: in which its runs may be.
        exact: all of its runs are of the queue and the deployment that are asked for.
        latest_first: read from its end.
        after: only higher scores.
        until: only scores up to it.
        ids: these instead of a set.
        passed: how many of it another section has.
    """

    name: str
    states: frozenset[str]
    exact: bool = True
    latest_first: bool = False
    after: float = float("-inf")
    until: float = float("inf")
    ids: tuple[str, ...] | None = None
    passed: int = 0

    @property
    def scores(self) -> tuple[str, str] | None:
        """Its range as Redis spells it; None for the whole set."""
        if self.after == float("-inf") and self.until == float("inf"):
            return None
        return f"({self.after:.0f}" if self.after > float("-inf") else "-inf", (
            f"{self.until:.0f}" if self.until < float("inf") else "+inf"
        )


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

    async def existing(self, run_ids: Sequence[str]) -> set[str]:
        """Which of the runs exist."""
        return {run_id for run_id, name in (await self._each(run_ids, "name")).items() if name is not None}

    async def in_state(self, run_ids: Sequence[str], state: RunState) -> set[str]:
        """Which of the runs are in a state; not for SCHEDULED, which a run that was only submitted does not keep."""
        return {run_id for run_id, found in (await self._each(run_ids, "state")).items() if found == state.encode()}

    async def list_runs(self, pools: Sequence[Pool], wanted: RunFilter, limit: int, offset: int = 0) -> list[Run]:
        """Runs of some pools.

        Args:
            pools: with their queues.
            wanted: which runs.
            limit: how many at most.
            offset: how many are passed over.

        Returns:
            First those in flight, latest claim first; then those that wait and are due by now, queue by queue in the order they
            will be handed out, behind them those that wait for the limit of their deployment; then those that wait for their
            next attempt, as far as they are among the next :data:`PAGE` of their queue; then the finished ones, latest first;
            last those that are planned for later. Where finished ones are not wanted, all that wait go by queue. Each of these
            parts goes pool by pool.
        """
        runs: dict[str, Run] = {}
        skip, taken = offset, 0
        async for section in self._sections(pools, wanted):
            whole = section.exact and wanted.is_all_of(section.states)
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

    async def count_planned(self, pools: Sequence[Pool], wanted: RunFilter) -> int | None:
        """How many of the wanted runs that wait are due later than now; None where only reading all of them would tell."""
        waits = [section async for section in self._waits(pools, wanted)]
        if not wanted.is_all_of(_WAITS) or not all(section.exact for section in waits):
            return None
        now_ms = await self._now_ms()
        return sum([await self._size(section._replace(after=now_ms)) for section in waits])

    async def _sections(self, pools: Sequence[Pool], wanted: RunFilter) -> AsyncIterator[Section]:
        if wanted.may_match(IN_FLIGHT):
            for section in self._in_flight(pools, wanted):
                yield section
        waits = [section async for section in self._waits(pools, wanted)] if wanted.may_match(_WAITS) else []
        now_ms = await self._now_ms() if waits else 0
        if wanted.only_late:
            waits = [section._replace(until=now_ms - LATE_AFTER_SECONDS * 1000) for section in waits]
        parted = wanted.may_match(TERMINAL) and not wanted.only_late
        for section in waits:
            yield section._replace(until=now_ms) if parted else section
        planned: list[Section] = []
        for section in waits if parted else []:
            retried, *others = await self._parted(section._replace(after=now_ms))
            yield retried
            planned += others
        if not wanted.may_match(TERMINAL):
            return
        for pool in pools:
            name = keys.key(self._partition(pool.name), "pool_finished", pool.id)
            yield Section(name, TERMINAL, wanted.deployment is None and wanted.queue is None, latest_first=True)
        for section in planned:
            yield section

    def _in_flight(self, pools: Sequence[Pool], wanted: RunFilter) -> Iterator[Section]:
        if wanted.deployment is not None:
            for partition in self._partitions_of(pools):
                name = keys.key(partition, "deployment_in_flight", wanted.deployment)
                yield Section(name, IN_FLIGHT, wanted.pool is None and wanted.queue is None, latest_first=True)
            return
        for pool in pools:
            held = [("pool_in_flight", pool.id)]
            if wanted.queue is not None:
                held = [("queue_in_flight", queue.id) for queue in pool.queues if queue.name == wanted.queue]
            for family, ident in held:
                yield Section(keys.key(self._partition(pool.name), family, ident), IN_FLIGHT, latest_first=True)

    async def _waits(self, pools: Sequence[Pool], wanted: RunFilter) -> AsyncIterator[Section]:
        if wanted.deployment is not None:
            exact = wanted.pool is None and wanted.queue is None
            for partition in self._partitions_of(pools):
                yield Section(keys.key(partition, "deployment_waiting", wanted.deployment), _WAITS, exact)
            return
        for pool in pools:
            for queue in pool.queues:
                if wanted.queue in (None, queue.name):
                    for name in await self.waiting_sets(self._partition(pool.name), queue.id):
                        yield Section(name, _WAITS)

    async def _parted(self, planned: Section) -> list[Section]:
        """Part what is planned for later: first what waits for its next attempt, then the rest."""
        ids = await self._range(planned, 0, PAGE)
        labels = await self._each(ids, "label")
        retried = tuple(run_id for run_id in ids if labels[run_id] == RETRIED)
        others = tuple(run_id for run_id in ids if labels[run_id] != RETRIED)
        return [planned._replace(ids=retried), planned._replace(ids=others), planned._replace(passed=len(ids))]

    @needs_redis
    async def waiting_sets(self, partition: int, queue_id: str) -> list[str]:
        """The keys in which the runs of a queue wait: first those in line, then those parked for the limit of a deployment."""
        parked: Any = await self._client.smembers(keys.key(partition, "queue_parked", queue_id))
        places = sorted(f"{queue_id}/{deployment.decode()}" for deployment in parked)
        return [keys.key(partition, "waiting", queue_id), *(keys.key(partition, "parked", place) for place in places)]

    @needs_redis
    async def _size(self, section: Section) -> int:
        if section.ids is not None:
            return len(section.ids)
        size = (
            self._client.zcount(section.name, *section.scores) if section.scores else self._client.zcard(section.name)
        )
        return max(int(await size) - section.passed, 0)

    @needs_redis
    async def _range(self, section: Section, start: int, count: int) -> list[str]:
        if section.ids is not None:
            return list(section.ids[start : start + count])
        start += section.passed
        members: Any
        if section.scores:
            members = await self._client.zrangebyscore(section.name, *section.scores, start=start, num=count)
        else:
            members = await self._client.zrange(section.name, start, start + count - 1, desc=section.latest_first)
        return [member.decode() for member in members]

    @needs_redis
    async def _each(self, run_ids: Sequence[str], field: str) -> dict[str, bytes | None]:
        """One field of each of the runs."""
        found: dict[str, bytes | None] = {}
        for start in range(0, len(run_ids), PAGE):
            page = run_ids[start : start + PAGE]
            pipe = self._client.pipeline(transaction=False)
            for run_id in page:
                pipe.hget(keys.key(keys.partition_of_run(run_id), "run", run_id), field)
            found.update(zip(page, await pipe.execute(), strict=True))
        return found

    @needs_redis
    async def _now_ms(self) -> int:
        return await redis_now_ms(self._client)

    def _partitions_of(self, pools: Iterable[Pool]) -> list[int]:
        return sorted({self._partition(pool.name) for pool in pools})

    def _partition(self, pool_name: str) -> int:
        return keys.partition_of_pool(pool_name, self._partitions)

    async def _runs(self, run_ids: Sequence[str], now_ms: int) -> list[Run]:
        pipe = self._client.pipeline(transaction=False)
        for run_id in run_ids:
            pipe.hgetall(keys.key(keys.partition_of_run(run_id), "run", run_id))
        # Of one whose record made room for later ones only that is kept that it was there.
        answers = zip(run_ids, await pipe.execute(), strict=True)
        found = {run_id: fields for run_id, fields in answers if b"name" in fields}
        await self._add_due(found)
        places = {(keys.partition_of_run(run_id), queue_id_of(fields)) for run_id, fields in found.items()}
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
            pool, queue = names[keys.partition_of_run(run_id), queue_id_of(fields)]
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
            partition, queue_id = keys.partition_of_run(run_id), queue_id_of(found[run_id]) or "-"
            pipe.zscore(keys.key(partition, "waiting", queue_id), run_id)
            deployment = found[run_id].get(b"deployment_id", b"-").decode()
            pipe.zscore(keys.key(partition, "parked", f"{queue_id}/{deployment}"), run_id)
        answers = await pipe.execute()
        for run_id, line, parked in zip(waiting, answers[::2], answers[1::2], strict=True):
            due = parked if line is None else line
            if due is not None:
                found[run_id][b"due"] = str(int(due)).encode()

    async def _names(self, partition: int, queue_id: str) -> tuple[str, str]:
        """Names of the pool and the queue of a queue id; of what has been deleted those of its last claim, or ''."""
        if not queue_id:
            return "", ""
        name, pool_id = await self._fields(keys.key(partition, "queue", queue_id), "name", "pool_id")
        if name and pool_id:
            return await self._pool_name(partition, pool_id), str(orjson.loads(name))
        related: Any = await self._client.get(keys.key(partition, "related", queue_id))
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
