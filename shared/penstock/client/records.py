"""From the hashes in Redis to the records that readers see; pure."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from pydantic import BaseModel

from penstock.contracts.pools import Pool, Queue
from penstock.contracts.runs import LATE_AFTER_SECONDS, PastState, Run
from penstock.contracts.workers import SUSPECT_INTERVALS, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from penstock.contracts.pools import PoolStatus

_PACKED: Final = frozenset({b"queue", b"spec"})


class Worker(BaseModel):
    """One worker as readers see it.

    Attributes:
        suspect: ONLINE still, but its heartbeat is overdue; if none comes it will be OFFLINE.
        slots: how many runs it holds at most; ``slots_used`` how many it holds now.
        queues: names of the queues it serves; empty means all.
        last_heartbeat: ISO 8601 in UTC, Redis TIME.
    """

    name: str
    pool: str
    type: str
    status: WorkerStatus
    suspect: bool = False
    slots: int
    slots_used: int
    queues: list[str]
    last_heartbeat: str
    heartbeat_interval_seconds: float
    prefetch_seconds: float
    draining: bool
    version: str
    host: str
    pid: int
    boot_id: str


class InFlight(NamedTuple):
    """How many runs hold a slot now: in the pool, and per queue name."""

    pool: int
    queues: dict[str, int]


def iso_of_ms(ms: int) -> str:
    """Spell milliseconds since 1970 as ISO 8601 in UTC, as events do."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def submitted_ms(run_id: str) -> int:
    """Read the moment of submission out of a run id: the first 48 bits of a version 7 UUID, the submitter's clock."""
    return int(run_id.replace("-", "")[:12], 16)


def status(*, is_paused: bool, online: int) -> PoolStatus:
    """Derive the status of a pool or queue: it is never stored."""
    if is_paused:
        return "PAUSED"
    return "READY" if online else "NOT_READY"


def to_pool(pool_id: str, fields: Mapping[bytes, bytes], online: int, queues: list[Queue]) -> Pool:
    """Make a pool of its hash.

    Args:
        pool_id: names the hash.
        fields: values are JSON texts.
        online: how many of its workers are ONLINE.
        queues: by priority.
    """
    values = {name.decode(): orjson.loads(text) for name, text in fields.items()}
    return Pool.model_validate(
        {**values, "id": pool_id, "queues": queues, "status": status(is_paused=values["is_paused"], online=online)}
    )


def to_queue(queue_id: str, pool_name: str, fields: Mapping[bytes, bytes], online: int) -> Queue:
    """Make a queue of its hash; its ``pool_id`` is plain text, everything else JSON."""
    values = {name.decode(): orjson.loads(text) for name, text in fields.items() if name != b"pool_id"}
    return Queue.model_validate(
        {**values, "id": queue_id, "pool": pool_name, "status": status(is_paused=values["is_paused"], online=online)}
    )


def queue_and_pool_of(related: bytes) -> tuple[str, str]:
    """Read the names of the pool and the queue out of what a queue's runs are related to; '' for what is not named."""
    names = {one.get("prefect.resource.role"): one.get("prefect.resource.name", "") for one in orjson.loads(related)}
    return names.get("work-pool", ""), names.get("work-queue", "")


def history(text: str, submitted: int) -> list[PastState]:
    """Make the states a run has been in: its hash keeps those after the first, each behind a comma."""
    past = [PastState(state="SCHEDULED", name="Scheduled", at_ms=submitted)]
    for state, at_ms, *rest in orjson.loads(f"[{text.removeprefix(',')}]"):
        message, name = (*rest, "", "")[:2]
        past.append(PastState(state=state, name=name or state.capitalize(), at_ms=at_ms, message=message))
    return past


def queue_id_of(fields: Mapping[bytes, bytes]) -> str:
    """The id of a run's queue, '' for none; the hash keeps 16 bytes of it (``includes/runs.lua``: what waits must be small)."""
    kept = fields.get(b"queue")
    return str(uuid.UUID(bytes=kept)) if kept else ""


def spec_of(fields: Mapping[bytes, bytes]) -> bytes:
    """The JSON of what a run executes; its hash keeps a line with the entrypoint, if there is one, and what follows it."""
    kept = fields.get(b"spec", b"{}")
    if kept.startswith(b"{"):
        return kept
    entrypoint, _, rest = kept.partition(b"\n")
    return b'{"entrypoint":"%b","parameters":%b}' % (entrypoint, rest)


def to_run(
    run_id: str,
    fields: Mapping[bytes, bytes],
    pool_name: str,
    queue_name: str,
    *,
    deployment: str | None = None,
    now_ms: int = 0,
) -> Run:
    """Make a run of its hash and its due time.

    Args:
        run_id: names the hash.
        fields: raw texts; ``due`` is what the set it waits in says.
        pool_name: '' when nobody knows it any more.
        queue_name: the same.
        deployment: its name, None when it has none or that is gone.
        now_ms: Redis TIME; decides what is late.
    """
    text = {name.decode(): value.decode() for name, value in fields.items() if name not in _PACKED}

    # A run that was only submitted keeps no state: what waits by the million must be small.
    state = text.get("state", "SCHEDULED")

    def ms(name: str) -> int | None:
        return int(float(text[name])) if text.get(name) else None

    due = ms("due") or submitted_ms(run_id)
    return Run.model_validate(
        {
            "id": run_id,
            "name": text.get("name", ""),
            "pool": pool_name,
            "queue": queue_name,
            "state": state,
            "state_name": text.get("label") or _state_name(state, due, now_ms),
            "message": text.get("message", ""),
            "scheduled_time": iso_of_ms(due),
            "submitted_ms": submitted_ms(run_id),
            "claimed_ms": ms("claimed"),
            "started_ms": ms("started"),
            "ended_ms": ms("ended"),
            "worker": text.get("worker") or None,
            "run_count": int(text.get("run_count") or 0),
            "epoch": int(text.get("epoch") or 0),
            "deployment": deployment,
            "deployment_id": text.get("deployment_id") or None,
            "scheduled_by": text.get("auto", "").partition(" ")[0] or None,
            "retries_left": int(text.get("retry", "").partition(" ")[0] or 0),
            "states": history(text.get("history", ""), submitted_ms(run_id)),
            "spec": orjson.loads(spec_of(fields)),
        }
    )


def _state_name(state: str, due_ms: int, now_ms: int) -> str:
    if state == "SCHEDULED" and now_ms - due_ms > LATE_AFTER_SECONDS * 1000:
        return "Late"
    return state.capitalize()


def is_suspect(status: WorkerStatus, last_heartbeat_ms: float, interval_ms: float, now_ms: int) -> bool:
    """Say whether an ONLINE worker has missed a heartbeat; times in ms of Redis TIME."""
    return status == "ONLINE" and now_ms - last_heartbeat_ms > SUSPECT_INTERVALS * interval_ms


def to_worker(pool_name: str, fields: Mapping[bytes, bytes], used: int, now_ms: int) -> Worker:
    """Make a worker of its hash.

    Args:
        pool_name: where it is.
        fields: raw texts.
        used: how many runs it holds.
        now_ms: Redis TIME; decides whether it is suspect.
    """
    text = {name.decode(): value.decode() for name, value in fields.items()}

    def number(name: str) -> float:
        return float(text.get(name) or 0)

    queues: Any = orjson.loads(text.get("queues") or "[]")
    status: WorkerStatus = "ONLINE" if text.get("status") == "ONLINE" else "OFFLINE"
    return Worker(
        name=text["name"],
        pool=pool_name,
        type=text.get("type", ""),
        status=status,
        suspect=is_suspect(status, number("last_heartbeat_ms"), number("interval_ms"), now_ms),
        slots=int(number("slots")),
        slots_used=used,
        # An empty Lua table is spelled {} by cjson.
        queues=list(queues),
        last_heartbeat=iso_of_ms(int(number("last_heartbeat_ms"))),
        heartbeat_interval_seconds=number("interval_ms") / 1000,
        prefetch_seconds=number("prefetch_ms") / 1000,
        draining=text.get("draining") == "1",
        version=text.get("version", ""),
        host=text.get("host", ""),
        pid=int(number("pid")),
        boot_id=text.get("boot_id", ""),
    )
