"""Connections that spell commands in C, and call by its name what happens to them under uvloop.

redis-py's asynchronous client spells commands in Python, which took a fifth of a busy dispatcher's time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection


class _Packed:
    """Put in front of a class of connections."""

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
        if any(isinstance(word, bool) for word in words):
            raise DataError("a bool has no spelling in Redis; give 1 or 0")
        try:
            # A space ends a word of the command: CONFIG GET.
            return [hiredis.pack_command((*command.split(), *words[1:]))]
        except TypeError as problem:
            raise DataError(str(problem)) from problem

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        """Send what has been spelled.

        Raises:
            redis.exceptions.ConnectionError: the other side has closed the connection; uvloop has a RuntimeError for that, which
                nobody would take for an outage.
        """
        try:
            await super().send_packed_command(*arguments, **options)  # type: ignore[misc] # of the class it is put in front of
        except RuntimeError as problem:
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
