"""Who reads which stream, and which handler gets the messages of which type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from penstock.bus.dead_letters import DeadLetter
from penstock.contracts.base import Command, Message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from penstock.bus.entries import Entry
    from penstock.streams import Stream

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """A valid message and where it came from."""

    entry: Entry
    message: M
    bad: tuple[DeadLetter, ...] = ()
    """Elements of the message's array that were buried; ``message`` holds the others."""

    @property
    def partition(self) -> int:
        """The partition it came from."""
        return self.entry.partition

    def dead(self, reason: str) -> DeadLetter:
        """Say that this message cannot be handled, now or later."""
        return DeadLetter(self.entry, reason)


@dataclass(frozen=True, slots=True)
class Route:
    """Which handler gets the messages of one type.

    Attributes:
        model: the contract; its ``type`` names the route.
        handler: takes a non-empty list of deliveries **of one partition**; returns dead letters for those it cannot handle;
            raises to have the whole list delivered again.
        array: name of an array field whose bad elements are buried alone while the others are handled.
    """

    model: type[Message]
    handler: Callable[[list[Delivery[Any]]], Awaitable[Sequence[DeadLetter] | None]]
    array: str = ""
    type: str = field(init=False)
    """The ``type`` on the wire."""

    def __post_init__(self) -> None:
        declared = self.model.model_fields.get("type")
        object.__setattr__(self, "type", str(declared.default) if declared else "")


@dataclass(frozen=True, slots=True)
class Subscription:
    """One stream, the group that reads it, and a route per type.

    Messages of one type are handled together, types in the order of the routes, unless ``ordered``; of a large batch part by part
    (``delivery``).
    """

    stream: Stream
    group: str
    routes: Sequence[Route]
    trims: bool = False
    """True for the one group that owns the stream: what it has acknowledged is trimmed."""
    ignores_unknown: bool = False
    """True where other groups read the same stream for other types."""
    ordered: bool = False
    """True where a message of one type must not overtake an earlier one of another, also when Redis hands them out again."""
    by_type: dict[str, Route] = field(init=False)
    answers: bool = field(init=False)
    """True when somebody may wait for the answer to a message of this stream."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_type", {route.type: route for route in self.routes})
        object.__setattr__(self, "answers", any(issubclass(route.model, Command) for route in self.routes))
