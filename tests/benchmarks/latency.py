"""How long a run takes from its submission to the hand of its worker, which has a free slot: one after another at a steady rate.

By itself; with 100,000 other runs that wait behind the limit of their queue; with 500 workers; and at half of what the
installation can do. Submitter (the SDK), services and workers (:mod:`tests.benchmarks.fleet`) are processes of their own on one
clock, the host's monotonic one.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final

import uvloop

from penstock.client import NewRun, Penstock
from tests.benchmarks.lifecycle import ENTRYPOINT, PARAMETERS, PATIENCE_SECONDS, until_idle
from tests.benchmarks.plots import distribution
from tests.benchmarks.report import Budget, Figure, Report, against
from tests.benchmarks.stage import connect, empty_redis, program, services

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

POOL: Final = "bench"
BARE: Final = "bare: XADD to XREAD"
FULL: Final = "full"
"""A queue at its limit of one, of higher priority than the one that is measured."""
PER_SECOND: Final = 50
WARM: Final = 20
COUNT: Final = 1000
"""Runs a measurement: the 99th percentile needs some beyond it."""
BLOCKED: Final = 100_000
MANY_WORKERS: Final = 500
TICK_SECONDS: Final = 0.005
"""At a high rate a submitter sends together what falls into so long."""
HALF_OF_CAPACITY: Final = 4000
"""Runs a second; see the lifecycle benchmark."""
P50_MS: Final = 3.0
P99_MS: Final = 8.0


def new_runs(count: int, queue: str = "default") -> list[NewRun]:
    """Make runs as those of the other benchmarks."""
    return [NewRun(entrypoint=ENTRYPOINT, parameters=PARAMETERS, name="bench", queue=queue) for _ in range(count)]


async def measured(url: str, *, workers: int, blocked: int, per_second: float, seconds: float) -> list[float]:
    """Submit at a steady rate.

    Args:
        url: of an empty Redis.
        workers: how many have free slots.
        blocked: runs that wait behind a limit meanwhile.
        per_second: runs a second.
        seconds: how long.

    Returns:
        Milliseconds from the call of the SDK to the worker's hand, one for each run, in the order of submission.
    """
    client = connect(url)
    sent: dict[str, int] = {}
    try:
        await client.flushall()
        with services(url):
            penstock = Penstock(client, 1, timeout_seconds=PATIENCE_SECONDS)
            await penstock.create_pool(POOL)
            await penstock.create_queue(POOL, FULL, priority=1, concurrency_limit=0)
            await penstock.submit_runs(POOL, new_runs(blocked, FULL))
            with program("fleet", "--url", url, "--pool", POOL, "--workers", str(workers)) as fleet:
                # Warm: scripts are loaded, connections open.
                await penstock.submit_runs(POOL, new_runs(WARM))
                await _submit(penstock, sent, per_second, seconds)
                await penstock.delete_queue(POOL, FULL)
                await until_idle(penstock, POOL)
                assert fleet.stdin
                assert fleet.stdout
                fleet.stdin.close()
                in_hand = json.loads(await asyncio.to_thread(fleet.stdout.readline))
                fleet.stdin = None
    finally:
        await client.aclose()
    return [(in_hand[run_id] - at) / 1e6 for run_id, at in sent.items()]


async def bare(url: str, count: int) -> list[float]:
    """Milliseconds from XADD to the XREAD that waits for it, in one process: what no bus over Redis Streams can be faster than."""
    writer, reader = connect(url), connect(url)
    took = []
    last: bytes | str = "0"
    try:
        for turn in range(count + WARM):
            reading = asyncio.ensure_future(reader.xread({"bare": last}, block=1000))
            await asyncio.sleep(1 / PER_SECOND / 2)
            at = time.monotonic_ns()
            await writer.xadd("bare", {"body": "x" * 300}, maxlen=1000)
            answer: Any = await reading
            last = answer[0][1][-1][0]
            took += [(time.monotonic_ns() - at) / 1e6] if turn >= WARM else []
    finally:
        await writer.aclose()
        await reader.aclose()
    return took


async def _submit(penstock: Penstock, sent: dict[str, int], per_second: float, seconds: float) -> None:
    """Send what is due every few milliseconds, whether what was sent before has been answered or not."""
    beat = max(TICK_SECONDS, 1 / per_second)
    start = time.monotonic()
    submitted = 0

    async def submit(count: int) -> None:
        at = time.monotonic_ns()
        for run_id in await penstock.submit_runs(POOL, new_runs(count)):
            sent[run_id] = at

    async with asyncio.TaskGroup() as group:
        for turn in range(round(seconds / beat)):
            await asyncio.sleep(max(0.0, start + turn * beat - time.monotonic()))
            due = round((turn + 1) * beat * per_second) - submitted
            submitted += due
            if due > 0:
                group.create_task(submit(due))


def percentile(values: Sequence[float], part: float) -> float:
    """The value below which a part of all lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def measure(given: argparse.Namespace) -> Report:
    """Measure the scenarios in turn, each so often."""
    count = given.runs or (COUNT // 10 if given.quick else COUNT)
    blocked, many = (BLOCKED // 100, MANY_WORKERS // 10) if given.quick else (BLOCKED, MANY_WORKERS)
    half = HALF_OF_CAPACITY // 10 if given.quick else HALF_OF_CAPACITY
    scenarios = {
        f"{PER_SECOND}/s": {"workers": 1, "blocked": 0, "per_second": PER_SECOND},
        f"{PER_SECOND}/s, {blocked:,} others wait": {"workers": 1, "blocked": blocked, "per_second": PER_SECOND},
        f"{PER_SECOND}/s, {many} workers": {"workers": many, "blocked": 0, "per_second": PER_SECOND},
        f"{half:,}/s, about half of capacity": {"workers": 1, "blocked": 0, "per_second": half},
    }
    found: dict[str, list[list[float]]] = {BARE: [], **{name: [] for name in scenarios}}
    with empty_redis() as url:
        for _ in range(given.rounds):
            found[BARE].append(uvloop.run(bare(url, count)))
            for name, scenario in scenarios.items():
                seconds = count / PER_SECOND if scenario["per_second"] == PER_SECOND else count / PER_SECOND / 2
                found[name].append(uvloop.run(measured(url, seconds=seconds, **scenario)))
    report = Report(
        f"latency: submission to the worker's hand, {count} runs each, median of {given.rounds}",
        [figure for name, rounds in found.items() for figure in _figures(name, rounds, found[BARE])],
    )
    every = {name: [value for values in rounds for value in values] for name, rounds in found.items()}
    distribution(report, given.plots, "latency", "submission to the worker's hand, ms", every)
    return report


def _figures(name: str, rounds: list[list[float]], of: list[list[float]]) -> list[Figure]:
    p50, p99 = ([percentile(values, part) for values in rounds] for part in (0.5, 0.99))
    bare_p50, bare_p99 = ([percentile(values, part) for values in of] for part in (0.5, 0.99))
    budgets: list[Budget | None] = [None, None]
    if name == f"{PER_SECOND}/s":
        budgets = [
            Budget(f"at most {P50_MS:g} ms", met=percentile(p50, 0.5) <= P50_MS),
            Budget(f"at most {P99_MS:g} ms", met=percentile(p99, 0.5) <= P99_MS),
        ]
    return [
        Figure(f"{name}: p50", "ms", p50, against="bare", ratio=against(bare_p50, p50), budget=budgets[0]),
        Figure(f"{name}: p99", "ms", p99, against="bare", ratio=against(bare_p99, p99), budget=budgets[1]),
        Figure(f"{name}: max", "ms", [max(values) for values in rounds]),
    ]
