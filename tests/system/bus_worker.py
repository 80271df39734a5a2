"""A worker that knows nothing but the bus: what somebody would write in another language."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import TYPE_CHECKING, Any, Self

import orjson
from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.connection import connect, reconnections

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

    from redis.asyncio import Redis

    from tests.system.history import Recorder

AGAIN_SECONDS = 0.1
"""Pause before something is sent again that Redis did not take."""
ENDS_KEPT = 10_000
"""How many ends are remembered, in case Redis forgets that they were reported."""


class BusWorker:
    """Heartbeats, takes assignments, reports them; can be killed without a word.

    Args:
        url: of Redis.
        pool: its name.
        name: the worker's name.
        slots: how many runs at the same time.
        interval: seconds between heartbeats.
        work_seconds: a run takes a random time up to this.
        fails: the part of the runs that fail, 0 to 1.
        long: the part of the runs that take ten times as long, 0 to 1.
        queues: names of the queues it serves; none means all.
        clock_off_ms: how wrong this host's clock is; for what the worker says, not for when it does something.
        twice: the part of the reports that are sent twice, 0 to 1.
        hurry: while this file is there, a run takes no time.
        recorder: told of every claim and every report.
    """

    def __init__(
        self,
        url: str,
        pool: str,
        name: str,
        *,
        slots: int = 5,
        interval: float = 0.5,
        work_seconds: float = 0.02,
        fails: float = 0,
        long: float = 0,
        queues: Sequence[str] = (),
        clock_off_ms: int = 0,
        twice: float = 0,
        hurry: Path | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._client: Redis = connect(url)
        self._pool, self._name, self._slots, self._queues = pool, name, slots, list(queues)
        self._interval, self._work_seconds, self._fails, self._long = interval, work_seconds, fails, long
        self._clock_off_ms, self._twice, self._recorder = clock_off_ms, twice, recorder
        self._hurry = hurry
        self._boot_id = f"{random.getrandbits(64):016x}"
        self._tasks: set[asyncio.Task[None]] = set()
        self._beats = itertools.count()
        # Of claims, by their tokens.
        self._stopped: dict[str, asyncio.Event] = {}
        self._started_ms: dict[str, int] = {}
        self._void: set[str] = set()
        self._ends: dict[str, tuple[dict[str, Any], str, int]] = {}
        self.heard = asyncio.Event()
        """While it is not set, nobody hears a heartbeat; the worker works on."""
        self.heard.set()
        self.executed: list[str] = []
        self.held: dict[str, dict[str, Any]] = {}

    @property
    def name(self) -> str:
        """The worker's name."""
        return self._name

    async def __aenter__(self) -> Self:
        self._write("worker", boot=self._boot_id, queues=self._queues, slots=self._slots)
        self._spawn(self._beat())
        self._spawn(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    async def kill(self) -> None:
        """End at once: no report, no last heartbeat."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # The client may take a cancellation for a time-out of its own, and go on.
            await asyncio.wait(self._tasks, timeout=0.2)
        await self._client.aclose()

    async def insist(self, runs: Sequence[dict[str, Any]], seconds: float) -> None:
        """Say again and again that these claims are done, whoever holds the runs by now."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for run in runs:
                await self._report(run, "COMPLETED", 1)
            await asyncio.sleep(AGAIN_SECONDS / 4)

    def _spawn(self, body: Any) -> None:
        task = asyncio.create_task(body)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _write(self, kind: str, **facts: Any) -> None:
        if self._recorder:
            self._recorder.write(kind, worker=self._name, **facts)

    async def _send(self, family: str, message: dict[str, Any]) -> None:
        fields: Any = {"type": message["type"], "__data__": orjson.dumps(message)}
        while True:
            try:
                await self._client.xadd(keys.key(0, family), fields)
            except (RedisError, OSError):
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return

    async def _beat(self) -> None:
        while True:
            await self.heard.wait()
            await self._send_heartbeat()
            await asyncio.sleep(self._interval)

    async def _send_heartbeat(self) -> None:
        if not self.heard.is_set():
            return
        await self._send(
            "heartbeats",
            {
                "type": "worker.heartbeat",
                "pool": self._pool,
                "worker": self._name,
                "worker_type": "process",
                "boot_id": self._boot_id,
                "seq": next(self._beats),
                "interval_seconds": self._interval,
                "slots": self._slots,
                "queues": self._queues,
            },
        )

    async def _read(self) -> None:
        inbox = keys.key(0, "inbox", f"{self._pool}/{self._name}")
        last = b"0"
        known = reconnections(self._client)
        while True:
            try:
                answer: Any = await self._client.xread({inbox: last}, block=1000)
            except (RedisError, OSError):
                await asyncio.sleep(AGAIN_SECONDS)
                continue
            for entry_id, fields in answer[0][1] if answer else []:
                last = entry_id
                self._take(orjson.loads(fields[b"__data__"]), int(entry_id.partition(b"-")[0]))
            if reconnections(self._client) != known:
                # Redis may have forgotten who we are.
                known = reconnections(self._client)
                self._spawn(self._send_heartbeat())

    def _take(self, message: dict[str, Any], entered_ms: int) -> None:
        if message.get("boot_id", self._boot_id) != self._boot_id:
            return
        match message["type"]:
            case "assign_runs":
                for run in message["runs"]:
                    self._begin(run, entered_ms)
            case "audit_runs":
                self._compare(message["runs"])
            case "revoke_runs":
                # All claims up to the one it names.
                void = {(run["id"], epoch) for run in message["runs"] for epoch in range(1, run["epoch"] + 1)}
                self._drop(token for token, run in self.held.items() if (run["id"], run["epoch"]) in void)
            case "stop_runs":
                named = [(run["id"], run["epoch"]) for run in message["runs"]]
                for token, run in self.held.items():
                    if (run["id"], run["epoch"]) in named:
                        self._stopped[token].set()

    def _begin(self, run: dict[str, Any], assigned_ms: int) -> None:
        token = run["token"]
        if token in self.held or token in self._ends:
            return
        self._drop(other for other, held in self.held.items() if held["id"] == run["id"])
        claim = {"run": run["id"], "epoch": run["epoch"], "token": token}
        self._write("claim", **claim, boot=self._boot_id, assigned=assigned_ms)
        self._stopped[token] = asyncio.Event()
        self.held[token] = run
        self._spawn(self._execute(run))

    def _drop(self, tokens: Iterable[str]) -> None:
        """End claims that are not ours any more, and say nothing of them."""
        for token in tokens:
            self._void.add(token)
            self._stopped[token].set()

    def _compare(self, named: list[dict[str, Any]]) -> None:
        """What we hold with what the dispatcher says that we hold."""
        for run in named:
            token = run["token"]
            if token in self.held and token not in self._void:
                if run["state"] == "CANCELLING":
                    self._stopped[token].set()
                elif run["state"] == "PENDING" and token in self._started_ms:
                    self._spawn(self._report(self.held[token], "RUNNING", self._started_ms[token]))
            elif token in self._ends:
                self._spawn(self._report(*self._ends[token]))
            else:
                self._spawn(self._report(run, "LOST", 0))
        tokens = {run["token"] for run in named}
        self._drop(token for token in self.held if token not in tokens)

    async def _execute(self, run: dict[str, Any]) -> None:
        token = run["token"]
        started_ms = self._started_ms[token] = time.time_ns() // 1_000_000 + self._clock_off_ms
        await self._report(run, "RUNNING", started_ms)
        state = "FAILED" if random.random() < self._fails else "COMPLETED"
        seconds = random.random() * self._work_seconds * (10 if random.random() < self._long else 1)
        if self._hurry and self._hurry.exists():
            seconds = 0.0
        try:
            await asyncio.wait_for(self._stopped[token].wait(), seconds)
        except TimeoutError:
            self.executed.append(run["id"])
        else:
            state = "CANCELLED"
        del self._stopped[token], self.held[token], self._started_ms[token]
        if token in self._void:
            self._void.discard(token)
            return
        self._ends[token] = (run, state, started_ms)
        if len(self._ends) > ENDS_KEPT:
            del self._ends[next(iter(self._ends))]
        await self._report(run, state, started_ms)

    async def _report(self, run: dict[str, Any], state: str, started_ms: int) -> None:
        report: dict[str, Any] = {name: run[name] for name in ("token", "epoch")}
        report |= {"run": run["id"], "state": state, "started_ms": max(1, started_ms)}
        if state not in ("RUNNING", "LOST"):
            report["ended_ms"] = max(1, time.time_ns() // 1_000_000 + self._clock_off_ms)
        message = {"type": "report_runs", "pool": self._pool, "worker": self._name, "reports": [report]}
        self._write("report", run=run["id"], epoch=run["epoch"], token=run["token"], state=state)
        for _ in range(2 if random.random() < self._twice else 1):
            await self._send("dispatch", message)
