"""Helpers of many tests: wait for conditions, read streams."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis


async def wait_until(
    condition: Callable[[], Awaitable[Any]], *, what: str, timeout: float = 20.0, every: float = 0.02
) -> Any:
    """Wait for a condition; answer what it answered."""
    end = time.monotonic() + timeout
    while True:
        answer = await condition()
        if answer:
            return answer
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout} s in vain: {what}")
        await asyncio.sleep(every)


async def read_events(client: Redis, partition: int = 0) -> list[dict[str, Any]]:
    """All events so far, oldest first."""
    entries: Any = await client.xrange(keys.key(partition, "events"))
    return [orjson.loads(fields[b"__data__"]) for _, fields in entries]


async def read_messages(client: Redis, family: str, ident: str = "", partition: int = 0) -> list[dict[str, Any]]:
    """All messages on a stream so far, oldest first."""
    entries: Any = await client.xrange(keys.key(partition, family, ident))
    return [orjson.loads(fields[b"__data__"]) for _, fields in entries]
