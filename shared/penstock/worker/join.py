"""Join a pool: create it when its type is given, infer the type when not, create missing queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from penstock.bus.connection import agree_on_partitions, fixed_partitions
from penstock.contracts.base import check_name
from penstock.errors import Conflict, Invalid, NotFound
from penstock.keys import partition_of_pool
from penstock.worker.identity import Identity, default_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from redis.asyncio import Redis

    from penstock.client import Penstock
    from penstock.contracts.pools import Pool
    from penstock.settings import Settings

log = structlog.get_logger("penstock.worker")


def checked(what: str, name: str) -> str:
    """Check a name given by a person.

    Raises:
        Invalid: it is none; says what is wrong.
    """
    try:
        return check_name(name)
    except ValueError as problem:
        raise Invalid(f"{what} {name!r}: {problem}") from problem


async def agreed_partitions(client: Redis, settings: Settings) -> int:
    """Take the number of partitions this installation was started with; one given explicitly must be the same.

    Raises:
        BadSettings: it is another.
    """
    fixed = await fixed_partitions(client)
    explicit = "partitions" in settings.model_fields_set
    partitions = settings.partitions if explicit or fixed is None else fixed
    await agree_on_partitions(client, partitions)
    return partitions


def identify(partitions: int, pool: str, name: str | None, worker_type: str, queues: Sequence[str]) -> Identity:
    """Say who a worker is that begins its life now.

    Args:
        partitions: of the installation.
        pool: its name, as a person gave it.
        name: the worker's; generated when None.
        worker_type: of the pool.
        queues: names of those it serves; none means all.

    Raises:
        Invalid: one of the names is none.
    """
    pool = checked("pool", pool)
    return Identity(
        pool=pool,
        name=checked("worker", name or default_name(worker_type)),
        worker_type=worker_type,
        partition=partition_of_pool(pool, partitions),
        queues=tuple(dict.fromkeys(checked("queue", queue) for queue in queues)),
    )


def not_accepted(identity: Identity, seconds: float) -> str:
    """Say that a worker waits, and whom to look at."""
    return (
        f"nobody accepted worker {identity.name!r} of pool {identity.pool!r} within {seconds:g} s; are heartbeat_monitor "
        "and dispatcher running (`penstock health`)?"
    )


async def join_pool(
    penstock: Penstock,
    pool: str,
    worker_type: str | None = None,
    queues: Iterable[str] = (),
    *,
    say: Callable[[str], None],
) -> str:
    """Make sure that a pool of the right type and the queues exist.

    Args:
        penstock: the SDK.
        pool: its name.
        worker_type: None takes the type of the pool.
        queues: names of the queues the worker will serve; missing ones are created.
        say: gets what people should see.

    Returns:
        The worker's type.

    Raises:
        NotFound: there is no such pool, and without a type none can be created.
        Conflict: the pool has another type.
    """
    pool = checked("pool", pool)
    if worker_type is None:
        try:
            found = await penstock.read_pool(pool)
        except NotFound as missing:
            raise NotFound(
                f"Work pool {pool!r} does not exist",
                f"`penstock work-pool create {pool} --type process`, or give the worker --type. {missing.hint}".strip(),
            ) from missing
        worker_type = found.type
        say(f"Discovered worker type {worker_type!r} for work pool {pool!r}.")
    else:
        found = await _read_or_create(penstock, pool, worker_type, say)
    if found.type != worker_type:
        raise Conflict(
            f"work pool {pool!r} takes workers of type {found.type!r}, not {worker_type!r}",
            f"leave out --type, or use --type {found.type}",
        )
    existing = {queue.name for queue in await penstock.read_queues(pool)}
    for queue in dict.fromkeys(checked("queue", queue) for queue in queues):
        if queue not in existing:
            await penstock.create_queue(pool, queue, if_missing=True)
            log.info("Work queue created.", pool=pool, queue=queue)
    return worker_type


async def _read_or_create(penstock: Penstock, pool: str, worker_type: str, say: Callable[[str], None]) -> Pool:
    try:
        return await penstock.read_pool(pool)
    except NotFound:
        created = await penstock.create_pool(pool, worker_type=worker_type, if_missing=True)
        say(f"Worker pool {pool!r} created.")
        return created
