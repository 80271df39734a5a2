"""A million runs through everything: is memory flat at the end, is nothing lost, is nothing left behind?

    python -m tests.benchmarks soak [--runs 1000000] [--plots FOLDER]

Every service as a process of its own on a durable Redis, all with their defaults; the load is in
:mod:`tests.benchmarks.soak_load`, the workers in :mod:`tests.benchmarks.soak_worker`. What is bounded by number fills first (the
events, the finished runs of each pool); from then on memory is looked at by quarters of the remaining runs. Twenty times the
submitters pause until nothing is in flight, and Redis is measured as it is then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from penstock import keys
from penstock.bus.connection import connect
from penstock.cli.embedded_redis import EmbeddedRedis
from penstock.streams import ALL, COMMANDS, DEAD, DISPATCH, HEARTBEATS
from services.dispatcher.settings import DispatcherSettings
from tests.benchmarks.soak_load import CARELESS_GROUP, POOLS, Load
from tests.benchmarks.soak_processes import Processes
from tests.benchmarks.soak_report import Outcome, report
from tests.benchmarks.soak_samples import MEGABYTE, Sampler, census

if TYPE_CHECKING:
    import argparse
    from collections import Counter
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from tests.benchmarks.report import Report

RUNS = 1_000_000
QUICK_RUNS = 10_000
PAUSES = 20
QUICK_PAUSES = 1


def measure(given: argparse.Namespace) -> Report:
    """Soak, then say what stayed flat and what was lost."""
    runs, pauses = (QUICK_RUNS, QUICK_PAUSES) if given.quick else (given.runs or RUNS, PAUSES)
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder) / "redis") as server,
        Processes(server.url, Path(folder)) as processes,
    ):
        outcome = uvloop.run(_soak(server, processes, runs, pauses))
    return report(outcome, given.plots)


async def _soak(server: EmbeddedRedis, processes: Processes, runs: int, pauses: int) -> Outcome:
    assert server.process
    client = connect(server.url)
    load = Load(server.url, runs)
    await processes.until("the services to be ready", lambda: _none(processes.unready()))
    await load.prepare()
    processes.start_workers()
    pids = {"Redis": server.process.pid, **processes.pids, "load": os.getpid()}
    sampler = Sampler(client, pids, lambda: load.tally.finished)
    watch = asyncio.create_task(processes.watch())
    beside = [asyncio.create_task(body) for body in (sampler.run(), load.tally.run(), load.read_carelessly())]
    commanding = asyncio.create_task(load.command())
    half: Counter[str] | None = None
    full_at = None
    began = time.monotonic()
    submitting = asyncio.create_task(load.submit())
    pause = 1
    while not submitting.done():
        await _first(0.05, submitting, commanding, watch, *beside)
        if load.accepted >= pause * runs / pauses:
            pause += 1
            load.going.clear()
            sampler.add("settled", await _settle(client, load, processes))
            full_at = full_at if full_at is not None else await _full(client, sampler, load)
            half = half or ((await census(client))[0] if load.tally.finished >= runs / 2 else None)
            load.going.set()
    await submitting
    sampler.count_cpu()
    seconds = time.monotonic() - began
    await commanding
    await load.finish()
    sampler.add("settled", await _settle(client, load, processes))
    end, lasting = await census(client)
    wrong = await _left_behind(client, load, processes, end)
    await _end(watch, *beside)
    await client.aclose()
    return Outcome(
        runs,
        load,
        sampler.series,
        sampler.cpu,
        full_at,
        seconds,
        half=half or end,
        end=end,
        lasting=lasting,
        wrong=wrong,
    )


async def _settle(client: Redis, load: Load, processes: Processes) -> float:
    """Wait until every accepted run has ended, what is acknowledged is trimmed and no file is being rewritten.

    Returns:
        Megabytes that Redis uses then.
    """

    async def is_settled() -> bool:
        if load.open > 0 or load.tally.others_ended < load.tally.others_born - _PLANNED:
            return False
        lengths = [await client.xlen(keys.key(0, stream.name)) for stream in (DISPATCH, COMMANDS, HEARTBEATS)]
        rewriting = (await client.info("persistence"))["aof_rewrite_in_progress"]
        return max(lengths) <= _ONE_NODE and not rewriting

    await processes.until("everything accepted to end", is_settled)
    used: float = (await client.info("memory"))["used_memory"] / MEGABYTE
    print(f"{load.tally.finished:,} runs have ended; Redis uses {used:.0f} MB", flush=True)
    return used


_PLANNED = 110
"""About how many runs the schedule has made for the future."""
_ONE_NODE = 200
"""Entries that approximate trimming leaves, and what comes while somebody looks."""


async def _full(client: Redis, sampler: Sampler, load: Load) -> int | None:
    """Say from how many finished runs on everything that is bounded by number was full; None: not yet."""
    kept = DispatcherSettings().dispatcher_finished_kept
    pools: Any = await client.hmget(keys.key(0, "pools"), list(POOLS))
    finished = [await client.zcard(keys.key(0, "pool_finished", pool.decode())) for pool in pools]
    return load.tally.finished if min(finished) >= kept and sampler.events_full_at is not None else None


async def _left_behind(client: Redis, load: Load, processes: Processes, end: Counter[str]) -> dict[str, list[str]]:
    """Look for what must not be there at the end."""
    tally = load.tally
    numbers = enumerate(zip(tally.born, tally.ended, strict=True))
    odd = [f"soak-{number}" for number, (born, ended) in numbers if not born == ended <= 1]
    pools: Any = await client.hvals(keys.key(0, "pools"))
    held = [await client.zcard(keys.key(0, "pool_in_flight", pool.decode())) for pool in pools]
    histories = [name async for name in client.scan_iter(match=keys.key(0, "pool_finished", "*"), count=2000)]
    kept = sum([await client.zcard(name) for name in histories])
    waiting = end["waiting"] + end["parked"] + end["slots_in_flight"]
    return {
        "runs without exactly one beginning and one end": odd,
        "accepted runs that have not been counted": _these(abs(load.accepted - tally.finished)),
        "runs of schedules that have not ended": _these(abs(tally.others_born - tally.others_ended)),
        "runs in flight, keys of runs that wait": _these(sum(held) + waiting),
        "runs kept beyond the history of their pools": _these(abs(await _whole(client) - kept)),
        "logs kept without their run": _these(max(0, end["logs"] - end["run"])),
        "keys of no family": [name for name in end if name not in keys.FAMILIES and name != keys.PARTITIONS_KEY],
        "dead letters": _these(await client.xlen(keys.key(0, DEAD.name))),
        "pending entries": await _pending(client),
        "services not ready": await processes.unready(),
    }


async def _whole(client: Redis) -> int:
    """Count the runs of which more is kept than, for a minute, that they were there."""
    names = [name async for name in client.scan_iter(match=keys.key(0, "run", "*"), count=2000)]
    pipe = client.pipeline(transaction=False)
    for name in names:
        pipe.hexists(name, "name")
    return sum(await pipe.execute())


def _these(count: int) -> list[str]:
    return ["not named"] * count


async def _pending(client: Redis) -> list[str]:
    """Name the groups that hold entries; what came just now is in hand for a moment."""
    for _ in range(50):
        found = [
            f"{about['pending']} of {about['name'].decode()} on {stream.name}"
            for stream in ALL
            if await client.exists(keys.key(0, stream.name))
            for about in await client.xinfo_groups(keys.key(0, stream.name))
            if about["pending"] and about["name"] != CARELESS_GROUP.encode()
        ]
        if not found:
            break
        await asyncio.sleep(0.1)
    return found


async def _none(found: Awaitable[list[str]]) -> bool:
    return not await found


async def _first(seconds: float, *tasks: asyncio.Task[Any]) -> None:
    """Wait a moment, less when one of the tasks ends; raise what it raised."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        await task


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
