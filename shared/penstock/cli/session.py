"""From a command to an installation and back: which Redis, one connection, one answer."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, TypeVar

from penstock.cli.local_state import local_redis_url
from penstock.client import Penstock
from penstock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

REDIS_URL: Final = "PENSTOCK_REDIS_URL"
S = TypeVar("S", bound=Settings)
T = TypeVar("T")


def settings() -> Settings:
    """Read the common settings, see :func:`settings_of`."""
    return settings_of(Settings)


def settings_of(kind: type[S]) -> S:
    """Read settings. Redis is where ``--redis-url`` says, else ``PENSTOCK_REDIS_URL``, else the running ``penstock up``.

    Args:
        kind: whose settings.

    Raises:
        BadSettings: a variable is unknown or wrong.
    """
    return kind.read(redis_url=None if os.environ.get(REDIS_URL) else local_redis_url())


def ask(action: Callable[[Penstock], Awaitable[T]]) -> T:
    """Connect, do one thing, disconnect.

    Args:
        action: gets the connected SDK.

    Returns:
        What the action answered.
    """

    async def session() -> T:
        async with Penstock.connect(settings()) as penstock:
            return await action(penstock)

    return asyncio.run(session())
