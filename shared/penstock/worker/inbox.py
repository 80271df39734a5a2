"""Read the worker's inbox: an entry is deleted after its message has been taken over.

Entries of a foreign life (another ``boot_id``) are never acted on. Those in front of our own acceptance were meant
for an earlier life and are deleted; those behind it belong to a newer life of the same name, which needs them, and
are left alone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
from pydantic import ValidationError
from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.connection import BLOCK_MS, reconnections
from penstock.bus.dead_letters import DeadLetter, bury
from penstock.bus.decoding import explain
from penstock.bus.entries import Entry
from penstock.contracts.workers import INBOX_MESSAGES, AcceptWorker, AssignRuns, RevokeRuns, StopRuns
from penstock.errors import BadMessage
from penstock.streams import DATA_FIELD, TYPE_FIELD
from penstock.worker.clock import backoff

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from penstock.bus.health import Health
    from penstock.contracts.base import Message
    from penstock.worker.identity import Identity

log = structlog.get_logger("penstock.worker")

READ_COUNT: Final = 100
_ATTEMPT_SECONDS: Final = 60.0


def decode(fields: dict[bytes, bytes]) -> Message:
    """Turn the fields of an inbox entry into its message. There is no limit of size: the dispatcher is trusted.

    Raises:
        BadMessage: it is none; says why.
    """
    body = fields.get(DATA_FIELD.encode())
    if body is None:
        raise BadMessage(f"no field {DATA_FIELD!r}")
    kind = fields.get(TYPE_FIELD.encode(), b"").decode(errors="replace")
    try:
        if kind not in INBOX_MESSAGES:
            parsed = orjson.loads(body)
            kind = str(parsed.get("type")) if isinstance(parsed, dict) else kind
        model = INBOX_MESSAGES.get(kind)
        if model is None:
            raise BadMessage(f"unknown type {kind[:100]!r}; an inbox takes {', '.join(INBOX_MESSAGES)}")
        return model.model_validate_json(body)
    except orjson.JSONDecodeError as problem:
        raise BadMessage(f"not JSON: {problem}") from problem
    except ValidationError as problem:
        raise BadMessage(explain(problem)) from problem


class Inbox:
    """Reads one inbox.

    Args:
        client: where from; a read blocks one of its connections.
        identity: whose.
        handle: takes over each message addressed to this life; must not wait.
        health: beaten at every read.
        on_return: called when Redis has been away, or may have been.
    """

    def __init__(
        self,
        client: Redis,
        identity: Identity,
        handle: Callable[[Message], None],
        health: Health,
        on_return: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._identity = identity
        self._handle = handle
        self._health = health
        self._on_return = on_return
        self._key = keys.key(identity.partition, "inbox", identity.inbox)
        self._cursor = "0"
        self._highest = (0, 0)
        self._accepted = False
        self._superseded = False
        self._advanced = asyncio.Condition()

    async def run(self) -> None:
        """Read until cancelled, or until ``handle`` raises."""
        failures = 0
        position, known = "0", reconnections(self._client)
        while True:
            self._health.beat("inbox", _ATTEMPT_SECONDS)
            try:
                read: Any = await self._client.xread({self._key: position}, count=READ_COUNT, block=BLOCK_MS)
                failures = 0
            except (RedisError, OSError) as problem:
                failures += 1
                log.debug("inbox waits for Redis", error=str(problem))
                await asyncio.sleep(backoff(failures))
                continue
            entries = (next(iter(read.values()))[0] if isinstance(read, dict) else read[0][1]) if read else []
            if entries:
                await self._take_over(entries)
                position = self._cursor
            if reconnections(self._client) != known:
                # On a replica that has taken over and whose clock is slow, new entries come before old ones.
                position, known = "0", reconnections(self._client)
                self._on_return()

    async def caught_up(self) -> None:
        """Wait until everything that is in the inbox at this moment has been taken over."""
        newest: Any = await self._client.xrevrange(self._key, count=1)
        if newest:
            target = _order(newest[0][0].decode())
            async with self._advanced:
                await self._advanced.wait_for(lambda: _order(self._cursor) >= target)

    async def _take_over(self, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        done: list[bytes] = []
        dead: list[DeadLetter] = []
        for entry_id, fields in entries:
            try:
                message = decode(fields)
            except BadMessage as problem:
                log.warning("inbox entry is no message", entry=entry_id.decode(), reason=str(problem))
                entry = Entry(self._identity.partition, "inbox", entry_id.decode(), fields, self._identity.inbox)
                dead.append(DeadLetter(entry, str(problem)))
                done.append(entry_id)
                continue
            if self._is_for_newer_life(message):
                continue
            done.append(entry_id)
            if self._is_over(entry_id.decode(), message):
                continue
            if getattr(message, "boot_id", self._identity.boot_id) == self._identity.boot_id:
                if isinstance(message, AcceptWorker):
                    # Another life's entries were of an earlier one, if Redis had forgotten that it had ended.
                    self._accepted, self._superseded = True, False
                self._handle(message)
        async with self._advanced:
            self._cursor = entries[-1][0].decode()
            self._advanced.notify_all()
        # Whoever was handed something begins before the housekeeping does.
        await asyncio.sleep(0)
        await self._delete(done, dead)

    def _is_over(self, entry_id: str, message: Message) -> bool:
        """Say whether an entry may have been read before and must not count again.

        Redis may have forgotten that it was deleted. What it says of claims was true at its place in the inbox, and is not of
        later ones. An assignment is known by its tokens.
        """
        order = _order(entry_id)
        again, self._highest = order <= self._highest, max(order, self._highest)
        return again and not isinstance(message, AssignRuns | AcceptWorker)

    def _is_for_newer_life(self, message: Message) -> bool:
        boot_id = getattr(message, "boot_id", None)
        if boot_id is None:
            # These name claims only. Ours are ended here; whoever took our name over must see them too.
            if self._superseded and isinstance(message, RevokeRuns | StopRuns):
                self._handle(message)
            return self._superseded
        newer = self._accepted and boot_id != self._identity.boot_id
        if newer and not self._superseded:
            self._superseded = True
            log.warning("another process took over this worker's name", worker=self._identity.name)
        return newer

    async def _delete(self, done: list[bytes], dead: list[DeadLetter]) -> None:
        try:
            if dead:
                await bury(self._client, dead, f"worker {self._identity.name}")
            if done:
                await self._client.xdel(self._key, *done)
        except (RedisError, OSError) as problem:
            # The cursor is past them, so they are not acted on twice; the next life of this name deletes them.
            log.debug("inbox entries could not be deleted", error=str(problem))


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)
