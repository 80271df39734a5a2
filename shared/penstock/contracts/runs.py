"""Runs: submitted, claimed, reported; all on ``dispatch``."""

from __future__ import annotations

import os
import threading
import time
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from penstock.contracts.base import MAX_INTEGER, Command, Ident, Json, Message, Milliseconds, Name
from penstock.keys import partition_of_run

RunState = Literal["SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLING", "CANCELLED"]
TERMINAL: Final[frozenset[str]] = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
IN_FLIGHT: Final[frozenset[str]] = frozenset({"PENDING", "RUNNING", "CANCELLING"})
"""A slot is held from PENDING until a terminal state."""
MAX_MESSAGE_LENGTH: Final = 10_000
MAX_RUNS_PER_MESSAGE: Final = 1000

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


def _check_run_id(value: str) -> str:
    partition_of_run(value)
    return value


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
        if (self.entrypoint is None) == (self.command is None):
            raise ValueError("give exactly one of entrypoint (path/to/file.py:function) and command")
        if self.entrypoint is not None:
            path, colon, function = self.entrypoint.rpartition(":")
            if not (colon and path and function.isidentifier()):
                raise ValueError(f"entrypoint {self.entrypoint!r} is not of the form path/to/file.py:function")
        return self


class SubmittedRun(BaseModel):
    """One run of a submission. The id makes the submission idempotent: sent twice, it is accepted once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    name: Name
    queue: Name = "default"
    scheduled_time: AwareDatetime | None = None
    spec: RunSpec

    @model_validator(mode="after")
    def _id_is_ours(self) -> SubmittedRun:
        _check_run_id(self.id)
        return self


class SubmitRuns(Command):
    """On ``dispatch``: put runs into queues of one pool. A missing queue is created.

    Answers ``{"accepted": [run ids], "refused": [{"run", "code", "message"}]}``; the command as a whole is refused only when
    the pool does not exist or the deadline has passed.
    """

    type: Literal["submit_runs"] = "submit_runs"
    pool: Name
    runs: Annotated[list[SubmittedRun], Field(min_length=1, max_length=MAX_RUNS_PER_MESSAGE)]


class ClaimRuns(Command):
    """On ``dispatch``: look at this pool now. Never needed for correctness; answers ``{"claimed": n}`` when it has been done."""

    type: Literal["claim_runs"] = "claim_runs"
    pool: Name


ReportedState = Literal["SCHEDULED", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
"""SCHEDULED hands an unstarted run back to the head of its queue."""


class RunReport(BaseModel):
    """What a worker says of one run: its whole history so far, so that reports may arrive twice or in either order.

    Attributes:
        run, token, epoch: as assigned; a report with an old token or epoch is refused.
        started_ms, ended_ms: milliseconds since 1970 by the worker's clock; for people, never for decisions.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    run: str
    token: Ident
    epoch: Annotated[int, Field(ge=1, le=MAX_INTEGER)]
    state: ReportedState
    message: Annotated[str, Field(max_length=MAX_MESSAGE_LENGTH)] = ""
    started_ms: Milliseconds | None = None
    ended_ms: Milliseconds | None = None

    @model_validator(mode="after")
    def _id_is_ours(self) -> RunReport:
        _check_run_id(self.run)
        return self


class ReportRuns(Message):
    """On ``dispatch``, from a worker: states of runs it holds."""

    type: Literal["report_runs"] = "report_runs"
    pool: Name
    worker: Name
    reports: Annotated[list[RunReport], Field(min_length=1, max_length=MAX_RUNS_PER_MESSAGE)]


class Run(BaseModel):
    """One run as readers see it. Times are milliseconds of Redis TIME unless they end in ``_time``."""

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
    spec: dict[str, Any] = Field(default_factory=dict)
