"""Who is alive, with real processes: outages, wrong clocks, busy machines, and what becomes of a lost worker's runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import RedisError

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import connect
from penstock.bus.entries import entry_fields
from penstock.bus.requests import publish
from penstock.client import NewRun, Penstock
from penstock.contracts.runs import ReportRuns, RunReport
from penstock.contracts.workers import MISSED_HEARTBEATS, Heartbeat
from penstock.streams import DISPATCH
from tests.definitions import define_pool
from tests.support import read_events, wait_until
from tests.system.service_processes import Services
from tests.system.worker_process import worker

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis

pytestmark = pytest.mark.system

ALL = ["pool_registry", "heartbeat_monitor", "dispatcher"]
SHIFTED_CLOCK = """
import os, time
_shift, _time, _time_ns = float(os.environ["CLOCK_IS_WRONG_BY"]), time.time, time.time_ns
time.time = lambda: _time() + _shift
time.time_ns = lambda: _time_ns() + int(_shift * 1e9)
"""


async def online(client: Redis, name: str = "") -> list[dict[str, Any]]:
    """Events of workers that came ONLINE."""
    return await worker_events(client, "penstock.worker.online", name)


async def worker_events(client: Redis, event: str, name: str = "") -> list[dict[str, Any]]:
    return [
        one
        for one in await read_events(client)
        if one["event"] == event and one["resource"]["prefect.resource.name"].startswith(name)
    ]


async def in_state(penstock: Penstock, run_id: str, *states: str, timeout: float = 30.0) -> Any:
    async def there() -> Any:
        run = await penstock.read_run(run_id)
        return run if run.state in states else None

    return await wait_until(there, what=f"{run_id} to be {states}", timeout=timeout)


@pytest.mark.timeout(120)
async def test_each_policy_decides_what_becomes_of_a_killed_workers_run(
    own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    client = connect(own_redis.url)
    penstock = Penstock(client, 1)
    runs: dict[str, str] = {}
    with Services(own_redis.url, tmp_path, ALL), contextlib.ExitStack() as stack:
        for policy in ("crash", "requeue", "keep"):
            await penstock.create_pool(policy, on_worker_lost=policy, max_attempts=3)
            process = stack.enter_context(worker(own_redis.url, policy, tmp_path, "first", interval=0.3))
            done = tmp_path / f"{policy}-second-time"
            # The first time it takes for ever, the second time it is done at once.
            line = f"sh -c 'test -e {done} && exit 0; touch {done}; sleep 60'"
            (runs[policy],) = await penstock.submit_runs(policy, [NewRun(command=line)])
            await in_state(penstock, runs[policy], "RUNNING")
            await wait_until(_there(done), what="the run has begun")
            process.kill()
        await wait_until(lambda: worker_events(client, "penstock.worker.offline"), what="OFFLINE")

        crashed = await in_state(penstock, runs["crash"], "CRASHED")
        assert crashed.message == "Worker 'first' was lost (heartbeat-lost)"
        await in_state(penstock, runs["requeue"], "SCHEDULED")
        stack.enter_context(worker(own_redis.url, "requeue", tmp_path, "second", interval=0.3))
        again = await in_state(penstock, runs["requeue"], "COMPLETED")
        assert (again.run_count, again.worker, again.epoch) == (2, "second", 2)

        async def all_offline() -> bool:
            return len(await worker_events(client, "penstock.worker.offline", "first")) == 3

        await wait_until(all_offline, what="all three are OFFLINE")
        kept = await penstock.read_run(runs["keep"])
        assert (kept.state, kept.worker) == ("RUNNING", "first")
        assert (await penstock.read_slots("keep")).pool == 1, "it holds its slot"
        token: Any = await client.hget(keys.key(0, "run", kept.id), "token")
        said = RunReport(run=kept.id, token=token.decode(), epoch=1, state="COMPLETED")
        await publish(client, DISPATCH, 0, ReportRuns(pool="keep", worker="first", reports=[said]))
        await in_state(penstock, kept.id, "COMPLETED")
    await client.aclose()


def _there(path: Path) -> Any:
    async def look() -> bool:
        return await asyncio.to_thread(path.exists)

    return look


class Herd:
    """Many workers of which nothing is there but their heartbeats; they go on trying like real ones."""

    def __init__(self, client: Redis, count: int, interval: float) -> None:
        self._client = client
        self._interval = interval
        self.beats = {
            f"w{number:03}": Heartbeat(
                pool="etl", worker=f"w{number:03}", worker_type="process", boot_id="b", interval_seconds=interval
            )
            for number in range(count)
        }

    async def run(self) -> None:
        while True:
            pipe = self._client.pipeline(transaction=False)
            for beat in self.beats.values():
                pipe.xadd(keys.key(0, "heartbeats"), {**entry_fields(beat)})
            with contextlib.suppress(RedisError, OSError):
                await pipe.execute()
            await asyncio.sleep(self._interval)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_nobody_of_200_workers_goes_offline_because_redis_was_away_and_the_dead_one_still_does(
    own_redis: EmbeddedRedis, tmp_path: Path, how: str
) -> None:
    interval = 1.0
    client = connect(own_redis.url)
    await define_pool(client, "etl")
    with Services(own_redis.url, tmp_path, ["heartbeat_monitor", "heartbeat_monitor", "dispatcher"]) as services:
        herd = Herd(client, 200, interval)
        beating = asyncio.create_task(herd.run())

        async def all_online() -> bool:
            return len(await online(client)) == 200

        await wait_until(all_online, what="200 workers ONLINE")
        await asyncio.sleep(1.5)  # everysec: what is written by now survives
        away = (MISSED_HEARTBEATS + 2) * interval
        if how == "killed":
            own_redis.kill()
            await asyncio.sleep(away)
            own_redis.start()
        else:
            assert own_redis.process is not None
            own_redis.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(away)
            own_redis.process.send_signal(signal.SIGCONT)
        await asyncio.sleep((MISSED_HEARTBEATS + 1) * interval)
        assert await worker_events(client, "penstock.worker.offline") == [], services.log()

        del herd.beats["w007"]
        gone = await wait_until(
            lambda: worker_events(client, "penstock.worker.offline"),
            what="the dead one is OFFLINE",
            timeout=MISSED_HEARTBEATS * interval + 4,
        )
        await asyncio.sleep(2 * interval)
        assert [one["resource"]["prefect.resource.name"] for one in gone] == ["w007"]
        assert len(await worker_events(client, "penstock.worker.offline")) == 1
        await end_tasks([beating])
    await client.aclose()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("shift", [3600, -3600])
async def test_a_wrong_clock_on_a_workers_host_is_harmless(
    own_redis: EmbeddedRedis, tmp_path: Path, shift: int
) -> None:
    client = connect(own_redis.url)
    penstock = Penstock(client, 1)
    (tmp_path / "sitecustomize.py").write_text(SHIFTED_CLOCK)
    (tmp_path / "flow.py").write_text("def hello():\n    import time\n    print(time.time())\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    wrong = {"PYTHONPATH": path, "CLOCK_IS_WRONG_BY": str(shift)}
    with Services(own_redis.url, tmp_path, ALL):
        await penstock.create_pool("etl")
        with worker(own_redis.url, "etl", tmp_path, "w1", interval=0.4, **wrong):
            await wait_until(lambda: online(client), what="ONLINE")
            due = datetime.now(UTC) + timedelta(seconds=2)
            (run_id,) = await penstock.submit_runs(
                "etl", [NewRun(entrypoint="flow.py:hello", working_dir=str(tmp_path), scheduled_time=due)]
            )
            run = await in_state(penstock, run_id, "COMPLETED", "FAILED", "CRASHED")
            assert (run.state, run.message) == ("COMPLETED", "")
            lines = [line async for line in penstock.logs(run_id)]
            assert await worker_events(client, "penstock.worker.offline") == []
    (line,) = lines
    assert abs(float(line.text) - due.timestamp() - shift) < 30, "its clock was wrong indeed"
    due_ms = due.timestamp() * 1000
    assert run.started_ms is not None
    assert run.ended_ms is not None
    assert due_ms - 5 <= run.started_ms <= run.ended_ms <= due_ms + 10_000
    assert due_ms - 5 <= line.at_ms <= due_ms + 10_000
    assert [state.state for state in run.states] == ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"]
    await client.aclose()


@pytest.mark.timeout(90)
async def test_runs_that_use_up_the_machine_do_not_make_their_worker_offline(
    own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    client = connect(own_redis.url)
    penstock = Penstock(client, 1)
    hog = f"{sys.executable} -c 'import time; e = time.monotonic() + 8\nwhile time.monotonic() < e: pass'"
    with Services(own_redis.url, tmp_path, ALL):
        await penstock.create_pool("etl")
        with worker(own_redis.url, "etl", tmp_path, "w1", "--limit", "20", interval=1.0):
            ids = await penstock.submit_runs("etl", [NewRun(command=hog)] * 10)
            runs = await penstock.wait_for_runs(ids, timeout=80)
            assert {run.state for run in runs} == {"COMPLETED"}
            assert await worker_events(client, "penstock.worker.offline") == []
            entries: Any = await client.xrange(keys.key(0, "heartbeats"))
            beats = [int(entry_id.partition(b"-")[0]) for entry_id, _ in entries]
        longest = max(after - before for before, after in pairwise(beats))
    assert longest < 2000, f"heartbeats every second came {longest} ms apart"
    await client.aclose()
