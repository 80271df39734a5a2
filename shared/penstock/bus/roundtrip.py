"""Several commands in one round trip, with as few steps as that takes.

A pipeline of redis-py takes a hundred calls of Python to send two commands. In a process that has slept since the last message
each of them is cold: that was a fifth of the time from a submission to the worker's hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio.connection import AbstractConnection

    from penstock.bus.cluster import ClusterClient

Words = tuple[Any, ...]
"""A command and its arguments: text, bytes, int or float."""


async def send_all(client: Redis, commands: Sequence[Words]) -> list[Any]:
    """Send commands in one round trip, as a pipeline without a transaction does.

    Args:
        client: of one Redis or of a cluster.
        commands: what is sent, in order; all of them again when the connection is lost, as often as the client tries.

    Returns:
        For each command its answer as Redis spells it, or the :class:`~redis.exceptions.ResponseError` it answered.

    Raises:
        redis.exceptions.RedisError: Redis was not reached, or was lost.
    """
    if type(client) is not Redis:
        return await cast("ClusterClient", client).send_all(commands)
    pool = client.connection_pool
    connection: AbstractConnection = await pool.get_connection()  # type: ignore[no-untyped-call] # redis-py's has no types
    try:
        packed = [piece for words in commands for piece in connection.pack_command(*words)]
        answers: list[Any] = await connection.retry.call_with_retry(
            lambda: _exchange(connection, packed, len(commands)),
            lambda _: connection.disconnect(),
        )
        return answers
    finally:
        await pool.release(connection)


async def _exchange(connection: AbstractConnection, packed: list[bytes], count: int) -> list[Any]:
    await connection.send_packed_command(packed)
    answers: list[Any] = []
    for _ in range(count):
        try:
            answers.append(await connection.read_response())
        except ResponseError as refused:
            answers.append(refused)
    return answers
