"""What each party may do: commands on families of keys, put together from who writes and who reads what.

A grant is the least a party needs for one purpose. Redis 7 keeps grants apart and tells reading from writing; for Redis 6.2 they
are thrown together (see :mod:`penstock.access.acl`).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from penstock import streams
from penstock.access.state import STATE
from penstock.contracts.catalogue import (
    CHANNELS,
    CLIENT,
    CONSUMER,
    DISPATCHER,
    MONITOR,
    OPERATOR,
    REPLY,
    SERVICES,
    WORKER,
)
from penstock.streams import COMMANDS, DEAD
from penstock.streams import EVENTS as EVENT_STREAM

PARTITIONS: Final = "partitions"
"""Stands for :data:`penstock.keys.PARTITIONS_KEY`, which is of no family."""
USERS: Final = (*SERVICES, CLIENT, CONSUMER, OPERATOR)
"""Who has one Redis user each; workers have one per template."""

ALWAYS: Final = tuple("multi exec discard time".split())  # noqa: SIM905 - a list of words reads like this
READ: Final = tuple(
    """
    exists type ttl pttl get strlen hexists hget hgetall hkeys hlen hmget hscan hvals llen lrange scard sismember smembers sdiff
    zcard zcount zmscore zrange zrangebyscore zrank zrevrange zrevrangebyscore zscore
    xinfo xlen xpending xrange xread xrevrange
    """.split()  # noqa: SIM905 - the same
)
"""None of them names keys that it was not given, so patterns hold; SCAN, KEYS, SORT and RANDOMKEY do."""
WRITE: Final = tuple(
    """
    del unlink expire pexpire persist set hdel hincrby hset hsetnx blpop lpop rpush sadd srem
    zadd zincrby zpopmin zrem zremrangebyrank zremrangebyscore xadd xdel xtrim
    """.split()  # noqa: SIM905 - the same
)
RUN: Final = ("evalsha", "script|load")
"""A script may do what its user may do, not more: Redis asks at every call inside."""
GROUP: Final = tuple(
    """
    xreadgroup xack xclaim xautoclaim xgroup|create xgroup|createconsumer xgroup|delconsumer
    exists xinfo xlen xpending xrange xread xrevrange
    """.split()  # noqa: SIM905 - the same
)
"""Reading with a consumer group; destroying one, or setting it back, is an administrator's business."""


class Grant(NamedTuple):
    """Commands on keys.

    Attributes:
        commands: as ACLs name them, in lower case.
        reads: families whose keys they may read.
        writes: families whose keys they may read and write.
        appends: families whose keys they may write without reading them.
    """

    commands: tuple[str, ...]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    appends: tuple[str, ...] = ()


def of_user(name: str) -> list[Grant]:
    """Say what one of :data:`USERS` may do.

    Args:
        name: the user's.

    Raises:
        KeyError: there is no such user.
    """
    if name in SERVICES:
        return _of_service(name)
    return {CLIENT: _of_client, CONSUMER: _of_consumer, OPERATOR: _of_operator}[name]()


def of_worker(*, creates: bool = False) -> list[Grant]:
    """Say what a worker may do; that ``inbox`` means its own is up to who spells the keys.

    Args:
        creates: it may also send commands, to create its pool and its queues where they are missing.
    """
    appends = tuple(name for name in _written(WORKER) if name != "logs")
    return [
        Grant(("exists", "get", "hget", "hgetall", "hkeys", "scard", "zrange"), (*_state_read_by(WORKER), PARTITIONS)),
        Grant(("xadd",), appends=(*appends, *([COMMANDS.name] if creates else []))),
        Grant(("xadd", "pexpire"), appends=("logs",)),
        Grant(("xread", "xrevrange", "xdel"), writes=("inbox",)),
        Grant(("blpop",), writes=(REPLY,)),
    ]


_DROPS: Final = {DISPATCHER: ("logs",)}
"""A run's output goes with the run."""
_TRIMS: Final = {MONITOR: (DEAD.name,)}
"""Old dead letters and events are dropped by the monitor; events it writes anyhow."""
_FORGETS: Final = {MONITOR: (EVENT_STREAM.name,)}
"""So are deliveries of events that are not kept any more, whoever's group they are in."""


def _of_service(name: str) -> list[Grant]:
    written = _written(name)
    own = tuple(family for family, access in STATE.items() if name in access.writers)
    shared = tuple(family for family in (EVENT_STREAM.name, "inbox") if family in written)
    answers = (REPLY,) if name in {*CHANNELS[REPLY].writers, *CHANNELS[REPLY].readers} else ()
    kept = (*own, *shared, *answers, *_DROPS.get(name, ()), *_TRIMS.get(name, ()), PARTITIONS)
    grants = [
        Grant((*RUN, *READ, *WRITE), _state_read_by(name), kept),
        Grant((*GROUP, "xtrim"), writes=_streams_read_by(name)),
        Grant(("xadd",), appends=tuple(family for family in written if family not in {*kept, "inbox"})),
        Grant(("xack",), writes=_FORGETS.get(name, ())),
        # Scripts that belong to nobody are given the event stream as the key that decides where they run.
        Grant(("evalsha",), writes=(EVENT_STREAM.name, *_streams_read_by(name))),
    ]
    return [grant for grant in grants if grant.reads or grant.writes or grant.appends]


def _of_client() -> list[Grant]:
    return [
        Grant(READ, (*_state_read_by(CLIENT), *_streams_read_by(CLIENT), EVENT_STREAM.name, PARTITIONS)),
        Grant(("xadd",), appends=_written(CLIENT)),
        Grant(("blpop",), writes=(REPLY,)),
    ]


def _of_operator() -> list[Grant]:
    reading, _, answers = _of_client()
    return [
        reading,
        answers,
        Grant((*READ, "xdel"), writes=_streams_read_by(OPERATOR)),
        # A dead letter is sent again to wherever it came from.
        Grant(("xadd",), appends=tuple(stream.name for stream in streams.ALL if stream is not DEAD)),
    ]


def _of_consumer() -> list[Grant]:
    return [Grant(("get",), (PARTITIONS,)), Grant(GROUP, writes=_streams_read_by(CONSUMER))]


def _written(party: str) -> tuple[str, ...]:
    return tuple(name for name, channel in CHANNELS.items() if party in channel.writers and channel.kind == "stream")


def _streams_read_by(party: str) -> tuple[str, ...]:
    return tuple(name for name, channel in CHANNELS.items() if party in channel.readers and channel.kind == "stream")


def _state_read_by(party: str) -> tuple[str, ...]:
    return tuple(family for family, access in STATE.items() if party in access.readers)
