"""Settings of a worker: the common ones, and its own under ``PENSTOCK_WORKER_``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from penstock.contracts.base import MAX_INTEGER
from penstock.contracts.workers import DEFAULT_INTERVAL_SECONDS, DEFAULT_SLOTS, MAX_SLOTS
from penstock.settings import Settings
from penstock.streams import LOGS_EXPIRE_SECONDS
from penstock.worker.held import CANCEL_GRACE_SECONDS
from penstock.worker.output import LOG_BYTES_PER_RUN


class WorkerSettings(Settings):
    """What a worker needs to know.

    Attributes:
        prefetch_seconds: how long before its scheduled time a run may be handed to this worker, 0 to 86400; the
            default is the documented one of Prefect.
        heartbeat_seconds: interval of heartbeats, 0.1 to 3600; OFFLINE after three missed ones.
        limit: runs held at the same time, 1 to 100000.
        drain_seconds: how long running work may go on after SIGTERM to the worker.
        cancel_grace_seconds: between SIGTERM and SIGKILL of a run that is cancelled, 0 to 86400.
        log_bytes_per_run: how much of a run's output is kept, as it stands in Redis, at least 10000; the rest is counted.
        log_retention_seconds: how long the output of a finished run is kept, 1 to a year.
        health_port: port of ``--with-healthcheck``; falls back to the common ``PENSTOCK_HEALTH_PORT``, then to 8080.
    """

    # By name too: values from the command line win over the environment.
    model_config = SettingsConfigDict(populate_by_name=True)

    party: ClassVar[str] = "WORKER"

    prefetch_seconds: Annotated[float, Field(ge=0, le=86_400, validation_alias="PENSTOCK_WORKER_PREFETCH_SECONDS")] = (
        10.0
    )
    heartbeat_seconds: Annotated[
        float, Field(ge=0.1, le=3600, validation_alias="PENSTOCK_WORKER_HEARTBEAT_SECONDS")
    ] = DEFAULT_INTERVAL_SECONDS
    limit: Annotated[int, Field(ge=1, le=MAX_SLOTS, validation_alias="PENSTOCK_WORKER_LIMIT")] = DEFAULT_SLOTS
    drain_seconds: Annotated[float, Field(ge=0, le=86_400, validation_alias="PENSTOCK_WORKER_DRAIN_SECONDS")] = 30.0
    cancel_grace_seconds: Annotated[
        float, Field(ge=0, le=86_400, validation_alias="PENSTOCK_WORKER_CANCEL_GRACE_SECONDS")
    ] = CANCEL_GRACE_SECONDS
    log_bytes_per_run: Annotated[
        int, Field(ge=10_000, le=MAX_INTEGER, validation_alias="PENSTOCK_WORKER_LOG_BYTES_PER_RUN")
    ] = LOG_BYTES_PER_RUN
    log_retention_seconds: Annotated[
        float, Field(ge=1, le=366 * 86_400, validation_alias="PENSTOCK_WORKER_LOG_RETENTION_SECONDS")
    ] = LOGS_EXPIRE_SECONDS
    health_port: Annotated[int, Field(ge=-1, le=65_535, validation_alias="PENSTOCK_WORKER_HEALTH_PORT")] = 8080
