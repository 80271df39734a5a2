"""The monitor's rules, pure: the specification that ``lua/`` implements atomically.

``tests/redis/test_apply_heartbeats.py`` and ``tests/redis/test_expire_workers.py`` hold both to the same answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from slugify import slugify

from penstock.contracts.workers import MISSED_HEARTBEATS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from penstock.bus.routing import Delivery
    from penstock.contracts.pools import PoolStatus
    from penstock.contracts.workers import Heartbeat, WorkerStatus

Decision = Literal["renewed", "changed", "stale", "unknown_pool", "wrong_type", "superseded"]
REFUSALS: Final[frozenset[Decision]] = frozenset({"unknown_pool", "wrong_type", "superseded"})

OUTAGE_MS: Final = 2500
"""The sweep runs every second; if it has not run for this long, Redis or every monitor was down.

Heartbeats that lie unread for this long mean the same.
"""
IN_HAND_MS: Final = 1000
"""A batch of heartbeats is applied in milliseconds; what is not acknowledged after this long was left by a dead monitor."""
AGAIN_MS: Final = 50
"""How soon to look again at a worker whose deadline has passed while its heartbeat may be on the way."""

SUPERSEDED_KEPT: Final = 16
"""Processes that were given the same name replace each other once each and are refused from then on; this many are remembered."""

_UNSAFE_IN_JSON = re.compile(r'["\\\s]+')


@dataclass(frozen=True, slots=True)
class Facts:
    """What a heartbeat says of a worker, apart from the moment it says it."""

    worker_type: str
    boot_id: str = ""
    interval_ms: int = 30_000
    slots: int = 10
    queues: tuple[str, ...] = ()
    prefetch_ms: int = 0
    draining: bool = False
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a worker; ``previous_boot_ids`` are the lives that were replaced, the latest last."""

    status: WorkerStatus
    facts: Facts
    entry_id: str
    previous_boot_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class News:
    """What a changed heartbeat of a worker that stays or comes ONLINE makes known."""

    started: bool
    online: bool
    draining: bool
    announced: bool


def milliseconds(seconds: float) -> int:
    """Round to whole milliseconds."""
    return round(seconds * 1000)


def deadline_ms(entry_ms: int, interval_ms: int) -> int:
    """Say until when a worker counts as alive after a heartbeat, in ms of Redis TIME.

    Args:
        entry_ms: when Redis appended the heartbeat; never the sender's clock.
        interval_ms: what the heartbeat promises.
    """
    return entry_ms + MISSED_HEARTBEATS * interval_ms


def heard_ms(now_ms: int, unread_ms: int | None, in_hand_ms: int | None) -> int:
    """Say up to when every heartbeat has been applied, in ms of Redis TIME.

    Args:
        now_ms: Redis TIME.
        unread_ms: when the oldest heartbeat was sent that no monitor has read yet; None if there is none.
        in_hand_ms: when the oldest was sent that a monitor is applying at this moment; None if there is none.
    """
    return min(at for at in (now_ms, unread_ms, in_hand_ms) if at is not None)


def is_lost(deadline: int, heard_ms: int) -> bool:
    """Say whether a worker is OFFLINE.

    Args:
        deadline: until when it counts as alive.
        heard_ms: see :func:`heard_ms`; a heartbeat sent before the deadline would have been applied.
    """
    return deadline < heard_ms


def was_outage(tick_ms: int | None, now_ms: int) -> bool:
    """Say whether liveness has not been judged for a while: then no heartbeat could have been sent or read either.

    Args:
        tick_ms: when liveness was last judged; None if that is not known.
        now_ms: Redis TIME.
    """
    return tick_ms is None or now_ms - tick_ms > OUTAGE_MS


def extended_deadline_ms(deadline: int, now_ms: int, interval_ms: int) -> int:
    """After an outage: everybody gets three intervals from its end to be heard again."""
    return max(deadline, deadline_ms(now_ms, interval_ms))


def entry_order(entry_id: str) -> tuple[int, int]:
    """Make stream entry ids comparable."""
    ms, _, count = entry_id.partition("-")
    return int(ms), int(count)


def decide(known: Known | None, pool_type: str | None, facts: Facts, entry_id: str) -> Decision:
    """Say what to do with a heartbeat.

    Args:
        known: the worker as remembered; None if it is new.
        pool_type: of the pool it names; None if there is no such pool.
        facts: what it says.
        entry_id: its place in the stream, which alone decides what is newer.

    Returns:
        ``renewed``: it says nothing new. ``changed``: apply it. ``stale``: a newer one has been applied.
        Else why it is refused.
    """
    if pool_type is None:
        return "unknown_pool"
    if known and known.status == "ONLINE" and known.facts == facts:
        return "renewed" if entry_order(entry_id) > entry_order(known.entry_id) else "stale"
    if facts.worker_type != pool_type:
        return "wrong_type"
    if known and entry_order(entry_id) <= entry_order(known.entry_id):
        return "stale"
    if known and facts.boot_id in known.previous_boot_ids:
        return "superseded"
    return "changed"


def after(known: Known | None, facts: Facts, entry_id: str) -> Known:
    """Say what is remembered of a worker after a heartbeat that was renewed or changed."""
    status: WorkerStatus = "OFFLINE" if facts.stopping else "ONLINE"
    if known is None:
        return Known(status, facts, entry_id)
    replaced = facts.boot_id != known.facts.boot_id
    previous = (
        (*known.previous_boot_ids, known.facts.boot_id)[-SUPERSEDED_KEPT:] if replaced else known.previous_boot_ids
    )
    return replace(known, status=status, facts=facts, entry_id=entry_id, previous_boot_ids=previous)


def news(known: Known | None, facts: Facts) -> News:
    """Say what a changed heartbeat that is not the last one makes known, the queues it serves aside."""
    if known is None:
        return News(started=True, online=True, draining=facts.draining, announced=True)
    back = known.status == "OFFLINE"
    new_boot = facts.boot_id != known.facts.boot_id
    before, now = known.facts, facts
    return News(
        started=new_boot or known.facts.stopping,
        online=back,
        draining=now.draining and (back or new_boot or not before.draining),
        announced=back
        or new_boot
        or (before.slots, before.queues, before.prefetch_ms, before.draining)
        != (now.slots, now.queues, now.prefetch_ms, now.draining),
    )


def serves(facts: Facts, queue: str) -> bool:
    """Say whether an ONLINE worker serves a queue: it names it, or names none and serves all."""
    return not facts.queues or queue in facts.queues


def pool_status(online: Collection[Facts], *, is_paused: bool = False) -> PoolStatus:
    """Derive a pool's status from its ONLINE workers."""
    if is_paused:
        return "PAUSED"
    return "READY" if online else "NOT_READY"


def queue_status(queue: str, online: Iterable[Facts], *, is_paused: bool = False) -> PoolStatus:
    """Derive a queue's status from its pool's ONLINE workers."""
    if is_paused:
        return "PAUSED"
    return "READY" if any(serves(facts, queue) for facts in online) else "NOT_READY"


@lru_cache(maxsize=10_000)
def resource_id(worker_type: str, name: str) -> str:
    """Name a worker in events as Prefect does: ``prefect.worker.<type>.<slug of the name>``.

    A name without a letter or digit that a slug could keep is spelled in hexadecimal instead.
    """
    return f"prefect.worker.{_UNSAFE_IN_JSON.sub('-', worker_type)}.{slugify(name) or name.encode().hex()}"


def coalesce(batch: Iterable[Delivery[Heartbeat]]) -> list[Delivery[Heartbeat]]:
    """Keep the newest of consecutive heartbeats of one life of one worker: they are state, not deltas.

    A last heartbeat (``stopping``) neither hides the one before it nor is hidden by the one after it.

    Returns:
        What is left, in the order of the stream.
    """
    kept: list[Delivery[Heartbeat] | None] = []
    latest: dict[tuple[str, str], int] = {}
    for delivery in sorted(batch, key=lambda delivery: entry_order(delivery.entry.id)):
        message = delivery.message
        place = latest.get((message.pool, message.worker))
        before = kept[place] if place is not None else None
        if place is not None and before is not None:
            life = before.message
            if life.boot_id == message.boot_id and not (life.stopping or message.stopping):
                kept[place] = None
        latest[message.pool, message.worker] = len(kept)
        kept.append(delivery)
    return [delivery for delivery in kept if delivery is not None]
