"""Runs as they should be handed out, reported and taken back; one part of :mod:`tests.services.domain_model`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.services.domain_world import TERMINAL, Run, Slots

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.services.domain_registry import Registry
    from tests.services.domain_world import Pool, Queue, Wire, World


class Dispatcher:
    """Who gets what. ``registry`` is asked for queues that a submission names and that do not exist."""

    def __init__(self, world: World, registry: Registry) -> None:
        self.world = world
        self.registry = registry
        self._submissions = 0

    def read_dispatch(self, batch: list[Wire]) -> None:
        """Take messages type by type, losses first and submissions last, and claim after each."""
        kinds: dict[str, list[Wire]] = defaultdict(list)
        for message in batch:
            kinds[message["type"]].append(message)
        for message in kinds["lose_worker"]:
            self._lose(message)
            self.claim(message["pool"])
        for message in kinds["announce_worker"]:
            self._announce(message)
            self.claim(message["pool"])
        for message in kinds["report_runs"]:
            self._report(message)
        self._claim_all(kinds["report_runs"])
        answers = [self._submit(message) for message in kinds["submit_runs"]]
        self._claim_all(kinds["submit_runs"])
        for message, answer in zip(kinds["submit_runs"], answers, strict=True):
            self._answer(message, answer)

    def read_definitions(self, batch: list[Wire]) -> None:
        self._claim_all([message for message in batch if message["type"] == "pool.changed"])
        for message in batch:
            if message["type"] == "pool.deleted":
                self._cancel_pool(message)
        for message in batch:
            if message["type"] == "queue.deleted":
                name = message["queue"]["name"]
                self._cancel_waiting(message["queue"]["id"], f"Work queue '{name}' was deleted")

    def _claim_all(self, messages: Iterable[Wire]) -> None:
        for pool in sorted({message["pool"] for message in messages}):
            self.claim(pool)

    def _queue_exists(self, run: Run) -> bool:
        pool = self.world.pool_with_id(run.pool_id)
        return pool is not None and any(queue.id == run.queue_id for queue in pool.queues)

    def claim(self, name: str) -> None:
        """Hand out what can start: a strict waterfall over the queues."""
        self.world.due.discard(name)
        pool = self.world.pools.get(name)
        while pool and (found := self._next(pool)):
            self._assign(*found)
        if pool and not pool.is_paused and _room(pool, self.world.in_flight(pool_id=pool.id)):
            for queue in pool.queues:
                open_ = not queue.is_paused and _room(queue, self.world.in_flight(queue_id=queue.id))
                if open_ and any(run.due > self.world.now for run in self.world.waiting(queue.id)):
                    self.world.due.add(name)

    def _next(self, pool: Pool) -> tuple[Run, str, Slots] | None:
        """Find the run that is to be handed out next, and to whom; None when nothing can start."""
        if pool.is_paused or not _room(pool, self.world.in_flight(pool_id=pool.id)):
            return None
        for queue in pool.by_priority():
            if queue.is_paused or not _room(queue, self.world.in_flight(queue_id=queue.id)):
                continue
            for run in self.world.waiting(queue.id):
                able = [
                    (slots.queues is not None, self.free(pool.id, worker), worker)
                    for (pool_id, worker), slots in self.world.slots.items()
                    if pool_id == pool.id
                    and self.free(pool.id, worker) > 0
                    and (slots.queues is None or queue.id in slots.queues)
                    and run.due <= self.world.now + slots.prefetch
                ]
                if able:
                    return run, max(able)[2], self.world.slots[pool.id, max(able)[2]]
        return None

    def can_claim(self) -> list[str]:
        """Pools in which something could start and was not started."""
        return [pool.name for pool in self.world.pools.values() if self._next(pool)]

    def free(self, pool_id: str, worker: str) -> int:
        slots = self.world.slots[pool_id, worker]
        return slots.slots - len(self.world.in_flight(pool_id=pool_id, worker=worker)) if slots.announced else 0

    def _assign(self, run: Run, worker: str, slots: Slots) -> None:
        self.world.move(run, "PENDING")
        run.epoch, run.worker, run.boot, run.valid = run.epoch + 1, worker, slots.boot, True
        pool = self.world.pool_with_id(run.pool_id)
        assert pool
        self.world.inboxes[f"{pool.name}/{worker}"].append(("assigned", run.id, run.epoch, slots.boot))

    def _finish(self, run: Run, to: str, message: str, *, valid: bool) -> None:
        self.world.move(run, to, message)
        run.valid = valid

    def _put_back(self, run: Run, message: str) -> None:
        """A run returns to its place in its queue; one whose queue is gone meanwhile has nowhere to wait."""
        if not self._queue_exists(run):
            self._finish(run, "CANCELLED", "Its work queue was deleted", valid=False)
            return
        self.world.move(run, "SCHEDULED", message)
        run.worker, run.boot, run.valid = None, "", False

    def _give_back(self, pool: Pool, worker: str, living_boot: str | None, reason: str) -> None:
        for run in self.world.in_flight(pool_id=pool.id, worker=worker):
            requeue = pool.on_worker_lost == "requeue" and run.count < pool.max_attempts
            kept = run.boot == living_boot or (run.state == "RUNNING" and pool.on_worker_lost == "keep")
            if kept:
                continue
            related = [f"prefect.flow-run.{run.id}", *_places(run)]
            detail = {"worker": worker, "epoch": run.epoch, "reason": reason}
            self.world.publish(f"penstock.claim.{run.id}.{run.epoch}", "penstock.run.claim-expired", related, detail)
            if run.state == "PENDING" or requeue:
                self._put_back(run, f"Worker '{worker}' was lost ({reason}); returned to its queue")
            else:
                self._finish(run, "CRASHED", f"Worker '{worker}' was lost ({reason})", valid=False)

    def _announce(self, message: Wire) -> None:
        pool, key = self.world.pool_with_id(message["pool_id"]), (message["pool_id"], message["worker"])
        known = self.world.slots.get(key)
        if pool is None or (known and message["seq"] <= known.seq):
            return
        inbox = self.world.inboxes[f"{pool.name}/{message['worker']}"]
        if known and known.boot != message["boot_id"]:
            inbox.clear()
            self._give_back(pool, message["worker"], message["boot_id"], "replaced by a new process")
        queues = [queue.id for name in message["queues"] if (queue := pool.queue(name))]
        self.world.slots[key] = Slots(
            message["seq"],
            message["boot_id"],
            message["slots"],
            message["prefetch_ms"],
            tuple(queues) if message["queues"] else None,
            announced=True,
        )
        inbox.append(("accepted", message["boot_id"], message["slots"]))

    def _lose(self, message: Wire) -> None:
        pool, key = self.world.pool_with_id(message["pool_id"]), (message["pool_id"], message["worker"])
        known = self.world.slots.get(key)
        if pool is None or (known and message["seq"] <= known.seq):
            return
        self.world.slots[key] = Slots(message["seq"], message["boot_id"])
        self.world.inboxes[f"{pool.name}/{message['worker']}"].clear()
        self._give_back(pool, message["worker"], None, message["reason"])

    def _submit(self, message: Wire) -> str | list[str]:
        self._submissions += 1
        pool = self.world.pools.get(message["pool"])
        return [self._accept(pool, run) for run in message["runs"]] if pool else "unknown_pool"

    def _accept(self, pool: Pool, submitted: Wire) -> str:
        if submitted["id"] in self.world.runs:
            return "known"
        queue = pool.queue(submitted["queue"])
        if queue is None:
            return "unknown_queue"
        run = Run(submitted["id"], queue.id, pool.id, submitted["due"])
        run.accepted = self._submissions if submitted["at"] is None else 0
        self.world.runs[run.id] = run
        self.world.move(run, "SCHEDULED")
        return "accepted"

    def _answer(self, message: Wire, answer: str | list[str]) -> None:
        if "unknown_queue" in answer:
            missing = {
                run["queue"] for run, word in zip(message["runs"], answer, strict=True) if word == "unknown_queue"
            }
            for queue in sorted(missing):
                command = {
                    "type": "create_queue",
                    "id": "",
                    "pool": message["pool"],
                    "queue": queue,
                    "if_missing": True,
                }
                self.world.streams["commands"].append(command)
                self.registry.read([command])
            answer = self._submit(message)
            self.claim(message["pool"])
        self.world.answers[message["id"]] = "not_found" if answer == "unknown_pool" else "ok"
        self.world.dead_letters += answer == "unknown_pool"

    def _report(self, message: Wire) -> None:
        pool = self.world.pools.get(message["pool"])
        fenced = []
        for report in message["reports"]:
            run = self.world.runs.get(report["run"])
            claim = f"{report['run']}.{report['epoch']}"
            valid = run and run.valid and run.epoch == report["epoch"] and run.worker == message["worker"]
            if run and valid and report["token"] == claim:
                self._apply(run, report)
            else:
                # Only claims before the one that is valid now are void.
                void = report["epoch"]
                if run and run.valid and run.worker == message["worker"]:
                    void = min(void, run.epoch - 1)
                if void > 0:
                    fenced.append((report["run"], void))
        if fenced and pool and (pool.id, message["worker"]) in self.world.slots:
            self.world.inboxes[f"{pool.name}/{message['worker']}"].append(("revoked", *sorted(fenced)))

    def _apply(self, run: Run, report: Wire) -> None:
        reported = report["state"]
        ends = reported in TERMINAL
        if run.state in TERMINAL or (not ends and run.state != "PENDING"):
            return
        if reported == "SCHEDULED":
            self._put_back(run, report["message"])
            return
        began = reported in ("RUNNING", "COMPLETED") or report["started_ms"] is not None
        if run.state == "PENDING" and began:
            run.count += 1
            self.world.move(run, "RUNNING")
        if ends:
            self._finish(run, reported, report["message"], valid=True)

    def _cancel_waiting(self, queue_id: str, message: str) -> None:
        for run in self.world.waiting(queue_id):
            self._finish(run, "CANCELLED", message, valid=False)

    def _cancel_pool(self, message: Wire) -> None:
        """Runs of a deleted pool are cancelled, waiting or not; whoever holds one is told to stop it."""
        reason = f"Work pool '{message['pool']}' was deleted"
        for queue in message["queues"]:
            self._cancel_waiting(queue["id"], reason)
        revoked = defaultdict(list)
        for run in self.world.in_flight(pool_id=message["pool_id"]):
            revoked[run.worker].append((run.id, run.epoch))
            self._finish(run, "CANCELLED", reason, valid=False)
        for worker, runs in revoked.items():
            self.world.inboxes[f"{message['pool']}/{worker}"].append(("revoked", *sorted(runs)))
        for key in [key for key, slots in self.world.slots.items() if key[0] == message["pool_id"] and slots.announced]:
            del self.world.slots[key]
        if message["pool"] not in self.world.pools:
            self.world.due.discard(message["pool"])


def _places(run: Run) -> tuple[str, str]:
    return f"prefect.work-queue.{run.queue_id}", f"prefect.work-pool.{run.pool_id}"


def _room(part: Pool | Queue, holders: list[Run]) -> bool:
    return part.concurrency_limit is None or len(holders) < part.concurrency_limit
