"""From entries to handlers: one bad element goes to ``dead`` alone and never fails its batch."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from prometheus_client import Counter
from pydantic_core import from_json
from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.dead_letters import DeadLetter, bury
from penstock.bus.decoding import decode
from penstock.bus.routing import Delivery
from penstock.contracts.base import COMMAND_ID
from penstock.contracts.replies import Reply, ReplyError
from penstock.streams import DATA_FIELD, MAX_MESSAGE_BYTES, REPLY_EXPIRE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

    from penstock.bus.entries import Entry
    from penstock.bus.routing import Route, Subscription

log = structlog.get_logger("penstock.bus")
PART_BYTES: Final = 131_072
"""Of a batch so much is decoded and handled at a time: a few hundred runs, which take Redis about ten milliseconds."""
EACH_SECONDS: Final = 1.0
"""So long may the entries of a failed batch take one by one; the rest is the reclaimer's, beside the stream's next batches."""
MAX_LETTERS_PER_ENTRY: Final = 20
"""One entry must not push everybody else's letters out of the dead stream; what is beyond is told in one more letter."""
MESSAGES = Counter("penstock_messages_total", "Messages handled", ["stream", "type"])


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
            # It gets as far as waiting for Redis; the loop writes what it sends at the end of a round.
            await asyncio.sleep(0)
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
    if len(batches) <= 1:
        return batches
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
    command_id = _command_id(entry.fields.get(DATA_FIELD.encode(), b""))
    if isinstance(command_id, str) and COMMAND_ID.fullmatch(command_id):
        await answer(
            client, entry.partition, Reply(id=command_id, ok=False, error=ReplyError(code="invalid", message=reason))
        )


def _command_id(body: bytes) -> Any:
    # What it is refused for may be a number that one of them does not take, or a depth that the other does not.
    for read in (from_json, orjson.loads):
        try:
            return read(body)["id"] if len(body) <= MAX_MESSAGE_BYTES else None
        except (ValueError, KeyError, TypeError):
            continue
    return None


async def answer(client: Redis, partition: int, reply: Reply) -> None:
    """Leave an answer where the caller of a command waits for it (commands that change state answer in their script)."""
    if reply.id:
        name = keys.key(partition, "reply", reply.id)
        pipe = client.pipeline(transaction=False)
        pipe.rpush(name, reply.model_dump_json())
        pipe.expire(name, REPLY_EXPIRE_SECONDS)
        await pipe.execute()
