"""What operators do with dead entries: look at them, send them again, drop them."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import BaseModel

from penstock import keys, streams
from penstock.client.events import is_entry_id
from penstock.client.outage import needs_redis
from penstock.client.records import iso_of_ms
from penstock.contracts.dead_letters import DeadLetter, KeptField
from penstock.errors import Conflict, Invalid, NotFound
from penstock.streams import DATA_FIELD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

_NUMBER: Final = re.compile(r"[0-9]{1,4}")
_UNREADABLE: Final = DeadLetter(
    reason="this entry of the dead stream cannot be read", stream="", entry_id="", group="", deliveries=0
)
_CAPS: Final = {stream.name: stream.max_length for stream in streams.ALL}


class DeadEntry(BaseModel):
    """One entry of the dead stream.

    Attributes:
        id: ``<partition>/<entry id>``.
        stream: full key of the stream it came from; ``entry_id`` its id there.
        deliveries: how often it was delivered before it was given up.
        whole: its fields were kept whole, so that it can be sent again.
        died: ISO 8601 in UTC, Redis TIME.
        content: what is known of it: ``fields``, or the one bad ``element`` of an array.
    """

    id: str
    stream: str
    entry_id: str
    reason: str
    group: str
    deliveries: int
    whole: bool
    died: str
    content: dict[str, Any]


class DeadLetters:
    """Reads and empties the dead streams.

    Args:
        client: also writes.
        partitions: of the installation.
    """

    def __init__(self, client: Redis, partitions: int) -> None:
        self._client = client
        self._partitions = partitions

    @needs_redis
    async def read(self, limit: int) -> list[DeadEntry]:
        """The latest dead entries of all partitions, latest first."""
        found: list[DeadEntry] = []
        for partition in range(self._partitions):
            entries: Any = await self._client.xrevrange(keys.key(partition, "dead"), count=limit)
            found += [_describe(partition, entry_id.decode(), fields) for entry_id, fields in entries]
        return sorted(found, key=lambda entry: entry.died, reverse=True)[:limit]

    @needs_redis
    async def find(self, ids: Sequence[str]) -> list[DeadEntry]:
        """Look dead entries up.

        Raises:
            NotFound: there is none of one of the ids.
            Invalid: one is no id of a dead entry.
        """
        found = []
        for text in ids:
            partition, entry_id = self._split(text)
            entries: Any = await self._client.xrange(keys.key(partition, "dead"), entry_id, entry_id)
            if not entries:
                raise NotFound(f"there is no dead entry '{text}'", "`penstock dead ls` lists them")
            found.append(_describe(partition, entry_id, entries[0][1]))
        return found

    @needs_redis
    async def retry(self, ids: Sequence[str]) -> list[str]:
        """Append entries to the stream they came from and drop them here, each in one transaction.

        Returns:
            Their new entry ids.

        Raises:
            Conflict: one was not kept whole; nothing has been sent.
        """
        entries = await self.find(ids)
        for entry in entries:
            if not entry.whole:
                raise Conflict(
                    f"dead entry '{entry.id}' was not kept whole, so it cannot be sent again",
                    f"it came from {entry.stream}, id {entry.entry_id}; `penstock dead drop {entry.id}` forgets it",
                )
        sent = []
        for entry in entries:
            partition, entry_id = self._split(entry.id)
            pipe = self._client.pipeline(transaction=True)
            fields: Any = {name: _bytes(kept) for name, kept in entry.content["fields"].items()}
            cap = _CAPS.get(entry.stream.rpartition(":")[2])
            pipe.xadd(entry.stream, fields, maxlen=cap, approximate=True)
            pipe.xdel(keys.key(partition, "dead"), entry_id)
            sent.append((await pipe.execute())[0].decode())
        return sent

    @needs_redis
    async def drop(self, ids: Sequence[str]) -> None:
        """Forget entries.

        Raises:
            NotFound: there is none of one of the ids; nothing has been dropped.
        """
        for entry in await self.find(ids):
            partition, entry_id = self._split(entry.id)
            await self._client.xdel(keys.key(partition, "dead"), entry_id)

    def _split(self, text: str) -> tuple[int, str]:
        partition, slash, entry_id = text.rpartition("/")
        number = partition if slash else "0"
        if not (_NUMBER.fullmatch(number) and "-" in entry_id and is_entry_id(entry_id)):
            raise Invalid(f"'{text}' is no id of a dead entry", "`penstock dead ls` shows them, as 0/1700000000000-0")
        if int(number) >= self._partitions:
            raise NotFound(f"there is no partition {number}", f"this installation has {self._partitions}")
        return int(number), entry_id


def _describe(partition: int, entry_id: str, fields: dict[bytes, bytes]) -> DeadEntry:
    try:
        body = orjson.loads(fields[DATA_FIELD.encode()])
        letter = DeadLetter.model_validate(body)
    except (KeyError, ValueError):
        body, letter = {}, _UNREADABLE
    return DeadEntry(
        id=f"{partition}/{entry_id}",
        stream=letter.stream,
        entry_id=letter.entry_id,
        reason=letter.reason,
        group=letter.group,
        deliveries=letter.deliveries,
        # Only a stream of the same partition is written to: its name comes from an entry, a transaction is of one slot.
        whole=bool(letter.fields)
        and letter.stream in {keys.key(partition, name) for name in _CAPS}
        and all(_is_whole(kept) for kept in letter.fields.values()),
        died=iso_of_ms(int(entry_id.partition("-")[0])),
        content={name: body[name] for name in ("fields", "element") if name in body},
    )


def _is_whole(kept: KeptField) -> bool:
    try:
        return kept.bytes is None and (
            kept.text is not None or bool(base64.b64decode(kept.base64 or "", validate=True))
        )
    except ValueError:
        return False


def _bytes(kept: dict[str, str]) -> bytes:
    return base64.b64decode(kept["base64"]) if "base64" in kept else kept["text"].encode()
