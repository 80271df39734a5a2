"""From entries to messages to handlers: one bad element goes to ``dead`` alone and never fails its batch."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import orjson
import structlog
from prometheus_client import Counter
from pydantic import ValidationError
from pydantic_core import from_json
from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.dead_letters import DeadLetter, bury
from penstock.contracts.base import COMMAND_ID, Command, Message
from penstock.contracts.replies import Reply, ReplyError
from penstock.contracts.runs import MAX_RUNS_PER_MESSAGE
from penstock.streams import DATA_FIELD, MAX_MESSAGE_BYTES, REPLY_EXPIRE_SECONDS, TYPE_FIELD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from redis.asyncio import Redis

    from penstock.bus.entries import Entry
    from penstock.streams import Stream

log = structlog.get_logger("penstock.bus")
PART_BYTES: Final = 131_072
"""Of a batch so much is decoded and handled at a time: a few hundred runs, which take Redis about ten milliseconds."""
EACH_SECONDS: Final = 1.0
"""So long may the entries of a failed batch take one by one; the rest is the reclaimer's, beside the stream's next batches."""
MAX_LETTERS_PER_ENTRY: Final = 20
"""One entry must not push everybody else's letters out of the dead stream; what is beyond is told in one more letter."""
SHOWN_LENGTH: Final = 400
"""Characters of a place, and of what is wrong there, that a reason repeats."""
_BY_VALIDATORS: Final = "Value error, "
MESSAGES = Counter("penstock_messages_total", "Messages handled", ["stream", "type"])

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

    @property
    def type(self) -> str:
        """The ``type`` on the wire."""
        return str(self.model.model_fields["type"].default)


@dataclass(frozen=True, slots=True)
class Subscription:
    """One stream, the group that reads it, and a route per type.

    Messages of one type are handled together, types in the order of the routes, unless ``ordered``.
    """

    stream: Stream
    group: str
    routes: Sequence[Route]
    trims: bool = False
    """True for the one group that owns the stream: what it has acknowledged is trimmed."""
    ignores_unknown: bool = False
    """True where other groups read the same stream for other types."""
    ordered: bool = False
    """True where a message of one type must not overtake an earlier one of another."""
    by_type: dict[str, Route] = field(init=False)
    answers: bool = field(init=False)
    """True when somebody may wait for the answer to a message of this stream."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_type", {route.type: route for route in self.routes})
        object.__setattr__(self, "answers", any(issubclass(route.model, Command) for route in self.routes))


def explain(problem: ValidationError) -> str:
    """Say in one line which fields are wrong and why; a name or a value that is as long as a message is not repeated whole."""
    parts = []
    for error in problem.errors(include_url=False)[:5]:
        place = ".".join(str(part) for part in error["loc"])
        text = error["msg"].removeprefix(_BY_VALIDATORS)
        parts.append(f"{_cut(place)}: {_cut(text)}" if place else _cut(text))
    return "; ".join(parts)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}..."


class _Unreadable(Exception):
    """An entry is no message; the text says why."""


def decode(subscription: Subscription, entry: Entry) -> tuple[Route, list[Message], list[DeadLetter]] | None:
    """Turn one entry into messages; never raises, for an entry that raises would be delivered again for nothing.

    Returns:
        The route, the valid messages (none, one, or one with the good elements of its array) and the dead letters; None for
        a type this subscription leaves to others.
    """
    try:
        body = _body(entry)
        kind = _kind(subscription, entry, body)
        route = subscription.by_type.get(kind)
        if route is None:
            if subscription.ignores_unknown:
                return None
            known = ", ".join(subscription.by_type)
            raise _Unreadable(  # noqa: TRY301 - one place decides what becomes of it
                f"unknown type {kind[:100]!r}; this stream takes {known}"
            )
        return route, *_validate(route, entry, body)
    except _Unreadable as problem:
        return _NOWHERE, [], [DeadLetter(entry, str(problem))]
    except Exception as problem:  # noqa: BLE001 - whatever a client wrote, the entries beside it are handled
        return _NOWHERE, [], [DeadLetter(entry, f"cannot be read: {type(problem).__name__}: {problem}")]


def _validate(route: Route, entry: Entry, body: bytes) -> tuple[list[Message], list[DeadLetter]]:
    try:
        return [route.model.model_validate_json(body)], []
    except ValidationError as problem:
        reason = explain(problem)
    try:
        good, bad = _salvage(route, entry, body) if route.array else ([], [])
    except _Unreadable:
        raise
    except Exception as problem:  # noqa: BLE001 - elements that cannot be told apart die together
        log.debug("elements cannot be told apart", entry=entry.id, error=f"{type(problem).__name__}: {problem}")
        good, bad = [], []
    return good, bad or [DeadLetter(entry, reason)]


def _body(entry: Entry) -> bytes:
    body = entry.fields.get(DATA_FIELD.encode())
    if body is None:
        names = ", ".join(sorted(name.decode(errors="replace") for name in entry.fields))[:200]
        raise _Unreadable(f"no field {DATA_FIELD!r} (found: {names}); put one JSON object there")
    if len(body) > MAX_MESSAGE_BYTES:
        raise _Unreadable(f"{len(body)} bytes; a message has at most {MAX_MESSAGE_BYTES}")
    return body


def _kind(subscription: Subscription, entry: Entry, body: bytes) -> str:
    """Read the type; a client may leave the field out or call it otherwise, then the JSON decides."""
    kind = entry.fields.get(TYPE_FIELD.encode(), b"")[:1000].decode(errors="replace")
    if kind in subscription.by_type:
        return kind
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise _Unreadable(f"not JSON: {problem}") from problem
    if not isinstance(parsed, dict):
        raise _Unreadable(f"expected a JSON object, got {type(parsed).__name__}")
    return str(parsed.get("type"))


async def _nobody(_: list[Delivery[Any]]) -> None:
    return None


_NOWHERE = Route(Message, _nobody)


def _salvage(route: Route, entry: Entry, body: bytes) -> tuple[list[Message], list[DeadLetter]]:
    """Separate the good elements of an array from the bad; nothing found means the message as a whole is wrong.

    Raises:
        _Unreadable: the array is too long.
        Exception: the text cannot be taken apart or put together again.
    """
    parsed = orjson.loads(body)
    elements = parsed[route.array]
    if not isinstance(elements, list):
        return [], []
    if len(elements) > MAX_RUNS_PER_MESSAGE:
        raise _Unreadable(f"{len(elements)} elements in {route.array!r}; a message has at most {MAX_RUNS_PER_MESSAGE}")
    rest = {name: value for name, value in parsed.items() if name != route.array}
    if not _fits(route, rest):
        return [], []
    # Fields nobody knows are not written and read again with each element: one may be as large as a message.
    rest = {name: value for name, value in rest.items() if name in route.model.model_fields}
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


def _fits(route: Route, rest: dict[str, Any]) -> bool:
    """Say whether a message is right apart from its array."""
    try:
        route.model.model_validate_json(orjson.dumps({**rest, route.array: []}))
    except ValidationError as problem:
        return all(error["loc"][:1] == (route.array,) for error in problem.errors(include_url=False))
    return True


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
    letters: list[DeadLetter] = []
    parts = _parts(entries)
    if len(parts) == 1:
        batches, letters = await _decode_all(client, subscription, parts[0])
        letters += await _handle_all(subscription, batches)
    else:
        letters = await _deliver_parts(client, subscription, parts)
    if letters:
        kept = [letter._replace(deliveries=deliveries) for letter in _tell(letters)]
        await bury(client, kept, subscription.group)


def _parts(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Cut a batch where it gets large, keeping the order."""
    parts: list[list[Entry]] = []
    size = PART_BYTES
    for entry in entries:
        if size >= PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(entry)
        size += len(entry.fields.get(DATA_FIELD.encode(), b""))
    return parts


async def _deliver_parts(client: Redis, subscription: Subscription, parts: list[list[Entry]]) -> list[DeadLetter]:
    """Handle one part after the other; while Redis works on one, the next is decoded."""
    letters: list[DeadLetter] = []
    handling: asyncio.Task[list[DeadLetter]] | None = None
    try:
        for part in parts:
            batches, bad = await _decode_all(client, subscription, part)
            letters += bad
            letters += await handling if handling else ()
            handling = asyncio.create_task(_handle_all(subscription, batches))
            # It gets as far as waiting for Redis.
            await asyncio.sleep(0)
        letters += await handling if handling else ()
    finally:
        await end_tasks([handling] if handling else [])
    return letters


async def _decode_all(
    client: Redis, subscription: Subscription, entries: Iterable[Entry]
) -> tuple[list[tuple[Route, list[Delivery[Any]]]], list[DeadLetter]]:
    """Decode entries, refuse malformed commands; the messages in batches of neighbours of one type, and what is bad."""
    batches: list[tuple[Route, list[Delivery[Any]]]] = []
    letters: list[DeadLetter] = []
    for entry in entries:
        decoded = decode(subscription, entry)
        if decoded is None:
            continue
        route, messages, bad = decoded
        if messages:
            if not batches or batches[-1][0] is not route:
                batches.append((route, []))
            batches[-1][1].extend(Delivery(entry, message, tuple(bad)) for message in messages)
        elif subscription.answers:
            await _refuse(client, entry, bad[0].reason)
        letters.extend(bad)
    return batches, letters


async def _handle_all(subscription: Subscription, batches: list[tuple[Route, list[Delivery[Any]]]]) -> list[DeadLetter]:
    letters: list[DeadLetter] = []
    for route, batch in batches if subscription.ordered else _by_route(subscription, batches):
        letters.extend(await route.handler(batch) or ())
        MESSAGES.labels(subscription.stream.name, route.type).inc(len(batch))
    return letters


def _tell(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Log once per entry, and choose the letters that are kept: the first of each entry, then one that counts the others."""
    by_entry: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        by_entry.setdefault(letter.entry.id, []).append(letter)
    kept: list[DeadLetter] = []
    for entry_id, found in by_entry.items():
        log.warning(
            "dead letter", stream=found[0].entry.stream, entry=entry_id, reason=found[0].reason, letters=len(found)
        )
        kept += found[:MAX_LETTERS_PER_ENTRY]
        more = len(found) - MAX_LETTERS_PER_ENTRY
        if more > 0:
            # Without an element it keeps the whole entry, so that no element is lost.
            kept.append(DeadLetter(found[0].entry, f"and {more} more; the last: {found[-1].reason}"))
    return kept


def _by_route(
    subscription: Subscription, batches: list[tuple[Route, list[Delivery[Any]]]]
) -> list[tuple[Route, list[Delivery[Any]]]]:
    """Merge the batches of one type; the types in the order of the routes."""
    merged: dict[str, list[Delivery[Any]]] = {route.type: [] for route in subscription.routes}
    for route, batch in batches:
        merged[route.type].extend(batch)
    return [(route, merged[route.type]) for route in subscription.routes if merged[route.type]]


async def deliver_each(client: Redis, subscription: Subscription, entries: Iterable[Entry]) -> int:
    """Deliver the entries of a failed batch one by one and acknowledge those that succeed: one poisonous entry fails alone.

    Returns:
        How many failed again, or had to wait because the others took too long; they stay pending.

    Raises:
        redis.exceptions.RedisError: Redis does not answer, or refuses; the rest stays pending.
    """
    failed = 0
    end = time.monotonic() + EACH_SECONDS
    for entry in entries:
        if time.monotonic() > end:
            failed += 1
            continue
        try:
            await deliver(client, subscription, [entry])
        except (OSError, RedisError):
            raise
        except Exception as problem:  # noqa: BLE001 - whatever a handler raises, the next entry gets its turn
            failed += 1
            reason = f"{type(problem).__name__}: {problem}"
            log.error("delivery failed", stream=entry.stream, entry=entry.id, error=reason)  # noqa: TRY400
        else:
            await client.xack(keys.key(entry.partition, entry.stream), subscription.group, entry.id)
    return failed


async def _refuse(client: Redis, entry: Entry, reason: str) -> None:
    """Tell the caller of a malformed command, where it said who it is."""
    try:
        body = entry.fields[DATA_FIELD.encode()]
        # Read as messages are: what it is refused for may be a number that stricter readers do not take.
        command_id = from_json(body)["id"] if len(body) <= MAX_MESSAGE_BYTES else None
    except (ValueError, KeyError, TypeError):
        return
    if isinstance(command_id, str) and COMMAND_ID.fullmatch(command_id):
        await answer(
            client, entry.partition, Reply(id=command_id, ok=False, error=ReplyError(code="invalid", message=reason))
        )


async def answer(client: Redis, partition: int, reply: Reply) -> None:
    """Leave an answer where the caller of a command waits for it (commands that change state answer in their script)."""
    if reply.id:
        name = keys.key(partition, "reply", reply.id)
        pipe = client.pipeline(transaction=False)
        pipe.rpush(name, reply.model_dump_json())
        pipe.expire(name, REPLY_EXPIRE_SECONDS)
        await pipe.execute()
