"""Dead letters: what the bus layer appends to ``dead`` when an entry cannot be handled."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from penstock.contracts.base import Message


class KeptField(BaseModel):
    """One field of the dead entry.

    Attributes:
        text: what it held, where that was UTF-8.
        base64: what it held, where it was not.
        bytes: how long it was, where not all of it was kept.
    """

    model_config = ConfigDict(frozen=True)

    text: str | None = None
    base64: str | None = None
    bytes: int | None = None


class DeadLetter(Message):
    """On ``dead``, from the bus layer: an entry nobody could handle, and why.

    Attributes:
        reason: what was wrong, for people.
        stream: key of the stream the entry came from.
        entry_id: its id there.
        group: the consumer group that gave it up.
        deliveries: how often it had been delivered.
        element: the one bad element of an array whose other elements were handled; else not given.
        fields: the whole entry; not given with an element.
    """

    type: Literal["dead.letter"] = "dead.letter"
    reason: str
    stream: str
    entry_id: str
    group: str
    deliveries: int
    element: Any = None
    fields: dict[str, KeptField] = Field(default_factory=dict)
