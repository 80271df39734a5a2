"""From a command to an installation and back: one connection, one answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from penstock.client import Penstock

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
