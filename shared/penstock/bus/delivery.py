"""From entries to messages to handlers: one bad element goes to ``dead`` alone and never fails its batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import orjson
import structlog
from prometheus_client import Counter
from pydantic import ValidationError

from penstock import keys
from penstock.bus.dead_letters import DeadLetter, bury
from penstock.contracts.base import Command, Message
from penstock.contracts.replies import Reply, ReplyError
from penstock.streams import DATA_FIELD, MAX_MESSAGE_BYTES, REPLY_EXPIRE_SECONDS, TYPE_FIELD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from redis.asyncio import Redis

    from penstock.bus.entries import Entry
    from penstock.streams import Stream

log = structlog.get_logger("penstock.bus")
MESSAGES = Counter("penstock_messages_total", "Messages handled", ["stream", "type"])

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Delivery(Generic[M]):
    """A valid message and where it came from."""

    entry: Entry
    message: M

    @property
    def partition(self) -> int:
        """The partition it came from."""
        return self.entry.partition

    def dead(self, reason: str) -> DeadLetter:
        """Say that this message cannot be handled, now or later."""
        return DeadLetter(self.entry, reason)


Handler = "Callable[[list[Delivery[Any]]], Awaitable[Sequence[DeadLetter] | None]]"


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

    @property
    def type(self) -> str:
        """The ``type`` on the wire."""
        return str(self.model.model_fields["type"].default)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One stream, the group that reads it, and a route per type; handlers are called in the order of the routes."""

    stream: Stream
    group: str
    routes: Sequence[Route]
    trims: bool = False
    """True for the one group that owns the stream: what it has acknowledged is trimmed."""
    ignores_unknown: bool = False
    """True where other groups read the same stream for other types."""
    by_type: dict[str, Route] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_type", {route.type: route for route in self.routes})


def explain(problem: ValidationError) -> str:
    """Say in one line which fields are wrong and why."""
    parts = []
    for error in problem.errors(include_url=False)[:5]:
        place = ".".join(str(part) for part in error["loc"])
        parts.append(f"{place}: {error['msg']}" if place else error["msg"])
    return "; ".join(parts)


def decode(subscription: Subscription, entry: Entry) -> tuple[Route, list[Message], list[DeadLetter]] | None:
    """Turn one entry into messages.

    Returns:
        The route, the valid messages (none, one, or one with the good elements of its array) and the dead letters; None for
        a type this subscription leaves to others.
    """
    body = entry.fields.get(DATA_FIELD.encode())
    nowhere = Route(Message, _nobody)
    if body is None:
        names = ", ".join(sorted(name.decode(errors="replace") for name in entry.fields))[:200]
        return nowhere, [], [DeadLetter(entry, f"no field {DATA_FIELD!r} (found: {names}); put one JSON object there")]
    if len(body) > MAX_MESSAGE_BYTES:
        return nowhere, [], [DeadLetter(entry, f"{len(body)} bytes; a message has at most {MAX_MESSAGE_BYTES}")]
    kind = entry.fields.get(TYPE_FIELD.encode(), b"").decode(errors="replace")
    if kind not in subscription.by_type:
        # A client may leave the field out; the JSON decides.
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError as problem:
            return nowhere, [], [DeadLetter(entry, f"not JSON: {problem}")]
        if not isinstance(parsed, dict):
            return nowhere, [], [DeadLetter(entry, f"expected a JSON object, got {type(parsed).__name__}")]
        kind = str(parsed.get("type"))
    route = subscription.by_type.get(kind)
    if route is None:
        if subscription.ignores_unknown:
            return None
        known = ", ".join(subscription.by_type)
        return nowhere, [], [DeadLetter(entry, f"unknown type {kind!r}; this stream takes {known}")]
    try:
        return route, [route.model.model_validate_json(body)], []
    except ValidationError as problem:
        if route.array:
            good, bad = _salvage(route, entry, body)
            if good or bad:
                return route, good, bad
        return route, [], [DeadLetter(entry, explain(problem))]


async def _nobody(_: list[Delivery[Any]]) -> None:
    return None


def _salvage(route: Route, entry: Entry, body: bytes) -> tuple[list[Message], list[DeadLetter]]:
    """Separate the good elements of an array from the bad; nothing found means the message as a whole is wrong."""
    try:
        parsed = orjson.loads(body)
        elements = parsed[route.array]
        rest = {name: value for name, value in parsed.items() if name != route.array}
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return [], []
    if not isinstance(elements, list):
        return [], []
    good: list[Any] = []
    bad: list[DeadLetter] = []
    for element in elements:
        try:
            route.model.model_validate_json(orjson.dumps({**rest, route.array: [element]}))
            good.append(element)
        except ValidationError as problem:
            bad.append(DeadLetter(entry, explain(problem), element=element))
    if not good:
        return [], []
    return [route.model.model_validate_json(orjson.dumps({**rest, route.array: good}))], bad


async def deliver(client: Redis, subscription: Subscription, entries: Iterable[Entry], deliveries: int = 1) -> None:
    """Decode a batch, call the handlers, bury what is bad.

    Args:
        client: for the dead letters and for refusing malformed commands.
        subscription: who reads.
        entries: of one partition.
        deliveries: how often these entries have been delivered, for the dead letters.

    Raises:
        Exception: whatever a handler raised; the batch must stay pending then.
    """
    batches: dict[str, list[Delivery[Any]]] = {}
    letters: list[DeadLetter] = []
    for entry in entries:
        decoded = decode(subscription, entry)
        if decoded is None:
            continue
        route, messages, bad = decoded
        batches.setdefault(route.type if messages else "", []).extend(Delivery(entry, message) for message in messages)
        letters.extend(bad)
        if bad and issubclass(route.model, Command):
            await _refuse(client, entry, bad[0].reason)
    for route in subscription.routes:
        batch = batches.get(route.type)
        if batch:
            letters.extend(await route.handler(batch) or ())
            MESSAGES.labels(subscription.stream.name, route.type).inc(len(batch))
    if letters:
        for letter in letters:
            log.warning("dead letter", stream=letter.entry.stream, entry=letter.entry.id, reason=letter.reason)
        await bury(client, [letter._replace(deliveries=deliveries) for letter in letters], subscription.group)


async def _refuse(client: Redis, entry: Entry, reason: str) -> None:
    """Tell the caller of a malformed command, where it said who it is."""
    try:
        command_id = orjson.loads(entry.fields[DATA_FIELD.encode()])["id"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return
    if isinstance(command_id, str) and 0 < len(command_id) <= 64:  # noqa: PLR2004 - Command.id's own bound
        await answer(client, entry.partition, Reply(id=command_id, ok=False, error=ReplyError(code="invalid", message=reason)))


async def answer(client: Redis, partition: int, reply: Reply) -> None:
    """Leave an answer where the caller of a command waits for it (commands that change state answer in their script)."""
    if reply.id:
        name = keys.key(partition, "reply", reply.id)
        pipe = client.pipeline(transaction=False)
        pipe.rpush(name, reply.model_dump_json())
        pipe.expire(name, REPLY_EXPIRE_SECONDS)
        await pipe.execute()
