"""State of the domain in plain Python: what exists, who holds what, what was told; see :mod:`tests.services.domain_model`."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from penstock.contracts.deployments import flow_id

if TYPE_CHECKING:
    from collections.abc import Iterable

Wire = dict[str, Any]
HOUR_MS: Final = 3_600_000
TERMINAL: Final = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
IN_FLIGHT: Final = {"PENDING", "RUNNING", "CANCELLING"}


class Event(NamedTuple):
    """One event. ``follows`` is the seq of an earlier event of the same resource; ``detail`` is what its payload says."""

    resource: str
    name: str
    seq: int
    follows: int | None
    related: tuple[str, ...]
    detail: Any = None


@dataclass
class Queue:
    id: str
    name: str
    priority: int
    concurrency_limit: int | None = None
    is_paused: bool = False
    description: str | None = None


@dataclass
class Pool:
    id: str
    name: str
    type: str
    default: Queue
    is_paused: bool = False
    concurrency_limit: int | None = None
    on_worker_lost: str = "crash"
    max_attempts: int = 3
    description: str | None = None
    base_job_template: Wire = field(default_factory=dict)
    queues: list[Queue] = field(default_factory=list)

    def queue(self, name: str) -> Queue | None:
        return next((queue for queue in self.queues if queue.name == name), None)

    def by_priority(self) -> list[Queue]:
        return sorted(self.queues, key=lambda queue: queue.priority)


@dataclass
class Deployment:
    """It refers to its pool and queue by their names; ``revision`` counts the changes that void what its schedules made."""

    id: str
    name: str
    pool: str
    queue: str
    concurrency_limit: int | None = None
    collision_strategy: str = "enqueue"
    tags: list[str] = field(default_factory=list)
    description: str | None = None
    paused: bool = False
    revision: int = 1

    @property
    def flow(self) -> str:
        return f"prefect.flow.{flow_id(self.name.partition('/')[0])}"


@dataclass
class Worker:
    """``bound``: ids of the queues it is known to serve by their names; one that names none serves them all."""

    pool_id: str
    name: str
    online: bool = False
    facts: Wire = field(default_factory=dict)
    entry: int = -1
    deadline: int = 0
    previous_boots: tuple[str, ...] = ()
    started: int | None = None
    bound: frozenset[str] = frozenset()
    told: int = 0


@dataclass
class Slots:
    """What the dispatcher believes of a worker; ``queues`` None means all."""

    seq: int
    boot: str
    slots: int = 0
    prefetch: int = 0
    queues: tuple[str, ...] | None = ()
    announced: bool = False


class Scheduled(NamedTuple):
    """Which schedule made a run, and under which revision of its deployment."""

    schedule: str
    revision: int
    catch_up: str


@dataclass
class Run:
    """``accepted`` orders runs that are due at once: they are due when they are accepted, or when their attempt has failed.

    ``label`` is the name of its state where that is not the usual one.
    """

    id: str
    queue_id: str
    pool_id: str
    due: int
    accepted: int = 0
    seq: int = 0
    state: str = ""
    epoch: int = 0
    count: int = 0
    worker: str | None = None
    boot: str = ""
    valid: bool = False
    deployment: str | None = None
    scheduled: Scheduled | None = None
    key: tuple[str, str] | None = None
    retries: int = 0
    delay: int = 0
    label: str = ""
    parked: bool = False

    @property
    def holds(self) -> bool:
        return self.state in IN_FLIGHT

    @property
    def begun(self) -> bool:
        return self.epoch > 0


class World:
    """Everything there is. ``now`` is any moment of the story: it lasts much less than the times in it differ."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.pools: dict[str, Pool] = {}
        self.deployments: dict[str, Deployment] = {}
        self.deployment_ids: list[str] = []
        self.workers: dict[tuple[str, str], Worker] = {}
        self.slots: dict[tuple[str, str], Slots] = {}
        self.runs: dict[str, Run] = {}
        self.idempotency: dict[tuple[str, str], str] = {}
        self.due: set[str] = set()
        self.woken: set[str] = set()
        self.inboxes: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        self.streams: dict[str, list[Any]] = defaultdict(list)
        self.events: list[Event] = []
        self.answers: dict[str, Any] = {}
        self.said_refusals: set[tuple[str, ...]] = set()
        self.dead_letters = 0
        self._seqs: dict[str, int] = defaultdict(int)
        self._last_status: dict[str, int] = {}
        self._created: dict[str, int] = defaultdict(int)

    def new_id(self, kind: str) -> str:
        self._created[kind] += 1
        return f"{kind}-{self._created[kind]}"

    def pool_with_id(self, pool_id: str) -> Pool | None:
        return next((pool for pool in self.pools.values() if pool.id == pool_id), None)

    def deployment_with_id(self, deployment_id: str | None) -> Deployment | None:
        return next((each for each in self.deployments.values() if each.id == deployment_id), None)

    def queue_exists(self, run: Run) -> bool:
        pool = self.pool_with_id(run.pool_id)
        return pool is not None and any(queue.id == run.queue_id for queue in pool.queues)

    def online(self, pool: Pool) -> list[Worker]:
        return [worker for worker in self.workers.values() if worker.pool_id == pool.id and worker.online]

    def pool_status(self, pool: Pool) -> str:
        return "paused" if pool.is_paused else "ready" if self.online(pool) else "not-ready"

    def queue_status(self, pool: Pool, queue: Queue) -> str:
        served = any(not worker.facts["queues"] or queue.id in worker.bound for worker in self.online(pool))
        return "paused" if queue.is_paused else "ready" if served else "not-ready"

    def statuses(self, pool: Pool) -> dict[str, str]:
        return {
            pool.id: self.pool_status(pool),
            **{queue.id: self.queue_status(pool, queue) for queue in pool.by_priority()},
        }

    def publish(
        self,
        resource: str,
        name: str,
        related: Iterable[str] = (),
        detail: Any = None,
        follows: int | None = None,
        identity: str = "",
    ) -> int:
        """Number an event of a resource; ``identity`` is what is counted where that is not the resource."""
        identity = identity or resource
        self._seqs[identity] += 1
        self.events.append(Event(resource, name, self._seqs[identity], follows, tuple(related), detail))
        return self._seqs[identity]

    def publish_pool(self, pool: Pool, verb: str, detail: Any = None) -> None:
        related = [] if verb == "updated" else [f"prefect.work-queue.{pool.default.id}"]
        self.publish(f"prefect.work-pool.{pool.id}", f"prefect.work-pool.{verb}", related, detail)

    def publish_pool_status(self, pool: Pool) -> None:
        resource, last = f"prefect.work-pool.{pool.id}", self._last_status.get(pool.id)
        name = f"prefect.work-pool.{self.pool_status(pool)}"
        self._last_status[pool.id] = self.publish(resource, name, follows=last)

    def publish_queue(self, pool: Pool, queue: Queue, verb: str, detail: Any = None) -> None:
        related = [f"prefect.work-pool.{pool.id}"]
        self.publish(f"prefect.work-queue.{queue.id}", f"prefect.work-queue.{verb}", related, detail)

    def publish_turns(self, pool: Pool, before: dict[str, str]) -> None:
        """Tell what became of the statuses since ``before``: the pool first, then its queues by priority."""
        if self.pool_status(pool) != before[pool.id]:
            self.publish_pool_status(pool)
        for queue in pool.by_priority():
            if self.queue_status(pool, queue) != before[queue.id]:
                self.publish_queue(pool, queue, self.queue_status(pool, queue))

    def publish_deployment(self, deployment: Deployment, verb: str, detail: Any = None) -> None:
        pool = self.pools.get(deployment.pool)
        queue = pool.queue(deployment.queue) if pool else None
        related = [deployment.flow]
        related += [f"prefect.work-queue.{queue.id}"] if queue else []
        related += [f"prefect.work-pool.{pool.id}"] if pool else []
        self.publish(f"prefect.deployment.{deployment.id}", f"prefect.deployment.{verb}", related, detail)

    def places(self, run: Run) -> tuple[str, ...]:
        """What events of a run are related to; the flow of a deployment is known as long as that is defined."""
        deployment = self.deployment_with_id(run.deployment)
        return (
            *([deployment.flow] if deployment else []),
            *([f"prefect.deployment.{run.deployment}"] if run.deployment else []),
            f"prefect.work-queue.{run.queue_id}",
            f"prefect.work-pool.{run.pool_id}",
        )

    def move(self, run: Run, to: str, message: str = "", label: str = "") -> None:
        came_from = (run.state, run.label or run.state.capitalize()) if run.state else None
        run.state, run.label, run.parked = to, label, False
        run.seq += 1
        resource, name = f"prefect.flow-run.{run.id}", f"prefect.flow-run.{label or to.capitalize()}"
        detail = (came_from, to, message)
        self.events.append(Event(resource, name, run.seq, run.seq - 1 or None, self.places(run), detail))

    def scheduled(self, *, queue_id: str = "", deployment: str = "") -> list[Run]:
        """What waits, parked or not."""
        found = [
            run
            for run in self.runs.values()
            if run.state == "SCHEDULED"
            and (not queue_id or run.queue_id == queue_id)
            and (not deployment or run.deployment == deployment)
        ]
        return sorted(found, key=lambda run: (run.due, run.accepted, run.id))

    def waiting(self, queue_id: str) -> list[Run]:
        return [run for run in self.scheduled(queue_id=queue_id) if not run.parked]

    def parked(self, deployment: str) -> dict[str, list[Run]]:
        """Runs that were set aside because their deployment is full, by the queue they wait in."""
        found: dict[str, list[Run]] = defaultdict(list)
        for run in self.scheduled(deployment=deployment):
            if run.parked:
                found[run.queue_id].append(run)
        return found

    def in_flight(
        self, *, pool_id: str = "", queue_id: str = "", worker: str | None = None, deployment: str = ""
    ) -> list[Run]:
        return [
            run
            for run in self.runs.values()
            if run.holds
            and (not pool_id or run.pool_id == pool_id)
            and (not queue_id or run.queue_id == queue_id)
            and (worker is None or run.worker == worker)
            and (not deployment or run.deployment == deployment)
        ]
