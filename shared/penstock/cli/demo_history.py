"""What the event stream says happened: who held a slot when, in which order runs were handed out, what broke a promise.

Nothing here asks Penstock for its own figures; peaks and order are counted from the events, one by one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING, Final

from penstock.contracts.runs import IN_FLIGHT, TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock.contracts.events import Event

RUN_PREFIX: Final = "prefect.flow-run."


@dataclass
class Lane:
    """A queue, or the pool: its limit, and what was counted.

    Attributes:
        priority: 1 is served first; 0 for the pool.
        limit: how many runs may hold a slot at the same time; None means any number.
        peak: how many did at most.
    """

    name: str
    priority: int
    limit: int | None
    waiting: int = 0
    in_flight: int = 0
    peak: int = 0
    submitted: int = 0
    completed: int = 0

    @property
    def has_room(self) -> bool:
        """True while the limit allows one more."""
        return self.limit is None or self.in_flight < self.limit

    def take(self) -> None:
        """One more holds a slot."""
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)


@dataclass
class _Seen:
    """What is known of one run."""

    name: str
    lane: Lane
    state: str = ""
    submitted: datetime | None = None
    first_running: datetime | None = None
    ends: Counter[str] = field(default_factory=Counter)


class History:
    """Counts events of runs.

    Args:
        queues: the queues to watch, in order of priority; runs of other queues are ignored.
        pool: the pool's own limit.
    """

    def __init__(self, queues: Sequence[Lane], pool: Lane) -> None:
        self.queues = list(queues)
        self.pool = pool
        self.handed_out: list[Lane] = []
        self.returned = 0
        self.ended = 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._by_name = {lane.name: lane for lane in queues}
        self._runs: dict[str, _Seen] = {}
        self._problems: list[str] = []

    def observe(self, event: Event) -> bool:
        """Take one event, in the order of the stream.

        Returns:
            True when it moved one of the runs watched.
        """
        if not event.event.startswith(RUN_PREFIX):
            return False
        run = self._run_of(event)
        to = event.resource.get("prefect.state-type", "")
        if run is None or to == run.state:
            return False
        at = datetime.fromisoformat(event.occurred)
        self._leave(run)
        self._enter(run, to, at)
        self.first = self.first or at
        self.last = at
        return True

    def _run_of(self, event: Event) -> _Seen | None:
        run_id = event.resource["prefect.resource.id"]
        if run_id not in self._runs:
            names = (part for part in event.related if part.get("prefect.resource.role") == "work-queue")
            lane = self._by_name.get(next(names, {}).get("prefect.resource.name", ""))
            if lane is None:
                return None
            self._runs[run_id] = _Seen(event.resource.get("prefect.resource.name", run_id), lane)
        return self._runs[run_id]

    def _leave(self, run: _Seen) -> None:
        lane = run.lane
        if run.state == "SCHEDULED":
            lane.waiting -= 1
        if run.state in IN_FLIGHT:
            lane.in_flight -= 1
            self.pool.in_flight -= 1

    def _enter(self, run: _Seen, to: str, at: datetime) -> None:
        lane, before = run.lane, run.state
        run.state = to
        if to == "SCHEDULED":
            lane.waiting += 1
            if before:
                self.returned += 1
            else:
                lane.submitted += 1
                self.pool.submitted += 1
                run.submitted = at
        elif to in IN_FLIGHT:
            if to == "PENDING":
                self._hand_out(run)
            elif to == "RUNNING":
                run.first_running = run.first_running or at
            lane.take()
            self.pool.take()
            self._check_limits(run)
        elif to in TERMINAL:
            run.ends[to] += 1
            self.ended += 1
            if to == "COMPLETED":
                lane.completed += 1
                self.pool.completed += 1

    def _hand_out(self, run: _Seen) -> None:
        self.handed_out.append(run.lane)
        for other in self.queues:
            if other.priority < run.lane.priority and other.waiting and other.has_room:
                could = f"{other.waiting} of '{other.name}' could go"
                self._problems.append(f"run {run.name} of '{run.lane.name}' was handed out while {could}")

    def _check_limits(self, run: _Seen) -> None:
        for lane in (run.lane, self.pool):
            if lane.limit is not None and lane.in_flight > lane.limit:
                self._problems.append(f"'{lane.name}' held {lane.in_flight} slots, its limit is {lane.limit}")

    @property
    def seconds(self) -> float:
        """From the first event to the last."""
        return (self.last - self.first).total_seconds() if self.first and self.last else 0.0

    @property
    def median_start_ms(self) -> float:
        """Median time from submission to the first RUNNING, in milliseconds; 0 before any ran."""
        waits = [
            (run.first_running - run.submitted).total_seconds() * 1000
            for run in self._runs.values()
            if run.first_running and run.submitted
        ]
        return median(waits) if waits else 0.0

    def problems(self, run_ids: Iterable[str]) -> list[str]:
        """Say which promise was broken: limits, order, every run completed exactly once.

        Args:
            run_ids: all that were submitted.
        """
        problems = list(dict.fromkeys(self._problems))
        for run_id in run_ids:
            run = self._runs.get(f"{RUN_PREFIX}{run_id}")
            if run is None:
                problems.append(f"run {run_id} has no event")
            elif run.ends != {"COMPLETED": 1}:
                ended = ", ".join(f"{state} {times} times" for state, times in run.ends.items())
                problems.append(f"run {run.name}: {ended or f'still {run.state}'} instead of COMPLETED once")
        return problems
