"""Connections that spell commands in C, and call by its name what happens to them under uvloop.

redis-py's asynchronous client spells commands in Python, which took a fifth of a busy dispatcher's time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable

    from redis.asyncio.connection import AbstractConnection

FREELY_BUFFERED_BYTES: Final = 65_536
"""More than that waits until the other side has taken some of it; the usual high-water mark of asyncio."""


class _Packed:
    """Put in front of a class of connections."""

    _writer: asyncio.StreamWriter | None
    health_check_interval: float
    disconnect: Callable[..., Awaitable[None]]

    def pack_command(self, *words: Any) -> list[bytes]:
        """Spell one command.

        Args:
            *words: the command, one text or bytes of one or more words, then its arguments: text, bytes, int or float.

        Returns:
            One piece.

        Raises:
            DataError: an argument is none of these.
        """
        command = words[0].encode() if isinstance(words[0], str) else words[0]
        if bool in map(type, words):
            raise DataError("a bool has no spelling in Redis; give 1 or 0")
        try:
            # A space ends a word of the command: CONFIG GET.
            return [hiredis.pack_command((*command.split(), *words[1:]))]
        except TypeError as problem:
            raise DataError(str(problem)) from problem

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send what has been spelled: a list of pieces.

        redis-py would make a task of it, to give up after a while, and wait two rounds of the event loop for that task. It has to
        wait only when more lies in the buffer than the other side takes.

        Raises:
            redis.exceptions.ConnectionError: the other side has closed the connection; uvloop has a RuntimeError for that, which
                nobody would take for an outage.
        """
        writer = self._writer
        try:
            if writer and not self.health_check_interval and not writer.transport.is_closing():
                writer.writelines(command)
                if writer.transport.get_write_buffer_size() <= FREELY_BUFFERED_BYTES:
                    return
                command = []
            await super().send_packed_command(command, check_health=check_health)  # type: ignore[misc] # of the class behind it
        except RuntimeError as problem:
            await self.disconnect(nowait=True)
            if "closed" not in str(problem):
                raise
            raise RedisConnectionError(str(problem)) from problem

    def pack_commands(self, commands: Any) -> list[bytes]:
        """Spell many commands, a piece for each."""
        return [piece for words in commands for piece in self.pack_command(*words)]


_PACKED: Final[dict[Any, Any]] = {}


def packed(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """Make a class of connections that spells its commands in C.

    Args:
        connection_class: of redis.asyncio, as a pool has it; one that was made here is returned as it is.
    """
    if issubclass(connection_class, _Packed):
        return connection_class
    if connection_class not in _PACKED:
        _PACKED[connection_class] = type(connection_class.__name__, (_Packed, connection_class), {})
    return _PACKED[connection_class]  # type: ignore[no-any-return]
