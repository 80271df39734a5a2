"""Events: Prefect's shape (``id, occurred, event, resource, related, payload, follows``) plus a gapless ``seq`` per resource.

A worker counts its events per record: it is forgotten a day after it went OFFLINE, and counts from 1 if it comes back later.
Names are Prefect's (``prefect.work-pool.ready``); ours go in under ``penstock.`` (``penstock.worker.online``).
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field

EVENT_NAMESPACE: Final = UUID("6f1d9a52-3c0e-5b8e-9a67-2f6c1d0e4b71")
"""Namespace of event ids, chosen once; changing it would break every consumer that recomputes ids."""
FOLLOWS_WITHIN_SECONDS: Final = 600
"""A status event names its predecessor while that is under ten minutes old, as Prefect's do."""


def event_id(identity: str, seq: int) -> str:
    """Compute the id of a resource's ``seq``-th event: UUID version 5 of ``<identity>:<seq>`` in our namespace.

    Args:
        identity: the resource's id; for events of a worker see :func:`worker_identity`, of a deployment
            :func:`deployment_identity`.
        seq: the event's number, from 1.
    """
    return str(uuid5(EVENT_NAMESPACE, f"{identity}:{seq}"))


def worker_identity(resource_id: str, pool_id: str, worker: str, created_ms: int) -> str:
    """Say what stands for a worker in the ids of its events; its resource id alone is Prefect's and may repeat.

    Args:
        resource_id: ``prefect.worker.<type>.<slug>``, the same in every pool and for every name with this slug.
        pool_id: of its pool.
        worker: its name.
        created_ms: when its record published its first event, in ms of Redis TIME (``created_ms`` in the record).
    """
    return f"{resource_id}|{pool_id}/{worker}|{created_ms}"


def deployment_identity(resource_id: str, created: str) -> str:
    """Say what stands for a deployment in the ids of its events.

    It keeps its id when it moves to a pool of another partition, and its events are numbered anew there.

    Args:
        resource_id: ``prefect.deployment.<uuid>``.
        created: when it came to the partition, as the deployment says it.
    """
    return f"{resource_id}|{created}"


class Event(BaseModel):
    """One transition of one resource."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    occurred: str
    event: str
    resource: dict[str, str]
    related: list[dict[str, str]] = Field(default_factory=list)
    payload: dict[str, Any] = Field(default_factory=dict)
    follows: str | None = None
    seq: int = 0
