"""Redis' silence, raised as what it is."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from redis.exceptions import RedisError

from penstock.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

P = ParamSpec("P")
T = TypeVar("T")


def unavailable(problem: Exception) -> Unavailable:
    """Word it."""
    return Unavailable(f"Redis does not answer: {problem}")


def needs_redis(function: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Let a function that asks Redis raise its silence as :class:`~penstock.errors.Unavailable`."""

    @functools.wraps(function)
    async def asks(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await function(*args, **kwargs)
        except (RedisError, OSError) as problem:
            raise unavailable(problem) from problem

    return asks
