"""Workers: what they say on ``heartbeats``, what the monitor tells the dispatcher, what reaches their inbox."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, WithJsonSchema

from penstock.contracts.base import MAX_INTEGER, Command, DueMilliseconds, Epoch, Id, Ident, Message, Name, RunId

DEFAULT_INTERVAL_SECONDS: Final = 30.0
MISSED_HEARTBEATS: Final = 3
"""A worker is OFFLINE after this many intervals without a heartbeat, as in Prefect."""
SUSPECT_INTERVALS: Final = 1.5
"""After so many without a heartbeat readers call an ONLINE worker suspect: one is overdue for half of its time."""
MAX_SLOTS: Final = 10_000
DEFAULT_SLOTS: Final = 10
AUDIT_SECONDS: Final = 30
"""How often a worker is told what it holds, besides every time Redis may have forgotten something."""
DrainSeconds = Annotated[float, Field(ge=0, le=86_400)]
Slots = Annotated[int, Field(ge=0, le=MAX_SLOTS)]
# What could not be reported is taken from no inbox; the published schemas do not say so, for they may not shrink.
_Token = Annotated[Ident, WithJsonSchema({"type": "string"})]
_Epoch = Annotated[Epoch, WithJsonSchema({"type": "integer"})]
WorkerStatus = Literal["ONLINE", "OFFLINE"]


class Heartbeat(Message):
    """On ``heartbeats``: a worker lives. It carries everything the worker is, so any one of them suffices.

    Attributes:
        boot_id: names one life of the worker's process; a new one voids the claims of the old.
        seq: counts this process's heartbeats; informative, order is decided by the stream.
        interval_seconds: when the next one comes at the latest; OFFLINE after three of them.
        queues: names of the queues it serves; empty means all.
        slots: how many runs it holds at the same time, absolute.
        prefetch_seconds: how long before its scheduled time a run may be handed to this worker.
        draining: takes nothing new, finishes what it has.
        stopping: the last heartbeat; the worker is OFFLINE at once.
    """

    type: Literal["worker.heartbeat"] = "worker.heartbeat"
    pool: Name
    worker: Name
    worker_type: Name
    boot_id: Ident = ""
    seq: Annotated[int, Field(ge=0, le=MAX_INTEGER)] = 0
    interval_seconds: Annotated[float, Field(ge=0.1, le=3600)] = DEFAULT_INTERVAL_SECONDS
    queues: Annotated[list[Name], Field(max_length=1000)] = Field(default_factory=list)
    slots: Slots = DEFAULT_SLOTS
    prefetch_seconds: Annotated[float, Field(ge=0, le=86_400)] = 0
    version: Annotated[str, Field(max_length=100)] = ""
    host: Annotated[str, Field(max_length=255)] = ""
    pid: Annotated[int, Field(ge=0, le=MAX_INTEGER)] = 0
    draining: bool = False
    stopping: bool = False


class AnnounceWorker(Message):
    """On ``dispatch``, from the monitor: what a worker is now. ``seq`` orders all announcements and losses of one worker."""

    type: Literal["announce_worker"] = "announce_worker"
    pool_id: Id
    pool: str
    worker: str
    boot_id: str
    seq: int
    slots: Slots
    queues: list[str]
    prefetch_ms: Annotated[int, Field(ge=0)] = 0


class LoseWorker(Message):
    """On ``dispatch``, from the monitor: a worker is OFFLINE; its runs come back."""

    type: Literal["lose_worker"] = "lose_worker"
    pool_id: Id
    pool: str
    worker: str
    boot_id: str
    seq: int
    reason: str


class AcceptWorker(Message):
    """In the inbox, from the dispatcher: your announcement of this life is in force."""

    type: Literal["accept_worker"] = "accept_worker"
    boot_id: str
    slots: int


class RefuseWorker(Message):
    """In the inbox, from the monitor: your heartbeats are not accepted, and why. Said once per life and reason."""

    type: Literal["refuse_worker"] = "refuse_worker"
    boot_id: str
    code: str
    reason: str


class AssignedRun(Message):
    """One claim: a run, the token and epoch that fence it, and what to execute."""

    id: RunId
    name: str
    token: _Token
    epoch: _Epoch
    queue: str
    due_ms: DueMilliseconds
    spec: dict[str, Any]


class AssignRuns(Message):
    """In the inbox, from the dispatcher: these runs are yours, in this order.

    Ignore it when ``boot_id`` is not your own: it was meant for an earlier life of the same name.
    """

    type: Literal["assign_runs"] = "assign_runs"
    boot_id: str
    pool: str
    runs: list[AssignedRun]


class RevokedRun(Message):
    """Claims of one run that are void: those up to ``epoch``; a later one, which the same worker may hold by now, is not meant."""

    id: str
    epoch: int


class RevokeRuns(Message):
    """In the inbox, from the dispatcher: you no longer hold these claims; stop the processes, report nothing."""

    type: Literal["revoke_runs"] = "revoke_runs"
    runs: list[RevokedRun]


class StoppedRun(Message):
    """One claim whose run is to be stopped."""

    id: str
    epoch: int


class StopRuns(Message):
    """In the inbox, from the dispatcher: end these runs (SIGTERM, then SIGKILL after a grace) and report them CANCELLED.

    The claims stay valid until you report. A run that ended by itself meanwhile is reported as it ended.
    """

    type: Literal["stop_runs"] = "stop_runs"
    runs: list[StoppedRun]


class AuditedRun(Message):
    """One claim as the dispatcher knows it."""

    id: RunId
    token: _Token
    epoch: _Epoch
    state: Literal["PENDING", "RUNNING", "CANCELLING"]


class AuditRuns(Message):
    """In the inbox, from the dispatcher: at this place in your inbox these are all the claims that this life of yours holds.

    Nothing is to be done where you agree. Else, of what it names: report the end again of what has ended here, report RUNNING
    what runs here and is PENDING there, stop what is CANCELLING there as for ``stop_runs``, and report LOST what you do not
    know: you will never hear of it otherwise. What you hold by an earlier entry and it does not name is not yours any more:
    stop it as for ``revoke_runs``. Compare tokens; after Redis has forgotten something an epoch may come a second time.

    So remember how a run ended until an audit does not name it any more, and 10 seconds at least.
    """

    type: Literal["audit_runs"] = "audit_runs"
    boot_id: str
    runs: list[AuditedRun]


class DrainWorker(Command):
    """On ``dispatch``: a worker shall take nothing new, finish what it holds, end.

    Once this is answered nothing more is assigned to that life of the worker, whether it reads its inbox or not. Said again it
    changes the deadline only.

    Attributes:
        deadline_seconds: how long from now its runs may take; what is not done by then is ended, and the pool's policy for lost
            workers decides what becomes of it. None leaves that to the worker.
    """

    type: Literal["drain_worker"] = "drain_worker"
    pool: Name
    worker: Name
    deadline_seconds: DrainSeconds | None = None


class StopWorker(Message):
    """In the inbox, from the dispatcher: take nothing new, finish what you hold, end with exit code 0.

    Hand back what has not begun, and say ``draining`` in your heartbeats. A later one replaces the deadline.

    Attributes:
        deadline_seconds: how long from now your runs may take; end what is not done by then. None: as long as you do by yourself.
    """

    type: Literal["stop_worker"] = "stop_worker"
    boot_id: str
    deadline_seconds: DrainSeconds | None = None


INBOX_MESSAGES: Final[dict[str, type[Message]]] = {
    "accept_worker": AcceptWorker,
    "refuse_worker": RefuseWorker,
    "assign_runs": AssignRuns,
    "revoke_runs": RevokeRuns,
    "stop_runs": StopRuns,
    "stop_worker": StopWorker,
    "audit_runs": AuditRuns,
}
"""Type -> model of what a worker may find in its inbox."""
