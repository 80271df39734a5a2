"""Ask a process whether it is ready; no thread, no client library: the supervisor asks many times a second."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Final, NamedTuple
from urllib.parse import urlsplit

MAX_ANSWER_BYTES: Final = 65_536


class Report(NamedTuple):
    """What a process says of itself.

    Attributes:
        reasons: why it is not ready (or live); empty means it is.
        dead_letters: how many there are in the whole installation; None where the process does not count them.
    """

    reasons: list[str]
    dead_letters: int | None = None


async def reasons_of(url: str, timeout: float = 2.0) -> list[str]:  # noqa: ASYNC109 - one attempt, not a scope
    """Ask a process only why it is not ready (see :func:`report_of`)."""
    return (await report_of(url, timeout)).reasons


async def report_of(url: str, timeout: float = 2.0) -> Report:  # noqa: ASYNC109 - one attempt, not a scope
    """Read a health report; what goes wrong is a reason, too.

    Args:
        url: of ``/readyz`` or ``/livez``, plain http.
        timeout: seconds for the whole exchange.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return Report([f"{url} is no http:// address"])
    request = f"GET {parts.path or '/readyz'} HTTP/1.0\r\nHost: {parts.hostname}\r\n\r\n".encode()
    try:
        answer = await asyncio.wait_for(_exchange(parts.hostname, parts.port or 80, request, whole=True), timeout)
    except (OSError, TimeoutError) as problem:
        return Report([f"{parts.hostname}:{parts.port or 80} does not answer ({str(problem) or 'no answer in time'})"])
    return _read_report(answer)


def _read_report(answer: bytes) -> Report:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].decode(errors="replace")
    reasons: list[str] = []
    dead = None
    with contextlib.suppress(ValueError, AttributeError, TypeError):
        said = json.loads(body)
        reasons = [str(reason) for reason in said.get("reasons", [])]
        dead = int(said["dead_letters"]) if "dead_letters" in said else None
    if status.startswith("HTTP/") and status.split()[1:2] == ["200"]:
        return Report(reasons, dead)
    return Report(reasons or [f"answered {status or 'nothing'}"], dead)


async def redis_reasons(port: int) -> list[str]:
    """Say why the Redis on a loopback port is not ready; while it loads its data it says so itself."""
    try:
        answer = await asyncio.wait_for(_exchange("127.0.0.1", port, b"PING\r\n", whole=False), 2.0)
    except (OSError, TimeoutError) as problem:
        return [f"Redis on port {port} does not answer ({str(problem) or 'no answer in time'})"]
    return (
        []
        if answer.startswith(b"+PONG")
        else [answer.decode(errors="replace").strip() or "Redis closed the connection"]
    )


async def _exchange(host: str, port: int, request: bytes, *, whole: bool) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(request)
        return await (reader.read(MAX_ANSWER_BYTES) if not whole else _read_all(reader))
    finally:
        writer.close()


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    answer = b""
    while len(answer) < MAX_ANSWER_BYTES and (chunk := await reader.read(MAX_ANSWER_BYTES)):
        answer += chunk
    return answer
