"""The claims in a worker's hands: started at most ``limit`` at a time, reported, revoked, handed back."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

import structlog
from pydantic import ValidationError

from penstock.bus.decoding import explain
from penstock.contracts.runs import RunReport, RunSpec
from penstock.errors import Invalid, Unavailable
from penstock.worker.audit import compare
from penstock.worker.held import HANDED_BACK, Held, cancelled
from penstock.worker.job import CannotStart, Job, Outcome
from penstock.worker.reports import cut_message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from penstock.contracts.logs import Source
    from penstock.contracts.runs import ReportedState
    from penstock.contracts.workers import AssignedRun, AuditedRun
    from penstock.worker.clock import RedisClock
    from penstock.worker.console import Console
    from penstock.worker.identity import Identity
    from penstock.worker.job import WorkerType
    from penstock.worker.output import LogShipper
    from penstock.worker.preparation import Preparation
    from penstock.worker.reports import Reporter

log = structlog.get_logger("penstock.worker")

LAST_OUTPUT_SECONDS: Final = 0.5
"""A terminal report waits this long at most for the run's output to be in its log."""
HAND_BACK_MARGIN_SECONDS: Final = 1.0
"""A prefetched run is handed back only if it is due later than this: it must not begin while it is being killed."""
NOT_PREPARED: Final = "Handed back: the worker could not read the pool's template"


class Hands:
    """All claims of one worker.

    Args:
        identity: whose.
        kind: starts runs.
        limit: how many at the same time, whatever the dispatcher assigns.
        cancel_grace_seconds: between SIGTERM and SIGKILL of a run that is cancelled.
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
        cancel_grace_seconds: float,
        preparation: Preparation,
        clock: RedisClock,
        reporter: Reporter,
        shipper: LogShipper,
        console: Console,
    ) -> None:
        self._identity = identity
        self._kind = kind
        self._limit = limit
        self._grace = cancel_grace_seconds
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
        self._over = False

    @property
    def count(self) -> int:
        """How many claims there are, begun or not."""
        return len(self._waiting) + len(self._running)

    async def idle(self) -> None:
        """Wait until there is none."""
        await self._idle.wait()

    def take(self, run: AssignedRun) -> None:
        """Take a claim over. A known one changes nothing; a newer one of the same run replaces the older."""
        if self._reporter.repeat(run.token):
            # Redis forgot that we had taken it out of the inbox.
            return
        valid = ("report", "cancel")
        same = [held for held in (*self._running, *self._waiting) if held.run.id == run.id and held.ending in valid]
        if any(held.run.token == run.token for held in same):
            return
        older = [held for held in self._running if held.run.id == run.id]
        predecessor = max(older, key=lambda held: held.run.epoch).task if older else None
        self.revoke(run.id, run.epoch)
        if not self.open:
            self._report(Held(run), "SCHEDULED", HANDED_BACK)
            return
        self._waiting.append(Held(run, predecessor=predecessor))
        self._refill()

    def revoke(self, run_id: str, epoch: int) -> None:
        """Drop the claims of a run up to an epoch: kill their processes, report nothing."""
        self._drop(lambda held: held.run.id == run_id and held.run.epoch <= epoch)

    def _drop(self, is_void: Callable[[Held], bool]) -> None:
        for held in [held for held in self._waiting if is_void(held)]:
            self._waiting.remove(held)
        for held in self._running:
            if is_void(held):
                log.info("run revoked", run=held.run.id)
                held.stop("silence")
        self._refill()

    def audit(self, named: Sequence[AuditedRun]) -> None:
        """Compare what we hold with what the dispatcher says that we hold, at this place of the inbox.

        What it does not know is told again, what it named in vain is reported LOST, what it did not name is dropped.
        """
        if self._over:
            return
        mine = {held.run.token: held for held in (*self._waiting, *self._running) if held.ending != "silence"}
        running = {token for token, held in mine.items() if held.started_ms is not None}
        found = compare(named, mine.keys(), running)
        self._reporter.settle(found.unknown, named)
        for run in found.stopped:
            self.cancel(run.id, run.epoch)
        for run in found.begun:
            self._report(mine[run.token], "RUNNING")
        if found.void:
            self._drop(lambda held: held.run.token in found.void)

    def cancel(self, run_id: str, epoch: int) -> None:
        """End one claim and report that it was cancelled. Twice, or for a claim that is not here: nothing changes.

        Its slot stays taken until nothing of it is alive. Its process is killed at once if it still waits for its time;
        else it is asked to end first.
        """
        for held in [held for held in self._waiting if (held.run.id, held.run.epoch) == (run_id, epoch)]:
            self._waiting.remove(held)
            self._report(held, *cancelled(held, None))
        for held in self._running:
            if (held.run.id, held.run.epoch) != (run_id, epoch) or held.ending not in {"report", "hand back"}:
                continue
            log.info("run is to be cancelled", run=run_id)
            if held.ending == "hand back" or self._is_idle(held):
                held.stop("cancel")
            else:
                held.ask(self._grace)
        self._refill()

    def hand_back(self) -> None:
        """Give back what has not begun, so that it can run elsewhere at once."""
        for held in self._waiting:
            self._report(held, "SCHEDULED", HANDED_BACK)
        self._waiting.clear()
        for held in self._running:
            if held.ending == "report" and self._is_idle(held):
                held.stop("hand back")
        self._refill()

    def _is_idle(self, held: Held) -> bool:
        soon = self._clock.now_ms() + HAND_BACK_MARGIN_SECONDS * 1000
        return held.started_ms is None and held.run.due_ms > soon

    async def kill_all(self, patience_seconds: float) -> None:
        """End everything and report nothing: the pool's policy for lost workers decides what becomes of it.

        Only what was being cancelled or handed back is reported as that.

        Args:
            patience_seconds: between SIGTERM and SIGKILL; 0 kills at once.
        """
        self._over = True
        self._waiting.clear()
        tasks = [held.task for held in self._running if held.task]
        if patience_seconds and tasks:
            for held in self._running:
                if held.execution and held.ending != "cancel":
                    held.execution.terminate()
                held.ending = "silence" if held.ending == "report" else held.ending
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
            outcome = await self._execute(held) if held.ending == "report" else None
            self._shipper.end(held.run.id)
            if held.ending in {"report", "cancel"}:
                await self._shipper.flushed(LAST_OUTPUT_SECONDS)
            self._close(held, outcome)
        finally:
            held.over()
            self._running.discard(held)
            self._refill()

    def _close(self, held: Held, outcome: Outcome | None) -> None:
        ended_ms = self._clock.corrected_ms(outcome.ended_ms) if outcome and outcome.ended_ms else None
        if ended_ms is not None and held.started_ms is not None:
            # Both were estimated, a moment apart.
            ended_ms = max(ended_ms, held.started_ms)
        match held.ending:
            case "report" if outcome:
                self._report(held, outcome.state, outcome.message, ended_ms)
            case "cancel":
                self._report(held, *cancelled(held, outcome), ended_ms)
            case "hand back":
                self._report(held, "SCHEDULED", held.why_back)

    async def _prepared(self, run: AssignedRun) -> Job:
        spec = await self._preparation.prepare(RunSpec.model_validate(run.spec))
        return Job(
            run=run.id,
            name=run.name,
            pool=self._identity.pool,
            queue=run.queue,
            attempt=run.epoch,
            due_ms=run.due_ms,
            start_at=self._clock.monotonic_at(run.due_ms),
            spec=spec,
        )

    async def _execute(self, held: Held) -> Outcome | None:
        try:
            job = await self._prepared(held.run)
            if held.ending == "report":
                watcher = _Watcher(self, held, stream_output=job.spec.stream_output)
                held.execution = await self._kind.start(job, watcher)
            held.catch_up(self._grace)
            return await held.execution.wait() if held.execution else None
        except ValidationError as problem:
            return Outcome("FAILED", f"The run's specification is wrong: {explain(problem)}")
        except Invalid as problem:
            # Everybody reads it in the events.
            return Outcome("FAILED", f"The run cannot be prepared: {problem.discreet}")
        except Unavailable as problem:
            held.ending, held.why_back = ("hand back" if held.ending == "report" else held.ending), NOT_PREPARED
            return Outcome("CRASHED", str(problem))
        except CannotStart as problem:
            return Outcome("FAILED", f"The run cannot be started: {problem}")
        except Exception as problem:
            log.exception("a run could not be executed", run=held.run.id)
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
        held.started_ms = self._clock.corrected_ms(at_ms)
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

    def cut(self, lines: int, size: int) -> None:
        self._hands._shipper.cut(self._held.run.id, lines, size)  # noqa: SLF001 - as above
