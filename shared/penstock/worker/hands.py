"""The claims in a worker's hands: started at most ``limit`` at a time, reported, revoked, handed back."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import structlog
from pydantic import ValidationError

from penstock.bus.delivery import explain
from penstock.contracts.runs import RunReport, RunSpec
from penstock.errors import Invalid, Unavailable
from penstock.worker.job import CannotStart, Job, Outcome
from penstock.worker.reports import cut_message

if TYPE_CHECKING:
    from penstock.contracts.logs import Source
    from penstock.contracts.runs import ReportedState
    from penstock.contracts.workers import AssignedRun
    from penstock.worker.clock import RedisClock
    from penstock.worker.console import Console
    from penstock.worker.identity import Identity
    from penstock.worker.job import Execution, WorkerType
    from penstock.worker.output import LogShipper
    from penstock.worker.preparation import Preparation
    from penstock.worker.reports import Reporter

log = structlog.get_logger("penstock.worker")

LAST_OUTPUT_SECONDS: Final = 0.5
"""A terminal report waits this long at most for the run's output to be in its log."""
HAND_BACK_MARGIN_SECONDS: Final = 1.0
"""A prefetched run is handed back only if it is due later than this: it must not begin while it is being killed."""
HANDED_BACK: Final = "Handed back: the worker is draining"
NOT_PREPARED: Final = "Handed back: the worker could not read the pool's template"


@dataclass(eq=False, slots=True)
class Held:
    """One claim.

    ``ending`` says what is reported when its process is over: how it went, that it is handed back, or nothing (the claim
    is void, or we killed it and the pool's policy decides). ``why_back`` is the reason told with a hand-back.
    """

    run: AssignedRun
    execution: Execution | None = None
    task: asyncio.Task[None] | None = None
    predecessor: asyncio.Task[None] | None = None
    started_ms: int | None = None
    ending: Literal["report", "hand back", "silence"] = "report"
    why_back: str = HANDED_BACK

    def stop(self, ending: Literal["hand back", "silence"]) -> None:
        """Kill its process now, or as soon as there is one."""
        self.ending = ending
        if self.execution:
            self.execution.kill()


class Hands:
    """All claims of one worker.

    Args:
        identity: whose.
        kind: starts runs.
        limit: how many at the same time, whatever the dispatcher assigns.
        preparation: completes what a run specifies.
        clock: says when a run is due.
        reporter: takes the states.
        shipper: takes the output.
        console: shows the output of runs that ask for it.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        kind: WorkerType,
        limit: int,
        preparation: Preparation,
        clock: RedisClock,
        reporter: Reporter,
        shipper: LogShipper,
        console: Console,
    ) -> None:
        self._identity = identity
        self._kind = kind
        self._limit = limit
        self._preparation = preparation
        self._clock = clock
        self._reporter = reporter
        self._shipper = shipper
        self._console = console
        self._waiting: deque[Held] = deque()
        self._running: set[Held] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self.open = True
        """False: every further claim is handed back."""

    @property
    def count(self) -> int:
        """How many claims there are, begun or not."""
        return len(self._waiting) + len(self._running)

    async def idle(self) -> None:
        """Wait until there is none."""
        await self._idle.wait()

    def take(self, run: AssignedRun) -> None:
        """Take a claim over. A known one changes nothing; a newer one of the same run replaces the older."""
        same = [held for held in (*self._running, *self._waiting) if held.run.id == run.id and held.ending == "report"]
        if any(held.run.token == run.token for held in same):
            return
        predecessor = same[0].task if same else None
        self.revoke(run.id, run.epoch)
        if not self.open:
            self._report(Held(run), "SCHEDULED", HANDED_BACK)
            return
        self._waiting.append(Held(run, predecessor=predecessor))
        self._refill()

    def revoke(self, run_id: str, epoch: int) -> None:
        """Drop the claims of a run up to an epoch: kill their processes, report nothing."""
        for held in [held for held in self._waiting if held.run.id == run_id and held.run.epoch <= epoch]:
            self._waiting.remove(held)
        for held in self._running:
            if held.run.id == run_id and held.run.epoch <= epoch:
                log.info("run revoked", run=run_id)
                held.stop("silence")
        self._refill()

    def hand_back(self) -> None:
        """Give back what has not begun, so that it can run elsewhere at once."""
        for held in self._waiting:
            self._report(held, "SCHEDULED", HANDED_BACK)
        self._waiting.clear()
        soon = self._clock.now_ms() + HAND_BACK_MARGIN_SECONDS * 1000
        for held in self._running:
            if held.ending == "report" and held.started_ms is None and held.run.due_ms > soon:
                held.stop("hand back")
        self._refill()

    async def kill_all(self, patience_seconds: float) -> None:
        """End everything and report nothing: the pool's policy for lost workers decides what becomes of it.

        Args:
            patience_seconds: between SIGTERM and SIGKILL; 0 kills at once.
        """
        self._waiting.clear()
        tasks = [held.task for held in self._running if held.task]
        if patience_seconds and tasks:
            for held in self._running:
                held.ending = "silence" if held.ending == "report" else held.ending
                if held.execution:
                    held.execution.terminate()
            await asyncio.wait(tasks, timeout=patience_seconds)
        for held in self._running:
            held.stop("silence" if held.ending == "report" else held.ending)
        if tasks:
            await asyncio.wait(tasks)

    def _refill(self) -> None:
        while self._waiting and len(self._running) < self._limit:
            held = self._waiting.popleft()
            self._running.add(held)
            held.task = asyncio.create_task(self._carry_out(held), name=f"run {held.run.id}")
        if self.count:
            self._idle.clear()
        else:
            self._idle.set()

    async def _carry_out(self, held: Held) -> None:
        try:
            if held.predecessor:
                await asyncio.wait([held.predecessor])
            if held.ending == "report":
                outcome = await self._execute(held)
            if held.ending == "report":
                await self._shipper.flushed(LAST_OUTPUT_SECONDS)
            if held.ending == "report":
                self._report(held, outcome.state, outcome.message, outcome.ended_ms)
            elif held.ending == "hand back":
                self._report(held, "SCHEDULED", held.why_back)
        finally:
            self._running.discard(held)
            self._refill()

    async def _execute(self, held: Held) -> Outcome:
        run = held.run
        try:
            spec = await self._preparation.prepare(RunSpec.model_validate(run.spec))
            job = Job(
                run=run.id,
                name=run.name,
                pool=self._identity.pool,
                queue=run.queue,
                attempt=run.epoch,
                due_ms=run.due_ms,
                start_at=self._clock.monotonic_at(run.due_ms),
                spec=spec,
            )
            watcher = _Watcher(self, held, stream_output=spec.stream_output)
            held.execution = await self._kind.start(job, watcher)
            if held.ending != "report":
                held.execution.kill()
            return await held.execution.wait()
        except ValidationError as problem:
            return Outcome("FAILED", f"The run's specification is wrong: {explain(problem)}")
        except Invalid as problem:
            return Outcome("FAILED", f"The run cannot be prepared: {problem}")
        except Unavailable as problem:
            held.ending, held.why_back = ("hand back" if held.ending == "report" else held.ending), NOT_PREPARED
            return Outcome("CRASHED", str(problem))
        except CannotStart as problem:
            return Outcome("FAILED", f"The run cannot be started: {problem}")
        except Exception as problem:
            log.exception("a run could not be executed", run=run.id)
            return Outcome("CRASHED", f"The worker could not execute the run: {type(problem).__name__}: {problem}")

    def _report(self, held: Held, state: ReportedState, message: str = "", ended_ms: int | None = None) -> None:
        # A terminal report carries the whole history, so it may overtake RUNNING.
        started_ms = held.started_ms if state != "SCHEDULED" else None
        report = RunReport(
            run=held.run.id,
            token=held.run.token,
            epoch=held.run.epoch,
            state=state,
            message=cut_message(message),
            started_ms=started_ms,
            ended_ms=ended_ms,
        )
        self._reporter.send(report)
        log.info("run reported", run=held.run.id, run_name=held.run.name, state=state, message=report.message[:200])

    def _started(self, held: Held, at_ms: int) -> None:
        held.started_ms = at_ms
        if held.ending == "report":
            self._report(held, "RUNNING")


class _Watcher:
    """Tells the hands what one execution does."""

    def __init__(self, hands: Hands, held: Held, *, stream_output: bool) -> None:
        self._hands = hands
        self._held = held
        self._stream_output = stream_output

    def started(self, at_ms: int) -> None:
        self._hands._started(self._held, at_ms)  # noqa: SLF001 - the other half of the same thing

    async def printed(self, source: Source, lines: list[str]) -> None:
        if self._stream_output:
            self._hands._console.say(f"{self._held.run.name} | {line}" for line in lines)  # noqa: SLF001 - as above
        await self._hands._shipper.add(self._held.run.id, source, lines)  # noqa: SLF001 - as above
