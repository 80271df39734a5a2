"""Penstock's side of the comparison: its services, a producer by the SDK, a worker that joins as any other.

``python -m tests.benchmarks.peers.penstock_side [--heartbeat-seconds 30]`` is the worker. The coroutines are those every program
has for :mod:`tests.benchmarks.peers.programs.produce`.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import uvloop

from penstock.bus.connection import connect
from penstock.client import NewRun, Penstock
from penstock.contracts.workers import DEFAULT_INTERVAL_SECONDS, AssignRuns
from penstock.settings import Settings
from penstock.worker.custom import join
from tests.benchmarks.peers.programs import jobs
from tests.system.service_processes import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from penstock.contracts.workers import AssignedRun
    from penstock.worker.custom import CustomWorker
    from tests.benchmarks.peers.homes import Home

PROGRAM: Final = "tests.benchmarks.peers.penstock_side"
SERVICES: Final = ("pool_registry", "heartbeat_monitor", "dispatcher")
POOL: Final = "bench"
SLOTS: Final = 1000
BATCH: Final = 500
SUBMITTERS: Final = 4
"""So many batches are under way at the same time."""

_opened = AsyncExitStack()
_sdk: list[Penstock] = []


@asynccontextmanager
async def installation(_: Home, environment: Mapping[str, str], folder: Path) -> AsyncIterator[Mapping[str, str]]:
    """Run the services, with a pool whose lost runs come back."""
    url = environment["BENCHMARK_REDIS_URL"]
    logs = folder / "services"
    logs.mkdir()
    with Services(url, logs, list(SERVICES)):
        client = connect(url)
        try:
            await Penstock(client, 1, timeout_seconds=60).create_pool(POOL, on_worker_lost="requeue")
        finally:
            await client.aclose()
        yield {}


async def start() -> None:
    """Connect."""
    settings = Settings.read(redis_url=jobs.redis_url())
    _sdk.append(await _opened.enter_async_context(Penstock.connect(settings)))


def _run(one: tuple[int, int, float]) -> NewRun:
    number, sent_ns, stay_seconds = one
    parameters = {"number": number, "sent_ns": sent_ns, "stay_seconds": stay_seconds}
    return NewRun(entrypoint="jobs.py:work", parameters=parameters, name="job")


async def submit_all(given: list[tuple[int, int, float]]) -> None:
    """Send them in batches."""
    left = iter(range(0, len(given), BATCH))

    async def some() -> None:
        for first in left:
            await _sdk[0].submit_runs(POOL, [_run(one) for one in given[first : first + BATCH]])

    async with asyncio.TaskGroup() as group:
        for _ in range(SUBMITTERS):
            group.create_task(some())


async def submit(one: tuple[int, int, float]) -> None:
    """Send one."""
    await _sdk[0].submit_runs(POOL, [_run(one)])


async def work(heartbeat_seconds: float) -> None:
    """Execute what is assigned, until SIGTERM."""
    settings = Settings.read(redis_url=jobs.redis_url())
    async with join(POOL, slots=SLOTS, heartbeat_seconds=heartbeat_seconds, settings=settings) as worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
        staying: set[asyncio.Task[None]] = set()
        async for message in worker:
            if isinstance(message, AssignRuns):
                for run in message.runs:
                    if task := _execute(worker, run):
                        staying.add(task)
                        task.add_done_callback(staying.discard)


def _execute(worker: CustomWorker, run: AssignedRun) -> asyncio.Task[None] | None:
    """Be the job; answers what goes on when the job stays."""
    parameters: dict[str, Any] = run.spec["parameters"]
    worker.report(run, "RUNNING")
    jobs.begun(parameters["number"], parameters["sent_ns"])
    if not parameters["stay_seconds"]:
        worker.report(run, "COMPLETED")
        return None

    async def stay() -> None:
        await asyncio.sleep(parameters["stay_seconds"])
        worker.report(run, "COMPLETED")

    return asyncio.create_task(stay())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog=f"python -m {PROGRAM}", description=__doc__)
    parser.add_argument("--heartbeat-seconds", type=float, default=DEFAULT_INTERVAL_SECONDS)
    uvloop.run(work(parser.parse_args().heartbeat_seconds))
