"""Send a command and wait for its answer."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, TypeVar

from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.connection import OUTAGES, redis_now_ms
from penstock.bus.entries import entry_fields
from penstock.contracts.replies import Reply
from penstock.errors import NoReply, Unavailable, refusal
from penstock.streams import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.contracts.base import Command, Message
    from penstock.streams import Stream

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 0.2
_BLOCK_SECONDS: Final = 2
C = TypeVar("C", bound="Command")


async def publish(client: Redis, stream: Stream, partition: int, message: Message) -> str:
    """Append a message to a stream.

    Returns:
        The entry's id.
    """
    entry_id: Any = await client.xadd(
        keys.key(partition, stream.name), entry_fields(message), maxlen=stream.max_length, approximate=True
    )
    return str(entry_id.decode())


async def request(
    client: Redis, stream: Stream, partition: int, command: Command, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
) -> Any:
    """Send a command, wait for its answer.

    Args:
        client: for both directions.
        stream: ``commands`` or ``dispatch``.
        partition: of the pool the command names.
        command: its ``id`` is filled in when empty, its ``deadline`` in Redis TIME.
        timeout_seconds: how long to wait; past it nobody will execute the command any more.

    Returns:
        The ``result`` of the reply.

    Raises:
        Refused: (one of its kinds) the command was turned down.
        NoReply: nobody answered in time.
        Unavailable: Redis does not answer, or went away and did not come back in time.
    """
    try:
        deadline = await redis_now_ms(client) + int(timeout_seconds * 1000)
        sent = command.model_copy(update={"id": command.id or uuid.uuid4().hex, "deadline": deadline})
        size = len(sent.wire())
        if size > MAX_MESSAGE_BYTES:
            raise refusal("invalid", f"the command has {size} bytes; a message has at most {MAX_MESSAGE_BYTES}")
        raw = await _ask(client, stream, partition, sent, time.monotonic() + timeout_seconds)
    except (RedisError, OSError) as problem:
        raise Unavailable(f"Redis does not answer: {problem}") from problem
    if raw is None:
        raise NoReply(
            f"nobody answered {sent.model_dump()['type']} within {timeout_seconds:g} s; is the service that reads "
            f"'{stream.name}' running? (`penstock health`)"
        )
    reply = Reply.model_validate_json(raw)
    if not reply.ok and reply.error:
        raise refusal(reply.error.code, reply.error.message, reply.error.hint)
    return reply.result


async def _ask(client: Redis, stream: Stream, partition: int, sent: Command, end: float) -> bytes | None:
    """Send and wait; after an outage of Redis send again, for a command that was executed finds its own answer."""
    while True:
        try:
            await publish(client, stream, partition, sent)
            return await _pop(client, keys.key(partition, "reply", sent.id), end)
        except OUTAGES:
            if time.monotonic() > end:
                raise
            await asyncio.sleep(RETRY_SECONDS)


async def _pop(client: Redis, name: str, end: float) -> bytes | None:
    while (left := end - time.monotonic()) > 0:
        # Redis 6.2 rounds less than a millisecond down to 0, which means for ever.
        popped: Any = await client.blpop([name], timeout=max(0.05, min(left, _BLOCK_SECONDS)))
        if popped:
            return bytes(popped[1])
    return None
