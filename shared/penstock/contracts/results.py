"""Results: what the reply to an accepted command carries, by the command's type."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from penstock.contracts.deployments import Deployment
from penstock.contracts.pools import Pool, Queue
from penstock.contracts.runs import RunState  # noqa: TC001 - pydantic reads it at run time


class RefusedRun(BaseModel):
    """One run of a submission that was turned down; the others were accepted."""

    model_config = ConfigDict(frozen=True)

    run: str
    code: Literal["not_found", "invalid", "stale"]
    """``stale``: the deployment has changed since the schedule was read."""
    message: str


class Submission(BaseModel):
    """What became of the runs of one submission."""

    model_config = ConfigDict(frozen=True)

    accepted: list[str]
    refused: list[RefusedRun]
    same: dict[str, str] = {}
    """Id that was sent -> id of the run that has its idempotency key already."""


class Ended(BaseModel):
    """A run that had come to its end before."""

    model_config = ConfigDict(frozen=True)

    run: str
    state: RunState


class Cancellation(BaseModel):
    """What became of runs somebody wants to cancel: CANCELLED now, to be stopped by their workers, too late, unknown."""

    model_config = ConfigDict(frozen=True)

    cancelled: list[str]
    cancelling: list[str]
    ended: list[Ended]
    unknown: list[str]


class Deletion(BaseModel):
    """What became of runs somebody wants to delete: forgotten, not finished yet, unknown."""

    model_config = ConfigDict(frozen=True)

    deleted: list[str]
    unfinished: list[str]
    unknown: list[str]


class Claims(BaseModel):
    """How many runs were handed out because somebody asked."""

    model_config = ConfigDict(frozen=True)

    claimed: int


class Draining(BaseModel):
    """A worker that gets nothing more: the life that is meant, and how many runs it holds at this moment."""

    model_config = ConfigDict(frozen=True)

    worker: str
    boot_id: str
    runs: int


RESULTS: Final[dict[str, type[BaseModel]]] = {
    "create_pool": Pool,
    "update_pool": Pool,
    "pause_pool": Pool,
    "resume_pool": Pool,
    "delete_pool": Pool,
    "read_pool": Pool,
    "create_queue": Queue,
    "update_queue": Queue,
    "pause_queue": Queue,
    "resume_queue": Queue,
    "delete_queue": Queue,
    "create_deployment": Deployment,
    "update_deployment": Deployment,
    "pause_deployment": Deployment,
    "resume_deployment": Deployment,
    "delete_deployment": Deployment,
    "create_schedule": Deployment,
    "update_schedule": Deployment,
    "delete_schedule": Deployment,
    "submit_runs": Submission,
    "cancel_runs": Cancellation,
    "delete_runs": Deletion,
    "claim_runs": Claims,
    "drain_worker": Draining,
}
"""Deleting answers with the pool or queue as it was."""
