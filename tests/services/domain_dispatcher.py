"""Runs as they should be handed out, reported and taken back; one part of :mod:`tests.services.domain_model`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.services.domain_claims import Claims
from tests.services.domain_world import TERMINAL, Run, Scheduled, Slots

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.services.domain_registry import Registry
    from tests.services.domain_world import Pool, Wire, World


class Dispatcher(Claims):
    """Who gets what. ``registry`` is asked for queues that a submission names and that do not exist."""

    def __init__(self, world: World, registry: Registry) -> None:
        super().__init__(world)
        self.registry = registry
        self._moment = 0

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
        for message in kinds["cancel_runs"]:
            self._cancel(message)
        for message in kinds["delete_runs"]:
            self._delete(message)

    def read_definitions(self, batch: list[Wire]) -> None:
        self._claim_all([message for message in batch if message["type"] == "pool.changed"])
        for message in batch:
            if message["type"] == "pool.deleted":
                self._cancel_pool(message)
        for message in batch:
            if message["type"] == "queue.deleted":
                name = message["queue"]["name"]
                self._cancel_waiting(message["queue"]["id"], f"Work queue '{name}' was deleted")
        for message in batch:
            if message["type"] == "deployment.changed":
                self._change_deployment(message)
        for message in batch:
            if message["type"] == "deployment.deleted":
                self._delete_deployment(message)

    def _claim_all(self, messages: Iterable[Wire]) -> None:
        for pool in sorted({message["pool"] for message in messages}):
            self.claim(pool)

    def _give_back(self, pool: Pool, worker: str, living_boot: str | None, reason: str) -> None:
        self._moment += 1
        for run in self.world.in_flight(pool_id=pool.id, worker=worker):
            requeue = pool.on_worker_lost == "requeue" and run.count < pool.max_attempts
            kept = run.boot == living_boot or (run.state == "RUNNING" and pool.on_worker_lost == "keep")
            if kept:
                continue
            related = [f"prefect.flow-run.{run.id}", *self.world.places(run)]
            detail = {"worker": worker, "epoch": run.epoch, "reason": reason}
            self.world.publish(f"penstock.claim.{run.id}.{run.epoch}", "penstock.run.claim-expired", related, detail)
            what = f"Worker '{worker}' was lost ({reason})"
            if run.state == "CANCELLING":
                self._finish(run, "CANCELLED", what, valid=False)
            elif run.state == "PENDING" or requeue:
                self._put_back(run, f"{what}; returned to its queue")
            elif not self._retry(run, what, self._moment):
                self._finish(run, "CRASHED", what, valid=False)
        self._unpark_freed()

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
        self._moment += 1
        pool = self.world.pools.get(message["pool"])
        return [self._accept(pool, run) for run in message["runs"]] if pool else "unknown_pool"

    def _accept(self, pool: Pool, submitted: Wire) -> str:
        if submitted["id"] in self.world.runs:
            return "known"
        deployment, by = submitted["deployment"], submitted["by"]
        known = self.world.deployment_with_id(deployment)
        if by and (known is None or known.revision != by[1]):
            return "stale"
        queue = pool.queue(submitted["queue"])
        if queue is None:
            return "unknown_queue"
        key = (deployment or pool.id, submitted["key"]) if submitted["key"] else None
        if key and (first := self.world.idempotency.setdefault(key, submitted["id"])) != submitted["id"]:
            return f"same {first}"
        run = Run(submitted["id"], queue.id, pool.id, submitted["due"], deployment=deployment, key=key)
        run.accepted = self._moment if submitted["at"] is None else 0
        run.scheduled = Scheduled(*by) if by else None
        run.retries, run.delay = submitted["retries"], submitted["delay"] * 1000
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
        if isinstance(answer, str):
            self.world.answers[message["id"]] = "not_found"
            self.world.dead_letters += 1
            return
        answered = [(run["id"], word) for run, word in zip(message["runs"], answer, strict=True)]
        self.world.answers[message["id"]] = {
            "accepted": [run for run, word in answered if word in ("accepted", "known")],
            "refused": [(run, word) for run, word in answered if word in ("unknown_queue", "stale")],
            "same": {run: word.split()[1] for run, word in answered if word.startswith("same ")},
        }

    def _report(self, message: Wire) -> None:
        pool = self.world.pools.get(message["pool"])
        self._moment += 1
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
        self._unpark_freed()
        if fenced and pool and (pool.id, message["worker"]) in self.world.slots:
            self.world.inboxes[f"{pool.name}/{message['worker']}"].append(("revoked", *sorted(fenced)))

    def _apply(self, run: Run, report: Wire) -> None:
        reported, message = report["state"], report["message"]
        if run.state == "CANCELLING" and reported not in ("COMPLETED", "RUNNING"):
            reported = "CANCELLED"
        ends = reported in TERMINAL
        if run.state in TERMINAL or (not ends and run.state != "PENDING"):
            return
        if reported == "SCHEDULED":
            self._put_back(run, message)
            return
        began = reported in ("RUNNING", "COMPLETED") or report["started_ms"] is not None
        if run.state == "PENDING" and began:
            run.count += 1
            self.world.move(run, "RUNNING")
        failed = reported in ("FAILED", "CRASHED")
        if ends and not (failed and self._retry(run, message, self._moment)):
            self._finish(run, reported, message, valid=True)

    def _cancel(self, message: Wire) -> None:
        """What waits at once, what is in flight through its worker; ``force`` does not wait for workers."""
        answer: Wire = {"cancelled": [], "cancelling": [], "unknown": [], "ended": []}
        told, freed = defaultdict(list), set()
        why = message["message"] or "Cancelled on request"
        for run_id in message["runs"]:
            run = self.world.runs.get(run_id)
            if run is None:
                answer["unknown"].append(run_id)
                continue
            if run.holds:
                told[run.pool_id, run.worker or ""].append((run.id, run.epoch))
            if run.holds and message["force"]:
                pool = self.world.pool_with_id(run.pool_id)
                freed.update([pool.name] if pool else [])
                self._finish(run, "CANCELLED", why, valid=False)
            elif run.holds and run.state != "CANCELLING":
                self.world.move(run, "CANCELLING", why)
            elif run.state == "SCHEDULED" and self.world.queue_exists(run):
                self._finish(run, "CANCELLED", why, valid=False)
            if run.state in ("COMPLETED", "FAILED", "CRASHED"):
                answer["ended"].append({"run": run_id, "state": run.state})
            else:
                # What waits in a queue that was just deleted is cancelled with it.
                answer["cancelled" if run.state == "CANCELLED" else "cancelling"].append(run_id)
        self._unpark_freed()
        self._tell("revoked" if message["force"] else "stop", told)
        for name in sorted(freed):
            self.claim(name)
        self.world.answers[message["id"]] = answer

    def _tell(self, what: str, told: dict[tuple[str, str], list[tuple[str, int]]]) -> None:
        """Leave word for workers that somebody may still read."""
        for (pool_id, worker), runs in told.items():
            pool = self.world.pool_with_id(pool_id)
            if pool and (pool_id, worker) in self.world.slots:
                self.world.inboxes[f"{pool.name}/{worker}"].append((what, *sorted(runs)))

    def _delete(self, message: Wire) -> None:
        """Forget what is finished."""
        answer: Wire = {"deleted": [], "unfinished": [], "unknown": []}
        for run_id in message["runs"]:
            run = self.world.runs.get(run_id)
            ended = run is not None and run.state in TERMINAL
            answer["deleted" if ended else "unfinished" if run else "unknown"].append(run_id)
            if run and ended:
                self._forget_key(run)
                del self.world.runs[run_id]
        self.world.answers[message["id"]] = answer

    def give_up_waiting(self) -> None:
        """No worker has ended in time what was cancelled."""
        told, freed = defaultdict(list), set()
        for run in [run for run in self.world.runs.values() if run.state == "CANCELLING"]:
            told[run.pool_id, run.worker or ""].append((run.id, run.epoch))
            pool = self.world.pool_with_id(run.pool_id)
            freed.update([pool.name] if pool else [])
            self._finish(run, "CANCELLED", "Cancelled: its worker did not end it within 300 s", valid=False)
        self._unpark_freed()
        self._tell("revoked", told)
        for name in sorted(freed):
            self.claim(name)

    def _change_deployment(self, message: Wire) -> None:
        """What its schedules would not make any more goes; what waits for its limit may find room."""
        ident = message["deployment_id"]
        self._void_all(ident, f"Schedules of deployment '{message['deployment']}' were changed")
        if message["former_pool"]:
            self._move(ident)
        self._unpark(ident)
        for pool in sorted({message["pool"], message["former_pool"] or message["pool"]}):
            self.claim(pool)

    def _move(self, deployment_id: str) -> None:
        """What waits of a deployment waits where it belongs now."""
        deployment = self.world.deployment_with_id(deployment_id)
        pool = self.world.pools.get(deployment.pool) if deployment else None
        queue = pool.queue(deployment.queue) if pool and deployment else None
        for run in self.world.scheduled(deployment=deployment_id):
            if pool and queue and run.queue_id != queue.id:
                run.queue_id, run.pool_id, run.parked = queue.id, pool.id, False
                self.world.due.add(pool.name)

    def _void_all(self, deployment_id: str, why: str) -> None:
        deployment = self.world.deployment_with_id(deployment_id)
        told = defaultdict(list)
        for run in self.world.in_flight(deployment=deployment_id):
            revision = deployment.revision if deployment else None
            early = run.state == "PENDING" and run.count == 0 and run.due > self.world.now
            if run.scheduled and run.scheduled.revision != revision and early:
                told[run.pool_id, run.worker or ""].append((run.id, run.epoch))
                self._free(run)
                self._void(run, why)
        self._tell("revoked", told)
        for run in self.world.scheduled(deployment=deployment_id):
            if self._is_void(run, deployment) and self.world.queue_exists(run):
                self._void(run, why)

    def _delete_deployment(self, message: Wire) -> None:
        """Of one that moved, what its schedules make there again goes, and no limit holds up the rest."""
        ident = message["deployment_id"]
        if message["moved_to"] is not None:
            self._void_all(ident, f"Moved to work pool '{message['moved_to']}'")
            self._unpark(ident)
            return
        for run in self.world.scheduled(deployment=ident):
            if self.world.queue_exists(run):
                self._finish(run, "CANCELLED", f"Deployment '{message['deployment']}' was deleted", valid=False)

    def _cancel_waiting(self, queue_id: str, message: str) -> None:
        for run in self.world.scheduled(queue_id=queue_id):
            if run.scheduled:
                self._forget_key(run)
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
        self._unpark_freed()
        for worker, runs in revoked.items():
            self.world.inboxes[f"{message['pool']}/{worker}"].append(("revoked", *sorted(runs)))
        for key in [key for key, slots in self.world.slots.items() if key[0] == message["pool_id"] and slots.announced]:
            del self.world.slots[key]
        if message["pool"] not in self.world.pools:
            self.world.due.discard(message["pool"])
