"""Join a pool: create it when its type is given, infer the type when not, create missing queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from penstock.contracts.base import check_name
from penstock.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from penstock.client import Penstock
    from penstock.contracts.pools import Pool

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
