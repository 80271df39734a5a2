"""A worker that knows nothing but the bus: what somebody would write in another language."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import TYPE_CHECKING, Any, Self

import orjson

from penstock import keys
from penstock.bus.connection import connect

if TYPE_CHECKING:
    from types import TracebackType

    from redis.asyncio import Redis


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
    ) -> None:
        self._client: Redis = connect(url)
        self._pool, self._name, self._slots = pool, name, slots
        self._interval, self._work_seconds, self._fails = interval, work_seconds, fails
        self._boot_id = f"{random.getrandbits(64):016x}"
        self._tasks: set[asyncio.Task[None]] = set()
        self.executed: list[str] = []

    async def __aenter__(self) -> Self:
        self._spawn(self._beat())
        self._spawn(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    async def kill(self) -> None:
        """End at once: no report, no last heartbeat."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

    def _spawn(self, body: Any) -> None:
        task = asyncio.create_task(body)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, family: str, message: dict[str, Any]) -> None:
        fields: Any = {"type": message["type"], "__data__": orjson.dumps(message)}
        await self._client.xadd(keys.key(0, family), fields)

    async def _beat(self) -> None:
        for seq in itertools.count():
            await self._send(
                "heartbeats",
                {
                    "type": "worker.heartbeat",
                    "pool": self._pool,
                    "worker": self._name,
                    "worker_type": "process",
                    "boot_id": self._boot_id,
                    "seq": seq,
                    "interval_seconds": self._interval,
                    "slots": self._slots,
                },
            )
            await asyncio.sleep(self._interval)

    async def _read(self) -> None:
        inbox = keys.key(0, "inbox", f"{self._pool}/{self._name}")
        last = b"0"
        while True:
            answer: Any = await self._client.xread({inbox: last}, block=1000)
            for entry_id, fields in answer[0][1] if answer else []:
                last = entry_id
                message = orjson.loads(fields[b"__data__"])
                if message["type"] == "assign_runs" and message["boot_id"] == self._boot_id:
                    for run in message["runs"]:
                        self._spawn(self._execute(run))

    async def _execute(self, run: dict[str, Any]) -> None:
        await self._report(run, "RUNNING")
        await asyncio.sleep(random.random() * self._work_seconds)
        self.executed.append(run["id"])
        await self._report(run, "FAILED" if random.random() < self._fails else "COMPLETED")

    async def _report(self, run: dict[str, Any], state: str) -> None:
        report = {"run": run["id"], "token": run["token"], "epoch": run["epoch"], "state": state, "started_ms": 1}
        message = {"type": "report_runs", "pool": self._pool, "worker": self._name, "reports": [report]}
        await self._send("dispatch", message)
