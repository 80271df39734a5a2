"""What a program calls.

Changes go as commands over the bus and return when they have been answered; reads go to Redis directly.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import check, connect, fixed_partitions
from penstock.client.dead_letters import DeadLetters
from penstock.client.events import EventStream
from penstock.client.explaining import Explaining
from penstock.client.following import RunFollower
from penstock.client.local_state import read_settings
from penstock.client.logs import RunOutput
from penstock.client.outage import needs_redis
from penstock.contracts.runs import TERMINAL
from penstock.errors import BadSettings, CursorExpired
from penstock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from redis.asyncio import Redis

    from penstock.client.events import Since
    from penstock.client.records import InFlight, Worker
    from penstock.contracts.events import Event
    from penstock.contracts.logs import LogLine
    from penstock.contracts.runs import PastState, Run

DEFAULT_LIMIT: Final = 200
RUN_EVENTS: Final = "prefect.flow-run."


class Penstock(Explaining):
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

    # Following runs

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

    async def logs(
        self, run_id: str, *, follow: bool = False, tail: int | None = None
    ) -> AsyncGenerator[LogLine, None]:
        """Read what a run printed, oldest line first.

        Args:
            run_id: whose output.
            follow: go on until the run has ended instead of stopping at what is kept now.
            tail: begin with the last so many of the lines kept now; None with the first one.

        Yields:
            Line by line. Nothing when the run has printed nothing, or so long ago that it is not kept any more.
        """
        await self._existing([run_id])
        ended = asyncio.create_task(self.wait_for_runs([run_id])) if follow else None
        try:
            output = RunOutput(self._client, run_id)
            for line in await output.tail(tail) if tail is not None else []:
                yield line
            if tail is None or follow:
                async with aclosing(output.read(ended)) as lines:
                    async for line in lines:
                        yield line
            if ended:
                ended.result()
        finally:
            await end_tasks([ended] if ended else [])

    async def follow_run(self, run_id: str) -> AsyncGenerator[PastState | LogLine, None]:
        """Follow a run from its beginning to its end.

        Args:
            run_id: which.

        Yields:
            Its states and the lines it prints as they come, what happened so far first; the last one is its terminal state.
        """
        await self._existing([run_id])
        follower = RunFollower(self._client, self._runs, run_id)
        async with aclosing(follower.follow()) as steps:
            async for step in steps:
                yield step

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


def _state_type(event: Event) -> str:
    name = event.event.removeprefix(RUN_EVENTS)
    return event.resource.get("prefect.state-type") or name.upper()


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
