"""Send commands and wait for their answers."""

from __future__ import annotations

import asyncio
import secrets
import time
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.connection import OUTAGES, reconnections, redis_now_ms
from penstock.bus.entries import entry_fields
from penstock.bus.roundtrip import send_all
from penstock.contracts.replies import Reply
from penstock.errors import NoReply, Overtaken, PenstockError, Unavailable, refusal
from penstock.streams import DATA_FIELD, MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from penstock.contracts.base import Command, Message
    from penstock.streams import Stream

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 0.2
ASK_TIME_SECONDS: Final = 10.0
"""Clocks drift by less than a millisecond in so long; a deadline is counted in seconds."""
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
    (answer,) = await request_all(client, stream, partition, [command], timeout_seconds)
    if isinstance(answer, PenstockError):
        raise answer
    return answer


async def request_all(
    client: Redis,
    stream: Stream,
    partition: int,
    commands: Sequence[Command],
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    *,
    on_answer: Callable[[int], None] | None = None,
) -> list[Any]:
    """Send commands in one round trip, then wait for all of their answers.

    Args:
        client: for both directions.
        stream: ``commands`` or ``dispatch``.
        partition: of the pools the commands name.
        commands: their ``id`` is filled in when empty, their ``deadline`` in Redis TIME.
        timeout_seconds: how long to wait for all of them; past it nobody will execute any of them any more.
        on_answer: called with the index of a command when it has been answered, in any order.

    Returns:
        For each command the ``result`` of its reply, or the error that stands for it: a :class:`~penstock.errors.Refused`, or
        :class:`~penstock.errors.NoReply`.

    Raises:
        Invalid: a command is larger than a message may be; nothing has been sent.
        Unavailable: Redis does not answer, or went away and did not come back in time.
    """
    try:
        deadline = await _now_ms(client) + int(timeout_seconds * 1000)
        sent = [
            command.model_copy(update={"id": command.id or secrets.token_hex(16), "deadline": deadline})
            for command in commands
        ]
        entries = [_entry(one) for one in sent]
        asked = _Asked(client, stream, partition, {one.id: entry for one, entry in zip(sent, entries, strict=True)})
        indexes = {one.id: index for index, one in enumerate(sent)}
        await asked.ask(time.monotonic() + timeout_seconds, lambda ident: on_answer and on_answer(indexes[ident]))
    except (RedisError, OSError) as problem:
        raise Unavailable(f"Redis does not answer: {problem}") from problem
    return [_outcome(asked.answers.get(one.id), one, stream, timeout_seconds) for one in sent]


class _Clock(NamedTuple):
    """What Redis TIME is by this process's monotonic clock, when it was asked, and after how many lost connections."""

    offset_ms: float
    asked_at: float
    connections: int


_clocks: WeakKeyDictionary[Redis, _Clock] = WeakKeyDictionary()


async def _now_ms(client: Redis) -> int:
    """Redis TIME. It is asked only now and then, and by another Redis than before: a question would double a command's latency."""
    known = _clocks.get(client)
    connections = reconnections(client)
    if known is None or time.monotonic() - known.asked_at > ASK_TIME_SECONDS or known.connections != connections:
        told = await redis_now_ms(client)
        now = time.monotonic()
        known = _clocks[client] = _Clock(told - now * 1000, now, connections)
    return int(known.offset_ms + time.monotonic() * 1000)


def _entry(command: Command) -> dict[Any, Any]:
    fields = entry_fields(command)
    size = len(fields[DATA_FIELD])
    if size > MAX_MESSAGE_BYTES:
        raise refusal("invalid", f"the command has {size} bytes; a message has at most {MAX_MESSAGE_BYTES}")
    return fields


def _outcome(raw: bytes | None, command: Command, stream: Stream, timeout_seconds: float) -> Any:
    if raw is None:
        kind = command.model_dump(include={"type"})["type"]
        return NoReply(
            f"nobody answered {kind} within {timeout_seconds:g} s; is the service that reads '{stream.name}' running? "
            "(`penstock health`)"
        )
    reply = Reply.model_validate_json(raw)
    if not reply.ok and reply.error:
        return refusal(reply.error.code, reply.error.message, reply.error.hint)
    return reply.result


def _is_overtaken(answer: bytes) -> bool:
    """Say whether an answer is the one to send the command again; only what looks like it is decoded."""
    if Overtaken.code.encode() not in answer:
        return False
    error = Reply.model_validate_json(answer).error
    return error is not None and error.code == Overtaken.code


class _Asked:
    """Commands that wait for their answers.

    Args:
        client: for both directions.
        stream, partition: where they go.
        entries: command id -> what is appended to the stream.
    """

    def __init__(self, client: Redis, stream: Stream, partition: int, entries: dict[str, dict[Any, Any]]) -> None:
        self._client = client
        self._stream = stream
        self._name = keys.key(partition, stream.name)
        self._replies = {keys.key(partition, "reply", ident): ident for ident in entries}
        self._entries = entries
        self.answers: dict[str, bytes] = {}

    async def ask(self, end: float, on_answer: Callable[[str], object]) -> None:
        """Send and wait; after an outage of Redis send again what is not answered: what was executed finds its own answer.

        Redis may have taken a command, or the answer, and have forgotten it.
        """
        while len(self.answers) < len(self._entries) and time.monotonic() < end:
            known = reconnections(self._client)
            try:
                await self._send(list(self._open().values()))
                await self._collect(end, on_answer, known)
            except OUTAGES:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    async def _send(self, idents: Sequence[str]) -> None:
        append = ("XADD", self._name, "MAXLEN", "~", self._stream.max_length, "*")
        commands = [(*append, *chain.from_iterable(self._entries[ident].items())) for ident in idents]
        for answer in await send_all(self._client, commands):
            if isinstance(answer, Exception):
                raise answer

    def _open(self) -> dict[str, str]:
        return {name: ident for name, ident in self._replies.items() if ident not in self.answers}

    async def _collect(self, end: float, on_answer: Callable[[str], object], known: int) -> None:
        """Take answers until all are there, the time is over, or a connection had to be made anew since it was ``known``."""
        while (names := list(self._open())) and (left := end - time.monotonic()) > 0:
            # Redis 6.2 rounds less than a millisecond down to 0, which means for ever.
            popped: Any = await self._client.blpop(names, timeout=max(0.05, min(left, _BLOCK_SECONDS)))
            if popped:
                ident, answer = self._replies[popped[0].decode()], bytes(popped[1])
                if _is_overtaken(answer):
                    await asyncio.sleep(RETRY_SECONDS)
                    await self._send([ident])
                    continue
                self.answers[ident] = answer
                on_answer(ident)
            elif reconnections(self._client) != known:
                return
