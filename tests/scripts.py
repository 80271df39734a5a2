"""Scripts written inside a test: the text of a file that is not there."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from penstock import keys, lua

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def evaluate(client: Redis, header: str, body: str, *arguments: Any, partition: int = 0) -> Any:
    """Run a body under the header lines given (KEYS, RETURNS, COST and RULE are added)."""
    top = "-- probe: A script of a test.\n-- KEYS events STREAM\n-- RETURNS x\n-- COST O(1)\n-- RULE none\n"
    source = f"{top}{header}\n{body}"
    text = lua.compose(lua.parse_header("probe", source), source)
    assert hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return await client.eval(text, 1, keys.key(partition, "events"), *arguments)
