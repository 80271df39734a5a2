"""Who a worker is: its pool, its name, its type, and which life of that name this process is."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field


def default_name(worker_type: str) -> str:
    """Make a unique name, e.g. ``ProcessWorker 65716280-96f8-420b-9300-7e94417f2673``."""
    return f"{worker_type.title().replace('-', '').replace('_', '')}Worker {uuid.uuid4()}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker is.

    Attributes:
        partition: where its pool lives.
        queues: names of the queues it serves; empty means all.
        boot_id: this life; claims of an earlier one are void.
    """

    pool: str
    name: str
    worker_type: str
    partition: int
    queues: tuple[str, ...] = ()
    boot_id: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def inbox(self) -> str:
        """The id of its inbox; no name may contain a slash."""
        return f"{self.pool}/{self.name}"
