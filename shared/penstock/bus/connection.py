"""Open Redis clients that ride out a short outage."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from penstock import keys
from penstock.errors import BadSettings, Unavailable

SOCKET_TIMEOUT_SECONDS: Final = 5.0
BLOCK_MS: Final = 2000
"""How long a read waits for news; well below the socket time-out, or redis-py would give up first."""
OUTAGES: Final = (RedisConnectionError, RedisTimeoutError, OSError)


def connection_options(retries: int = 3) -> dict[str, Any]:
    """Options for every connection: FastStream and plain clients alike (redis-py's own retries are off inside FastStream)."""
    return {
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": 3.0,
        "socket_keepalive": True,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
    }


def connect(url: str, *, retries: int = 3) -> Redis:
    """Make a client; it connects on first use.

    Args:
        url: as in :class:`penstock.settings.Settings`.
        retries: how often a command is sent again after a connection error, with exponential backoff up to 1 s.
    """
    return Redis.from_url(url, **connection_options(retries))


def where(url: str) -> str:
    """Name a Redis for people: host, port and database without the password."""
    parts = urlsplit(url)
    return f"{parts.hostname or parts.path}:{parts.port or 6379}{parts.path if parts.hostname else ''}"


async def check(client: Redis, url: str) -> None:
    """Make sure Redis answers.

    Raises:
        Unavailable: it does not; the message says where it was looked for and what to do.
    """
    try:
        await client.ping()
    except (RedisError, OSError) as problem:
        raise Unavailable(
            f"Redis at {where(url)} does not answer ({problem}). Start it, or `penstock up`, or set PENSTOCK_REDIS_URL.",
        ) from problem


async def fixed_partitions(client: Redis) -> int | None:
    """Read the number of partitions this installation was started with; None while it never was."""
    fixed = await client.get(keys.PARTITIONS_KEY)
    return None if fixed is None else int(fixed)


async def agree_on_partitions(client: Redis, partitions: int) -> None:
    """Fix the number of partitions at the first start, and compare it at every later one.

    Raises:
        BadSettings: this installation was started with another number.
    """
    await client.set(keys.PARTITIONS_KEY, partitions, nx=True)
    fixed = await fixed_partitions(client) or partitions
    if fixed != partitions:
        raise BadSettings(f"PENSTOCK_PARTITIONS={partitions}, but this installation was first started with {fixed}")


async def redis_now_ms(client: Redis) -> int:
    """Read Redis TIME in milliseconds."""
    seconds, microseconds = await client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000
