from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from penstock.cli.embedded_redis import free_port
from penstock.cli.probe import Report, reasons_of, redis_reasons, report_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def answering(answer: bytes, *, hang: bool = False) -> AsyncIterator[int]:
    """A server on a free port that gives one answer to whatever it is asked."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(answer)
        if hang:
            await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        done.set()


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (b'HTTP/1.1 200 OK\r\n\r\n{"ok": true, "reasons": []}', []),
        (b'HTTP/1.1 503 Service Unavailable\r\n\r\n{"ok": false, "reasons": ["a", "b"]}', ["a", "b"]),
        (b"HTTP/1.1 404 Not Found\r\n\r\nnothing here", ["answered HTTP/1.1 404 Not Found"]),
        (b"HTTP/1.1 503 No\r\n\r\n[1]", ["answered HTTP/1.1 503 No"]),
        (b"SSH-2.0-OpenSSH_9.2 200\r\n", ["answered SSH-2.0-OpenSSH_9.2 200"]),
        (b"", ["answered nothing"]),
    ],
)
async def test_the_reasons_are_what_the_process_says_or_what_is_wrong_with_its_answer(
    answer: bytes, reasons: list[str]
) -> None:
    async with answering(answer) as port:
        assert await reasons_of(f"http://127.0.0.1:{port}/readyz") == reasons


@pytest.mark.parametrize(
    ("body", "report"),
    [
        (b'{"ok": true, "reasons": [], "dead_letters": 7}', Report([], 7)),
        (b'{"ok": true, "reasons": []}', Report([])),
        (b'{"ok": true, "reasons": ["a"], "dead_letters": "x"}', Report(["a"])),
    ],
)
async def test_a_process_that_counts_dead_letters_is_heard(body: bytes, report: Report) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n" + body) as port:
        assert await report_of(f"http://127.0.0.1:{port}/readyz") == report


async def test_silence_is_a_reason() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n", hang=True) as port:
        (reason,) = await reasons_of(f"http://127.0.0.1:{port}/readyz", timeout=0.1)
    assert reason == f"127.0.0.1:{port} does not answer (no answer in time)"


async def test_nobody_there_is_a_reason() -> None:
    port = free_port()
    (reason,) = await reasons_of(f"http://127.0.0.1:{port}/readyz")
    assert reason.startswith(f"127.0.0.1:{port} does not answer")
    (reason,) = await redis_reasons(port)
    assert reason.startswith(f"Redis on port {port} does not answer")


async def test_only_http_can_be_asked() -> None:
    assert await reasons_of("https://example.org/readyz") == ["https://example.org/readyz is no http:// address"]


async def test_a_redis_that_loads_says_so_and_one_that_answers_is_ready() -> None:
    async with answering(b"-LOADING Redis is loading the dataset in memory\r\n", hang=True) as port:
        assert await redis_reasons(port) == ["-LOADING Redis is loading the dataset in memory"]
    async with answering(b"+PONG\r\n", hang=True) as port:
        assert await redis_reasons(port) == []
