"""Runs: submitted, claimed, reported; all on ``dispatch``."""

from __future__ import annotations

import os
import threading
import time
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from penstock.contracts.base import (
    MAX_INTEGER,
    Command,
    Epoch,
    Ident,
    Json,
    Message,
    Milliseconds,
    Moment,
    Name,
    check_run_id,
)

RunState = Literal["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLING", "CANCELLED"]
TERMINAL: Final[frozenset[str]] = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
IN_FLIGHT: Final[frozenset[str]] = frozenset({"PENDING", "RUNNING", "CANCELLING"})
"""A slot is held from PENDING until a terminal state."""
MAX_MESSAGE_LENGTH: Final = 10_000
MAX_RUNS_PER_MESSAGE: Final = 1000
LATE_AFTER_SECONDS: Final = 15
"""A run that waits so long after it was due is called Late, as in Prefect. Readers derive it; nothing is written."""
MISSED_AFTER_SECONDS: Final = 60
"""A run of a schedule that catches up ``none`` is dropped when its turn comes so long after it was due."""
LATEST_LOOKED_AT: Final = 2000
"""Of a deployment's runs that wait and are due, so many of the latest are asked whether one is the latest of its schedule. A run
that has only others behind them is not dropped: a claim must not hold up Redis for all of them."""
REMEMBERED_SECONDS: Final = 60
"""So long at least it is known of a run that there was one, however many have ended since: far above the time after which an
entry is delivered once more (:data:`penstock.bus.reclaim.IDLE_MS`)."""
IDEMPOTENCY_SECONDS: Final = 7 * 86_400
"""How long after a run was due its idempotency key is remembered."""
MAX_RETRIES: Final = 1000

CatchUp = Literal["all", "latest", "none"]
"""What becomes of a schedule's missed fire times."""
Retries = Annotated[int, Field(ge=0, le=MAX_RETRIES, strict=True)]
RetryDelay = Annotated[float, Field(ge=0, le=30 * 86_400, allow_inf_nan=False)]

_MAX_PARTITION: Final = 0xFFFF

_counter_lock = threading.Lock()
_last: list[int] = [0]


def new_run_id(partition: int, now_ms: int | None = None) -> str:
    """Make a run id: a version 7 UUID (RFC 9562) whose last 16 bits are the partition.

    The 48-bit time and the 12 bits after it grow with every id of this process. Runs of one queue that are due at the same
    millisecond go out in the order of their ids, so a submitter that wants submission order across hosts gives Redis TIME.

    Args:
        partition: of the pool, 0 to 65535.
        now_ms: milliseconds since 1970; None takes this host's clock.

    Returns:
        The canonical lower-case text.

    Raises:
        ValueError: the partition does not fit its 16 bits.
    """
    if not 0 <= partition <= _MAX_PARTITION:
        raise ValueError(f"partition {partition} does not fit the 16 bits a run id has for it")
    with _counter_lock:
        ticks = max((time.time_ns() // 1_000_000 if now_ms is None else now_ms) << 12, _last[0] + 1)
        _last[0] = ticks
    random = int.from_bytes(os.urandom(6), "big") & 0x3FFF_FFFF_FFFF
    value = (ticks >> 12) << 80 | 7 << 76 | (ticks & 0xFFF) << 64 | 2 << 62 | random << 16 | partition
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def check_work(entrypoint: str | None, command: list[str] | str | None) -> None:
    """Make sure that there is one thing to execute.

    Raises:
        ValueError: there is none, or two, or the entrypoint is not of its form.
    """
    if (entrypoint is None) == (command is None):
        raise ValueError("give exactly one of entrypoint (path/to/file.py:function) and command")
    if entrypoint is not None:
        path, colon, function = entrypoint.rpartition(":")
        if not (colon and path and function.isidentifier()):
            raise ValueError(f"entrypoint {entrypoint!r} is not of the form path/to/file.py:function")


class RunSpec(BaseModel):
    """What to execute; exactly one of ``entrypoint`` and ``command``.

    Attributes:
        entrypoint: ``path/to/file.py:function``, relative to ``working_dir``.
        command: an argument list, or one text that is split as a shell would (no shell runs it).
        parameters: keyword arguments of the function; for a command, environment variables ``PENSTOCK_PARAM_<NAME>``.
        env: variables for the process; None removes one.
        working_dir: None means a temporary directory of its own.
        job_variables, labels, tags: carried along for templates, routing and people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entrypoint: Annotated[str, Field(max_length=1000)] | None = None
    command: Annotated[list[str], Field(min_length=1, max_length=1000)] | Annotated[str, Field(min_length=1)] | None = (
        None
    )
    parameters: Json = Field(default_factory=dict)
    env: dict[str, str | None] = Field(default_factory=dict)
    working_dir: str | None = None
    stream_output: bool = True
    job_variables: Json = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    tags: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_thing_to_run(self) -> RunSpec:
        check_work(self.entrypoint, self.command)
        return self


class ScheduledBy(BaseModel):
    """Which schedule a run comes from.

    Attributes:
        schedule: its id.
        revision: of the deployment when the run was made; a later one voids the run while it is in the future.
        catch_up: what becomes of it when its time has been missed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schedule: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]
    revision: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    catch_up: CatchUp = "all"


class SubmittedRun(BaseModel):
    """One run of a submission. The id makes the submission idempotent: sent twice, it is accepted once.

    Attributes:
        deployment: id of the deployment it is a run of; its limit counts.
        scheduled_by: the schedule that made it, needs ``deployment``.
        idempotency_key: another run with the same key, of the same deployment (without one: of the same pool), is not made
            twice; the answer names the one there is. Remembered for a week after the run was due.
        retries: how often it is started again when it FAILED or CRASHED, each time after ``retry_delay_seconds``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: Name
    queue: Name = "default"
    scheduled_time: Moment | None = None
    deployment: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")] | None = None
    scheduled_by: ScheduledBy | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    retries: Retries = 0
    retry_delay_seconds: RetryDelay = 0
    spec: RunSpec

    @model_validator(mode="after")
    def _id_is_ours(self) -> SubmittedRun:
        check_run_id(self.id)
        return self


class SubmitRuns(Command):
    """On ``dispatch``: put runs into queues of one pool. A missing queue is created.

    Answers ``{"accepted": [run ids], "refused": [{"run", "code", "message"}], "same": {id sent: id of the run with its
    idempotency key}}``; the command as a whole is refused only when the pool does not exist or the deadline has passed.
    """

    type: Literal["submit_runs"] = "submit_runs"
    pool: Name
    runs: Annotated[list[SubmittedRun], Field(min_length=1, max_length=MAX_RUNS_PER_MESSAGE)]


class ClaimRuns(Command):
    """On ``dispatch``: look at this pool now. Never needed for correctness; answers ``{"claimed": n}`` when it has been done."""

    type: Literal["claim_runs"] = "claim_runs"
    pool: Name


class CancelRuns(Command):
    """On ``dispatch``: cancel runs, by id, all of this partition.

    What waits is CANCELLED at once; what a worker holds becomes CANCELLING until the worker says that it has ended. Answers
    :class:`penstock.contracts.results.Cancellation`.

    Attributes:
        force: take the claim away from the worker and call the run CANCELLED at once, whatever its process does.
        message: why, for the events and the runs.
    """

    type: Literal["cancel_runs"] = "cancel_runs"
    runs: Annotated[list[str], Field(min_length=1, max_length=MAX_RUNS_PER_MESSAGE)]
    force: bool = False
    message: Annotated[str, Field(max_length=1000)] = ""

    @model_validator(mode="after")
    def _ids_are_ours(self) -> CancelRuns:
        for run_id in self.runs:
            check_run_id(run_id)
        return self


class DeleteRuns(Command):
    """On ``dispatch``: forget finished runs and their output, by id, all of this partition. Others are refused.

    Answers :class:`penstock.contracts.results.Deletion`.
    """

    type: Literal["delete_runs"] = "delete_runs"
    runs: Annotated[list[str], Field(min_length=1, max_length=MAX_RUNS_PER_MESSAGE)]

    @model_validator(mode="after")
    def _ids_are_ours(self) -> DeleteRuns:
        for run_id in self.runs:
            check_run_id(run_id)
        return self


ReportedState = Literal["SCHEDULED", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED", "LOST"]
"""SCHEDULED hands an unstarted run back to the head of its queue. LOST answers an audit: this life of the worker knows nothing of
the claim, so what has not begun returns to its queue, and the pool's policy for lost workers decides of what has."""


class RunReport(BaseModel):
    """What a worker says of one run: its whole history so far, so that reports may arrive twice or in either order.

    Attributes:
        run, token, epoch: as assigned; a report with an old token or epoch is refused.
        started_ms, ended_ms: milliseconds since 1970 by the worker's clock; for people, never for decisions.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    run: str
    token: Ident
    epoch: Epoch
    state: ReportedState
    message: Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH)] = ""
    started_ms: Milliseconds | None = None
    ended_ms: Milliseconds | None = None

    @model_validator(mode="after")
    def _id_is_ours(self) -> RunReport:
        check_run_id(self.run)
        return self


class ReportRuns(Message):
    """On ``dispatch``, from a worker: states of runs it holds."""

    type: Literal["report_runs"] = "report_runs"
    pool: Name
    worker: Name
    reports: Annotated[list[RunReport], Field(min_length=1, max_length=MAX_RUNS_PER_MESSAGE)]


class PastState(BaseModel):
    """One state a run has been in."""

    model_config = ConfigDict(frozen=True)

    state: RunState
    name: str
    at_ms: int
    message: str = ""


class Run(BaseModel):
    """One run as readers see it. Times are milliseconds of Redis TIME unless they end in ``_time``.

    Attributes:
        state_name: as people know it: also ``Late`` (overdue by :data:`LATE_AFTER_SECONDS`) and ``AwaitingRetry``.
        deployment: ``flow/deployment``; None for a run of none, or of one that is gone.
        scheduled_by: id of the schedule that made it.
        states: every state so far, the oldest first; of a very long history the latest part.
    """

    id: str
    name: str
    pool: str
    queue: str
    state: RunState
    state_name: str
    message: str = ""
    scheduled_time: str
    submitted_ms: int | None = None
    claimed_ms: int | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    worker: str | None = None
    run_count: int = 0
    epoch: int = 0
    deployment: str | None = None
    deployment_id: str | None = None
    scheduled_by: str | None = None
    retries_left: int = 0
    states: list[PastState] = Field(default_factory=list)
    spec: dict[str, Any] = Field(default_factory=dict)
