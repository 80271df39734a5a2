"""Definitions as they should change; one part of :mod:`tests.services.domain_model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.services.domain_deployments import Deployments
from tests.services.domain_world import Pool, Queue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.services.domain_world import Wire, World


class Registry(Deployments):
    """Definitions: one command after the other; one that was answered is not executed again."""

    def __init__(self, world: World) -> None:
        self.world = world

    def read(self, commands: Iterable[Wire]) -> None:
        for command in commands:
            if not command["id"] or command["id"] not in self.world.answers:
                verdict = getattr(self, command["type"])(command) or "ok"
                self.world.answers[command["id"]] = verdict

    def _tell(self, kind: str, pool: Pool, **more: Any) -> None:
        self.world.streams["definitions"].append({"type": kind, "pool_id": pool.id, "pool": pool.name, **more})

    def _pool(self, command: Wire) -> Pool | None:
        return self.world.pools.get(command["pool"])

    def _queue(self, command: Wire) -> tuple[Pool | None, Queue | None]:
        pool = self._pool(command)
        return pool, pool.queue(command["queue"]) if pool else None

    def create_pool(self, command: Wire) -> str | None:
        pool = self._pool(command)
        if pool is not None:
            if pool.type != command["worker_type"] or not (command["if_missing"] or command["overwrite"]):
                return "conflict"
            names = ("description", "concurrency_limit", "base_job_template", "on_worker_lost", "max_attempts")
            changes = {name: command.get(name, getattr(Pool, name, {})) for name in names}
            if command["overwrite"]:
                self._change_pool(pool, changes, pause=command["is_paused"])
            return None
        default = Queue(self.world.new_id("queue"), "default", 1)
        pool = Pool(self.world.new_id("pool"), command["pool"], command["worker_type"], default, queues=[default])
        for name in ("is_paused", "concurrency_limit", "on_worker_lost", "max_attempts"):
            setattr(pool, name, command[name])
        self.world.pools[pool.name] = pool
        self.world.publish_queue(pool, default, "created")
        self.world.publish_pool(pool, "created")
        self.world.publish_pool_status(pool)
        self._tell("pool.changed", pool)
        return None

    def update_pool(self, command: Wire) -> str | None:
        if (pool := self._pool(command)) is None:
            return "not_found"
        self._change_pool(pool, command["changes"])
        return None

    def _change_pool(self, pool: Pool, changes: Wire, *, pause: bool = False) -> None:
        differences = _set(pool, changes)
        if differences:
            self.world.publish_pool(pool, "updated", differences)
        pauses = pause and not pool.is_paused
        if pauses:
            pool.is_paused = True
            self.world.publish_pool_status(pool)
        if differences or pauses:
            self._tell("pool.changed", pool)

    def pause_pool(self, command: Wire) -> str | None:
        return self._pause_pool(command, paused=True)

    def resume_pool(self, command: Wire) -> str | None:
        return self._pause_pool(command, paused=False)

    def _pause_pool(self, command: Wire, *, paused: bool) -> str | None:
        if (pool := self._pool(command)) is None:
            return "not_found"
        if pool.is_paused != paused:
            pool.is_paused = paused
            self.world.publish_pool_status(pool)
            self._tell("pool.changed", pool)
        return None

    def delete_pool(self, command: Wire) -> str | None:
        if (pool := self._pool(command)) is None:
            return "not_found"
        for queue in pool.by_priority():
            self.world.publish_queue(pool, queue, "deleted")
        self.world.publish_pool(pool, "deleted")
        del self.world.pools[pool.name]
        self._tell("pool.deleted", pool, queues=[_gone(queue) for queue in pool.by_priority()])
        return None

    def create_queue(self, command: Wire) -> str | None:
        if (pool := self._pool(command)) is None:
            return "not_found"
        if pool.queue(command["queue"]):
            return None if command["if_missing"] else "conflict"
        taken = {queue.priority for queue in pool.queues}
        free = next(number for number in range(1, len(taken) + 2) if number not in taken)
        priority = command.get("priority") or free
        self._make_room(pool, priority)
        queue = Queue(self.world.new_id("queue"), command["queue"], priority, command.get("concurrency_limit"))
        queue.is_paused = command.get("is_paused", False)
        pool.queues.append(queue)
        self.world.publish_queue(pool, queue, "created")
        if self.world.queue_status(pool, queue) == "ready":
            self.world.publish_queue(pool, queue, "ready")
        self._tell("pool.changed", pool)
        return None

    def _make_room(self, pool: Pool, priority: int, mover: Queue | None = None) -> None:
        """Whoever stands at the number moves on by one, and so does whom it pushes, until a gap or the mover's old place."""
        others = {queue.priority: queue for queue in pool.queues if queue is not mover}
        if (holder := others.get(priority)) is not None:
            self._make_room(pool, priority + 1, mover)
            self.world.publish_queue(pool, holder, "updated", _set(holder, {"priority": priority + 1}))

    def update_queue(self, command: Wire) -> str | None:
        (pool, queue), changes = self._queue(command), command["changes"]
        if pool is None or queue is None:
            return "not_found"
        if changes.get("name", queue.name) != queue.name and pool.queue(changes["name"]):
            return "conflict"
        if "priority" in changes:
            self._make_room(pool, changes["priority"], queue)
        if differences := _set(queue, changes):
            self.world.publish_queue(pool, queue, "updated", differences)
            self._tell("pool.changed", pool)
        return None

    def pause_queue(self, command: Wire) -> str | None:
        return self._pause_queue(command, paused=True)

    def resume_queue(self, command: Wire) -> str | None:
        return self._pause_queue(command, paused=False)

    def _pause_queue(self, command: Wire, *, paused: bool) -> str | None:
        pool, queue = self._queue(command)
        if pool is None or queue is None:
            return "not_found"
        if queue.is_paused != paused:
            queue.is_paused = paused
            self.world.publish_queue(pool, queue, self.world.queue_status(pool, queue))
            self._tell("pool.changed", pool)
        return None

    def delete_queue(self, command: Wire) -> str | None:
        pool, queue = self._queue(command)
        if pool is None or queue is None:
            return "not_found"
        if queue is pool.default:
            return "conflict"
        pool.queues.remove(queue)
        self.world.publish_queue(pool, queue, "deleted")
        self._tell("queue.deleted", pool, queue=_gone(queue))
        return None


def _gone(queue: Queue) -> Wire:
    return {"id": queue.id, "name": queue.name}


def _set(record: Pool | Queue, changes: Wire) -> Wire:
    """Set fields; answer what differed as an event tells it."""
    order = [
        "name",
        "description",
        "concurrency_limit",
        "base_job_template",
        "on_worker_lost",
        "max_attempts",
        "priority",
    ]
    differences = {}
    for name in sorted(changes, key=order.index):
        if getattr(record, name) != changes[name]:
            differences[name] = {"from": getattr(record, name), "to": changes[name]}
            setattr(record, name, changes[name])
    return differences
