"""The event stream from a cursor on, across partitions and outages of Redis; says so when events have been missed.

A cursor is opaque text: the last entry id read of each partition, joined by commas; with one partition the entry id
itself.
"""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError
from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import BLOCK_MS, OUTAGES, redis_now_ms
from penstock.client.outage import unavailable
from penstock.contracts.events import Event
from penstock.errors import CursorExpired, Invalid
from penstock.streams import DATA_FIELD, TYPE_FIELD

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from redis.asyncio import Redis

Since = str | timedelta | None
BATCH: Final = 500
PATIENCE_SECONDS: Final = 30.0
"""How long a follower rides out an outage of Redis before it gives up."""
RETRY_SECONDS: Final = 0.5
BEGINNING: Final = "0-0"
_ENTRY_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")
_END: Final = 2**64
"""Redis keeps each half of an entry id in 64 bits."""


class EntryId(NamedTuple):
    """An entry id as it is ordered."""

    ms: int
    seq: int

    @classmethod
    def of(cls, text: str) -> EntryId:
        """Read ``<ms>-<seq>``; a missing ``seq`` is 0."""
        ms, _, seq = text.partition("-")
        return cls(int(ms), int(seq or 0))


def is_entry_id(text: str) -> bool:
    """Say whether Redis takes a text for an entry id: a larger number is an error to it, which looks like a broken Redis."""
    return bool(_ENTRY_ID.fullmatch(text)) and max(EntryId.of(text)) < _END


class EventStream:
    """Reads events; one object serves one reader.

    Args:
        client: reads only.
        partitions: which to read.
        names: globs; only events whose name matches one are handed out. None given means all.
    """

    def __init__(self, client: Redis, partitions: Sequence[int], names: Sequence[str] = ()) -> None:
        self._client = client
        self._partitions = list(partitions)
        self._names = tuple(names)
        self._positions: dict[int, str] = {}
        self._behind: set[int] = set()

    @property
    def cursor(self) -> str:
        """Where to read on later."""
        return ",".join(self._positions[partition] for partition in self._partitions)

    async def start(self, since: Since) -> None:
        """Set the position.

        Args:
            since: None means from now on, ``"0"`` everything kept, a cursor everything after it, a timedelta everything
                that happened so long ago or later, by Redis TIME.

        Raises:
            Invalid: this is no cursor of this installation.
            CursorExpired: events after the cursor have been trimmed.
            Unavailable: Redis does not answer.
        """
        try:
            self._positions = dict(zip(self._partitions, await self._starts(since), strict=True))
            if isinstance(since, str):
                for partition in self._partitions:
                    await self._refuse_if_expired(partition)
        except (RedisError, OSError) as problem:
            raise unavailable(problem) from problem

    async def read(self, *, follow: bool) -> AsyncGenerator[tuple[str, Event], None]:
        """Hand out ``(cursor, event)``, in order within a partition.

        Args:
            follow: wait for more at the end instead of stopping there.

        Raises:
            CursorExpired: this reader was so slow that events it had not read were trimmed.
            Unavailable: Redis did not answer for :data:`PATIENCE_SECONDS`.
        """
        reads: dict[asyncio.Task[list[Any]], int] = {}
        try:
            for partition in self._partitions:
                reads[self._begin(partition, follow=follow)] = partition
            while reads:
                done, _ = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    partition = reads.pop(task)
                    entries = task.result()
                    for entry_id, fields in entries:
                        self._positions[partition] = entry_id.decode()
                        if event := self._decode(fields):
                            yield self.cursor, event
                    if entries or follow:
                        reads[self._begin(partition, follow=follow)] = partition
        finally:
            await end_tasks(reads)

    def _begin(self, partition: int, *, follow: bool) -> asyncio.Task[list[Any]]:
        return asyncio.create_task(self._next(partition, follow=follow))

    async def _next(self, partition: int, *, follow: bool) -> list[Any]:
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_SECONDS
        while True:
            try:
                return await self._batch(partition, follow=follow)
            except OUTAGES as problem:
                if not follow or loop.time() > end:
                    raise unavailable(problem) from problem
                await asyncio.sleep(RETRY_SECONDS)
            except RedisError as problem:
                raise unavailable(problem) from problem

    async def _batch(self, partition: int, *, follow: bool) -> list[Any]:
        name = keys.key(partition, "events")
        after = self._positions[partition]
        if partition in self._behind:
            answer = await self._read_behind(name, after)
        else:
            answer = await self._client.xread({name: after}, count=BATCH, block=BLOCK_MS if follow else None)
        entries = entries_of(answer)
        if len(entries) == BATCH:
            self._behind.add(partition)
        else:
            self._behind.discard(partition)
        return entries

    async def _read_behind(self, name: str, after: str) -> Any:
        """Read without waiting, and in the same transaction make sure that trimming has not overtaken this reader."""
        pipe = self._client.pipeline(transaction=True)
        pipe.xrange(name, count=1)
        pipe.xread({name: after}, count=BATCH)
        oldest, answer = await pipe.execute()
        if not oldest or EntryId.of(oldest[0][0].decode()) > EntryId.of(after):
            raise _expired(oldest[0][0].decode() if oldest else "")
        return answer

    async def _refuse_if_expired(self, partition: int) -> None:
        position = EntryId.of(self._positions[partition])
        name = keys.key(partition, "events")
        if position == EntryId.of(BEGINNING) or not await self._client.exists(name):
            return
        about: Any = await self._client.xinfo_stream(name)
        first = about.get("first-entry")
        # Redis 7 counts what was ever added; before it, a cursor whose own entry is gone is taken for expired: every
        # cursor handed out was an entry once.
        added = about.get("entries-added")
        if added is not None and added <= about["length"]:
            return
        oldest = first[0].decode() if first else about["last-generated-id"].decode()
        if position < EntryId.of(oldest):
            raise _expired(oldest if first else "")

    async def _starts(self, since: Since) -> list[str]:
        count = len(self._partitions)
        if since is None:
            return [await self._last(partition) for partition in self._partitions]
        if isinstance(since, timedelta):
            start_ms = await redis_now_ms(self._client) - int(since.total_seconds() * 1000)
            return [f"{max(start_ms, 0)}-0"] * count
        parts = since.split(",")
        if not all(is_entry_id(part) for part in parts) or len(parts) not in {1, count}:
            raise Invalid(f"{since!r} is no cursor of this event stream", "an entry id such as 1700000000000-0, or 0")
        return [part if "-" in part else f"{part}-0" for part in parts] * (count // len(parts))

    async def _last(self, partition: int) -> str:
        name = keys.key(partition, "events")
        if not await self._client.exists(name):
            return BEGINNING
        about: Any = await self._client.xinfo_stream(name)
        return str(about["last-generated-id"].decode())

    def _decode(self, fields: dict[bytes, bytes] | None) -> Event | None:
        """Turn an entry into an event; None for one that is filtered out, and for what is no event at all."""
        if not fields:
            return None
        kind = fields.get(TYPE_FIELD.encode(), b"").decode(errors="replace")
        if self._names and not any(fnmatchcase(kind, name) for name in self._names):
            return None
        try:
            return Event.model_validate_json(fields.get(DATA_FIELD.encode(), b""))
        except ValidationError:
            return None


def entries_of(answer: Any) -> list[Any]:
    """The entries of one stream out of XREAD's answer, which is a list of streams in RESP2 and a mapping in RESP3."""
    found = answer.values() if isinstance(answer, dict) else [entries for _, entries in answer or []]
    return [entry for part in found for entry in (part[0] if part and isinstance(part[0], list) else part)]


def _expired(oldest: str) -> CursorExpired:
    problem = CursorExpired(
        "events after this cursor have been trimmed, so some are missing",
        f"the oldest kept is {oldest}; read on from there after taking a fresh look at the state"
        if oldest
        else "none is kept",
    )
    problem.oldest = oldest
    return problem
