"""How a story is told to services and model, and held against both; for ``test_domain_model.py``."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine

from penstock.bus.connection import redis_now_ms
from penstock.contracts.runs import new_run_id
from tests.services.domain_model import DISPATCH, FIRST, THEN, Model, Reader
from tests.services.domain_on_redis import Services

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator, Sequence

    from tests.services.domain_world import Event, Wire


class ToldTwice(RuleBasedStateMachine):
    """A story without its rules."""

    redis_url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self.services = Services(self.redis_url)
        self.model = Model(self._do(self._begin()))
        self.world = self.model.world
        self._claims: dict[tuple[str, int], tuple[str, str]] = {}
        self._sent = 0
        self._told = 0
        self._parted = False
        self._known: list[str] = []
        self._messages = {"commands": 0, "dispatch": 0, "definitions": 0}

    async def _begin(self) -> int:
        await self.services.client.flushall()
        return await redis_now_ms(self.services.client)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def teardown(self) -> None:
        try:
            if not self._parted:
                self._settle()
                self._delete_everything()
        finally:
            self._do(self.services.close())
            self._runner.close()

    def _delete_everything(self) -> None:
        """What is gone leaves nothing behind: only streams, and when liveness was last judged."""
        pools = [{"type": "delete_pool", "pool": pool} for pool in sorted(self.world.pools)]
        about = {"type": "delete_deployment", "moved_to": None}
        deployments = [{**about, "deployment": name} for name in sorted(self.world.deployments)]
        for command in [*pools, *deployments] if self._sent % 2 else [*deployments, *pools]:
            self._send("commands", command, soon=True)
        left = self._do(self.services.left_for_ever())
        streams = {reader.stream for reader in (*FIRST, *THEN)} | {"events", "dead"}
        assert_same(left - streams - {"liveness-tick"}, set())
        assert [run.id for run in self.world.runs.values() if run.state == "SCHEDULED" or run.holds] == []

    # How it is told.

    def _next_id(self) -> str:
        self._sent += 1
        return f"sent-{self._sent}"

    def _send(self, stream: str, message: Any, *, soon: bool) -> None:
        if stream == "commands":
            message = {"id": self._next_id(), **message}
        self.model.send(stream, message)
        self._do(self.services.send(stream, message))
        if soon:
            self._settle()

    def _last_id(self, deployment: str) -> str:
        """The id of a deployment; one that is gone may still be named."""
        known = self.world.deployments.get(deployment)
        return known.id if known else self.world.deployment_ids[-1]

    def _submits_deleted(self, reader: Reader, message: Any) -> bool:
        return (
            reader == DISPATCH
            and message["type"] == "submit_runs"
            and not {run["id"] for run in message["runs"]} <= self.world.runs.keys()
        )

    def create_deployment(self, name: str, **about: Any) -> None:
        command: Wire = {
            "type": "create_deployment",
            "command": ["true"],
            "deployment": name,
            "pool": "etl",
            "queue": "default",
            "concurrency_limit": None,
            "collision_strategy": "enqueue",
            "tags": [],
            "description": None,
            "paused": None,
            "overwrite": False,
        }
        self._send("commands", {**command, **about}, soon=True)

    def _cancel(self, runs: list[str], *, force: bool, soon: bool) -> None:
        message = {"type": "cancel_runs", "id": self._next_id(), "runs": runs, "force": force, "message": ""}
        self._send("dispatch", message, soon=soon)

    def _submit(self, pool: str, runs: Iterable[tuple[str, int | None]], *, soon: bool, **about: Any) -> None:
        rest = {"deployment": None, "by": None, "key": None, "retries": 0, "delay": 0, **about}
        told = [
            {"id": new_run_id(0), "queue": queue, "due": self.world.now + (later or 0), "at": later, **rest}
            for queue, later in runs
        ]
        self._known.extend(run["id"] for run in told)
        self._send("dispatch", {"type": "submit_runs", "id": self._next_id(), "pool": pool, "runs": told}, soon=soon)

    def _report_held(self, which: Sequence[int], state: str, started_ms: int | None, *, soon: bool) -> None:
        """Reports of a worker that holds what it reports."""
        held = self._held()
        chosen = [held[index % len(held)] for index in which]
        pool, worker = self._claims[chosen[0]]
        mine = [claim for claim in chosen if self._claims[claim] == (pool, worker)]
        self._report(
            pool, worker, [(run, epoch, f"{run}.{epoch}") for run, epoch in mine], state, started_ms, soon=soon
        )

    def _report(
        self,
        pool: str,
        worker: str,
        claims: Sequence[tuple[str, int, str]],
        state: str,
        started_ms: int | None,
        *,
        soon: bool,
    ) -> None:
        about = {"state": state, "message": "as the worker says", "started_ms": started_ms}
        reports = [{"run": run, "epoch": epoch, "token": token, **about} for run, epoch, token in claims]
        message = {"type": "report_runs", "pool": pool, "worker": worker, "reports": reports}
        self._send("dispatch", message, soon=soon)

    def _held(self) -> list[tuple[str, int]]:
        held = [(run.id, run.epoch) for run in self.world.in_flight()]
        return [claim for claim in held if claim in self._claims]

    # What must be the same.

    def _settle(self) -> None:
        self.model.settle()
        self._parted = True
        self._do(self._compare())
        self._parted = False
        assert self.model.dispatcher.can_claim() == [], "a due run and a free slot were left apart"
        for name, inbox in self.world.inboxes.items():
            pool, _, worker = name.partition("/")
            self._claims.update({(said[1], said[2]): (pool, worker) for said in inbox if said[0] == "assigned"})

    async def _compare(self) -> None:
        await self.services.settle()
        told, self._told = self.world.events[self._told :], len(self.world.events)
        assert_same(_by_resource(await self.services.events()), _by_resource(told))
        answered = await self.services.replies()
        assert_same(answered, {command_id: self.world.answers[command_id] for command_id in answered})
        for stream, count in self._messages.items():
            expected = self.world.streams[stream][count:]
            self._messages[stream] += len(expected)
            assert_same([_essence(sent) for sent in await self.services.messages(stream)], [*map(_essence, expected)])
        real, model = await self.services.seen(), self.model.seen()
        # Waking up once too often harms nobody.
        assert model.pop("due") <= real.pop("due")
        assert_same(_waiting_somewhere(real), _waiting_somewhere(model))


def _waiting_somewhere(seen: Any) -> Any:
    """Where a run waits that nobody can take now, in its queue or set aside, is the services' own business."""
    aside: dict[str, list[str]] = defaultdict(list)
    for deployment in seen["deployments"].values():
        for queue, runs in deployment.pop("parked").items():
            aside[queue] += runs
    for pool in seen["pools"].values():
        for queue in pool["queues"]:
            queue["waiting"] = sorted({*queue["waiting"], *aside[queue["id"]]})
    return seen


def assert_same(real: Any, model: Any) -> None:
    """Say where two trees part, not only that they do."""
    apart = list(_apart(real, model, ""))
    assert not apart, "\n".join(apart)


def _apart(real: Any, model: Any, place: str) -> Iterator[str]:
    if isinstance(real, dict) and isinstance(model, dict):
        for name in dict.fromkeys([*real, *model]):
            yield from _apart(real.get(name), model.get(name), f"{place}/{name}")
    elif real != model:
        yield f"{place}:\n  services {real}\n  model    {model}"


def _by_resource(events: Iterable[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[event.resource].append(event)
    return dict(found)


def _essence(message: Wire) -> Wire:
    """What matters of a message: of one that was sent by a client, that it is there."""
    if message["type"] in ("submit_runs", "report_runs", "cancel_runs", "delete_runs"):
        return {"type": message["type"]}
    if message["type"] == "create_queue":
        return {"type": "create_queue", "pool": message["pool"], "queue": message["queue"]}
    return {name: message[name] for name in message if name not in ("seq", "worker_type", "id")}
