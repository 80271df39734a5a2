"""The only file that spells a Redis key.

Every key of partition ``p`` starts with ``penstock:{p}:``; the braces are a Redis Cluster hash tag, so one partition lives in
one slot. Lua scripts never spell a key either: :mod:`penstock.lua` generates one function per family below
(``key_run(id)``) in front of every script that names the family in its ``USES`` header.

====================  ======  ==================  ============================================================
family                type    writer              contents
====================  ======  ==================  ============================================================
commands ...          STREAM  see streams.py      the fixed streams of a partition
inbox                 STREAM  dispatcher          assignments for one worker, ``<pool name>/<worker name>``
logs                  STREAM  worker              output of one run
event_ledger          HASH    publishing script   resource id -> last ``seq``; ``<id>|status`` -> last status event
reply                 LIST    command's reader    the answer to one command, popped by its caller, expires
answer                STRING  command's reader    the same answer, kept for a re-delivery, expires
last_applied          STRING  pool_registry       ``pool/<name>``, ``deployment/<name>``: newest command's entry, expires
pools                 HASH    pool_registry       pool name -> pool id
pool                  HASH    pool_registry       one pool: values are JSON texts (see contracts.pools)
pool_queues           ZSET    pool_registry       queue id by priority
pool_queue_names      HASH    pool_registry       queue name -> queue id
queue                 HASH    pool_registry       one queue: values are JSON texts (see contracts.queues)
deployments           HASH    pool_registry       ``flow/deployment`` -> deployment id
deployment            HASH    pool_registry       one deployment: values are JSON texts (see contracts.deployments)
schedules             HASH    pool_registry       one deployment: schedule id -> JSON of the schedule
worker                HASH    heartbeat_monitor   one worker, ``<pool id>/<worker name>``
pool_workers          SET     heartbeat_monitor   names of all known workers of a pool
pool_online           SET     heartbeat_monitor   names of the ONLINE ones
pool_online_any       SET     heartbeat_monitor   names of the ONLINE ones that serve every queue
queue_online          SET     heartbeat_monitor   names of the ONLINE ones that name this queue
liveness              ZSET    heartbeat_monitor   ``<pool id>/<worker name>`` by deadline, ms of Redis TIME
liveness_tick         STRING  heartbeat_monitor   when liveness was last judged, ms of Redis TIME
refused               STRING  heartbeat_monitor   why a worker was refused, expires
run                   HASH    dispatcher          one run; without a state it was only submitted: SCHEDULED
waiting               ZSET    dispatcher          one queue: run id by due time in ms
queue_in_flight       ZSET    dispatcher          one queue: run id by claim time in ms
pool_in_flight        ZSET    dispatcher          one pool: run id by claim time in ms
pool_finished         ZSET    dispatcher          one pool: run id by end time in ms
pool_free             ZSET    dispatcher          workers that serve every queue, by free slots (> 0)
queue_free            ZSET    dispatcher          workers that name this queue, by free slots (> 0)
pool_prefetch         ZSET    dispatcher          announced workers by prefetch in ms
slots                 HASH    dispatcher          what a worker announced, ``<pool id>/<worker name>``
slots_in_flight       SET     dispatcher          run ids a worker holds
deployment_waiting    ZSET    dispatcher          one deployment: its SCHEDULED runs by due time in ms
deployment_in_flight  ZSET    dispatcher          one deployment: run id by claim time in ms
parked                ZSET    dispatcher          ``<queue id>/<deployment id>``: due runs that wait for the deployment's limit
queue_parked          SET     dispatcher          one queue: deployments whose runs are parked in it
deployment_parked     SET     dispatcher          one deployment: queues in which its runs are parked
idempotency           STRING  dispatcher          hash of scope and key -> run id, expires
cancelling            ZSET    dispatcher          run id by the moment it is called CANCELLED at the latest, ms
related               STRING  dispatcher          one queue: JSON of the resources its runs' events are related to
due                   ZSET    dispatcher          pool name by the next moment something falls due, ms
audits                ZSET    dispatcher          ``<pool id>/<worker name>`` by the next moment it is told what it holds, ms
schedule_plans        HASH    scheduler           ``<deployment id>/<schedule id>`` -> how far it is planned
schedule_due          ZSET    scheduler           the same by the next moment it has to be planned, ms
====================  ======  ==================  ============================================================
"""

from __future__ import annotations

import re
import zlib
from typing import Final

PARTITIONS_KEY: Final = "penstock:partitions"
"""Global key: how many partitions this installation has; set once, checked by every service at start."""

MAX_PARTITIONS: Final = 1024
"""Run ids carry their partition in 16 bits; 1024 is already sixteen times a large cluster."""

FAMILIES: Final[dict[str, str]] = {
    "commands": "commands",
    "heartbeats": "heartbeats",
    "dispatch": "dispatch",
    "definitions": "definitions",
    "events": "events",
    "dead": "dead",
    "inbox": "inbox:{}",
    "logs": "logs:{}",
    "event_ledger": "event-ledger",
    "reply": "reply:{}",
    "answer": "answer:{}",
    "last_applied": "last-applied:{}",
    "pools": "pools",
    "pool": "pool:{}",
    "pool_queues": "pool:{}:queues",
    "pool_queue_names": "pool:{}:queue-names",
    "queue": "queue:{}",
    "deployments": "deployments",
    "deployment": "deployment:{}",
    "schedules": "deployment:{}:schedules",
    "worker": "worker:{}",
    "pool_workers": "pool:{}:workers",
    "pool_online": "pool:{}:online",
    "pool_online_any": "pool:{}:online-any",
    "queue_online": "queue:{}:online",
    "liveness": "liveness",
    "liveness_tick": "liveness-tick",
    "refused": "refused:{}",
    "run": "run:{}",
    "waiting": "queue:{}:waiting",
    "queue_in_flight": "queue:{}:in-flight",
    "pool_in_flight": "pool:{}:in-flight",
    "pool_finished": "pool:{}:finished",
    "pool_free": "pool:{}:free",
    "queue_free": "queue:{}:free",
    "pool_prefetch": "pool:{}:prefetch",
    "slots": "slots:{}",
    "slots_in_flight": "slots:{}:in-flight",
    "deployment_waiting": "deployment:{}:waiting",
    "deployment_in_flight": "deployment:{}:in-flight",
    "parked": "parked:{}",
    "queue_parked": "queue:{}:parked",
    "deployment_parked": "deployment:{}:parked",
    "idempotency": "idempotency:{}",
    "cancelling": "cancelling",
    "related": "queue:{}:related",
    "due": "due",
    "audits": "audits",
    "schedule_plans": "schedule-plans",
    "schedule_due": "schedule-due",
}
"""Family name -> what follows ``penstock:{p}:``; ``{}`` is the one id a family takes."""


def key(partition: int, family: str, ident: str = "") -> str:
    """Spell one key.

    Args:
        partition: 0 <= partition < the installation's partitions.
        family: a name of :data:`FAMILIES`.
        ident: the id the family takes; empty for families that take none.

    Returns:
        The full key, e.g. ``penstock:{0}:run:0198...``.

    Raises:
        KeyError: the family does not exist.
        ValueError: an id is missing, or given to a family that takes none.
    """
    template = FAMILIES[family]
    if ("{}" in template) != bool(ident):
        raise ValueError(f"key family {family!r} {'needs an id' if not ident else 'takes no id'}")
    return f"penstock:{{{partition}}}:{template.replace('{}', ident)}"


def address(family: str, partition: str = "{partition}", ident: str = "") -> str:
    """Spell where the keys of a family lie, for documents: names in braces stand where values go.

    Args:
        family: a name of :data:`FAMILIES`.
        partition: what stands for the hash tag, braces included (``{0}``).
        ident: what stands for the id the family takes.
    """
    return f"penstock:{partition}:{FAMILIES[family].replace('{}', ident)}"


def partition_of_pool(pool_name: str, partitions: int) -> int:
    """Say which partition a pool lives in: CRC-32 (IEEE, as in zlib) of the UTF-8 name, modulo the partitions.

    Args:
        pool_name: the pool's name.
        partitions: how many the installation has, 1 to :data:`MAX_PARTITIONS`.

    Returns:
        0 <= partition < partitions.
    """
    return zlib.crc32(pool_name.encode()) % partitions


_RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def partition_of_run(run_id: str) -> int:
    """Read the partition out of a run id (its last four hexadecimal digits, see :func:`penstock.contracts.runs.new_run_id`).

    Raises:
        ValueError: this is not a run id of Penstock.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"{run_id!r} is not a run id: expected a lower-case version 7 UUID")
    return int(run_id[-4:], 16)


def worker_ident(pool_id: str, worker: str) -> str:
    """Name a worker inside keys: unique because no name may contain a slash."""
    return f"{pool_id}/{worker}"
