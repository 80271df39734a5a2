"""Deployments as they should be defined; one part of :mod:`tests.services.domain_model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.services.domain_world import Deployment

if TYPE_CHECKING:
    from tests.services.domain_world import Wire, World

FIELDS: Final = ("pool", "queue", "tags", "description", "concurrency_limit", "collision_strategy")
KEEP_RUNS: Final = {"description", "concurrency_limit", "collision_strategy"}
"""Changes of these leave alone what schedules have made already."""


class Deployments:
    """Commands about deployments."""

    world: World

    def create_queue(self, command: Wire) -> str | None:
        raise NotImplementedError

    def create_deployment(self, command: Wire) -> str | None:
        known = self.world.deployments.get(command["deployment"])
        if known and not command["overwrite"]:
            return "conflict"
        if command["pool"] not in self.world.pools:
            return "not_found"
        self._have_queue(command["pool"], command["queue"])
        given = {name: command[name] for name in FIELDS}
        if known:
            self._change(known, {**given, **({} if command["paused"] is None else {"paused": command["paused"]})})
            return None
        created = Deployment(self.world.new_id("deployment"), command["deployment"], **given)
        created.paused = bool(command["paused"])
        self.world.deployments[created.name] = created
        self.world.deployment_ids.append(created.id)
        self.world.publish_deployment(created, "created")
        self._changed(created)
        return None

    def update_deployment(self, command: Wire) -> str | None:
        known, changes = self.world.deployments.get(command["deployment"]), command["changes"]
        if known is None:
            return "not_found"
        if {"pool", "queue"} & changes.keys():
            self._have_queue(changes.get("pool", known.pool), changes.get("queue", known.queue))
        pool = changes.get("pool", known.pool)
        if pool != known.pool and pool not in self.world.pools:
            return "not_found"
        self._change(known, changes)
        return None

    def pause_deployment(self, command: Wire) -> str | None:
        return self._pause(command, paused=True)

    def resume_deployment(self, command: Wire) -> str | None:
        return self._pause(command, paused=False)

    def _pause(self, command: Wire, *, paused: bool) -> str | None:
        if (known := self.world.deployments.get(command["deployment"])) is None:
            return "not_found"
        self._change(known, {"paused": paused})
        return None

    def delete_deployment(self, command: Wire) -> str | None:
        if (known := self.world.deployments.get(command["deployment"])) is None:
            return "not_found"
        self.world.publish_deployment(known, "deleted")
        del self.world.deployments[known.name]
        self._say("deployment.deleted", known, moved_to=command["moved_to"])
        return None

    def _have_queue(self, pool: str, queue: str) -> None:
        if pool in self.world.pools:
            self.create_queue({"pool": pool, "queue": queue, "if_missing": True})

    def _change(self, known: Deployment, changes: Wire) -> None:
        former = known.pool
        differences = {
            name: {"from": getattr(known, name), "to": changes[name]}
            for name in changes
            if getattr(known, name) != changes[name]
        }
        for name, difference in differences.items():
            setattr(known, name, difference["to"])
        known.revision += not KEEP_RUNS.issuperset(differences)
        if differences:
            self.world.publish_deployment(known, "updated", differences)
            self._changed(known, None if former == known.pool else former)

    def _changed(self, known: Deployment, former_pool: str | None = None) -> None:
        self._say("deployment.changed", known, former_pool=former_pool, revision=known.revision)

    def _say(self, kind: str, known: Deployment, **more: Any) -> None:
        about = {"deployment_id": known.id, "deployment": known.name, "pool": known.pool}
        self.world.streams["definitions"].append({"type": kind, **about, **more})
