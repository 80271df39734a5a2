"""Administer pools and queues: every change is a command that returns when it has been answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from penstock import keys
from penstock.bus.requests import DEFAULT_TIMEOUT_SECONDS, request
from penstock.client.store import Store
from penstock.client.wording import did_you_mean, why
from penstock.contracts import pools, queues
from penstock.contracts.pools import Pool, Queue
from penstock.errors import Invalid, NotFound
from penstock.streams import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from penstock.contracts.base import Command
    from penstock.streams import Stream

M = TypeVar("M")


class Administration:
    """The part of :class:`~penstock.client.sdk.Penstock` that defines pools and queues."""

    def __init__(self, client: Redis, partitions: int, *, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS) -> None:
        self._client = client
        self._partitions = partitions
        self._timeout = timeout_seconds
        self._store = Store(client, partitions)

    # Pools

    async def create_pool(
        self,
        name: str,
        *,
        worker_type: str = pools.DEFAULT_WORKER_TYPE,
        description: str | None = None,
        is_paused: bool = False,
        concurrency_limit: int | None = None,
        base_job_template: dict[str, Any] | None = None,
        on_worker_lost: pools.OnWorkerLost = "crash",
        max_attempts: int = pools.DEFAULT_MAX_ATTEMPTS,
        if_missing: bool = False,
        overwrite: bool = False,
    ) -> Pool:
        """Create a pool and its default queue.

        Args:
            name: without ``/ % & > <``; names starting with ``prefect`` are reserved.
            worker_type: only workers of this type may join.
            description: for people.
            is_paused: start paused.
            concurrency_limit: how many runs are in flight at most; None means no limit.
            base_job_template: what a run's job variables may be and what they become; None and ``{}`` mean the default one
                of the type.
            on_worker_lost: what becomes of a RUNNING run whose worker went OFFLINE: ``crash``, ``requeue`` or ``keep``.
            max_attempts: how often ``requeue`` starts a run at most, 1 to 1000.
            if_missing: answer an existing pool of the same type instead of refusing.
            overwrite: update an existing pool instead of refusing, and pause it if ``is_paused``; it is never resumed.
        """
        command = checked(
            lambda: pools.CreatePool(
                pool=name,
                worker_type=worker_type,
                description=description,
                is_paused=is_paused,
                concurrency_limit=concurrency_limit,
                base_job_template=base_job_template or {},
                on_worker_lost=on_worker_lost,
                max_attempts=max_attempts,
                if_missing=if_missing,
                overwrite=overwrite,
            )
        )
        return Pool.model_validate(await self._command(command))

    async def update_pool(self, name: str, /, **changes: Any) -> Pool:
        """Change fields of a pool (:class:`~penstock.contracts.pools.PoolChanges`); the others stay as they are."""
        command = checked(lambda: pools.UpdatePool(pool=name, changes=pools.PoolChanges(**changes)))
        return Pool.model_validate(await self._command(command))

    async def pause_pool(self, name: str) -> None:
        """Hand out nothing more from a pool: once this has returned, nothing is."""
        await self._command(checked(lambda: pools.PausePool(pool=name)))

    async def resume_pool(self, name: str) -> None:
        """Hand out again."""
        await self._command(checked(lambda: pools.ResumePool(pool=name)))

    async def delete_pool(self, name: str) -> None:
        """Delete a pool and its queues. Its runs, waiting or in flight, become CANCELLED; workers stop theirs."""
        await self._command(checked(lambda: pools.DeletePool(pool=name)))

    async def read_pool(self, name: str) -> Pool:
        """One pool with its queues by priority."""
        pool = await self._store.read_pool(name)
        if pool is None:
            raise await self._no_pool(name)
        return pool

    async def read_pools(self) -> list[Pool]:
        """All pools, by name."""
        return await self._store.read_pools()

    # Queues

    async def create_queue(
        self,
        pool: str,
        name: str,
        *,
        priority: int | None = None,
        description: str | None = None,
        concurrency_limit: int | None = None,
        is_paused: bool = False,
        if_missing: bool = False,
    ) -> Queue:
        """Create a queue.

        Args:
            pool: where.
            name: without ``/ % & > <``.
            priority: 1 is the highest; a taken one shifts the others minimally; None takes the first free number.
            description: for people.
            concurrency_limit: how many of its runs are in flight at most; None means no limit but the pool's.
            is_paused: start paused.
            if_missing: answer an existing queue instead of refusing.
        """
        command = checked(
            lambda: queues.CreateQueue(
                pool=pool,
                queue=name,
                priority=priority,
                description=description,
                concurrency_limit=concurrency_limit,
                is_paused=is_paused,
                if_missing=if_missing,
            )
        )
        return Queue.model_validate(await self._command(command))

    async def update_queue(self, pool: str, name: str, /, **changes: Any) -> Queue:
        """Change fields of a queue (:class:`~penstock.contracts.queues.QueueChanges`); the others stay as they are."""
        command = checked(
            lambda: queues.UpdateQueue(pool=pool, queue=name, changes=queues.QueueChanges(**changes)),
        )
        return Queue.model_validate(await self._command(command, name))

    async def pause_queue(self, pool: str, name: str) -> None:
        """Hand out nothing more from a queue: once this has returned, nothing is."""
        await self._command(checked(lambda: queues.PauseQueue(pool=pool, queue=name)), name)

    async def resume_queue(self, pool: str, name: str) -> None:
        """Hand out again."""
        await self._command(checked(lambda: queues.ResumeQueue(pool=pool, queue=name)), name)

    async def delete_queue(self, pool: str, name: str) -> None:
        """Delete a queue, never the default one. Its waiting runs become CANCELLED."""
        await self._command(checked(lambda: queues.DeleteQueue(pool=pool, queue=name)), name)

    async def read_queue(self, pool: str, name: str) -> Queue:
        """One queue."""
        found = next((queue for queue in await self.read_queues(pool) if queue.name == name), None)
        if found is None:
            raise await self._no_queue(pool, name)
        return found

    async def read_queues(self, pool: str) -> list[Queue]:
        """A pool's queues, by priority."""
        return (await self.read_pool(pool)).queues

    # Inside

    async def _command(self, command: Command, queue: str = "", *, stream: Stream = COMMANDS) -> Any:
        pool = str(command.model_dump(include={"pool"})["pool"])
        partition = keys.partition_of_pool(pool, self._partitions)
        try:
            return await request(self._client, stream, partition, command, self._timeout)
        except NotFound as problem:
            if pool not in await self._store.pool_names():
                raise await self._no_pool(pool) from problem
            if queue:
                raise await self._no_queue(pool, queue) from problem
            raise

    async def _no_pool(self, name: str) -> NotFound:
        known = await self._store.pool_names()
        hint = did_you_mean(name, known) or ("`penstock work-pool ls` lists them" if known else "no pool exists yet")
        return NotFound(f"there is no work pool '{name}'", hint)

    async def _no_queue(self, pool: str, name: str) -> NotFound:
        known = await self._store.queue_names(pool)
        hint = did_you_mean(name, known) or f"`penstock work-queue ls --pool '{pool}'` lists them"
        return NotFound(f"there is no work queue '{name}' in work pool '{pool}'", hint)


def checked(make: Callable[[], M]) -> M:
    """Make a command; what breaks a rule is refused here already, with the reason.

    Raises:
        Invalid: a value breaks a rule.
    """
    try:
        return make()
    except ValidationError as problem:
        raise Invalid(why(problem)) from problem
