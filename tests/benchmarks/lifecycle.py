"""Measure the life of runs: bare scripts in batches of 100 against the same through the services, in one go.

    python -m tests.benchmarks.lifecycle [--runs 20000] [--redis-url URL]

Prints runs per second for both and their ratio (budget: at least 50 %), and the time from submission to the assignment in the
worker's hand at 50 runs a second (budget: p50 <= 3 ms, p99 <= 8 ms). Without ``--redis-url`` it starts a Redis of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

from penstock import keys
from penstock.bus.connection import connect
from penstock.cli.embedded_redis import EmbeddedRedis
from penstock.contracts.runs import ReportRuns, RunReport, RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.contracts.workers import AnnounceWorker
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import DispatchStore
from tests.definitions import define_pool
from tests.system.service_processes import Services

if TYPE_CHECKING:
    from redis.asyncio import Redis

BATCH = 100
SLOTS = 1000
SPEC = RunSpec(entrypoint="flows/etl.py:main", parameters={"text": "x" * 289})
STATES = ("RUNNING", "COMPLETED")


def submission(count: int) -> SubmitRuns:
    """Make one message with many runs."""
    return SubmitRuns(
        pool="bench", runs=[SubmittedRun(id=new_run_id(0), name="bench", spec=SPEC) for _ in range(count)]
    )


async def prepare(client: Redis) -> AnnounceWorker:
    """Empty Redis, define a pool, describe its worker."""
    await client.flushall()
    pool = await define_pool(client, "bench")
    return AnnounceWorker(pool_id=pool.id, pool="bench", worker="w", boot_id="b", seq=1, slots=SLOTS, queues=[])


async def read_inbox(client: Redis, last: bytes, block: int | None = None) -> tuple[bytes, list[dict[str, Any]]]:
    """Read what came since ``last``."""
    answer: Any = await client.xread({keys.key(0, "inbox", "bench/w"): last}, block=block)
    runs: list[dict[str, Any]] = []
    for entry_id, fields in answer[0][1] if answer else []:
        last = entry_id
        message = orjson.loads(fields[b"__data__"])
        runs += message.get("runs", [])
    return last, runs


async def bare(client: Redis, runs: int) -> float:
    """Submit, claim, start and complete in batches of 100, scripts only; answers runs per second."""
    announcement = await prepare(client)
    store = DispatchStore(client, DispatcherSettings())
    await store.announce_worker(0, announcement)
    last, done = b"0", 0
    messages = [submission(BATCH) for _ in range(runs // BATCH)]
    start = time.perf_counter()
    for message in messages:
        await store.submit_runs(0, [message])
        last, assigned = await read_inbox(client, last)
        for state in STATES:
            reports = [
                RunReport(run=run["id"], token=run["token"], epoch=run["epoch"], state=state) for run in assigned
            ]
            await store.report_runs(0, [ReportRuns(pool="bench", worker="w", reports=reports)])
        done += len(assigned)
    return done / (time.perf_counter() - start)


async def end_to_end(client: Redis, runs: int) -> float:
    """The same over the bus: a submitter, the dispatcher's process, a worker that reports; answers runs per second."""
    announcement = await prepare(client)
    dispatch = keys.key(0, "dispatch")

    async def send(message: Any) -> None:
        await client.xadd(dispatch, {"type": message.type, "__data__": message.wire()})

    await send(announcement)
    messages = [submission(BATCH) for _ in range(runs // BATCH)]
    last, done = b"0", 0
    last, _ = await read_inbox(client, last, 5000)
    start = time.perf_counter()

    async def submitter() -> None:
        for message in messages:
            await send(message)

    submitting = asyncio.create_task(submitter())
    while done < runs:
        last, assigned = await read_inbox(client, last, 2000)
        for state in STATES:
            reports = [
                {"run": run["id"], "token": run["token"], "epoch": run["epoch"], "state": state} for run in assigned
            ]
            if reports:
                body = orjson.dumps({"type": "report_runs", "pool": "bench", "worker": "w", "reports": reports[:1000]})
                await client.xadd(dispatch, {"type": "report_runs", "__data__": body})
        done += len(assigned)
    finished = keys.key(0, "pool_finished", announcement.pool_id)
    while await client.zcard(finished) < min(runs, DispatcherSettings().dispatcher_finished_kept):
        await asyncio.sleep(0.005)
    await submitting
    return done / (time.perf_counter() - start)


async def latency(client: Redis, count: int = 500, per_second: int = 50) -> list[float]:
    """Milliseconds from sending a submission to holding the assignment, one run at a time."""
    announcement = await prepare(client)
    dispatch = keys.key(0, "dispatch")
    await client.xadd(dispatch, {"type": "announce_worker", "__data__": announcement.wire()})
    last, _ = await read_inbox(client, b"0", 5000)
    sent: dict[str, float] = {}
    took: list[float] = []

    async def reader() -> None:
        nonlocal last
        while len(took) < count:
            last, runs = await read_inbox(client, last, 2000)
            now = time.perf_counter()
            for run in runs:
                took.append((now - sent[run["id"]]) * 1000)
                report = {"run": run["id"], "token": run["token"], "epoch": run["epoch"], "state": "COMPLETED"}
                body = orjson.dumps({"type": "report_runs", "pool": "bench", "worker": "w", "reports": [report]})
                await client.xadd(dispatch, {"type": "report_runs", "__data__": body})

    reading = asyncio.create_task(reader())
    for _ in range(count):
        message = submission(1)
        sent[message.runs[0].id] = time.perf_counter()
        await client.xadd(dispatch, {"type": "submit_runs", "__data__": message.wire()})
        await asyncio.sleep(1 / per_second)
    await reading
    return took


async def measure(url: str, runs: int) -> None:
    """Measure and print."""
    client = connect(url)
    await client.ping()
    print(f"Redis {(await client.info('server'))['redis_version']}, {runs} runs, batches of {BATCH}")
    ratios = []
    with tempfile.TemporaryDirectory() as logs:
        for turn in range(3):
            scripts = await bare(client, runs)
            await client.flushall()
            with Services(url, Path(logs), ["dispatcher"]):
                services = await end_to_end(client, runs)
                times = sorted(await latency(client)) if turn == 2 else []
            ratios.append(services / scripts)
            print(f"  bare scripts {scripts:8.0f}/s   through services {services:8.0f}/s   ratio {ratios[-1]:.2f}")
    print(f"ratio, median of {len(ratios)}: {statistics.median(ratios):.2f} (budget 0.50)")
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99)]
    print(f"submit -> assignment at 50/s: p50 {p50:.2f} ms (budget 3), p99 {p99:.2f} ms (budget 8)")
    await client.aclose()


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--redis-url", default="")
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        url = chosen.redis_url
        if not url:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            url = stack.enter_context(EmbeddedRedis(Path(folder), durable=False)).url
        uvloop.run(measure(url, chosen.runs))


if __name__ == "__main__":
    main()
