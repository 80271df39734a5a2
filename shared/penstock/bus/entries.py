"""What one entry on a stream looks like, both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.streams import DATA_FIELD, TYPE_FIELD

if TYPE_CHECKING:
    from penstock.contracts.base import Message


class Entry(NamedTuple):
    """One stream entry as Redis hands it over.

    Attributes:
        stream: the stream's key family.
        ident: the id that family takes, '' for the fixed streams.
        again: it was handed out before, and whoever had it may have handled it.
    """

    partition: int
    stream: str
    id: str
    fields: dict[bytes, bytes]
    ident: str = ""
    again: bool = False

    @property
    def added_ms(self) -> int:
        """When Redis appended it, milliseconds of Redis TIME."""
        return int(self.id.partition("-")[0])


def entry_fields(message: Message) -> dict[Any, Any]:
    """Spell a message as the fields of an entry."""
    # Not every message has the same type of type, so the base does not declare it.
    return {TYPE_FIELD: vars(message)["type"], DATA_FIELD: message.wire()}
