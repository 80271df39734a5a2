"""The whole domain in plain Python: what pools, queues, workers and runs do, and every event in its order.

Three parts read messages as the three services do and change one :class:`World`. They are written from what the domain promises,
not from the scripts: statuses are derived from who serves what, a claim looks at everything each time, nothing is indexed.
Ids are symbols (``pool-1``, ``queue-3``), the n-th that was created; the token of a claim is ``<run>.<epoch>``.
:class:`Model` puts the parts together: messages are sent, then everybody reads until nothing is unread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.services.domain_dispatcher import Dispatcher
from tests.services.domain_monitor import Monitor
from tests.services.domain_registry import Registry
from tests.services.domain_world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.services.domain_world import Pool, Wire


class Reader(NamedTuple):
    """One service and one stream it reads."""

    service: str
    stream: str


COMMANDS: Final = Reader("pool_registry", "commands")
HEARTBEATS: Final = Reader("heartbeat_monitor", "heartbeats")
DEFINITIONS: Final = Reader("heartbeat_monitor", "definitions")
DISPATCH: Final = Reader("dispatcher", "dispatch")
CHANGES: Final = Reader("dispatcher", "definitions")
FIRST: Final = (COMMANDS, HEARTBEATS, DEFINITIONS)
THEN: Final = (DISPATCH, CHANGES)
"""Who reads first does not matter to what is promised, but to who gets what: registry and monitor first, until nothing is new."""


class Model:
    """The three parts and the streams between them."""

    def __init__(self, now: int) -> None:
        self.world = World(now)
        self.monitor = Monitor(self.world)
        self.registry = Registry(self.world)
        self.dispatcher = Dispatcher(self.world, self.registry)
        self.one_by_one = False
        """Whether everybody reads only one message at a time."""
        self._done = dict.fromkeys((*FIRST, *THEN), 0)

    def send(self, stream: str, message: Any) -> None:
        self.world.streams[stream].append(message)

    def settle(self) -> None:
        """Let everybody read until nothing is unread."""
        while self._read_by(FIRST) or self._read_by(THEN):
            pass
        self.dispatcher.look()

    def _read_by(self, readers: Iterable[Reader]) -> bool:
        return any([self._read_new(reader) for reader in readers])  # noqa: C419 - everybody reads, not only the first

    def again(self, reader: Reader, place: int) -> None:
        """Deliver one message once more."""
        self._read(reader, [self.world.streams[reader.stream][place]])

    def _read_new(self, reader: Reader) -> bool:
        new = self.world.streams[reader.stream][self._done[reader] :][: 1 if self.one_by_one else None]
        self._done[reader] += len(new)
        if new:
            self._read(reader, new)
        return bool(new)

    def _read(self, reader: Reader, messages: list[Any]) -> None:
        parts: dict[Reader, Callable[[list[Any]], None]] = {
            COMMANDS: self.registry.read,
            HEARTBEATS: self.monitor.read_heartbeats,
            DEFINITIONS: self.monitor.read_definitions,
            DISPATCH: self.dispatcher.read_dispatch,
            CHANGES: self.dispatcher.read_definitions,
        }
        asked = len(self.world.streams["commands"])
        parts[reader](messages)
        if reader == DISPATCH:
            # What the dispatcher asks of the registry has been answered in between.
            self._done[COMMANDS] += len(self.world.streams["commands"]) - asked

    def seen(self) -> Wire:
        """Everything an onlooker can see."""
        world = self.world
        return {
            "pools": {pool.name: self._pool(pool) for pool in world.pools.values()},
            "workers": {
                f"{worker.pool_id}/{worker.name}": ("ONLINE" if worker.online else "OFFLINE", worker.facts["boot_id"])
                for worker in world.workers.values()
            },
            "runs": {
                run.id: (
                    *(run.state, run.label, run.queue_id, run.count, run.epoch, run.retries),
                    run.worker if run.holds else None,
                )
                for run in world.runs.values()
            },
            "deployments": {ident: self._deployment(ident) for ident in world.deployment_ids},
            "cancelling": {run.id for run in world.in_flight() if run.state == "CANCELLING"},
            "known by a key": sorted(world.idempotency.values()),
            "due": world.due,
            "inboxes": {name: inbox for name, inbox in world.inboxes.items() if inbox},
            "dead letters": world.dead_letters,
        }

    def _deployment(self, ident: str) -> Wire:
        deployment = self.world.deployment_with_id(ident)
        names = ("concurrency_limit", "collision_strategy", "revision", "paused")
        return {
            "defined": {name: getattr(deployment, name) for name in names} if deployment else None,
            "waiting": {run.id for run in self.world.scheduled(deployment=ident)},
            "parked": {queue: [run.id for run in runs] for queue, runs in self.world.parked(ident).items()},
            "in flight": {run.id for run in self.world.in_flight(deployment=ident)},
        }

    def _pool(self, pool: Pool) -> Wire:
        world = self.world
        offers = {name: self.dispatcher.free(pool.id, name) for pool_id, name in world.slots if pool_id == pool.id}
        offers = {name: free for name, free in offers.items() if free > 0}
        held = {name: {run.id for run in world.in_flight(pool_id=pool.id, worker=name)} for _, name in world.slots}

        def named(name: str) -> tuple[str, ...] | None:
            return world.slots[pool.id, name].queues

        return {
            **{
                name: getattr(pool, name) for name in ("id", "type", "is_paused", "concurrency_limit", "on_worker_lost")
            },
            "status": world.pool_status(pool),
            "in flight": {run.id for run in world.in_flight(pool_id=pool.id)},
            "offers": {name: free for name, free in offers.items() if named(name) is None},
            "held": {name: runs for name, runs in held.items() if runs},
            "queues": [
                {
                    **{
                        name: getattr(queue, name)
                        for name in ("id", "name", "priority", "concurrency_limit", "is_paused")
                    },
                    "status": world.queue_status(pool, queue),
                    "waiting": [run.id for run in world.waiting(queue.id)],
                    "in flight": {run.id for run in world.in_flight(queue_id=queue.id)},
                    "offers": {name: free for name, free in offers.items() if queue.id in (named(name) or ())},
                }
                for queue in pool.by_priority()
            ],
        }
