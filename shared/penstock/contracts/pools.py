"""Pools: the commands that define them and what is told when a definition changed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from penstock.contracts.base import Changes, Command, Id, Json, Limit, Message, Name

OnWorkerLost = Literal["crash", "requeue", "keep"]
"""What becomes of a RUNNING run whose worker went OFFLINE."""
PoolStatus = Literal["READY", "NOT_READY", "PAUSED"]

DEFAULT_WORKER_TYPE = "process"
DEFAULT_MAX_ATTEMPTS = 3
Attempts = Annotated[int, Field(ge=1, le=1000, strict=True)]
Description = Annotated[str, Field(max_length=10_000)]


class CreatePool(Command):
    """Create a pool and its default queue. Answers with the whole pool (:class:`Pool`).

    ``if_missing`` answers an existing pool of the same type instead of refusing; ``overwrite`` updates an existing one, and
    with ``is_paused`` pauses it; it never resumes one. Without ``base_job_template``, or with ``{}``, the pool gets the
    default template of its type if Penstock knows the type.
    """

    type: Literal["create_pool"] = "create_pool"
    pool: Name
    worker_type: Name = DEFAULT_WORKER_TYPE
    description: Description | None = None
    is_paused: bool = False
    concurrency_limit: Limit | None = None
    base_job_template: Json = Field(default_factory=dict)
    on_worker_lost: OnWorkerLost = "crash"
    max_attempts: Attempts = DEFAULT_MAX_ATTEMPTS
    if_missing: bool = False
    overwrite: bool = False


class PoolChanges(Changes):
    """Fields of a pool to set; a field that is not given stays as it is. A template ``{}`` means none, not the default one."""

    description: Description | None = None
    concurrency_limit: Limit | None = None
    base_job_template: Json = Field(default_factory=dict)
    on_worker_lost: OnWorkerLost = "crash"
    max_attempts: Attempts = DEFAULT_MAX_ATTEMPTS


class UpdatePool(Command):
    """Change fields of a pool. Answers with the whole pool."""

    type: Literal["update_pool"] = "update_pool"
    pool: Name
    changes: PoolChanges


class PausePool(Command):
    """Hand out nothing more from a pool; a barrier once answered. Pausing twice is silent."""

    type: Literal["pause_pool"] = "pause_pool"
    pool: Name


class ResumePool(Command):
    """Hand out again. Resuming twice is silent."""

    type: Literal["resume_pool"] = "resume_pool"
    pool: Name


class DeletePool(Command):
    """Delete a pool and its queues. Its runs, waiting or in flight, become CANCELLED with a message; workers stop theirs."""

    type: Literal["delete_pool"] = "delete_pool"
    pool: Name


class ReadPool(Command):
    """Answer with the whole pool, its queues included; for clients that know the bus only."""

    type: Literal["read_pool"] = "read_pool"
    pool: Name


class PoolChanged(Message):
    """On ``definitions``: a pool or one of its queues was created or changed; the definition itself is in its keys."""

    type: Literal["pool.changed"] = "pool.changed"
    pool_id: Id
    pool: str


class QueueGone(BaseModel):
    """A deleted queue, as its last message describes it."""

    id: Id
    name: str


class PoolDeleted(Message):
    """On ``definitions``: a pool is gone; carries what its keys no longer can say."""

    type: Literal["pool.deleted"] = "pool.deleted"
    pool_id: Id
    pool: str
    worker_type: str
    queues: list[QueueGone]


class QueueDeleted(Message):
    """On ``definitions``: one queue is gone."""

    type: Literal["queue.deleted"] = "queue.deleted"
    pool_id: Id
    pool: str
    worker_type: str
    queue: QueueGone


class Queue(BaseModel):
    """One queue as commands answer it and readers see it. Times are ISO 8601 in UTC."""

    id: str
    name: str
    pool: str
    description: str | None
    priority: int
    concurrency_limit: int | None
    is_paused: bool
    status: PoolStatus
    created: str
    updated: str


class Pool(BaseModel):
    """One pool as commands answer it and readers see it."""

    id: str
    name: str
    type: str
    description: str | None
    is_paused: bool
    concurrency_limit: int | None
    base_job_template: Json
    on_worker_lost: OnWorkerLost
    max_attempts: int
    status: PoolStatus
    default_queue_id: str
    created: str
    updated: str
    queues: list[Queue] = Field(default_factory=list)
