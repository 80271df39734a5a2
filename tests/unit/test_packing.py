"""Commands spelled in C are the same bytes as those redis-py spells in Python."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import DataError
from redis.exceptions import TimeoutError as RedisTimeoutError

from penstock.bus.connection import beside, connect
from penstock.bus.packing import FREELY_BUFFERED_BYTES, packed
from penstock.cli.embedded_redis import EmbeddedRedis

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

words = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(max_size=20_000),
    st.integers(),
    st.floats(allow_nan=False),
)
commands = st.tuples(st.sampled_from(["GET", "CONFIG GET", b"XADD", b"SCRIPT LOAD"]), st.lists(words, max_size=30))


def joined(pieces: Any) -> bytes:
    return b"".join(bytes(piece) for piece in pieces)


@given(st.lists(commands, min_size=1, max_size=4))
def test_commands_are_the_same_bytes_as_those_of_redis_py(given_: list[tuple[str | bytes, list[Any]]]) -> None:
    sent = [(command, *arguments) for command, arguments in given_]
    plain, fast = Connection(), packed(Connection)()
    assert joined(fast.pack_commands(sent)) == joined(plain.pack_commands(sent))
    assert joined(fast.pack_command(*sent[0])) == joined(plain.pack_command(*sent[0]))


@pytest.mark.parametrize("wrong", [None, True, ["a"], object()])
def test_what_redis_cannot_be_told_is_refused_as_redis_py_refuses_it(wrong: Any) -> None:
    for connection in (Connection(), packed(Connection)()):
        with pytest.raises(DataError):
            connection.pack_command("SET", "key", wrong)


def test_text_that_is_no_text_is_refused_before_anything_is_sent() -> None:
    for connection in (Connection(), packed(Connection)()):
        with pytest.raises(UnicodeEncodeError):
            connection.pack_command("SET", "key", "\ud800")


@pytest.mark.parametrize("kind", [Connection, SSLConnection, UnixDomainSocketConnection])
def test_every_kind_of_connection_has_its_packed_kind_once(kind: Any) -> None:
    assert issubclass(packed(kind), kind)
    assert packed(kind) is packed(kind) is packed(packed(kind))


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://127.0.0.1", Connection),
        ("rediss://127.0.0.1", SSLConnection),
        ("unix:///tmp/redis.sock", UnixDomainSocketConnection),
    ],
)
def test_clients_have_packed_connections_whatever_their_url(url: str, kind: Any) -> None:
    client: Redis = connect(url)
    for one in (client, beside(client)):
        assert one.connection_pool.connection_class is packed(kind)


def test_what_uvloop_says_of_a_connection_that_was_closed_is_an_outage(redis_url: str) -> None:
    async def use_a_closed_connection() -> None:
        client: Any = connect(redis_url)
        connection = await client.connection_pool.get_connection()
        connection._writer.transport.abort()
        while True:
            # The first writes may still be taken.
            await connection.send_packed_command(connection.pack_command("PING"))

    with pytest.raises(RedisConnectionError):
        uvloop.run(use_a_closed_connection())


async def test_a_command_is_sent_without_a_task_of_its_own(redis_url: str) -> None:
    client: Any = connect(redis_url)
    await client.ping()
    connection = await client.connection_pool.get_connection()
    made: list[Any] = []
    loop = asyncio.get_running_loop()

    def make(of: asyncio.AbstractEventLoop, body: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(body)
        return asyncio.Task(body, loop=of, **options)

    loop.set_task_factory(make)
    try:
        await connection.send_command("PING")
    finally:
        loop.set_task_factory(None)
    assert await connection.read_response() == b"PONG"
    assert made == []
    await client.connection_pool.release(connection)
    await client.aclose()


@pytest.mark.parametrize("size", [FREELY_BUFFERED_BYTES - 1, FREELY_BUFFERED_BYTES + 1, 20_000_000])
async def test_a_command_of_any_size_arrives_whole(redis_url: str, size: int) -> None:
    client: Any = connect(redis_url)
    value = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    await client.set("test-packing", value)
    assert await client.getdel("test-packing") == value
    await client.aclose()


async def test_a_redis_that_takes_nothing_more_is_given_up_on(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path, durable=False) as server:
        client: Any = connect(server.url, retries=0)
        client.connection_pool.connection_kwargs["socket_timeout"] = 0.3
        await client.ping()
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(RedisTimeoutError):
                await client.set("large", b"x" * 50_000_000)
        finally:
            server.process.send_signal(signal.SIGCONT)
        await client.aclose()
