"""The life of a run: submitted, claimed, running, completed, with its four events; through the services, against bare scripts.

Bare: one client calls the dispatcher's scripts, batches of 100, nothing else. Through the services: an SDK that submits;
dispatcher, monitor and registry as processes; a worker (:mod:`tests.benchmarks.hands`) that joins and answers at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
import psutil
import uvloop

from penstock import keys
from penstock.client import NewRun, Penstock
from penstock.contracts.runs import ReportRuns, RunReport, RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.contracts.workers import AnnounceWorker
from penstock.streams import EVENTS
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import DispatchStore
from tests.benchmarks.report import Budget, Figure, Report, against
from tests.benchmarks.stage import connect, cpu_seconds, empty_redis, program, redis_cpu_seconds, services
from tests.definitions import define_pool

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from redis.asyncio import Redis

RUNS: Final = 50_000
BATCH: Final = 100
SLOTS: Final = 1000
POOL: Final = "bench"
PARAMETERS: Final = {"text": "x" * 289}
"""About 300 bytes as JSON."""
ENTRYPOINT: Final = "flows/etl.py:main"
EVENTS_A_RUN: Final = 4
SUBMISSION: Final = 500
"""Runs in one call of the SDK; so many calls are under way at the same time:"""
SUBMITTERS: Final = 4
PATIENCE_SECONDS: Final = 120.0
LEAST_OF_BARE: Final = 0.5
"""Budget of the design."""


class Lives(NamedTuple):
    """What one round through the services was like.

    Attributes:
        rate: runs a second.
        cost: microseconds of CPU a run, by process.
    """

    rate: float
    cost: dict[str, float]


def submission(count: int) -> SubmitRuns:
    """Make one message with many runs."""
    spec = RunSpec(entrypoint=ENTRYPOINT, parameters=PARAMETERS)
    return SubmitRuns(pool=POOL, runs=[SubmittedRun(id=new_run_id(0), name="bench", spec=spec) for _ in range(count)])


async def bare(client: Redis, runs: int) -> float:
    """Submit, claim, start and complete in batches of 100, scripts only; answers runs per second."""
    await client.flushall()
    pool = await define_pool(client, POOL)
    store = DispatchStore(client, DispatcherSettings())
    await store.announce_worker(
        0, AnnounceWorker(pool_id=pool.id, pool=POOL, worker="w", boot_id="b", seq=1, slots=SLOTS, queues=[])
    )
    last, done = b"0", 0
    messages = [submission(BATCH) for _ in range(max(1, runs // BATCH))]
    start = time.perf_counter()
    for message in messages:
        await store.submit_runs(0, [message])
        last, assigned = await read_inbox(client, last)
        for state in ("RUNNING", "COMPLETED"):
            reports = [RunReport.model_validate({**run, "run": run["id"], "state": state}) for run in assigned]
            await store.report_runs(0, [ReportRuns(pool=POOL, worker="w", reports=reports)])
        done += len(assigned)
    return done / (time.perf_counter() - start)


async def read_inbox(client: Redis, last: bytes) -> tuple[bytes, list[dict[str, Any]]]:
    """Read what was assigned since ``last``."""
    answer: Any = await client.xread({keys.key(0, "inbox", f"{POOL}/w"): last})
    runs: list[dict[str, Any]] = []
    for entry_id, fields in answer[0][1] if answer else []:
        last = entry_id
        runs += orjson.loads(fields[b"__data__"]).get("runs", [])
    return last, runs


async def through_services(url: str, runs: int, dispatchers: int = 1) -> Lives:
    """Live the same lives over the bus, everybody a process of their own."""
    client = connect(url)
    try:
        await client.flushall()
        with services(url, ["pool_registry", "heartbeat_monitor", *["dispatcher"] * dispatchers]) as processes:
            penstock = Penstock(client, 1, timeout_seconds=PATIENCE_SECONDS)
            await penstock.create_pool(POOL)
            with program("hands", "--url", url, "--pool", POOL, "--slots", str(SLOTS)) as hands:
                parties = {**processes, "worker": psutil.Process(hands.pid), "submitter": psutil.Process()}
                await _live(penstock, BATCH)  # warm: scripts loaded, connections open
                return await _measured(client, penstock, runs, parties)
    finally:
        await client.aclose()


async def _measured(client: Redis, penstock: Penstock, runs: int, parties: dict[str, psutil.Process]) -> Lives:
    before = {name: cpu_seconds(process) for name, process in parties.items()}
    redis = await redis_cpu_seconds(client)
    start = time.perf_counter()
    last = await _live(penstock, runs)
    seconds = time.perf_counter() - start
    cost = {"redis": (await redis_cpu_seconds(client) - redis) / runs * 1e6}
    for name, process in parties.items():
        cost[name] = (cpu_seconds(process) - before[name]) / runs * 1e6
    await _insist(client, last, runs)
    return Lives(runs / seconds, cost)


async def _live(penstock: Penstock, count: int) -> Sequence[str]:
    """Submit runs and wait until all of them have ended.

    Returns:
        The ids of the last submission.
    """
    left = iter(range(0, count, SUBMISSION))
    submitted: list[list[str]] = []

    async def submit() -> None:
        for start in left:
            some = [
                NewRun(entrypoint=ENTRYPOINT, parameters=PARAMETERS, name="bench")
                for _ in range(min(SUBMISSION, count - start))
            ]
            submitted.append(await penstock.submit_runs(POOL, some))

    async with asyncio.TaskGroup() as group:
        for _ in range(SUBMITTERS):
            group.create_task(submit())
    await until_idle(penstock, POOL)
    return submitted[-1]


async def until_idle(penstock: Penstock, name: str) -> None:
    """Wait until nothing waits in a pool and nothing is in flight."""
    pool = await penstock.read_pool(name)
    queues = await penstock.read_queues(name)
    pipe = penstock._client.pipeline(transaction=False)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            for queue in queues:
                pipe.zcard(keys.key(0, "waiting", queue.id))
            pipe.zcard(keys.key(0, "pool_in_flight", pool.id))
            if not any(await pipe.execute()):
                return
            await asyncio.sleep(0.01)


async def _insist(client: Redis, last: Sequence[str], runs: int) -> None:
    """A figure counts only if everything happened: every run ended, each of its moves is an event on the stream.

    Raises:
        RuntimeError: it did not.
    """
    pipe = client.pipeline(transaction=False)
    for run_id in last:
        pipe.hmget(keys.key(0, "run", run_id), ["state", "seq"])
    ends = {(state, seq) for state, seq in await pipe.execute()}
    if ends != {(b"COMPLETED", str(EVENTS_A_RUN).encode())}:
        raise RuntimeError(f"runs ended as {ends}")
    events = await client.xlen(keys.key(0, "events"))
    if events < min(runs * EVENTS_A_RUN, EVENTS.max_length):
        raise RuntimeError(f"{runs} runs left {events} events")


def _rounds(url: str, runs: int, rounds: int) -> Iterator[tuple[float, Lives, Lives]]:
    """Bare, with one dispatcher, with two, in turn: noise that lasts longer than a round hits all three."""

    async def scripts() -> float:
        client = connect(url)
        try:
            return await bare(client, runs)
        finally:
            await client.aclose()

    for _ in range(rounds):
        yield uvloop.run(scripts()), uvloop.run(through_services(url, runs)), uvloop.run(through_services(url, runs, 2))


def measure(given: argparse.Namespace) -> Report:
    """Measure bare scripts, one dispatcher and two, in turn."""
    runs = given.runs or (RUNS // 100 if given.quick else RUNS)
    with empty_redis() as url:
        scripts, one, two = zip(*_rounds(url, runs, given.rounds), strict=True)
    rates, rates_of_two = [lives.rate for lives in one], [lives.rate for lives in two]
    ratio = against(scripts, rates)
    costs: dict[str, list[float]] = defaultdict(list)
    for lives in one:
        for name, cost in lives.cost.items():
            costs[name].append(cost)
    return Report(
        f"lifecycle: {runs:,} runs with 300 bytes of parameters, median of {given.rounds}",
        [
            Figure("bare scripts, batches of 100", "runs/s", scripts),
            Figure(
                "through the services, 1 dispatcher",
                "runs/s",
                rates,
                against="bare",
                ratio=ratio,
                budget=Budget("at least 50 % of bare", met=ratio >= LEAST_OF_BARE),
            ),
            Figure(
                "through the services, 2 dispatchers",
                "runs/s",
                rates_of_two,
                against="bare",
                ratio=against(scripts, rates_of_two),
            ),
            *(Figure(f"CPU a run: {name}", "us", values) for name, values in costs.items()),
        ],
    )
