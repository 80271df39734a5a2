"""What a run printed, out of the stream its worker appends to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import BLOCK_MS
from penstock.client.events import entries_of
from penstock.client.outage import needs_redis
from penstock.contracts.logs import RunLog
from penstock.streams import DATA_FIELD

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redis.asyncio import Redis

    from penstock.contracts.logs import LogLine

BATCH: Final = 500


class RunOutput:
    """Reads the output of one run, oldest line first.

    Args:
        client: reads only.
        run_id: whose output; its id says where it lies.
    """

    def __init__(self, client: Redis, run_id: str) -> None:
        self._client = client
        self._name = keys.key(keys.partition_of_run(run_id), "logs", run_id)
        self._after = "0-0"

    async def read(self, ended: asyncio.Task[Any] | None = None) -> AsyncGenerator[LogLine, None]:
        """Hand out line by line.

        Args:
            ended: is done when the run has ended, after which nothing more is printed. None reads what is kept now.

        Raises:
            Unavailable: Redis does not answer.
        """
        while True:
            over = ended is None or ended.done()
            entries = await self._next(None if over else BLOCK_MS, ended)
            for entry_id, fields in entries:
                self._after = entry_id.decode()
                for line in _lines(fields):
                    yield line
            if over and not entries:
                return

    async def tail(self, count: int) -> list[LogLine]:
        """The last lines that are kept now, the oldest of them first; :meth:`read` goes on behind them."""
        newest, before = self._after, "+"
        found: list[LogLine] = []
        while entries := await self._back(before):
            if before == "+":
                newest = entries[0][0].decode()
            before = f"({entries[-1][0].decode()}"
            found = [line for _, fields in reversed(entries) for line in _lines(fields)] + found
            if len(found) >= count:
                break
        self._after = newest
        return found[-count:] if count else []

    async def available(self) -> list[LogLine]:
        """The lines that are kept now and have not been handed out yet."""
        lines: list[LogLine] = []
        while entries := await self._read(None):
            lines += self._taken(entries)
        return lines

    async def more(self) -> list[LogLine]:
        """Wait a while for the next lines; none when nothing was printed."""
        return self._taken(await self._read(BLOCK_MS))

    def _taken(self, entries: list[Any]) -> list[LogLine]:
        if entries:
            self._after = entries[-1][0].decode()
        return [line for _, fields in entries for line in _lines(fields)]

    async def _next(self, block_ms: int | None, ended: asyncio.Task[Any] | None) -> list[Any]:
        """The next entries; a wait for them ends with the run."""
        read = asyncio.create_task(self._read(block_ms))
        try:
            await asyncio.wait({read, *([ended] if ended else [])}, return_when=asyncio.FIRST_COMPLETED)
            return await read if block_ms is None or read.done() else []
        finally:
            await end_tasks([read])

    @needs_redis
    async def _read(self, block_ms: int | None) -> list[Any]:
        return entries_of(await self._client.xread({self._name: self._after}, count=BATCH, block=block_ms))

    @needs_redis
    async def _back(self, before: str) -> list[Any]:
        found: Any = await self._client.xrevrange(self._name, before, "-", count=BATCH)
        return list(found)


def _lines(fields: dict[bytes, bytes]) -> list[LogLine]:
    """The lines of one entry; none where somebody wrote something else into the stream."""
    try:
        return RunLog.model_validate_json(fields.get(DATA_FIELD.encode(), b"")).lines
    except ValidationError:
        return []
