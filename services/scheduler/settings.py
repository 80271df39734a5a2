"""Settings of the scheduler."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from penstock.settings import Settings

_DAY = 86_400


class SchedulerSettings(Settings):
    """How far ahead runs are made; the defaults are Prefect's.

    Attributes:
        scheduler_min_runs: at least so many future runs of a schedule exist,
        scheduler_min_ahead_seconds: and all that are due within this time;
        scheduler_max_runs: but never more than so many,
        scheduler_max_ahead_seconds: and none that is due later than this.
    """

    party: ClassVar[str] = "SCHEDULER"

    scheduler_min_runs: Annotated[int, Field(ge=1, le=1000)] = 3
    scheduler_min_ahead_seconds: Annotated[int, Field(ge=1, le=366 * _DAY)] = 3600
    scheduler_max_runs: Annotated[int, Field(ge=2, le=10_000)] = 100
    scheduler_max_ahead_seconds: Annotated[int, Field(ge=60, le=3660 * _DAY)] = 100 * _DAY

    @model_validator(mode="after")
    def _most_is_not_less_than_least(self) -> Self:
        if self.scheduler_max_runs < 2 * self.scheduler_min_runs:
            raise ValueError("PENSTOCK_SCHEDULER_MAX_RUNS must be at least twice PENSTOCK_SCHEDULER_MIN_RUNS")
        if self.scheduler_max_ahead_seconds < self.scheduler_min_ahead_seconds:
            raise ValueError(
                "PENSTOCK_SCHEDULER_MAX_AHEAD_SECONDS must not be less than PENSTOCK_SCHEDULER_MIN_AHEAD_SECONDS"
            )
        return self
