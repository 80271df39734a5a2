"""Make FastStream brokers and subscribers that speak plain JSON and never wedge."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import structlog
from faststream import AckPolicy
from faststream.redis import RedisBroker, RedisClusterBroker, StreamSub
from faststream.redis.configs.state import RedisClusterConnectionState, RedisConnectionState
from faststream.redis.parser import MessageFormat
from redis.exceptions import ResponseError

from penstock import keys
from penstock.bus.cluster import ClusterClient, is_cluster, node_url
from penstock.bus.connection import BLOCK_MS, connection_options, counting, reconnections
from penstock.bus.entries import Entry
from penstock.bus.packing import packed
from penstock.bus.pool import pool_like

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from penstock.settings import Settings
    from penstock.streams import Stream

log = structlog.get_logger("penstock.bus")
GRACEFUL_SECONDS: Final = 10.0
"""How long a stopping service waits for the batch in hand; a batch takes milliseconds."""
CATCH_UP_ATTEMPTS: Final = 3
CATCH_UP_SECONDS: Final = 0.5
"""Between them."""
READ_FAILED_SECONDS: Final = 0.1
MAX_BATCH: Final = 200
"""Entries read at once; without a bound one read takes the whole backlog into this consumer's pending list."""


class CatchUp(Protocol):
    """See :func:`subscribe`."""

    def __call__(self, before: str, going_on: Callable[[], bool]) -> Awaitable[bool]:
        """Handle what came before an entry."""


class PlainJson(MessageFormat):
    """``__data__`` holds one bare JSON object; no envelope, no headers."""

    @classmethod
    async def encode(cls, **parts: Any) -> bytes:
        """Serialise the body alone; what FastStream would put into headers lives in our messages."""
        return (await cls.build(**parts)).data

    @classmethod
    def parse(cls, data: bytes) -> tuple[bytes, dict[str, Any]]:
        """Hand over the bytes as they are."""
        return data, {}


class _Connection(RedisConnectionState):
    """Makes a client whose connections are those of our own clients."""

    __slots__ = ()

    async def connect(self) -> Redis:
        """Make it once; it connects on first use."""
        client = await super().connect()
        pool = client.connection_pool
        client.connection_pool = pool_like(pool, packed(pool.connection_class), **counting())
        return client


class _Broker(RedisBroker):
    def _make_connection_state(self, connection_options: dict[str, Any], kwargs: dict[str, Any]) -> _Connection:
        del kwargs
        return _Connection(connection_options)


class _ClusterConnection(RedisClusterConnectionState):
    """Makes our client, which calls outages by the names that everybody catches."""

    __slots__ = ()

    async def connect(self) -> ClusterClient:
        """Make it once; it connects on first use."""
        if self._client is None:
            self._client = ClusterClient(**{name: value for name, value in self._options.items() if value is not None})
            self._client.remember("", counting())
            self._connected = True
        return cast("ClusterClient", self._client)


class _ClusterBroker(RedisClusterBroker):
    def _make_connection_state(self, connection_options: dict[str, Any], kwargs: dict[str, Any]) -> _ClusterConnection:
        del kwargs
        return _ClusterConnection(connection_options)


def consumer_name(service: str) -> str:
    """Name this process in consumer groups: unique per process, so that nobody inherits another's pending entries."""
    return f"{service}-{socket.gethostname()}-{os.getpid()}"


def create_broker(settings: Settings) -> RedisBroker:
    """Make the broker of one service.

    It only reads: :func:`subscribe` hands entries on as they are. The format is for whoever would publish through it, so that no
    envelope ever gets onto a stream.
    """
    make = _ClusterBroker if is_cluster(settings.redis_url) else _Broker
    return make(
        node_url(settings.redis_url),
        message_format=PlainJson,
        apply_types=False,
        logger=None,  # type: ignore[arg-type]
        graceful_timeout=GRACEFUL_SECONDS,
        **connection_options(settings.redis_url),
    )


def subscribe(
    broker: RedisBroker,
    stream: Stream,
    partition: int,
    *,
    group: str,
    consumer: str,
    handle: Callable[[Sequence[Entry]], Awaitable[None]],
    max_batch: int = MAX_BATCH,
    on_read: Callable[[], None] = lambda: None,
    catch_up: CatchUp | None = None,
) -> Any:
    """Subscribe to one stream of one partition, in batches.

    Acknowledged when ``handle`` returns; left pending, for the reclaimer, when it raises.

    Args:
        broker: whose subscriber it becomes.
        stream: what is read.
        partition: where.
        group: the consumer group.
        consumer: this process's name in it.
        handle: gets each batch.
        max_batch: entries read at once.
        on_read: called after every read that succeeded, also after one without news.
        catch_up: called after the first read, after every one during which a connection was lost, and after the one that follows
            a batch that could not be handled, before anything of it is handled: with the id of the entry that comes next ('+' for
            none) and a function that says whether to go on; answers False when it did not.

    Returns:
        FastStream's subscriber, for the watchdog.
    """
    name = keys.key(partition, stream.name)

    subscriber = broker.subscriber(
        stream=StreamSub(
            name, group=group, consumer=consumer, batch=True, max_records=max_batch, polling_interval=BLOCK_MS
        ),
        ack_policy=AckPolicy.MANUAL,
    )
    # FastStream reads only for subscribers that have a handler; it does not call it, see below.
    subscriber(handle)

    caught_up: int | None = None

    async def read_and_handle(read: Callable[[str], Awaitable[Any]]) -> None:
        nonlocal caught_up
        try:
            answer = await read(subscriber.last_id)
        except Exception:
            # FastStream would read again at once, thousands of times before the watchdog has seen what is wrong.
            await asyncio.sleep(READ_FAILED_SECONDS)
            raise
        connections = reconnections(subscriber._client)  # noqa: SLF001 - the one it reads with
        if catch_up and connections != caught_up:
            await _catch_up(subscriber, name, [raw for _, raw in answer if raw], catch_up)
            caught_up = connections
        for _, raw in answer:
            if not raw:
                continue
            # A subscriber that is started again must not make its group at the end of the stream.
            subscriber.last_id = raw[-1][0].decode()
            if subscriber.running:
                batch = [Entry(partition, stream.name, entry_id.decode(), fields) for entry_id, fields in raw]
                if not await _handle(subscriber, name, group, batch, handle):
                    caught_up = None

    if not hasattr(subscriber, "_get_msgs"):
        raise NotImplementedError("this version of FastStream reads in another way; use one that pyproject.toml allows")
    # FastStream reads, starts and stops; what it would do between a read and its handler (scopes, middlewares, responses) took a
    # quarter of the time from a message to its script, and we use nothing of it.
    subscriber._get_msgs = read_and_handle  # type: ignore[method-assign] # noqa: SLF001 - it has no hook for that
    _report_reads(subscriber, on_read)
    return subscriber


async def _catch_up(subscriber: Any, name: str, read: Sequence[Any], catch_up: CatchUp) -> None:
    """Let that be handled first that came before what was just read; after some failures go on without."""
    with subscriber.lock:
        for _ in range(CATCH_UP_ATTEMPTS):
            try:
                await catch_up(read[0][0][0].decode() if read else "+", lambda: bool(subscriber.running))
            except Exception as problem:  # noqa: BLE001 - whatever failed, newer entries must not wait for it for ever
                log.warning("not caught up", stream=name, error=f"{type(problem).__name__}: {problem}")
                await asyncio.sleep(CATCH_UP_SECONDS)
            else:
                return


async def _handle(
    subscriber: Any, name: str, group: str, batch: Sequence[Entry], handle: Callable[[Sequence[Entry]], Awaitable[None]]
) -> bool:
    """Handle a batch and acknowledge it; a stop waits for that. False when it stays pending."""
    with subscriber.lock:
        try:
            await handle(batch)
            await subscriber._client.xack(name, group, *(entry.id for entry in batch))  # noqa: SLF001 - the one it reads with
        except Exception as problem:  # noqa: BLE001 - what raised has said why; here it only stays pending, for the reclaimer
            log.debug("not acknowledged", stream=name, entries=len(batch), error=f"{type(problem).__name__}: {problem}")
            return False
        return True


def _report_reads(subscriber: Any, on_read: Callable[[], None]) -> None:
    """Count reads where they are made: before Redis 7.2 a read without news leaves no trace in XINFO CONSUMERS."""
    read = subscriber._xreadgroup  # noqa: SLF001 - FastStream has no hook for a read that found nothing

    async def reported(**options: Any) -> Any:
        answer = await read(**options)
        on_read()
        return answer

    subscriber._xreadgroup = reported  # noqa: SLF001 - see above


async def ensure_group(client: Redis, stream: Stream, partition: int, group: str) -> bool:
    """Create a consumer group at the beginning of its stream (FastStream would create it at the end and skip a backlog).

    Returns:
        True if it had to be created.
    """
    try:
        await client.xgroup_create(keys.key(partition, stream.name), group, id="0", mkstream=True)
    except ResponseError as problem:
        if "BUSYGROUP" not in str(problem):
            raise
        return False
    return True
