"""Results: what the reply to an accepted command carries, by the command's type."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from penstock.contracts.pools import Pool, Queue


class RefusedRun(BaseModel):
    """One run of a submission that was turned down; the others were accepted."""

    model_config = ConfigDict(frozen=True)

    run: str
    code: Literal["not_found", "invalid"]
    message: str


class Submission(BaseModel):
    """What became of the runs of one submission."""

    model_config = ConfigDict(frozen=True)

    accepted: list[str]
    refused: list[RefusedRun]


class Claims(BaseModel):
    """How many runs were handed out because somebody asked."""

    model_config = ConfigDict(frozen=True)

    claimed: int


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
    "submit_runs": Submission,
    "claim_runs": Claims,
}
"""Deleting answers with the pool or queue as it was."""
