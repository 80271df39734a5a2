"""Settings of the dispatcher."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from penstock.settings import Settings


class DispatcherSettings(Settings):
    """What the dispatcher keeps of finished runs, and how long it waits for workers.

    Attributes:
        dispatcher_run_retention_seconds: how long a finished run can be inspected.
        dispatcher_finished_kept: how many finished runs a pool keeps at most; bounds memory at any throughput. Their
            output goes with them.
        dispatcher_cancel_deadline_seconds: how long a worker may take to end a cancelled run; past it the run is called
            CANCELLED and its slot is free.
    """

    party: ClassVar[str] = "DISPATCHER"

    dispatcher_run_retention_seconds: Annotated[int, Field(ge=60, le=365 * 86_400)] = 86_400
    dispatcher_finished_kept: Annotated[int, Field(ge=10, le=10_000_000)] = 20_000
    dispatcher_cancel_deadline_seconds: Annotated[int, Field(ge=1, le=86_400)] = 300
