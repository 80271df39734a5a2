"""A load that never stops: submissions, cancellations, pauses, limits, priorities; all of it written down."""

from __future__ import annotations

import asyncio
import contextlib
from random import Random
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.requests import request
from penstock.client import Penstock
from penstock.contracts.deployments import ScheduleSpec
from penstock.contracts.pools import ReadPool
from penstock.contracts.runs import CancelRuns, RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.errors import PenstockError, Refused
from penstock.streams import COMMANDS, DISPATCH
from tests.system.chaos.mix import EVERYTHING
from tests.system.history.records import now_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from tests.system.chaos.tail import Tail
    from tests.system.history import Recorder

POOL: Final = "etl"
QUEUES: Final[dict[str, tuple[int, int | None]]] = {
    "critical": (1, 2),
    "high": (5, 4),
    "low": (10, None),
    "default": (20, None),
}
DEPLOYMENTS: Final[dict[str, int]] = {"single": 1, "pair": 2, "ticks": 2}
POOL_LIMIT: Final = 8
MOST_OPEN: Final = 80
"""Accepted and not finished: enough that every gate is full, little enough that a calm is short."""
TIMEOUT_SECONDS: Final = 8.0
HOUR_MS: Final = 3_600_000


class Load:
    """Everything clients do.

    Args:
        client: of its own.
        recorder: told of everything.
        tail: knows what is open.
        seed: decides, for each of the things that go on at the same time by itself.
        changes: kinds of changes of definitions.
    """

    def __init__(
        self,
        client: Redis,
        recorder: Recorder,
        tail: Tail,
        seed: str,
        changes: Sequence[str] = EVERYTHING.changes,
    ) -> None:
        self._client, self._recorder, self._tail = client, recorder, tail
        self._submitting, self._changing, self._cancelling = (
            Random(f"{seed}/{what}") for what in ("submit", "change", "cancel")
        )
        self._changes = changes
        self._penstock = Penstock(client, 1, timeout_seconds=TIMEOUT_SECONDS)
        self._deployment_ids: dict[str, str] = {}
        self._usual: dict[str, int | None] = {"pool": POOL_LIMIT}
        self._usual |= {f"queue/{name}": limit for name, (_, limit) in QUEUES.items()}
        self._usual |= {f"deployment/{name}": limit for name, limit in DEPLOYMENTS.items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted: set[str] = set()
        self.recent: list[str] = []
        self.commands = 0
        self.on = False

    async def define(self, on_worker_lost: str) -> None:
        """Make pool, queues and deployments, and write down what they are."""
        fields: Any = {"on_worker_lost": on_worker_lost, "max_attempts": 1000}
        await self._penstock.create_pool(POOL, concurrency_limit=POOL_LIMIT, **fields)
        self._set("limit", "pool", POOL_LIMIT)
        for name, (priority, limit) in QUEUES.items():
            if name == "default":
                await self._penstock.update_queue(POOL, name, priority=priority)
            else:
                await self._penstock.create_queue(POOL, name, priority=priority, concurrency_limit=limit)
            self._set("limit", f"queue/{name}", limit)
        await self._read_priorities()
        for name, limit in DEPLOYMENTS.items():
            schedules = [ScheduleSpec(interval_seconds=1, catch_up="all")] if name == "ticks" else []
            made = await self._penstock.create_deployment(
                f"chaos/{name}", pool=POOL, queue="low", command="true", concurrency_limit=limit, schedules=schedules
            )
            self._deployment_ids[name] = made.id
            self._set("limit", f"deployment/{name}", limit)

    def loops(self) -> list[Awaitable[None]]:
        """What runs beside the faults."""
        return [
            self._while_on(self._submit_some, self._submitting, 0.02, 0.25),
            self._while_on(self._change_something, self._changing, 0.1, 0.7),
            self._while_on(self._cancel_some, self._cancelling, 0.3, 1.5),
        ]

    async def settle(self) -> None:
        """Undo every pause and make no more runs; go on trying until it is so."""
        self.on = False
        await asyncio.gather(*self._tasks)
        for of in ("pool", *(f"queue/{name}" for name in QUEUES)):
            await self._until_answered("paused", of, value=False)
        # A pool of one slot would need its time for what is open, whatever recovers.
        for of, limit in self._usual.items():
            await self._until_answered("limit", of, limit)
        with contextlib.suppress(PenstockError):
            await self._penstock.pause_deployment("chaos/ticks")

    async def resume(self) -> None:
        """Begin, or begin again."""
        with contextlib.suppress(PenstockError):
            await self._penstock.resume_deployment("chaos/ticks")
        self.on = True

    async def close(self) -> None:
        """Wait for nothing any more."""
        await end_tasks(self._tasks)

    async def until_finished(self) -> None:
        """Wait until nobody waits for a run any more."""
        while True:
            await self._forget_the_forgotten()
            if not self.unfinished():
                return
            await asyncio.sleep(0.05)

    async def _forget_the_forgotten(self) -> None:
        """Wait no more for what was accepted and is not there: whether it may be so is for the history to judge."""
        for run in [run for run in self.accepted if run not in self._tail.states]:
            with contextlib.suppress(RedisError, OSError):
                if not await self._client.exists(keys.key(0, "run", run)):
                    self.accepted.discard(run)

    def unfinished(self) -> set[str]:
        """Runs that somebody waits for."""
        return self._tail.open | {run for run in self.accepted if run not in self._tail.states}

    # Runs

    async def _while_on(self, act: Callable[[], Awaitable[None]], chance: Random, least: float, most: float) -> None:
        while True:
            if self.on:
                # Shielded by being a task of its own: a calm waits for it, and does not cut it short.
                task = asyncio.ensure_future(act())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                if act != self._submit_some:
                    await asyncio.wait({task})
            await asyncio.sleep(chance.uniform(least, most))

    def _run(self, label: str | None, queue: str) -> SubmittedRun:
        run_id = new_run_id(0)
        if self._submitting.random() < 0.1:
            # A submitter whose clock is an hour wrong.
            shifted = int(run_id[:8] + run_id[9:13], 16) + self._submitting.choice([-1, 1]) * HOUR_MS
            run_id = f"{shifted:012x}"[:8] + "-" + f"{shifted:012x}"[8:] + run_id[13:]
        delay = self._submitting.choice([0, 0.3])
        return SubmittedRun(
            id=run_id,
            name=f"{queue}-{len(self.accepted)}",
            queue=queue,
            deployment=self._deployment_ids[label] if label else None,
            retries=self._submitting.choice([0, 0, 2]),
            retry_delay_seconds=delay,
            spec=RunSpec(command="true"),
        )

    async def _submit_some(self) -> None:
        if len(self.unfinished()) > MOST_OPEN or len(self._tasks) > 10:
            return
        queue = self._submitting.choice(list(QUEUES))
        labels = [
            self._submitting.choice([None, None, "single", "pair"]) for _ in range(self._submitting.randint(1, 8))
        ]
        runs = [self._run(label, queue) for label in labels]
        self._recorder.write(
            "submit",
            runs=[
                {
                    "id": run.id,
                    "queue": queue,
                    "deployment": label,
                    "due": None,
                    "delay": int(run.retry_delay_seconds * 1000),
                }
                for run, label in zip(runs, labels, strict=True)
            ],
        )
        self.commands += 1
        try:
            answer = await request(self._client, DISPATCH, 0, SubmitRuns(pool=POOL, runs=runs), TIMEOUT_SECONDS)
        except PenstockError as problem:
            self._recorder.write("note", text=f"submission unanswered: {problem}")
            return
        self._recorder.write("accepted", runs=answer["accepted"])
        self.accepted.update(answer["accepted"])
        self.recent = [*self.recent, *answer["accepted"]][-100:]

    async def _cancel_some(self) -> None:
        if not self.recent:
            return
        chosen = self._cancelling.sample(self.recent, min(3, len(self.recent)))
        self._recorder.write("cancel", runs=chosen)
        command = CancelRuns(runs=chosen, force=self._cancelling.random() < 0.3)
        with contextlib.suppress(PenstockError):
            await request(self._client, DISPATCH, 0, command, TIMEOUT_SECONDS)

    # Definitions

    async def _change_something(self) -> None:
        kind = self._changing.choice(self._changes)
        queue = self._changing.choice(list(QUEUES))
        if kind == "pause":
            of = self._changing.choice(["pool", f"queue/{queue}"])
            await self._change("paused", of, value=True)
            await asyncio.sleep(self._changing.uniform(0.05, 1))
            await self._until_answered("paused", of, value=False)
        elif kind == "limit":
            deployment = self._changing.choice(["single", "pair"])
            of, most = self._changing.choice([("pool", 10), (f"queue/{queue}", 5), (f"deployment/{deployment}", 3)])
            await self._change("limit", of, self._changing.randint(1, most))
        elif kind == "read":
            with contextlib.suppress(PenstockError):
                await request(self._client, COMMANDS, 0, ReadPool(pool=POOL), TIMEOUT_SECONDS)
        else:
            await self._swap_priority(queue)

    async def _until_answered(self, what: str, of: str, value: Any) -> None:
        while True:
            if await self._change(what, of, value):
                return
            await asyncio.sleep(0.2)

    async def _change(self, what: str, of: str, value: Any) -> bool:
        """Change one thing, and write down from when on it counts."""
        sent = now_ms()
        ok: bool | None = None
        try:
            await self._send(what, of, value)
            ok = True
        except Refused as problem:
            ok = False
            self._recorder.write("note", text=f"{what} of {of} refused: {problem}")
        except PenstockError as problem:
            self._recorder.write("note", text=f"{what} of {of} unanswered: {problem}")
        self.commands += 1
        self._recorder.write(
            "setting",
            what=what,
            of=of,
            value=value,
            sent=sent,
            answered=now_ms() if ok else None,
            ok=ok,
            until=sent + int(TIMEOUT_SECONDS * 1000),
        )
        return bool(ok)

    async def _send(self, what: str, of: str, value: Any) -> None:
        kind, _, name = of.partition("/")
        do = self._penstock
        match what, kind:
            case "paused", "pool":
                await (do.pause_pool(POOL) if value else do.resume_pool(POOL))
            case "paused", _:
                await (do.pause_queue(POOL, name) if value else do.resume_queue(POOL, name))
            case _, "pool":
                await do.update_pool(POOL, concurrency_limit=value)
            case _, "queue":
                await do.update_queue(POOL, name, concurrency_limit=value)
            case _:
                await do.update_deployment(f"chaos/{name}", concurrency_limit=value)

    async def _swap_priority(self, queue: str) -> None:
        """Others may shift: what they are is not known before they have been read."""
        sent = now_ms()
        until = sent + int(TIMEOUT_SECONDS * 1000)
        unknown = [{"what": "priority", "of": f"queue/{name}", "value": None, "sent": sent} for name in QUEUES]
        for line in unknown:
            self._recorder.write("setting", **line, answered=sent, ok=True, until=until)
        try:
            await self._penstock.update_queue(POOL, queue, priority=self._changing.randint(1, 20))
            await self._read_priorities()
        except PenstockError:
            # It may still be made, also after they have been read again.
            for line in unknown:
                self._recorder.write("setting", **line, answered=None, ok=None, until=until)

    async def _read_priorities(self) -> None:
        for queue in await self._penstock.read_queues(POOL):
            self._set("priority", f"queue/{queue.name}", queue.priority)

    def _set(self, what: str, of: str, value: Any) -> None:
        now = now_ms()
        self._recorder.write("setting", what=what, of=of, value=value, sent=now, answered=now, ok=True)


async def slow_consumer(client: Redis, stream: str) -> None:
    """A group that reads one event a second and acknowledges none."""
    while True:
        with contextlib.suppress(RedisError, OSError):
            with contextlib.suppress(RedisError):
                await client.xgroup_create(stream, "slow", id="0", mkstream=True)
            await client.xreadgroup("slow", "one", {stream: ">"}, count=1)
        await asyncio.sleep(1)
