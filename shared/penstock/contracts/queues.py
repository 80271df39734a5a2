"""Queues: the commands that define them. Their priority decides who is served first, their limit how much."""

from __future__ import annotations

from typing import Literal

from penstock.contracts.base import Changes, Command, Limit, Name, Priority
from penstock.contracts.pools import Description  # noqa: TC001 - pydantic reads it at run time

DEFAULT_QUEUE = "default"
DEFAULT_QUEUE_DESCRIPTION = "The work pool's default queue."


class CreateQueue(Command):
    """Create a queue. Without a priority it takes the first free number; a taken one shifts the others minimally.

    ``if_missing`` answers an existing queue instead of refusing. Answers with the whole queue.
    """

    type: Literal["create_queue"] = "create_queue"
    pool: Name
    queue: Name
    priority: Priority | None = None
    description: Description | None = None
    concurrency_limit: Limit | None = None
    is_paused: bool = False
    if_missing: bool = False


class QueueChanges(Changes):
    """Fields of a queue to set; a field that is not given stays as it is."""

    name: Name = ""
    description: Description | None = None
    concurrency_limit: Limit | None = None
    priority: Priority = 1


class UpdateQueue(Command):
    """Change fields of a queue. Answers with the whole queue."""

    type: Literal["update_queue"] = "update_queue"
    pool: Name
    queue: Name
    changes: QueueChanges


class PauseQueue(Command):
    """Hand out nothing more from a queue; a barrier once answered. Pausing twice is silent."""

    type: Literal["pause_queue"] = "pause_queue"
    pool: Name
    queue: Name


class ResumeQueue(Command):
    """Hand out again. Resuming twice is silent."""

    type: Literal["resume_queue"] = "resume_queue"
    pool: Name
    queue: Name


class DeleteQueue(Command):
    """Delete a queue (never the default one). Its waiting runs become CANCELLED with a message."""

    type: Literal["delete_queue"] = "delete_queue"
    pool: Name
    queue: Name
