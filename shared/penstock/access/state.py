"""Who writes and who reads each family of keys that is no channel; channels are in :mod:`penstock.contracts.catalogue`.

The writers are those of the table in :mod:`penstock.keys`; the tests hold this one against it and against what scripts and stores
really name.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from penstock.contracts.catalogue import CLIENT, DISPATCHER, MONITOR, REGISTRY, SCHEDULER, WORKER


class Access(NamedTuple):
    """Parties of one family of keys.

    Attributes:
        writers: who changes such keys; they read them too.
        readers: who else reads them.
    """

    writers: tuple[str, ...]
    readers: tuple[str, ...]


def _of(writer: str, *readers: str) -> Access:
    return Access((writer,), readers)


STATE: Final[dict[str, Access]] = {
    # Whoever makes a transition numbers its event; whoever executes a command keeps its answer.
    "event_ledger": Access((REGISTRY, MONITOR, DISPATCHER), ()),
    "answer": Access((REGISTRY, DISPATCHER), ()),
    "last_applied": _of(REGISTRY),
    "pools": _of(REGISTRY, MONITOR, DISPATCHER, SCHEDULER, CLIENT, WORKER),
    "pool": _of(REGISTRY, MONITOR, DISPATCHER, CLIENT, WORKER),
    "pool_queues": _of(REGISTRY, MONITOR, DISPATCHER, CLIENT, WORKER),
    "pool_queue_names": _of(REGISTRY, MONITOR, DISPATCHER, CLIENT),
    "queue": _of(REGISTRY, MONITOR, DISPATCHER, CLIENT, WORKER),
    "deployments": _of(REGISTRY, SCHEDULER, CLIENT),
    "deployment": _of(REGISTRY, DISPATCHER, SCHEDULER, CLIENT),
    "schedules": _of(REGISTRY, SCHEDULER, CLIENT),
    "worker": _of(MONITOR, CLIENT),
    "pool_workers": _of(MONITOR, CLIENT),
    "pool_online": _of(MONITOR, REGISTRY, CLIENT, WORKER),
    "pool_online_any": _of(MONITOR, REGISTRY, CLIENT, WORKER),
    "queue_online": _of(MONITOR, REGISTRY, CLIENT, WORKER),
    "liveness": _of(MONITOR),
    "liveness_tick": _of(MONITOR),
    "refused": _of(MONITOR),
    "run": _of(DISPATCHER, SCHEDULER, CLIENT),
    "waiting": _of(DISPATCHER, CLIENT),
    "queue_in_flight": _of(DISPATCHER, CLIENT),
    "pool_in_flight": _of(DISPATCHER, CLIENT),
    "pool_finished": _of(DISPATCHER, CLIENT),
    "pool_free": _of(DISPATCHER),
    "queue_free": _of(DISPATCHER),
    "pool_prefetch": _of(DISPATCHER),
    "slots": _of(DISPATCHER),
    "slots_in_flight": _of(DISPATCHER, CLIENT),
    "deployment_waiting": _of(DISPATCHER, CLIENT),
    "deployment_in_flight": _of(DISPATCHER, CLIENT),
    "parked": _of(DISPATCHER, CLIENT),
    "queue_parked": _of(DISPATCHER, CLIENT),
    "deployment_parked": _of(DISPATCHER),
    "idempotency": _of(DISPATCHER),
    "cancelling": _of(DISPATCHER),
    "related": _of(DISPATCHER, CLIENT),
    "due": _of(DISPATCHER),
    "audits": _of(DISPATCHER),
    "schedule_plans": _of(SCHEDULER),
    "schedule_due": _of(SCHEDULER),
}
"""Family -> its parties."""

_UUID: Final = "????????-????-????-????-????????????"
_WORKER: Final = f"{_UUID}/*"

IDENTS: Final[dict[str, str]] = {
    "inbox": "*/*",
    "last_applied": "*/*",
    "reply": "*",
    "answer": "*",
    "refused": "*",
    "idempotency": "*",
    "worker": _WORKER,
    "slots": _WORKER,
    "slots_in_flight": _WORKER,
    "parked": f"{_UUID}/*",
}
"""What an id looks like to a glob where it is no UUID."""


def ident(family: str) -> str:
    """Say what ids of a family look like.

    An exact length matters: ``queue:*`` would cover ``queue:<id>:waiting`` too, which is another family with another writer.
    """
    return IDENTS.get(family, _UUID)
