"""Who is alive, as it should be judged; one part of :mod:`tests.services.domain_model`."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from tests.services.domain_world import Pool, Queue, Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.services.domain_world import Wire, World


class Monitor:
    """Who is alive. A heartbeat's place in the stream decides what is newer."""

    def __init__(self, world: World) -> None:
        self.world = world

    def read_heartbeats(self, batch: Iterable[tuple[int, int, Wire]]) -> None:
        """Take heartbeats: number in the stream, ms at which they were sent, what they say."""
        for entry, sent, beat in _without_overtaken(list(batch)):
            self._apply(entry, sent, beat)

    def _apply(self, entry: int, sent: int, beat: Wire) -> None:
        pool = self.world.pools.get(beat["pool"])
        if pool is None:
            self._refuse(beat, "unknown_pool")
            return
        known = self.world.workers.get((pool.id, beat["worker"])) or Worker(pool.id, beat["worker"])
        deadline = sent + 3 * round(beat["interval_seconds"] * 1000)
        if known.online and known.facts == beat:
            if entry > known.entry:
                known.entry, known.deadline = entry, max(known.deadline, deadline)
        elif beat["worker_type"] != pool.type:
            self._refuse(beat, "wrong_type")
        elif entry <= known.entry:
            pass
        elif beat["boot_id"] in known.previous_boots:
            self._refuse(beat, "superseded")
        else:
            self._change(pool, known, entry, deadline, beat)

    def _change(self, pool: Pool, worker: Worker, entry: int, deadline: int, beat: Wire) -> None:
        self.world.workers[pool.id, worker.name] = worker
        was_online, old, before = worker.online, worker.facts, self.world.statuses(pool)
        same_life = bool(old) and beat["boot_id"] == old["boot_id"]
        if old and not same_life:
            worker.previous_boots = (*worker.previous_boots, old["boot_id"])[-16:]
        # What an outage extended is not taken back, unless the worker promises another interval.
        same_interval = was_online and old["interval_seconds"] == beat["interval_seconds"]
        worker.deadline = max(deadline, worker.deadline) if same_interval else deadline
        worker.entry, worker.facts = entry, beat
        if beat["stopping"]:
            if was_online:
                self._lose(pool, worker, "stopped", before)
            worker.started = None
        else:
            worker.started = worker.started if same_life else None
            self._come_online(pool, worker, old if was_online and same_life else {}, before)
            if not same_life or beat["queues"] != old["queues"]:
                self._ask_for_queues(pool, beat["queues"])

    def _come_online(self, pool: Pool, worker: Worker, old: Wire, before: dict[str, str]) -> None:
        """Tell what a living worker makes known; ``old`` is what the same life said before, if it was ONLINE then."""
        beat, was_online = worker.facts, worker.online
        worker.online = True
        if worker.started is None:
            worker.started = self._publish(beat, "prefect.worker.started", pool)
        if not was_online:
            self._publish(beat, "penstock.worker.online", pool, {"boot_id": beat["boot_id"], "slots": beat["slots"]})
        moved = self._bind(pool, worker)
        self.world.publish_turns(pool, before)
        if beat["draining"] and not old.get("draining"):
            self._publish(beat, "penstock.worker.draining", pool)
        if moved or any(beat[name] != old.get(name) for name in ("slots", "queues", "prefetch_seconds", "draining")):
            self._announce(pool, worker)

    def _ask_for_queues(self, pool: Pool, names: list[str]) -> None:
        for name in names:
            if not pool.queue(name):
                self.world.streams["commands"].append(
                    {"type": "create_queue", "id": "", "pool": pool.name, "queue": name, "if_missing": True}
                )

    def _bind(self, pool: Pool, worker: Worker) -> bool:
        """See which queues the names a worker gives mean now; answer whether that is news."""
        named = worker.facts["queues"] if worker.online else []
        # That a queue is gone is no news of the worker.
        before = worker.bound & {queue.id for queue in pool.queues}
        worker.bound = frozenset(queue.id for queue in pool.queues if queue.name in named)
        return before != worker.bound

    def _lose(self, pool: Pool, worker: Worker, reason: str, before: dict[str, str]) -> None:
        worker.online = False
        self._bind(pool, worker)
        if reason == "stopped":
            self._publish(worker.facts, "prefect.worker.stopped", pool, follows=worker.started)
        self._publish(worker.facts, "penstock.worker.offline", pool, {"reason": reason})
        self.world.publish_turns(pool, before)
        self._tell_dispatcher("lose_worker", pool, worker, reason=reason)

    def _announce(self, pool: Pool, worker: Worker) -> None:
        beat = worker.facts
        slots = 0 if beat["draining"] else beat["slots"]
        prefetch_ms = round(beat["prefetch_seconds"] * 1000)
        self._tell_dispatcher(
            "announce_worker", pool, worker, slots=slots, queues=beat["queues"], prefetch_ms=prefetch_ms
        )

    def _tell_dispatcher(self, kind: str, pool: Pool, worker: Worker, **more: Any) -> None:
        worker.told += 1
        message = {"pool_id": pool.id, "pool": pool.name, "worker": worker.name, "boot_id": worker.facts["boot_id"]}
        self.world.streams["dispatch"].append({"type": kind, **message, "seq": worker.told, **more})

    def _publish(self, beat: Wire, name: str, pool: Pool, detail: Any = None, follows: int | None = None) -> int:
        related = [f"prefect.work-pool.{pool.id}"]
        counted = f"{pool.id}/{beat['worker']}"
        return self.world.publish(_resource(beat), name, related, detail, follows, counted)

    def _refuse(self, beat: Wire, code: str, deleted: Pool | None = None) -> None:
        """Once for each life and reason."""
        said = (beat["pool"], beat["worker"], code, beat["boot_id"])
        if said not in self.world.said_refusals:
            self.world.said_refusals.add(said)
            self.world.inboxes[f"{beat['pool']}/{beat['worker']}"].append(("refused", beat["boot_id"], code))
            pool = deleted or self.world.pools.get(beat["pool"])
            about = f"{beat['pool']}/{beat['worker']}/{code}/{beat['boot_id']}".encode()
            resource = f"{_resource(beat)}.refusal.{hashlib.sha1(about, usedforsecurity=False).hexdigest()}"
            related = [f"prefect.work-pool.{pool.id}"] if pool else []
            detail = {"boot_id": beat["boot_id"], "code": code}
            self.world.publish(resource, "penstock.worker.refused", related, detail)

    def read_definitions(self, batch: list[Wire]) -> None:
        for pool_id in dict.fromkeys(message["pool_id"] for message in batch if message["type"] == "pool.changed"):
            if pool := self.world.pool_with_id(pool_id):
                self._bind_queues(pool)
        for message in batch:
            if message["type"] == "queue.deleted":
                for worker in self.world.workers.values():
                    worker.bound -= {message["queue"]["id"]}
        for message in batch:
            if message["type"] == "pool.deleted":
                self._forget_pool(message)

    def _bind_queues(self, pool: Pool) -> None:
        before = self.world.statuses(pool)
        for worker in sorted(self.world.online(pool), key=lambda worker: worker.name):
            if self._bind(pool, worker):
                self._announce(pool, worker)
        self.world.publish_turns(pool, before)

    def _forget_pool(self, message: Wire) -> None:
        gone = Pool(message["pool_id"], message["pool"], "", Queue("", "", 0))
        for key in sorted(key for key in self.world.workers if key[0] == gone.id):
            worker = self.world.workers.pop(key)
            if worker.online:
                self._publish(worker.facts, "penstock.worker.offline", gone, {"reason": "pool-deleted"})
                self._refuse(worker.facts, "pool_deleted", gone)

    def sweep(self, *, outage: bool) -> int:
        """Judge who is alive; after an outage everybody gets three intervals from its end instead."""
        lost = 0
        for worker in sorted(self.world.workers.values(), key=lambda worker: worker.deadline):
            pool = self.world.pool_with_id(worker.pool_id)
            if outage:
                interval = round(worker.facts["interval_seconds"] * 1000)
                worker.deadline = max(worker.deadline, self.world.now + 3 * interval)
            elif worker.online and worker.deadline < self.world.now and pool:
                self._lose(pool, worker, "heartbeat-lost", self.world.statuses(pool))
                lost += 1
        return lost


def _resource(beat: Wire) -> str:
    return f"prefect.worker.{beat['worker_type']}.{beat['worker']}"


def _without_overtaken(batch: list[tuple[int, int, Wire]]) -> Iterator[tuple[int, int, Wire]]:
    """A heartbeat says everything, so of those of one life that follow each other in a batch only the newest counts."""
    batch = sorted(batch, key=lambda each: each[0])
    for place, (entry, sent, beat) in enumerate(batch):
        later = [
            other
            for _, _, other in batch[place + 1 :]
            if (other["pool"], other["worker"]) == (beat["pool"], beat["worker"])
        ]
        overtaken = later and later[0]["boot_id"] == beat["boot_id"] and not (later[0]["stopping"] or beat["stopping"])
        if not overtaken:
            yield entry, sent, beat
