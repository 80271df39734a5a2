"""Open Redis clients that ride out a short outage."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit
from weakref import WeakSet

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    ClusterError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from penstock import keys
from penstock.bus.cluster import ClusterClient, is_cluster
from penstock.bus.packing import packed
from penstock.bus.pool import Pool, pool_like
from penstock.errors import BadSettings, Unavailable

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

SOCKET_TIMEOUT_SECONDS: Final = 5.0
BLOCK_MS: Final = 2000
"""How long a read waits for news; well below the socket time-out, or redis-py would give up first."""
OUTAGES: Final = (RedisConnectionError, RedisTimeoutError, OSError)
_REFUSES_ALL: Final = ("OOM command", "READONLY", "MISCONF", "NOREPLICAS", "BUSY Redis", "NOSCRIPT")
"""How refusals begin that no message is to blame for; redis-py cuts off the word where it has a class for it."""


def connection_options(url: str, retries: int = 3) -> dict[str, Any]:
    """Options for every connection: FastStream and plain clients alike (redis-py's own retries are off inside FastStream)."""
    return {
        "socket_timeout": SOCKET_TIMEOUT_SECONDS,
        "socket_connect_timeout": 3.0,
        # A socket of this host's file system has nothing to keep alive, and its connections do not know the option.
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=1.0), retries),
        "retry_on_error": [RedisConnectionError, RedisTimeoutError],
    }


class _Reconnections:
    """Counts how often a connection of one client, and of those beside it, was made anew after it had been lost.

    redis-py makes it anew by itself, so whoever waits for an answer would not see that Redis has been away.
    """

    def __init__(self) -> None:
        self.count = 0
        self._known: WeakSet[AbstractConnection] = WeakSet()

    async def connected(self, connection: AbstractConnection) -> None:
        """What redis-py calls for a new connection, in place of what it would do itself."""
        if connection in self._known:
            self.count += 1
        self._known.add(connection)
        await connection.on_connect()


def counting() -> dict[str, Any]:
    """Options of a client whose connections are counted, for :func:`reconnections`."""
    return {"redis_connect_func": _Reconnections().connected}


def reconnections(client: Redis) -> int:
    """Say how often a connection of this client was made anew.

    When the number has grown Redis may have been away since, and may have forgotten its last moments: with ``appendfsync everysec``
    what it had acknowledged in about two seconds.

    Args:
        client: of ours: made by :func:`connect` or :func:`beside`, or of a broker; of any other the answer is always 0.
    """
    # Not isinstance(): what redis-py's classes inherit makes a No cost as much as a command.
    single = type(client) is Redis
    options = client.connection_pool.connection_kwargs if single else getattr(client, "origin", ("", {}))[1]
    tally = getattr(options.get("redis_connect_func"), "__self__", None)
    return tally.count if isinstance(tally, _Reconnections) else 0


def connect(url: str, *, retries: int = 3) -> Redis:
    """Make a client; it connects on first use.

    Args:
        url: as in :class:`penstock.settings.Settings`.
        retries: how often a command is sent again after a connection error, with exponential backoff up to 1 s.

    Raises:
        BadSettings: an option in the URL is unknown or wrong.
    """
    try:
        options = connection_options(url, retries) | counting()
        if is_cluster(url):
            # Not a Redis, but it has all of its methods that are used here.
            return cast("Redis", ClusterClient.of(url, **options))
        pool = Pool.from_url(url, **options)
        pool.connection_class = packed(pool.connection_class)
        # Made and thrown away, never opened: redis-py looks at most options only when it makes a connection.
        pool.connection_class(**pool.connection_kwargs)
        return Redis.from_pool(pool)
    except (TypeError, ValueError, RedisError) as problem:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(problem))
        raise BadSettings(f"PENSTOCK_REDIS_URL: {f'unknown option {unknown[1]!r}' if unknown else problem}") from None


def refuses_everybody(problem: BaseException) -> bool:
    """Say whether Redis answers, but refuses whoever asks: it is full, read only, busy, not whole, or has forgotten its scripts."""
    if isinstance(problem, OutOfMemoryError | ReadOnlyError | NoScriptError | ClusterError):
        return True
    return isinstance(problem, ResponseError) and any(word in str(problem) for word in _REFUSES_ALL)


def is_outage(problem: BaseException) -> bool:
    """Say whether nothing is wrong but Redis, and that may pass."""
    return isinstance(problem, OUTAGES) or refuses_everybody(problem)


def beside(client: Redis) -> Redis:
    """Make another client of the same Redis, for another event loop."""
    if isinstance(client, ClusterClient):
        return cast("Redis", client.beside())
    pool = client.connection_pool
    return Redis.from_pool(pool_like(pool, pool.connection_class))


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
        raise Unavailable(_what_is_wrong(problem, url)) from problem


def _what_is_wrong(problem: BaseException, url: str) -> str:
    """Say why Redis was not reached, and what to do; nothing of it quotes the password."""
    place = where(url)
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"Redis at {place} is not trusted: {cause.verify_message}. Name its authority in PENSTOCK_REDIS_URL "
                "(rediss://...?ssl_ca_certs=FILE), and reach it by the name in its certificate."
            )
        if isinstance(cause, ssl.SSLError):
            return f"Redis at {place} does not answer by TLS ({cause.reason}). Without TLS its URL begins with redis://"
        cause = cause.__cause__ or cause.__context__
    if isinstance(problem, AuthenticationError | NoPermissionError):
        return f"Redis at {place} does not let us in ({problem}). Check user and password in PENSTOCK_REDIS_URL."
    by_tls = " by TLS" if url.startswith("rediss") else ""
    return (
        f"Redis at {place} does not answer{by_tls} ({problem}). Start it, or `penstock up`, or set PENSTOCK_REDIS_URL."
    )


async def fixed_partitions(client: Redis) -> int | None:
    """Read the number of partitions this installation was started with; None while it never was."""
    fixed = await client.get(keys.PARTITIONS_KEY)
    return None if fixed is None else int(fixed)


async def agree_on_partitions(client: Redis, partitions: int) -> None:
    """Fix the number of partitions at the first start, and compare it at every later one.

    Raises:
        BadSettings: this installation was started with another number.
        Unavailable: it never was started, and this user of Redis may not do it; only services may.
    """
    if await fixed_partitions(client) is None:
        try:
            await client.set(keys.PARTITIONS_KEY, partitions, nx=True)
        except NoPermissionError as problem:
            raise Unavailable(
                "no service of Penstock has been started on this Redis yet; start them first"
            ) from problem
    fixed = await fixed_partitions(client) or partitions
    if fixed != partitions:
        raise BadSettings(f"PENSTOCK_PARTITIONS={partitions}, but this installation was first started with {fixed}")


async def redis_now_ms(client: Redis) -> int:
    """Read Redis TIME in milliseconds."""
    seconds, microseconds = await client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000
