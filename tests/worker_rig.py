"""Play the monitor and the dispatcher towards one real worker."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any

import orjson
import psutil

from penstock import keys
from penstock.bus.entries import entry_fields
from penstock.bus.health import Health
from penstock.contracts.runs import new_run_id
from penstock.contracts.workers import (
    AcceptWorker,
    AssignedRun,
    AssignRuns,
    RevokedRun,
    RevokeRuns,
    StoppedRun,
    StopRuns,
)
from penstock.worker.console import Console
from penstock.worker.identity import Identity
from penstock.worker.process import ProcessType
from penstock.worker.runtime import Options, Worker
from tests.support import read_messages, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from penstock.contracts.base import Message

POOL = "etl"
NAME = "w1"
INBOX = f"{POOL}/{NAME}"

SCRIPT = """
import asyncio, sys
from penstock.bus.connection import connect
from penstock.bus.health import Health
from penstock.bus.logs import configure_logs
from penstock.worker.console import Console
from penstock.worker.identity import Identity
from penstock.worker.process import ProcessType
from penstock.worker.runtime import Options, Worker
from penstock.worker.settings import WorkerSettings
from penstock.worker.start import serve

async def main():
    url, interval, drain = sys.argv[1:]
    configure_logs(WorkerSettings.read(), "worker")
    client, console = connect(url), Console()
    options = Options(limit=4, heartbeat_seconds=float(interval), prefetch_seconds=10, drain_seconds=float(drain))
    worker = Worker(
        client, Identity("etl", "w1", "process", 0), ProcessType(), options=options, health=Health("worker"), console=console
    )
    try:
        return await serve(worker)
    finally:
        await client.aclose()
        console.close()

sys.exit(asyncio.run(main()))
"""


class ListConsole(Console):
    """Keeps what would have been printed."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, lines: Any) -> None:
        self.lines.extend(lines)


class Rig:
    """One worker and what surrounds it."""

    def __init__(self, client: Redis, *, boot_id: str | None = None, kind: Any = None, **options: Any) -> None:
        self.client = client
        self.identity = Identity(POOL, NAME, "process", 0, boot_id=boot_id or secrets.token_hex(16))
        self.console = ListConsole()
        self.health = Health("worker")
        defaults: dict[str, Any] = {
            "limit": 4,
            "heartbeat_seconds": 30.0,
            "prefetch_seconds": 10.0,
            "drain_seconds": 10.0,
        }
        self.worker = Worker(
            client,
            self.identity,
            kind or ProcessType(),
            options=Options(**{**defaults, **options}),
            health=self.health,
            console=self.console,
        )
        self._task: asyncio.Task[int] | None = None

    @property
    def task(self) -> asyncio.Task[int]:
        """The worker's life."""
        assert self._task is not None
        return self._task

    async def start(self) -> None:
        self._task = asyncio.create_task(self.worker.run())
        await wait_until(self.heartbeats, what="the first heartbeat")
        await self.send(AcceptWorker(boot_id=self.identity.boot_id, slots=4))

    async def heartbeats(self) -> list[dict[str, Any]]:
        return await read_messages(self.client, "heartbeats")

    async def send(self, message: Message) -> None:
        await self.client.xadd(keys.key(0, "inbox", INBOX), {**entry_fields(message)})

    async def assign(self, *runs: AssignedRun, boot_id: str | None = None) -> None:
        await self.send(AssignRuns(boot_id=boot_id or self.identity.boot_id, pool=POOL, runs=list(runs)))

    async def revoke(self, *runs: AssignedRun) -> None:
        await self.send(RevokeRuns(runs=[RevokedRun(id=run.id, epoch=run.epoch) for run in runs]))

    async def cancel(self, *runs: AssignedRun) -> None:
        await self.send(StopRuns(runs=[StoppedRun(id=run.id, epoch=run.epoch) for run in runs]))

    async def reports(self, run: AssignedRun | None = None) -> list[dict[str, Any]]:
        messages = await read_messages(self.client, "dispatch")
        found = [report for message in messages for report in message.get("reports", ())]
        return [report for report in found if run is None or report["run"] == run.id]

    async def states(self, run: AssignedRun) -> list[str]:
        return [report["state"] for report in await self.reports(run)]

    async def report(self, run: AssignedRun, *states: str) -> dict[str, Any]:
        """Wait for a report in one of these states (default: a terminal one)."""
        wanted = states or ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

        async def look() -> dict[str, Any] | None:
            return next((report for report in await self.reports(run) if report["state"] in wanted), None)

        return dict(await wait_until(look, what=f"{wanted} of {run.name}"))

    async def completed(self, run: AssignedRun) -> dict[str, Any]:
        """Wait for the end and insist on success."""
        report = await self.report(run)
        assert report["state"] == "COMPLETED", (report, self.console.lines)
        return report

    async def output(self, run: AssignedRun) -> list[tuple[str, str]]:
        entries = await read_messages(self.client, "logs", run.id)
        return [(line["source"], line["text"]) for entry in entries for line in entry["lines"]]

    async def printed(self, run: AssignedRun, text: str) -> bool:
        return any(line == text for _, line in await self.output(run))

    async def inbox_empty(self) -> bool:
        return await self.inbox_length() == 0

    async def inbox_length(self) -> int:
        return int(await self.client.xlen(keys.key(0, "inbox", INBOX)))

    async def pids(self, run: AssignedRun, count: int) -> list[int]:
        """Wait until a run has printed so many process ids."""

        async def look() -> list[int] | None:
            lines = [text for source, text in await self.output(run) if source == "stdout"]
            return [int(line) for line in lines] if len(lines) >= count else None

        return list(await wait_until(look, what=f"{count} process ids of {run.name}"))

    async def holds(self, count: int) -> bool:
        return self.worker._hands.count == count

    async def stop(self) -> None:
        """End at once, whatever runs."""
        if not self.task.done():
            self.worker.drain()
            self.worker.drain()
            with contextlib.suppress(Exception):
                await self.task


@contextlib.asynccontextmanager
async def working(client: Redis, **options: Any) -> AsyncIterator[Rig]:
    """A worker that is accepted, and killed at the end."""
    rig = Rig(client, **options)
    await rig.start()
    try:
        yield rig
    finally:
        await rig.stop()


async def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def claim(due_in_seconds: float = 0, **spec: Any) -> AssignedRun:
    """A claim as the dispatcher assigns it."""
    run_id = new_run_id(0)
    return AssignedRun(
        id=run_id,
        name=f"run-{run_id[-9:-5]}",
        token=secrets.token_hex(8),
        epoch=1,
        queue="default",
        due_ms=int((time.time() + due_in_seconds) * 1000),
        spec=spec,
    )


async def start_process(url: str, *, interval: float = 1.0, drain: float = 10.0) -> asyncio.subprocess.Process:
    """A worker as a process of its own, stdout in a pipe."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SCRIPT,
        url,
        str(interval),
        str(drain),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )


class Remote(Rig):
    """The rig of a worker process: its life is known from its heartbeats."""

    async def adopt(self) -> None:
        beats = await wait_until(self.heartbeats, what="the first heartbeat")
        self.identity = Identity(POOL, NAME, "process", 0, boot_id=beats[-1]["boot_id"])
        await self.send(AcceptWorker(boot_id=self.identity.boot_id, slots=4))


def as_json(value: Any) -> Any:
    """Read what a run printed."""
    return orjson.loads(value)
