"""What a kind of infrastructure is given and what it answers; the seam between the worker and its type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from penstock.contracts.logs import Source
    from penstock.contracts.runs import RunSpec


@dataclass(frozen=True, slots=True)
class Job:
    """One claimed run.

    Attributes:
        attempt: the claim's epoch: 1 for the first hand-out.
        due_ms: its scheduled time, milliseconds of Redis TIME.
        start_at: the same moment by this machine's ``time.monotonic()``; it must not start earlier.
    """

    run: str
    name: str
    pool: str
    queue: str
    attempt: int
    due_ms: int
    start_at: float
    spec: RunSpec


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        started_ms, ended_ms: milliseconds since 1970 by this machine's clock.
        stopped: ``terminate`` or ``kill`` brought the end about. None where the type cannot tell: then every end but
            COMPLETED counts as brought about.
    """

    state: Literal["COMPLETED", "FAILED", "CRASHED"]
    message: str = ""
    started_ms: int | None = None
    ended_ms: int | None = None
    stopped: bool | None = None


class Watcher(Protocol):
    """Whom an execution tells what happens."""

    def started(self, at_ms: int) -> None:
        """The run's own code begins; not before its scheduled time."""

    async def printed(self, source: Source, lines: list[str]) -> None:
        """The run printed lines."""

    def cut(self, lines: int, size: int) -> None:
        """So many lines were too long; ``size`` bytes of them will never be told. Said once, at the end of the output."""


class Execution(Protocol):
    """One run being executed."""

    async def wait(self) -> Outcome:
        """Wait for the end; nothing of the run is alive afterwards. Called once."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it at once."""


class CannotStart(Exception):
    """The run cannot be executed as its specification says; it is FAILED with this message."""


class WorkerType(Protocol):
    """A kind of infrastructure."""

    async def open(self) -> None:
        """Prepare; called once before the first run."""

    async def close(self) -> None:
        """Clean up; called once after the last run."""

    async def start(self, job: Job, watcher: Watcher) -> Execution:
        """Begin to execute a run.

        Raises:
            CannotStart: its specification is wrong.
            OSError: this machine cannot (no memory, too many files); the run is CRASHED.
        """
