"""Faults of what is read: entries and deliveries come twice, vanish, or lie."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import orjson

from penstock import keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from redis.asyncio import Redis

    from tests.system.chaos.crew import Member

GROUPS: Final = {"dispatch": "dispatcher", "commands": "pool_registry", "heartbeats": "heartbeat_monitor"}
"""Streams that are worked off, and by whom."""
LONG_MS: Final = 60_000
"""Idle like the entries of a consumer that is dead for sure."""
WORDS: Final = (b"announce_worker", b"lose_worker")
AFTER_SECONDS: Final = 0.3
"""The newer word has been applied by then."""
LOOKS_BACK: Final = 200
WAITS: Final = 50


class Deliveries:
    """Meddles with streams and groups.

    Args:
        client: of Redis.
        chance: answers what decides for the fault that asks.
    """

    def __init__(self, client: Redis, chance: Callable[[], Random]) -> None:
        self._client, self._own_chance = client, chance

    @property
    def _chance(self) -> Random:
        return self._own_chance()

    async def duplicate(self) -> None:
        """What was sent is sent again, whatever it was: of what is seldom sent as much as of what fills the stream."""
        for family in (*GROUPS, "definitions"):
            stream = keys.key(0, family)
            found: Any = await self._client.xrevrange(stream, count=LOOKS_BACK)
            kinds: dict[bytes, list[Any]] = {}
            for _, fields in found:
                kinds.setdefault(fields.get(b"type", b""), []).append(fields)
            for same in kinds.values():
                for fields in self._chance.sample(same, min(3, len(same))):
                    await self._client.xadd(stream, fields)

    async def late(self, seconds: float) -> int:
        """What was said of a worker is said again after the next word about it.

        Args:
            seconds: how long it listens; Redis must not lose data meanwhile, or it would be told what it never knew.

        Returns:
            How many words came late.
        """
        stream = keys.key(0, "dispatch")
        newest: Any = await self._client.xrevrange(stream, count=1)
        last = newest[0][0] if newest else b"0"
        said: dict[str, tuple[int, Any]] = {}
        count = 0
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            answer: Any = await self._client.xread({stream: last}, count=500, block=200)
            for entry_id, fields in answer[0][1] if answer else []:
                last = entry_id
                if fields.get(b"type") not in WORDS:
                    continue
                word = orjson.loads(fields[b"__data__"])
                seq, older = said.get(word["worker"], (0, None))
                if word["seq"] > seq:
                    said[word["worker"]] = (word["seq"], fields)
                    if older:
                        await asyncio.sleep(AFTER_SECONDS)
                        await self._client.xadd(stream, older)
                        count += 1
        return count

    async def again(self) -> None:
        """Set a group back: it gets entries again that it has been given, acknowledged or still in somebody's hand."""
        family = self._chance.choice(list(GROUPS))
        stream, group = keys.key(0, family), GROUPS[family]
        for about in await self._client.xinfo_groups(stream):
            if about["name"] == group.encode():
                # Back from where it is, never forward: what nobody has read yet must not be left out.
                last = about["last-delivered-id"]
                found: Any = await self._client.xrevrange(stream, max=last, count=self._chance.randint(2, 20))
                if found:
                    await self._client.xgroup_setid(stream, group, found[-1][0])

    async def steal(self, member: Member) -> int:
        """Give to others what a consumer has in hand that is alive, only slow: it goes on as if nothing had happened.

        Args:
            member: a process that is slow for a moment; thawed when this returns.

        Returns:
            How many entries.
        """
        family = next((one for one, group in GROUPS.items() if member.name.startswith(group)), "definitions")
        stream, group = keys.key(0, family), GROUPS.get(family, member.name.partition(" ")[0])
        try:
            # Stopped where it has something in hand, which takes some attempts.
            for _ in range(WAITS):
                member.freeze()
                mine = await self._in_hand(stream, group, member)
                if mine:
                    break
                member.thaw()
                await asyncio.sleep(self._chance.uniform(0, 0.02))
            else:
                return 0
            others: Any = await self._client.xinfo_consumers(stream, group)
            thief = self._chance.choice(others)["name"]
            await self._client.xclaim(stream, group, thief, 0, mine, idle=LONG_MS, justid=True)
            # Long enough that a reclaimer has taken them over and handled them.
            await asyncio.sleep(self._chance.uniform(0, 2))
            return len(mine)
        finally:
            member.thaw()

    async def _in_hand(self, stream: str, group: str, member: Member) -> list[Any]:
        assert member.process
        consumers: Any = await self._client.xinfo_consumers(stream, group)
        for consumer in consumers:
            if consumer["pending"] and consumer["name"].endswith(b"-%d" % member.process.pid):
                mine: Any = await self._client.xpending_range(
                    stream, group, "-", "+", 100, consumername=consumer["name"]
                )
                return [one["message_id"] for one in mine]
        return []

    async def trim(self) -> None:
        """Entries vanish while somebody has them in hand: heartbeats, which repeat, and questions nobody waits for."""
        stream = keys.key(0, "dispatch")
        fields: Any = {"type": "claim_runs", "__data__": b'{"type":"claim_runs","pool":"etl"}'}
        ids = [await self._client.xadd(stream, fields) for _ in range(20)]
        await asyncio.sleep(self._chance.choice([0, 0.005, 0.05]))
        await self._client.xdel(stream, *ids)
        heartbeats = keys.key(0, "heartbeats")
        pending: Any = await self._client.xpending_range(heartbeats, "heartbeat_monitor", "-", "+", 100)
        if pending:
            await self._client.xdel(heartbeats, *(one["message_id"] for one in pending))
