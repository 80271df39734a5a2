"""Trim streams, however much there is to trim."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from redis.asyncio import Redis

TRIM_SECONDS: Final = 2.0
"""So long one stream is trimmed at a time; what is left then is the next turn's."""


async def trim_before(client: Redis, stream: str, entry_id: str | bytes) -> int:
    """Drop the entries before one, in steps that do not hold up Redis.

    A single ``XTRIM ~`` drops about 10,000 entries and leaves the others: a stream that gets more than that from one turn to the
    next would grow although everything in it is done.

    Args:
        client: to Redis.
        stream: full key.
        entry_id: the first that stays; Redis drops whole blocks, so up to a hundred before it may stay, too.

    Returns:
        How many were dropped.
    """
    dropped = 0
    end = time.monotonic() + TRIM_SECONDS
    while step := int(await client.xtrim(stream, minid=entry_id, approximate=True)):
        dropped += step
        if time.monotonic() > end:
            break
    return dropped
