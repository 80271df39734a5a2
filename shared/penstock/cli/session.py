"""From a command to an installation and back: one connection, one answer, and the pool it is about."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from penstock.cli.parsing import choose_pool
from penstock.client import Penstock
from penstock.client.local_state import read_settings
from penstock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def ask(action: Callable[[Penstock], Awaitable[T]]) -> T:
    """Connect (see :meth:`Penstock.connect`), do one thing, disconnect.

    Args:
        action: gets the connected SDK.

    Returns:
        What the action answered.
    """

    async def session() -> T:
        async with Penstock.connect() as penstock:
            return await action(penstock)

    return asyncio.run(session())


def ask_in(pool: str | None, action: Callable[[Penstock, str], Awaitable[T]]) -> tuple[str, T]:
    """Do one thing in a pool (see :func:`ask`).

    Args:
        pool: as given with ``--pool``; None means the default one (see :func:`penstock.cli.parsing.choose_pool`).
        action: gets the connected SDK and the name of the pool.

    Returns:
        The name of the pool, and what the action answered.
    """

    async def in_pool(penstock: Penstock) -> tuple[str, T]:
        name = await find_pool(penstock, pool)
        return name, await action(penstock, name)

    return ask(in_pool)


async def find_pool(penstock: Penstock, given: str | None) -> str:
    """Say which pool a command is about that was given this one, or none."""
    default = read_settings(Settings).default_pool
    existing = [] if given is not None or default else [pool.name for pool in await penstock.read_pools()]
    return choose_pool(given, default, existing)
