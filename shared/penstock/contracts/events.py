"""Events: Prefect's shape (``id, occurred, event, resource, related, payload, follows``) plus a gapless ``seq`` per resource.

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


def event_id(resource_id: str, seq: int) -> str:
    """Compute the id of a resource's ``seq``-th event: UUID version 5 of ``<resource id>:<seq>`` in our namespace."""
    return str(uuid5(EVENT_NAMESPACE, f"{resource_id}:{seq}"))


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
