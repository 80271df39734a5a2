"""Who gets what, and how it comes back; one part of :mod:`tests.services.domain_model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tests.services.domain_world import Deployment, Pool, Queue, Run, Slots, World


class Turn(NamedTuple):
    """A run whose turn has come, who would take it, and what becomes of it."""

    run: Run
    worker: str
    verdict: str
    message: str = ""


class Claims:
    """Runs that wait and runs in flight; ``_freed`` are the deployments of which a run has ended in the present step."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._freed: set[str] = set()

    def claim(self, name: str) -> None:
        """Hand out what can start: a strict waterfall over the queues."""
        self.world.due.discard(name)
        self.world.woken.discard(name)
        pool = self.world.pools.get(name)
        while pool and (turn := self._next(pool)):
            self._take(pool, turn)
        if pool and not pool.is_paused and _room(pool, self.world.in_flight(pool_id=pool.id)):
            for queue in pool.queues:
                open_ = not queue.is_paused and _room(queue, self.world.in_flight(queue_id=queue.id))
                # Whoever gets free claims again.
                if (
                    open_
                    and self._free_for(pool, queue)
                    and any(run.due > self.world.now for run in self.world.waiting(queue.id))
                ):
                    self.world.due.add(name)

    def _next(self, pool: Pool) -> Turn | None:
        """Find the run whose turn it is; None when nothing can start."""
        if pool.is_paused or not _room(pool, self.world.in_flight(pool_id=pool.id)):
            return None
        for queue in pool.by_priority():
            if queue.is_paused or not _room(queue, self.world.in_flight(queue_id=queue.id)):
                continue
            for run in self.world.scheduled(queue_id=queue.id):
                if run.parked and self._is_full(run):
                    continue
                able = [
                    (slots.queues is not None, self.free(pool.id, worker), worker)
                    for worker, slots in self._free_for(pool, queue).items()
                    if run.due <= self.world.now + slots.prefetch
                ]
                if able and (admitted := self._admit(run)):
                    return Turn(run, max(able)[2], *admitted)
        return None

    def _free_for(self, pool: Pool, queue: Queue) -> dict[str, Slots]:
        return {
            worker: slots
            for (pool_id, worker), slots in self.world.slots.items()
            if pool_id == pool.id
            and self.free(pool.id, worker) > 0
            and (slots.queues is None or queue.id in slots.queues)
        }

    def _is_full(self, run: Run) -> bool:
        deployment = self.world.deployment_with_id(run.deployment)
        return deployment is not None and not _room(deployment, self.world.in_flight(deployment=deployment.id))

    def _admit(self, run: Run) -> tuple[str, str] | None:
        """Say what becomes of a run whose turn has come, and why; None when it stays where it is."""
        deployment, future = self.world.deployment_with_id(run.deployment), run.due > self.world.now
        if deployment is None:
            return "go", ""
        if self._is_void(run, deployment):
            return "void", "Its schedule was changed"
        if self._is_overtaken(run):
            return "cancel", "Missed: a later run of its schedule is due, and only the latest is caught up"
        if _room(deployment, self.world.in_flight(deployment=deployment.id)):
            return "go", ""
        if deployment.collision_strategy == "enqueue" or run.begun:
            return "park", ""
        return None if future else ("cancel", "Deployment concurrency limit reached")

    def _is_void(self, run: Run, deployment: Deployment | None) -> bool:
        """Say whether its schedule would not make a run now that nobody has begun; a deployment that is gone makes none."""
        revision = deployment.revision if deployment else None
        future = run.due > self.world.now
        return run.scheduled is not None and run.scheduled.revision != revision and future and not run.begun

    def _is_overtaken(self, run: Run) -> bool:
        by = run.scheduled
        return bool(by and by.catch_up == "latest" and not run.begun) and any(
            other.scheduled
            and not other.begun
            and by
            and other.scheduled.schedule == by.schedule
            and (run.due, run.accepted) < (other.due, other.accepted)
            and other.due <= self.world.now
            for other in self.world.scheduled(deployment=run.deployment or "")
        )

    def _take(self, pool: Pool, turn: Turn) -> None:
        match turn.verdict:
            case "go":
                self._assign(pool, turn.run, turn.worker)
            case "park":
                turn.run.parked = True
            case "void":
                self._void(turn.run, turn.message)
            case _:
                self._finish(turn.run, "CANCELLED", turn.message, valid=False)

    def can_claim(self) -> list[str]:
        """Pools in which something could start and was not started."""
        turns = {pool.name: self._next(pool) for pool in self.world.pools.values()}
        return [name for name, turn in turns.items() if turn]

    def free(self, pool_id: str, worker: str) -> int:
        slots = self.world.slots[pool_id, worker]
        return slots.slots - len(self.world.in_flight(pool_id=pool_id, worker=worker)) if slots.announced else 0

    def _assign(self, pool: Pool, run: Run, worker: str) -> None:
        boot = self.world.slots[pool.id, worker].boot
        self.world.move(run, "PENDING")
        run.epoch, run.worker, run.boot, run.valid = run.epoch + 1, worker, boot, True
        self.world.inboxes[f"{pool.name}/{worker}"].append(("assigned", run.id, run.epoch, boot))

    def _free(self, run: Run) -> None:
        if run.holds and run.deployment:
            self._freed.add(run.deployment)

    def _finish(self, run: Run, to: str, message: str, *, valid: bool) -> None:
        self._free(run)
        self.world.move(run, to, message)
        run.valid = valid

    def _void(self, run: Run, message: str) -> None:
        """Nobody has seen anything of it: its record goes, and the same run may be made anew."""
        self.world.move(run, "CANCELLED", message)
        del self.world.runs[run.id]
        self._forget_key(run)

    def _forget_key(self, run: Run) -> None:
        if run.key:
            self.world.idempotency.pop(run.key, None)

    def _put_back(self, run: Run, message: str) -> None:
        """A run returns to its place in its queue; one whose queue is gone meanwhile has nowhere to wait."""
        if not self.world.queue_exists(run):
            self._finish(run, "CANCELLED", "Its work queue was deleted", valid=False)
            return
        self._wait(run, message)

    def _wait(self, run: Run, message: str, label: str = "") -> None:
        self._free(run)
        self.world.move(run, "SCHEDULED", message, label)
        run.worker, run.boot, run.valid = None, "", False

    def _retry(self, run: Run, message: str, moment: int) -> bool:
        """Let a run that failed wait for its next attempt, if it has one left, a queue to wait in, and its deployment still."""
        is_orphan = run.deployment is not None and self.world.deployment_with_id(run.deployment) is None
        if not run.retries or is_orphan or not self.world.queue_exists(run):
            return False
        self._wait(run, message, "AwaitingRetry")
        run.retries -= 1
        run.due, run.accepted = self.world.now + run.delay, moment
        return True

    def _unpark_freed(self) -> None:
        for deployment_id in sorted(self._freed):
            self._unpark(deployment_id)
        self._freed.clear()

    def _unpark(self, deployment_id: str) -> None:
        """Let as many as there is room for wait in their queues again, in each queue; their pools are looked at."""
        deployment, room = self.world.deployment_with_id(deployment_id), 1000
        if deployment and deployment.concurrency_limit is not None:
            room = deployment.concurrency_limit - len(self.world.in_flight(deployment=deployment_id))
        for runs in self.world.parked(deployment_id).values() if room > 0 else ():
            for run in runs[:room]:
                run.parked = False
            if pool := self.world.pool_with_id(runs[0].pool_id):
                self.world.woken.add(pool.name)

    def look(self) -> None:
        """Hand out where something may start and nobody has looked."""
        for name in sorted(self.world.woken):
            self.claim(name)


def _room(part: Pool | Queue | Deployment, holders: list[Run]) -> bool:
    return part.concurrency_limit is None or len(holders) < part.concurrency_limit
