"""From entries to messages; pure but for a line in the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from pydantic import ValidationError

from penstock.bus.dead_letters import DeadLetter
from penstock.bus.routing import Delivery, Route
from penstock.contracts.base import Message
from penstock.contracts.runs import MAX_RUNS_PER_MESSAGE
from penstock.streams import DATA_FIELD, MAX_MESSAGE_BYTES, TYPE_FIELD

if TYPE_CHECKING:
    from penstock.bus.entries import Entry
    from penstock.bus.routing import Subscription

log = structlog.get_logger("penstock.bus")
SHOWN_LENGTH: Final = 400
"""Characters of a place, and of what is wrong there, that a reason repeats."""
_BY_VALIDATORS: Final = "Value error, "


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
