"""Keep what cannot be handled: reason, origin stream, delivery count, and the entry itself."""

from __future__ import annotations

import base64
import codecs
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from prometheus_client import Counter

from penstock import keys
from penstock.streams import DATA_FIELD, DEAD, TYPE_FIELD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from penstock.bus.entries import Entry

MAX_KEPT_BYTES: Final = 262_144
"""Of a dead entry this much is kept; a 10 MB message must not be stored a second time."""
MAX_REASON_LENGTH: Final = 1000

DEAD_LETTERS = Counter("penstock_dead_letters_total", "Entries moved to the dead stream", ["stream"])


class DeadLetter(NamedTuple):
    """An entry nobody can handle, and why."""

    entry: Entry
    reason: str
    deliveries: int = 1
    element: Any = None
    """The one bad element of an array; None when the whole entry is meant."""


def _kept(value: bytes, room: int) -> dict[str, Any]:
    """Spell as much of a field as there is room for; ``bytes`` says how long it was when that is not all."""
    kept = value[:room]
    cut = {"bytes": len(value)} if len(value) > room else {}
    try:
        # A decoder that does not insist on the end leaves out a character that was cut in two.
        return {"text": codecs.getincrementaldecoder("utf-8")().decode(kept, final=not cut), **cut}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(kept).decode(), **cut}


def _fields(entry: Entry) -> dict[str, Any]:
    room = MAX_KEPT_BYTES
    spelt: dict[str, Any] = {}
    for name, value in entry.fields.items():
        if room <= 0:
            spelt["..."] = {"text": "", "bytes": sum(map(len, entry.fields.values()))}
            break
        spelt[name[:200].decode(errors="replace")] = _kept(value, room)
        room -= len(name) + len(value)
    return spelt


def describe(letter: DeadLetter, group: str) -> bytes:
    """Spell a dead letter as JSON."""
    entry = letter.entry
    body: dict[str, Any] = {
        "type": "dead.letter",
        "reason": letter.reason[:MAX_REASON_LENGTH],
        "stream": keys.key(entry.partition, entry.stream, entry.ident),
        "entry_id": entry.id,
        "group": group,
        "deliveries": letter.deliveries,
    }
    if letter.element is not None:
        body["element"] = letter.element
    else:
        body["fields"] = _fields(entry)
    return orjson.dumps(body)


async def bury(client: Redis, letters: Sequence[DeadLetter], group: str) -> None:
    """Append dead letters; the caller acknowledges the entries afterwards, so a crash between repeats but loses nothing."""
    pipe = client.pipeline(transaction=False)
    for letter in letters:
        pipe.xadd(
            keys.key(letter.entry.partition, DEAD.name),
            {TYPE_FIELD: "dead.letter", DATA_FIELD: describe(letter, group)},
            maxlen=DEAD.max_length,
            approximate=True,
        )
        DEAD_LETTERS.labels(letter.entry.stream).inc()
    await pipe.execute()
