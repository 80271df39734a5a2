"""What a chaos run is made of: who takes part, what goes wrong, what clients do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICES: Final = ("pool_registry", *["heartbeat_monitor"] * 2, *["dispatcher"] * 3, *["scheduler"] * 2)
FEW: Final = ("pool_registry", "heartbeat_monitor", "dispatcher", "dispatcher")


@dataclass(frozen=True)
class Mix:
    """One choice of everything.

    Attributes:
        services: processes of the product, a name for each.
        workers: whether workers in processes of their own take part, beside those inside the harness.
        faults: weight by kind of fault; None means all kinds with their own weights.
        apart: seconds between two faults, at least and at most.
        changes: kinds of changes of definitions, one of which is chosen each time.
        on_worker_lost: policies of the pool, one of which is chosen.
        patience: seconds after which a calm is given up, and what is open then reported.
    """

    services: tuple[str, ...] = SERVICES
    workers: bool = True
    faults: Mapping[str, int] | None = None
    apart: tuple[float, float] = (0.2, 1.2)
    changes: tuple[str, ...] = ("pause", "pause", "limit", "limit", "limit", "priority", "read")
    on_worker_lost: tuple[str, ...] = ("requeue", "requeue", "crash")
    patience: float = 60.0


EVERYTHING: Final = Mix()
