"""Commands in one round trip, and the connections they are lent: what redis-py's own pipeline and pool promise, ours promise."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import beside, connect, reconnections
from penstock.bus.roundtrip import send_all
from tests.support import wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis


async def test_answers_come_in_the_order_of_the_commands(client: Redis) -> None:
    assert await send_all(client, [("SET", "a", "größe"), ("INCRBY", "n", 7), ("GET", "a")]) == [
        b"OK",
        7,
        "größe".encode(),
    ]


async def test_what_redis_refuses_is_an_answer_and_the_others_are_carried_out(client: Redis) -> None:
    first, refused, last = await send_all(client, [("SET", "a", "x"), ("INCR", "a"), ("GET", "a")])

    assert (first, last) == (b"OK", b"x")
    assert isinstance(refused, ResponseError)


async def test_a_connection_that_redis_has_closed_is_made_anew_and_counted(client: Redis) -> None:
    other = beside(client)
    await send_all(client, [("PING",)])
    known = reconnections(client)
    await other.client_kill_filter(_type="normal", skipme=True)

    assert await send_all(client, [("SET", "a", 1), ("GET", "a")]) == [b"OK", b"1"]

    assert reconnections(client) == known + 1
    await other.aclose()


async def test_what_was_lost_on_the_way_is_sent_again(client: Redis) -> None:
    other = beside(client)
    waiting = asyncio.create_task(send_all(client, [("BLPOP", "later", 10)]))
    await _blocked(other, 1)

    await other.client_kill_filter(_type="normal", skipme=True)
    await _blocked(other, 1)
    await other.rpush("later", "x")

    assert await waiting == [[b"later", b"x"]]
    await other.aclose()


async def test_whoever_gives_up_waiting_leaves_no_answer_to_the_next(client: Redis) -> None:
    other = beside(client)
    waiting = asyncio.create_task(send_all(client, [("GET", "a"), ("BLPOP", "later", 10)]))
    await _blocked(other, 1)

    await end_tasks([waiting])
    await other.rpush("later", "x")

    assert await send_all(client, [("PING",), ("ECHO", "mine")]) == [b"PONG", b"mine"]
    await other.aclose()


async def test_commands_at_the_same_time_have_connections_of_their_own(client: Redis) -> None:
    waiting = [asyncio.create_task(send_all(client, [("BLPOP", f"later-{number}", 10)])) for number in range(5)]
    await _blocked(client, 5)

    for number in reversed(range(5)):
        await client.rpush(f"later-{number}", number)

    assert await asyncio.gather(*waiting) == [
        [[f"later-{number}".encode(), str(number).encode()]] for number in range(5)
    ]
    pool = client.connection_pool
    assert not pool._in_use_connections
    assert len(pool._available_connections) == 6


async def test_a_connection_on_which_something_lies_is_not_lent(client: Redis) -> None:
    """An answer somebody has not fetched would be taken for that of the next command."""
    connection: Any = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call] # redis-py's
    await connection.send_packed_command(connection.pack_command("ECHO", "nobody's"))
    await wait_until(connection.can_read, what="the answer is there")
    await client.connection_pool.release(connection)

    assert await send_all(client, [("ECHO", "mine")]) == [b"mine"]


async def test_where_redis_stays_away_the_outage_is_told_and_no_connection_is_missing(own_redis: EmbeddedRedis) -> None:
    client = connect(own_redis.url, retries=1)
    await send_all(client, [("PING",)])
    own_redis.kill()

    with pytest.raises(RedisConnectionError):
        await send_all(client, [("PING",)])

    assert not client.connection_pool._in_use_connections
    await client.aclose()


async def _blocked(client: Redis, count: int) -> None:
    async def there() -> bool:
        return bool((await client.info("clients"))["blocked_clients"] == count)

    await wait_until(there, what=f"{count} clients wait")
