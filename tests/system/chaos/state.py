"""What is stored when all is calm: the other half of what a history is held against."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from penstock import keys
from tests.system.chaos.load import POOL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis.asyncio import Redis

AGREE_SECONDS: Final = 5.0
"""A worker that has just come back is known to the monitor first, to the dispatcher a message later."""
AGAIN_SECONDS: Final = 0.1


async def read_state(client: Redis, runs: Sequence[str]) -> dict[str, Any]:
    """Read what a ``state`` line of a record says.

    Args:
        client: of Redis.
        runs: ids of those that events have told of.
    """
    workers = await _workers(client)
    pipe = client.pipeline(transaction=False)
    for run_id in runs:
        pipe.hmget(keys.key(0, "run", run_id), ["name", "state", "seq", "epoch"])
    stored = {
        run_id: [(state or b"SCHEDULED").decode(), int(seq or 1), int(epoch or 0)]
        for run_id, (name, state, seq, epoch) in zip(runs, await pipe.execute(), strict=True)
        if name is not None
    }
    ledger: Any = await client.hgetall(keys.key(0, "event_ledger"))
    counted = {name.decode(): int(seq) for name, seq in ledger.items() if not name.endswith(b"|status")}
    return {"runs": stored, "ledger": counted, "held": await _held(client), "workers": workers}


async def _held(client: Redis) -> dict[str, list[str]]:
    """Sets that are empty when nothing is in flight and nothing waits."""
    held = {}
    async for name in client.scan_iter(match=keys.key(0, "events").removesuffix("events") + "*", count=1000):
        text = name.decode()
        if text.endswith((":in-flight", ":waiting", ":cancelling")) or ":parked:" in text:
            kind: Any = await client.type(name)
            found: Any = await (client.smembers(name) if kind == b"set" else client.zrange(name, 0, 10))
            held[text] = [one.decode() for one in found]
    return held


async def _workers(client: Redis) -> dict[str, list[list[str]]]:
    """What monitor and dispatcher know of each ONLINE worker; they get a moment to agree."""
    pool_id: Any = await client.hget(keys.key(0, "pools"), POOL)
    end = asyncio.get_running_loop().time() + AGREE_SECONDS
    while True:
        names: Any = await client.smembers(keys.key(0, "pool_workers", pool_id.decode()))
        known: dict[str, list[list[str]]] = {}
        for name in sorted(one.decode() for one in names):
            ident = f"{pool_id.decode()}/{name}"
            told: Any = await client.hmget(keys.key(0, "worker", ident), ["status", "boot_id", "slots", "draining"])
            held: Any = await client.hmget(keys.key(0, "slots", ident), ["boot_id", "slots"])
            if told[0] == b"ONLINE":
                slots = b"0" if told[3] == b"1" else told[2]
                known[name] = [list(_texts(told[1], slots)), list(_texts(*held))]
        if all(one == other for one, other in known.values()) or asyncio.get_running_loop().time() > end:
            return known
        await asyncio.sleep(AGAIN_SECONDS)


def _texts(*values: bytes | None) -> Iterator[str]:
    return ((value or b"").decode() for value in values)
