"""Check a whole history: replay the event stream and say every promise it breaks.

Pure: events in, violations out. It trusts nothing but the stream, which is what any consumer sees.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.contracts.runs import IN_FLIGHT, TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

ALLOWED = {
    None: {"SCHEDULED"},
    "SCHEDULED": {"PENDING", "CANCELLED"},
    "PENDING": {"RUNNING", "SCHEDULED", "CRASHED", "FAILED", "CANCELLING", "CANCELLED"},
    "RUNNING": {"COMPLETED", "FAILED", "CRASHED", "CANCELLING", "CANCELLED", "SCHEDULED"},
    "CANCELLING": {"COMPLETED", "CANCELLED"},
}


@dataclass
class History:
    """What the replay has seen so far.

    Args:
        pool_limit: None for no limit.
        queues: name -> (priority, limit).
        deployments: name -> limit; runs of others belong to none.
    """

    pool_limit: int | None
    queues: Mapping[str, tuple[int, int | None]]
    deployments: Mapping[str, int | None] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    queue_of: dict[str, str] = field(default_factory=dict)
    deployment_of: dict[str, str] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    ids: Counter[str] = field(default_factory=Counter)
    peak: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def replay(self, events: Iterable[dict[str, Any]]) -> History:
        """Take events in the order of the stream."""
        for event in events:
            self._number(event)
            if event["event"].startswith("prefect.flow-run."):
                self._move(event)
        return self

    def held(self, queue: str | None = None) -> int:
        """Runs in flight now, of one queue or of all."""
        return sum(
            state in IN_FLIGHT and queue in (None, self.queue_of[run_id]) for run_id, state in self.states.items()
        )

    def held_by(self, deployment: str) -> int:
        """Runs of a deployment in flight now."""
        return sum(
            state in IN_FLIGHT and self.deployment_of.get(run) == deployment for run, state in self.states.items()
        )

    def unfinished(self, accepted: Sequence[str]) -> list[str]:
        """Accepted runs that reached no terminal state."""
        return [run_id for run_id in accepted if self.states.get(run_id) not in TERMINAL]

    def _number(self, event: dict[str, Any]) -> None:
        resource = event["resource"]["prefect.resource.id"]
        # A worker counts per pool and name, of which its resource id does not tell.
        counted = resource
        if resource.startswith("prefect.worker."):
            counted = f"{resource} {event['resource']['prefect.resource.name']} {event['related']}"
        if event["seq"] != self.seqs[counted] + 1:
            self.violations.append(f"{resource}: seq {event['seq']} after {self.seqs[counted]}")
        self.seqs[counted] = event["seq"]
        self.ids[event["id"]] += 1
        if self.ids[event["id"]] > 1:
            self.violations.append(f"{resource}: event id {event['id']} twice")

    def _move(self, event: dict[str, Any]) -> None:
        run_id = event["resource"]["prefect.resource.id"].removeprefix("prefect.flow-run.")
        to = event["resource"]["prefect.state-type"]
        before = self.states.get(run_id)
        related = {one.get("prefect.resource.role"): one["prefect.resource.name"] for one in event["related"]}
        self.queue_of[run_id] = related["work-queue"]
        if "deployment" in related:
            self.deployment_of[run_id] = related["deployment"]
        if to not in ALLOWED.get(before, set()):
            self.violations.append(f"run {run_id}: {before} -> {to}")
        if to == "PENDING":
            self._check_order(run_id)
        self.states[run_id] = to
        if to == "PENDING":
            self._check_limits(self.queue_of[run_id])

    def _check_order(self, run_id: str) -> None:
        """Nothing of a lower queue goes out while a higher one has something that could."""
        mine = self.queues[self.queue_of[run_id]][0]
        for queue, (priority, limit) in self.queues.items():
            waits = any(self._could_go(other) and self.queue_of[other] == queue for other in self.states)
            if priority < mine and waits and (limit is None or self.held(queue) < limit):
                self.violations.append(f"run {run_id} of {self.queue_of[run_id]} before waiting work of {queue}")

    def _could_go(self, run_id: str) -> bool:
        """Whether it waits, and not for its deployment's limit."""
        limit = self.deployments.get(self.deployment_of.get(run_id, ""))
        return self.states[run_id] == "SCHEDULED" and (
            limit is None or self.held_by(self.deployment_of[run_id]) < limit
        )

    def _check_limits(self, queue: str) -> None:
        in_pool, in_queue = self.held(), self.held(queue)
        self.peak["pool"] = max(self.peak["pool"], in_pool)
        self.peak[queue] = max(self.peak[queue], in_queue)
        limit = self.queues[queue][1]
        if self.pool_limit is not None and in_pool > self.pool_limit:
            self.violations.append(f"{in_pool} in flight in the pool, limit {self.pool_limit}")
        if limit is not None and in_queue > limit:
            self.violations.append(f"{in_queue} in flight in {queue}, limit {limit}")
        for deployment, most in self.deployments.items():
            held = self.held_by(deployment)
            self.peak[deployment] = max(self.peak[deployment], held)
            if most is not None and held > most:
                self.violations.append(f"{held} in flight of deployment {deployment}, limit {most}")
