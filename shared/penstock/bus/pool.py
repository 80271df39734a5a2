"""A pool of connections that does what a pool is for, and nothing beside.

redis-py's takes a lock, counts for metrics and tells listeners, twice for each command: more calls of Python than everything else
between a command and the socket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection


class Pool(ConnectionPool):
    """A pool for one event loop. It has no listeners, so it does not renew credentials that expire."""

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> AbstractConnection:
        """Lend a connection that is ready for a command; connected anew where it was lost.

        Raises:
            redis.exceptions.RedisError: Redis is not reached.
        """
        del command_name, keys, options
        connection: AbstractConnection = self.get_available_connection()  # type: ignore[no-untyped-call] # redis-py's
        try:
            if not await _is_ready(connection):
                # redis-py lends a connection on which something lies, for it may be word of a server's maintenance.
                await connection.disconnect()
                await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back."""
        self._in_use_connections.remove(connection)
        if connection.should_reconnect():  # type: ignore[no-untyped-call] # redis-py's
            await connection.disconnect()
        self._available_connections.append(connection)


async def _is_ready(connection: AbstractConnection) -> bool:
    """Say whether a connection is open and nothing unexpected has come on it."""
    try:
        return connection.is_connected and not await connection.can_read()
    except (RedisConnectionError, RedisTimeoutError, OSError):
        return False


def pool_like(pool: ConnectionPool, connection_class: type[AbstractConnection], **options: Any) -> Pool:
    """Make a pool with the options of another one.

    Args:
        pool: not opened yet, or of another event loop.
        connection_class: of the connections.
        **options: further ones of the connections.
    """
    most = pool.max_connections
    return Pool(connection_class=connection_class, max_connections=most, **pool.connection_kwargs | options)
