"""What a program calls.

Changes go as commands over the bus and return when they have been answered; reads go to Redis directly.
"""

from __future__ import annotations

import asyncio
import unicodedata
from contextlib import aclosing, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import check, connect, fixed_partitions
from penstock.client.admin import checked
from penstock.client.dead_letters import DeadLetters
from penstock.client.events import EventStream
from penstock.client.job_variables import JobVariables
from penstock.client.local_state import read_settings
from penstock.client.logs import RunOutput
from penstock.client.outage import needs_redis
from penstock.client.runs import chunks, prepare
from penstock.client.watching import Watching
from penstock.contracts.runs import TERMINAL, RunState, SubmitRuns
from penstock.errors import BadSettings, CursorExpired, Invalid, NotFound, refusal
from penstock.settings import Settings
from penstock.streams import DISPATCH

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence

    from redis.asyncio import Redis

    from penstock.client.events import Since
    from penstock.client.records import InFlight, Worker
    from penstock.client.runs import NewRun
    from penstock.contracts.events import Event
    from penstock.contracts.logs import LogLine
    from penstock.contracts.runs import Run

DEFAULT_LIMIT: Final = 200
RUN_EVENTS: Final = "prefect.flow-run."


class Penstock(Watching):
    """One installation of Penstock.

    Args:
        client: a connected Redis client; it stays the caller's.
        partitions: of the installation.
        timeout_seconds: how long a command waits for its answer; past it nobody will execute it any more.

    Every method raises :class:`~penstock.errors.Unavailable` when Redis or a service does not answer, and a kind of
    :class:`~penstock.errors.Refused` when the request is turned down: ``NotFound`` (with a suggestion), ``Conflict``,
    ``Reserved``, ``Invalid``.
    """

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings | None = None) -> AsyncIterator[Penstock]:
        """Connect, make sure Redis answers, and close at the end.

        Args:
            settings: None reads the environment; without PENSTOCK_REDIS_URL there, a running ``penstock up`` is found.

        Raises:
            Unavailable: Redis does not answer.
            BadSettings: PENSTOCK_PARTITIONS is set and this installation was started with another number.
        """
        settings = settings or read_settings(Settings)
        try:
            client = connect(settings.redis_url, retries=1)
        except ValueError as problem:
            raise BadSettings(f"PENSTOCK_REDIS_URL: {problem}") from problem
        try:
            await check(client, settings.redis_url)
            yield cls(client, await _agreed_partitions(client, settings))
        finally:
            await client.aclose()

    @property
    def dead(self) -> DeadLetters:
        """What could not be handled."""
        return DeadLetters(self._client, self._partitions)

    # Runs

    async def submit_runs(self, pool: str, runs: Sequence[NewRun]) -> list[str]:
        """Put runs into queues of a pool. Missing queues are created.

        Args:
            pool: where.
            runs: any number; sent in messages of a bounded size, in this order.

        Returns:
            Their ids, in the order given.

        Raises:
            Invalid: a run breaks a rule, or its job variables one of the pool's template; nothing has been sent.
            Refused: the dispatcher turned some down; the message says how many of how many, and why.
        """
        pool = unicodedata.normalize("NFC", pool)
        partition = keys.partition_of_pool(pool, self._partitions)
        prepared = prepare(runs, partition)
        await self._job_variables.check(pool, prepared)
        refused: list[dict[str, str]] = []
        for chunk in chunks(prepared):
            answer = await self._command(_submission(pool, chunk), stream=DISPATCH)
            refused += answer["refused"]
        if refused:
            first = refused[0]
            raise refusal(first["code"], f"{len(refused)} of {len(prepared)} runs were refused: {first['message']}")
        return [run.id for run in prepared]

    async def read_run(self, run_id: str) -> Run:
        """One run."""
        return (await self._existing([run_id]))[0]

    async def read_runs(
        self, pool: str | None = None, *, states: Collection[RunState] | None = None, limit: int = DEFAULT_LIMIT
    ) -> list[Run]:
        """List runs: those in flight first, then the waiting ones in their order, then the finished ones, latest first.

        Args:
            pool: None means all pools.
            states: None means all states.
            limit: how many at most.
        """
        where = [await self.read_pool(pool)] if pool is not None else await self.read_pools()
        runs: list[Run] = []
        for one in where:
            runs += await self._store.list_runs(one, states or (), limit - len(runs))
            if len(runs) >= limit:
                break
        return runs

    async def wait_for_runs(self, run_ids: Sequence[str], timeout: float | None = None) -> list[Run]:  # noqa: ASYNC109 - the caller's budget
        """Wait until all of the runs are in a terminal state; woken by the event stream, never by a timer.

        Args:
            run_ids: any number.
            timeout: seconds; None waits for ever.

        Returns:
            The runs as they ended, in the order of the ids.

        Raises:
            TimeoutError: some are not finished yet; the message says how many.
        """
        open_runs = set(run_ids)
        try:
            async with asyncio.timeout(timeout):
                while open_runs:
                    try:
                        await self._wait(open_runs)
                    except CursorExpired:
                        # Overtaken by trimming: a fresh look at the state is as good as the events missed.
                        continue
        except TimeoutError as problem:
            raise TimeoutError(
                f"{len(open_runs)} of {len(run_ids)} runs have not finished within {timeout:g} s"
            ) from problem
        return await self._existing(run_ids)

    async def logs(self, run_id: str, *, follow: bool = False) -> AsyncGenerator[LogLine, None]:
        """Read what a run printed, oldest line first.

        Args:
            run_id: whose output.
            follow: go on until the run has ended instead of stopping at what is kept now.

        Yields:
            Line by line. Nothing when the run has printed nothing, or so long ago that it is not kept any more.
        """
        await self._existing([run_id])
        ended = asyncio.create_task(self.wait_for_runs([run_id])) if follow else None
        try:
            async with aclosing(RunOutput(self._client, run_id).read(ended)) as lines:
                async for line in lines:
                    yield line
            if ended:
                ended.result()
        finally:
            await end_tasks([ended] if ended else [])

    async def _wait(self, open_runs: set[str]) -> None:
        partitions = sorted({self._partition_of_run(run_id) for run_id in open_runs})
        stream = EventStream(self._client, partitions, [f"{RUN_EVENTS}*"])
        # First the position, then the look: a run that ends in between is seen by both rather than by neither.
        await stream.start(None)
        open_runs -= {run.id for run in await self._existing(list(open_runs)) if run.state in TERMINAL}
        if not open_runs:
            return
        async with aclosing(stream.read(follow=True)) as events:
            async for _, event in events:
                if _state_type(event) in TERMINAL:
                    open_runs.discard(event.resource.get("prefect.resource.id", "").removeprefix(RUN_EVENTS))
                if not open_runs:
                    return

    # Workers and events

    async def read_workers(self, pool: str | None = None) -> list[Worker]:
        """Workers of a pool, or of all pools; OFFLINE ones included."""
        where = [await self.read_pool(pool)] if pool is not None else await self.read_pools()
        return [worker for one in where for worker in await self._store.read_workers(one)]

    async def read_slots(self, pool: str) -> InFlight:
        """How many runs hold a slot now: in the pool, and per queue name."""
        return await self._store.read_in_flight(await self.read_pool(pool))

    async def events(
        self, *, since: Since = None, follow: bool = True, names: Sequence[str] = ()
    ) -> AsyncGenerator[tuple[str, Event], None]:
        """Read the event stream.

        Args:
            since: None means from now on, ``"0"`` everything kept, a cursor everything after it, a timedelta everything
                that happened so long ago or later.
            follow: wait for more at the end instead of stopping there.
            names: globs; only events whose name matches one. None given means all.

        Yields:
            ``(cursor, event)``; the cursor says where to read on.

        Raises:
            CursorExpired: events after the cursor have been trimmed.
        """
        stream = EventStream(self._client, range(self._partitions), names)
        await stream.start(since)
        async with aclosing(stream.read(follow=follow)) as events:
            async for cursor, event in events:
                yield cursor, event

    # Inside

    @cached_property
    def _job_variables(self) -> JobVariables:
        return JobVariables(self._store)

    async def _existing(self, run_ids: Sequence[str]) -> list[Run]:
        for run_id in run_ids:
            self._partition_of_run(run_id)
        found = {run.id: run for run in await self._store.read_runs(run_ids)}
        missing = [run_id for run_id in run_ids if run_id not in found]
        if missing:
            raise NotFound(f"there is no run '{missing[0]}'", "finished runs are kept for a while only")
        return [found[run_id] for run_id in run_ids]

    def _partition_of_run(self, run_id: str) -> int:
        try:
            partition = keys.partition_of_run(run_id)
        except ValueError as problem:
            raise Invalid(str(problem), "`penstock flow-run ls` lists ids") from problem
        if partition >= self._partitions:
            raise NotFound(
                f"there is no run '{run_id}'", "its id names a partition that this installation does not have"
            )
        return partition


def _state_type(event: Event) -> str:
    name = event.event.removeprefix(RUN_EVENTS)
    return event.resource.get("prefect.state-type") or name.upper()


def _submission(pool: str, chunk: list[Any]) -> SubmitRuns:
    return checked(lambda: SubmitRuns(pool=pool, runs=chunk))


@needs_redis
async def _agreed_partitions(client: Redis, settings: Settings) -> int:
    """Take the number this installation was started with; a number given explicitly must be the same."""
    fixed = await fixed_partitions(client)
    if fixed is None:
        return settings.partitions
    if "partitions" in settings.model_fields_set and settings.partitions != fixed:
        raise BadSettings(
            f"PENSTOCK_PARTITIONS={settings.partitions}, but this installation was first started with {fixed}"
        )
    return fixed
