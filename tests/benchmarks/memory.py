"""How many bytes of Redis a run takes that waits, one that is finished, a worker, an event; on every server at hand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import uvloop

from penstock import keys
from penstock.bus.connection import connect
from penstock.cli.embedded_redis import EmbeddedRedis, servers
from penstock.contracts.runs import ReportRuns, RunReport
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import DispatchStore
from tests.benchmarks.backlog import PARAMETERS_BYTES, Backlog
from tests.benchmarks.report import Budget, Figure, Report
from tests.definitions import define_pool
from tests.dispatching import announce, assigned
from tests.heartbeats import Monitor

if TYPE_CHECKING:
    import argparse

    from redis.asyncio import Redis

    from tests.definitions import DefinedPool

WAITING: Final = 100_000
FINISHED: Final = 20_000
WORKERS: Final = 1_000
BUDGET_BYTES: Final = 700
SIZES: Final = range(PARAMETERS_BYTES - 32, PARAMETERS_BYTES + 33)
"""Sizes around the one of the budget: an allocator rounds up to its next class, and here no single step decides."""
REDIS_DEFAULT: Final = {"hash-max-ziplist-value": "64"}
"""What a server does that nobody has told otherwise."""
SAMPLE: Final = 1_000


class Bytes(NamedTuple):
    """Of one thing: what the server's memory grew by, and what it says of the keys (None: not asked)."""

    grown: float
    said: float | None = None


async def used(client: Redis) -> int:
    """Memory of the server without the streams that tell of what was done; they are bounded and have a row of their own."""
    await client.delete(*(keys.key(0, family) for family in ("events", "dispatch", "heartbeats")))
    return int((await client.info("memory"))["used_memory"])


async def waiting(client: Redis, count: int, sizes: range) -> Bytes:
    """A run that waits."""
    pool = await define_pool(client, f"waiting-{len(sizes)}")
    backlog = Backlog(client, pool, sizes)
    await backlog.submit(len(sizes))  # scripts are loaded, buffers have grown
    before = await used(client)
    await backlog.submit(count)
    grown = (await used(client) - before) / count
    line = keys.key(0, "waiting", pool.queues["default"])
    runs: Any = await client.zrange(line, 0, min(count, SAMPLE) - 1)
    pipe = client.pipeline(transaction=False)
    for run in runs:
        pipe.memory_usage(keys.key(0, "run", run.decode()), samples=0)
    of_runs = sum(await pipe.execute()) / len(runs)
    of_line = await client.memory_usage(line, samples=0) or 0
    return Bytes(grown, of_runs + of_line / await client.zcard(line))


async def finished(client: Redis, count: int) -> Bytes:
    """A run that was handed out, started and completed."""
    pool = await define_pool(client, "finished")
    backlog = Backlog(client, pool)
    store = DispatchStore(client, DispatcherSettings(dispatcher_finished_kept=10_000_000))
    await announce(store, pool, slots=10_000)
    before = await used(client)
    for done in range(0, count, SAMPLE):
        await backlog.submit(min(SAMPLE, count - done))
        await store.claim_runs(0, [pool.name])
        await complete(client, store, pool)
    grown = await used(client) - before
    assert await client.zcard(keys.key(0, "pool_finished", pool.id)) == count
    return Bytes(grown / count)


async def complete(client: Redis, store: DispatchStore, pool: DefinedPool) -> None:
    """Report what the worker was assigned, as it reports it, and empty its inbox."""
    runs = await assigned(client, pool.name)
    await client.delete(keys.key(0, "inbox", f"{pool.name}/w1"))
    for state in ("RUNNING", "COMPLETED"):
        reports = [RunReport(run=run["id"], token=run["token"], epoch=run["epoch"], state=state) for run in runs]
        await store.report_runs(0, [ReportRuns(pool=pool.name, worker="w1", reports=reports)])


async def workers(client: Redis, count: int) -> Bytes:
    """A worker that is ONLINE and that the dispatcher knows."""
    pool = await define_pool(client, "workers")
    monitor, store = Monitor(client), DispatchStore(client, DispatcherSettings())
    before = await used(client)
    for number in range(count):
        name = f"host-{number}-1234"
        await monitor.beat(pool.name, name, host=f"host-{number}", pid=1234, version="0.1.0", slots=10)
        await announce(store, pool, name)
    return Bytes((await used(client) - before) / count)


async def event(client: Redis) -> Bytes:
    """An event of a run, while it is kept."""
    await used(client)
    await Backlog(client, await define_pool(client, "events")).submit(SAMPLE * 2)
    events = keys.key(0, "events")
    size: Any = await client.memory_usage(events, samples=0)
    return Bytes(size / await client.xlen(events), size / await client.xlen(events))


def row(what: str, size: Bytes, budget: int | None = None, note: str = "") -> Figure:
    """Spell one size; a budget holds for both ways to look at it."""
    largest = max(size.grown, size.said or 0)
    limit = None if budget is None else Budget(f"at most {budget}", largest <= budget)
    said = "" if size.said is None else f"by MEMORY USAGE {size.said:.0f}"
    return Figure(what, "bytes", [size.grown], budget=limit, note="; ".join(text for text in (said, note) if text))


async def named_servers() -> dict[str, str]:
    """Every version there is once, by a name for people."""
    found: dict[str, str] = {}
    for path in servers():
        with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder), durable=False, server=path) as server:
            client = connect(server.url)
            about: Any = await client.info("server")
            await client.aclose()
        valkey = about.get("valkey_version")
        found.setdefault(f"Valkey {valkey}" if valkey else f"Redis {about['redis_version']}", path)
    return found


async def on_server(name: str, path: str, given: argparse.Namespace) -> list[Figure]:
    """All sizes on one server, and those of waiting runs once more as it comes out of the box."""
    share = 100 if given.quick else 1
    exact = range(PARAMETERS_BYTES, PARAMETERS_BYTES + 1)
    rows = []
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder), durable=False, server=path) as server:
        client = connect(server.url)
        size = await waiting(client, WAITING // share, exact)
        # A hundredth of the runs does not carry the fixed costs.
        budget = None if given.quick else BUDGET_BYTES
        rows.append(row(f"waiting run, {PARAMETERS_BYTES} bytes of parameters; {name}", size, budget))
        mixed = f"{SIZES.start} to {SIZES.stop - 1}"
        size = await waiting(client, WAITING // share, SIZES)
        rows.append(row(f"waiting run, {mixed} bytes of parameters; {name}", size, budget))
        rows.append(row(f"finished run; {name}", await finished(client, FINISHED // share)))
        rows.append(row(f"worker; {name}", await workers(client, WORKERS // share)))
        rows.append(row(f"event; {name}", await event(client)))
        await client.aclose()
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder), durable=False, server=path, options=REDIS_DEFAULT) as server,
    ):
        client = connect(server.url)
        size = await waiting(client, WAITING // share, exact)
        note = "hash-max-listpack-value left at 64"
        rows.append(row(f"waiting run, {PARAMETERS_BYTES} bytes of parameters; {name}", size, note=note))
        await client.aclose()
    return rows


async def all_of_it(given: argparse.Namespace) -> Report:
    """One table."""
    rows = [row for name, path in (await named_servers()).items() for row in await on_server(name, path, given)]
    return Report(f"Bytes of Redis, growth of used_memory over {WAITING:,} runs", rows)


def measure(given: argparse.Namespace) -> Report:
    """Measure; ``--quick`` with a hundredth of the runs and without budgets."""
    return uvloop.run(all_of_it(given))
