"""How long it takes from submitting a run until it is RUNNING in a real worker: a plain Python function, and a command."""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.client import NewRun, Penstock
from tests.benchmarks.latency import percentile
from tests.benchmarks.plots import distribution
from tests.benchmarks.process_worker import process_worker, ready_pool
from tests.benchmarks.report import Budget, Figure, Report
from tests.benchmarks.stage import connect, empty_redis, services
from tests.support import wait_until

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

POOL: Final = "bench"
COUNT: Final = 50
PER_SECOND: Final = 5
P50_MS: Final = 250.0
PATIENCE_SECONDS: Final = 60.0
PARTS: Final = (0.5, 0.95, 0.99)
FLOW: Final = """
import time

def main(file):
    with open(file, "w") as out:
        out.write(str(time.monotonic_ns()))
"""
SCENARIOS: Final = ("function, one after another", "function, 5/s", "command, one after another", "command, 5/s")
IN_FUNCTION: Final = "until its first line"


class Sight:
    """Sees on the event stream when runs begin and end, by the host's monotonic clock in nanoseconds."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        # Nobody has begun a run before this looks.
        self._last: bytes | str = "0"
        self.running: dict[str, int] = {}
        self.ended: dict[str, asyncio.Event] = {}

    async def watch(self) -> None:
        """Read for ever."""
        while True:
            answer: Any = await self._client.xread({keys.key(0, "events"): self._last}, block=1000)
            at = time.monotonic_ns()
            for self._last, fields in answer[0][1] if answer else ():
                if not fields[b"type"].startswith(b"prefect.flow-run."):
                    continue
                run = json.loads(fields[b"__data__"])["resource"]["prefect.resource.id"].rpartition(".")[2]
                state = fields[b"type"].rpartition(b".")[2].decode()
                if state == "Running":
                    self.running[run] = at
                elif state in {"Completed", "Failed", "Crashed", "Cancelled"}:
                    self.ended.setdefault(run, asyncio.Event()).set()

    async def until_ended(self, run: str) -> None:
        """Wait for the last event of a run."""
        await asyncio.wait_for(self.ended.setdefault(run, asyncio.Event()).wait(), PATIENCE_SECONDS)


class Flow:
    """A plain Python function that writes down when its first line is executed.

    Args:
        folder: for its file and what it writes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "flow.py"
        self._file.write_text(FLOW)
        self._numbers = itertools.count()

    def run(self) -> tuple[NewRun, Path]:
        """A run of it, and the file it will write."""
        written = self._folder / str(next(self._numbers))
        return NewRun(entrypoint=f"{self._file}:main", parameters={"file": str(written)}, name="bench"), written

    def first_line(self, written: Path) -> int:
        """When it was executed, by the host's monotonic clock in nanoseconds."""
        return int(written.read_text())


async def measured(penstock: Penstock, sight: Sight, flow: Flow, scenario: str, count: int) -> dict[str, list[float]]:
    """Submit runs; answers milliseconds until each was RUNNING, and of functions until their first line was executed."""
    is_function = scenario.startswith("function")
    running, first_line = [], []

    async def one() -> None:
        run, written = flow.run() if is_function else (NewRun(command=["true"], name="bench"), None)
        at = time.monotonic_ns()
        (run_id,) = await penstock.submit_runs(POOL, [run])
        await sight.until_ended(run_id)
        running.append((sight.running[run_id] - at) / 1e6)
        if written:
            first_line.append((flow.first_line(written) - at) / 1e6)

    if scenario.endswith("/s"):
        async with asyncio.TaskGroup() as group:
            start = time.monotonic()
            for turn in range(count):
                await asyncio.sleep(max(0.0, start + turn / PER_SECOND - time.monotonic()))
                group.create_task(one())
    else:
        for _ in range(count):
            await one()
    return {scenario: running} | ({f"{scenario}, {IN_FUNCTION}": first_line} if is_function else {})


async def in_rounds(url: str, flow: Flow, given: argparse.Namespace) -> dict[str, list[list[float]]]:
    """Measure all scenarios in turn, each so often; answers the milliseconds of every round."""
    count = given.runs or (COUNT // 10 if given.quick else COUNT)
    found: dict[str, list[list[float]]] = {}
    client, eyes = connect(url), connect(url)
    penstock, sight = Penstock(client, 1, timeout_seconds=PATIENCE_SECONDS), Sight(eyes)
    with services(url):
        await penstock.create_pool(POOL)
        with process_worker(url, POOL, "--limit", "20"):
            await wait_until(lambda: ready_pool(penstock, POOL), what="a worker", timeout=PATIENCE_SECONDS)
            watching = asyncio.create_task(sight.watch())
            for scenario in SCENARIOS:  # warm
                await measured(penstock, sight, flow, scenario, 1)
            for _ in range(given.rounds):
                for scenario in SCENARIOS:
                    for name, times in (await measured(penstock, sight, flow, scenario, count)).items():
                        found.setdefault(name, []).append(times)
            await end_tasks([watching])
        await client.aclose()
        await eyes.aclose()
    return found


def figures(found: Mapping[str, Sequence[Sequence[float]]], *, with_budgets: bool) -> list[Figure]:
    """Spell percentiles; the median has a budget until the run is RUNNING."""
    rows = []
    for name, rounds in found.items():
        for part in PARTS:
            values = [percentile(times, part) for times in rounds]
            budget = None
            if with_budgets and part == PARTS[0] and IN_FUNCTION not in name:
                budget = Budget(f"at most {P50_MS:g} ms", statistics.median(values) <= P50_MS)
            rows.append(Figure(f"{name}: p{part * 100:.0f}", "ms", values, budget=budget))
    return rows


def measure(given: argparse.Namespace) -> Report:
    """Measure on services and a worker that are processes of their own; ``--quick`` with few runs and without budgets."""
    with empty_redis() as url, tempfile.TemporaryDirectory() as folder:
        found = uvloop.run(in_rounds(url, Flow(Path(folder)), given))
    count = len(next(iter(found.values()))[0])
    title = f"start: submission to RUNNING, {count} runs each, median of {given.rounds}"
    report = Report(title, figures(found, with_budgets=not given.quick))
    every = {name: [time for times in rounds for time in times] for name, rounds in found.items()}
    distribution(report, given.plots, "start", "submission to RUNNING, ms", every)
    return report
