"""A worker is told to end by somebody who does not sit at its machine."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from penstock import keys
from penstock.bus.connection import connect
from penstock.cli.app import app
from penstock.client import NewRun, Penstock
from penstock.contracts.workers import StopWorker
from penstock.errors import Invalid, NotFound
from penstock.settings import Settings
from tests.installation import HandWorker
from tests.support import wait_until
from tests.worker_rig import Rig, claim, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from redis.asyncio import Redis


@pytest.fixture
async def penstock(url: str) -> AsyncIterator[Penstock]:
    async with Penstock.connect(Settings(redis_url=url)) as penstock:
        yield penstock


@pytest.fixture
async def live(url: str) -> AsyncIterator[Redis]:
    client = connect(url)
    yield client
    await client.aclose()


@pytest.fixture
async def pool(penstock: Penstock) -> str:
    name = f"pool-{uuid.uuid4().hex[:8]}"
    await penstock.create_pool(name)
    return name


@pytest.fixture
def command(url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", url)
    monkeypatch.setenv("COLUMNS", "240")

    def run(*arguments: str, code: int = 0) -> Any:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == code, result.output
        return result

    return run


@contextmanager
def worker(url: str, pool: str, folder: Path, name: str = "w1") -> Iterator[subprocess.Popen[bytes]]:
    """A real worker process."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "penstock", "worker", "start", "-p", pool, "-n", name, "--limit", "2"],
            env={**ours, "PENSTOCK_REDIS_URL": url},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def in_state(penstock: Penstock, run_id: str, *states: str) -> Any:
    async def there() -> Any:
        run = await penstock.read_run(run_id)
        return run if run.state in states else None

    return await wait_until(there, what=f"{run_id} to be {states}")


async def test_a_drained_worker_finishes_what_it_runs_hands_back_the_rest_and_ends_with_0(
    penstock: Penstock, live: Redis, url: str, pool: str, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    with worker(url, pool, tmp_path) as process:
        now, later = await penstock.submit_runs(
            pool,
            [
                NewRun(command=f"sh -c 'until test -e {go_on}; do sleep 0.05; done'"),
                NewRun(command="true", scheduled_time=datetime.now(UTC) + timedelta(seconds=8)),
            ],
        )
        await in_state(penstock, now, "RUNNING")
        await in_state(penstock, later, "PENDING")

        draining = await penstock.drain_worker(pool, "w1", 60)

        assert draining.runs == 2
        await in_state(penstock, later, "SCHEDULED")
        (about,) = await wait_until(lambda: _draining(penstock, pool), what="it says that it drains")
        assert about.status == "ONLINE"
        ended = asyncio.create_task(penstock.wait_for_worker_end(pool, "w1", draining.boot_id))
        other = HandWorker(live, pool, "w2")
        await other.join()
        go_on.touch()
        await asyncio.wait_for(ended, 20)
        assert (await penstock.read_run(now)).state == "COMPLETED"
        assert await asyncio.to_thread(process.wait, 10) == 0


async def _draining(penstock: Penstock, pool: str) -> list[Any]:
    return [worker for worker in await penstock.read_workers(pool) if worker.draining]


async def test_what_is_not_done_at_the_deadline_is_ended_and_the_policy_of_the_pool_decides(
    penstock: Penstock, url: str, pool: str, tmp_path: Path
) -> None:
    with worker(url, pool, tmp_path) as process:
        (run_id,) = await penstock.submit_runs(pool, [NewRun(command="sleep 60")])
        await in_state(penstock, run_id, "RUNNING")
        await penstock.drain_worker(pool, "w1", 3600)
        await wait_until(lambda: _draining(penstock, pool), what="it says that it drains")
        assert process.poll() is None

        await penstock.drain_worker(pool, "w1", 0)

        assert await asyncio.to_thread(process.wait, 15) == 0
        run = await in_state(penstock, run_id, "CRASHED")
        assert run.message == "Worker 'w1' was lost (stopped)"


async def test_the_command_drains_waits_and_says_so(
    penstock: Penstock, url: str, pool: str, tmp_path: Path, command: Callable[..., Any]
) -> None:
    with worker(url, pool, tmp_path) as process:

        async def online() -> bool:
            return any(one.status == "ONLINE" for one in await penstock.read_workers(pool))

        await wait_until(online, what="the worker")
        drained = await asyncio.to_thread(command, "worker", "drain", "w1", "-p", pool, "--deadline", "5", "--wait")
        assert drained.stdout == ("Worker 'w1' gets nothing more and ends; it holds 0 run(s)\nWorker 'w1' has ended\n")
        assert await asyncio.to_thread(process.wait, 10) == 0
    gone = await asyncio.to_thread(command, "worker", "drain", "w1", "-p", pool, code=1)
    assert f"worker 'w1' of work pool '{pool}' is OFFLINE" in gone.stderr
    unknown = await asyncio.to_thread(command, "worker", "drain", "w7", "-p", pool, code=1)
    assert f"there is no worker 'w7' in work pool '{pool}'" in unknown.stderr


async def test_who_does_not_exist_is_named(penstock: Penstock, pool: str) -> None:
    with pytest.raises(NotFound, match="there is no worker 'w1'"):
        await penstock.drain_worker(pool, "w1")
    with pytest.raises(NotFound, match="there is no work pool 'nowhere'"):
        await penstock.drain_worker("nowhere", "w1")
    with pytest.raises(Invalid, match="deadline_seconds"):
        await penstock.drain_worker(pool, "w1", -1)


async def test_the_end_of_a_life_is_also_that_another_one_took_its_name(
    penstock: Penstock, live: Redis, pool: str
) -> None:
    await HandWorker(live, pool).join()

    async def there() -> bool:
        return bool(await penstock.read_workers(pool))

    await wait_until(there, what="the worker")
    with pytest.raises(TimeoutError):
        await penstock.wait_for_worker_end(pool, "w1", "b1", timeout=0.2)
    await penstock.wait_for_worker_end(pool, "w1", "an older one", timeout=5)
    await penstock.wait_for_worker_end(pool, "nobody", "b1", timeout=5)


async def test_a_worker_whose_heartbeat_is_overdue_is_suspect_and_still_online(
    penstock: Penstock, live: Redis, pool: str, command: Callable[..., Any]
) -> None:
    await HandWorker(live, pool).join()

    async def there() -> Any:
        found = await penstock.read_workers(pool)
        return found[0] if found else None

    assert not (await wait_until(there, what="the worker")).suspect
    pool_id = (await penstock.read_pool(pool)).id
    long_ago = await penstock.now_ms() - 46_000
    await live.hset(keys.key(0, "worker", f"{pool_id}/w1"), "last_heartbeat_ms", str(long_ago))

    listed = await asyncio.to_thread(command, "worker", "ls", "-p", pool)
    assert "SUSPECT" in listed.stdout
    (row,) = json.loads((await asyncio.to_thread(command, "worker", "ls", "-p", pool, "-o", "json")).stdout)
    assert (row["status"], row["suspect"]) == ("ONLINE", True)


# What the worker itself does with the message


async def _heartbeats_draining(rig: Rig) -> bool:
    return bool((await rig.heartbeats())[-1]["draining"])


async def test_a_worker_that_is_told_to_stop_says_so_at_once_and_ends_with_0(client: Redis) -> None:
    async with working(client) as rig:
        running, waiting = claim(command="sleep 0.5"), claim(60, command="true")
        await rig.assign(running, waiting)
        await rig.report(running, "RUNNING")

        await rig.send(StopWorker(boot_id=rig.identity.boot_id))

        await wait_until(lambda: _heartbeats_draining(rig), what="a heartbeat that says so")
        assert (await rig.report(waiting, "SCHEDULED"))["message"] == "Handed back: the worker is draining"
        assert await asyncio.wait_for(rig.task, 10) == 0
        await rig.completed(running)


async def test_a_message_for_another_life_stops_nobody(client: Redis) -> None:
    async with working(client) as rig:
        await rig.send(StopWorker(boot_id="another"))
        run = claim(command="true")
        await rig.assign(run)
        await rig.completed(run)
        assert not await _heartbeats_draining(rig)


async def test_a_later_message_moves_the_deadline_both_ways(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command="sleep 2")
        await rig.assign(run)
        await rig.report(run, "RUNNING")
        await rig.send(StopWorker(boot_id=rig.identity.boot_id, deadline_seconds=0.6))
        await rig.send(StopWorker(boot_id=rig.identity.boot_id, deadline_seconds=60))
        assert await asyncio.wait_for(rig.task, 10) == 0
        await rig.completed(run)


async def test_a_signal_shortens_the_deadline_and_only_a_second_one_ends_at_once(client: Redis) -> None:
    async with working(client, drain_seconds=1.0) as rig:
        run = claim(command="sleep 30")
        await rig.assign(run)
        await rig.report(run, "RUNNING")
        await rig.send(StopWorker(boot_id=rig.identity.boot_id, deadline_seconds=3600))
        await wait_until(lambda: _heartbeats_draining(rig), what="a heartbeat that says so")

        rig.worker.drain()
        await rig.send(StopWorker(boot_id=rig.identity.boot_id, deadline_seconds=3600))

        await asyncio.wait_for(rig.task, 10)
        assert await rig.states(run) == ["RUNNING"], "what becomes of it is the pool's policy"


async def test_a_second_signal_ends_a_worker_at_once_whatever_it_was_granted(client: Redis) -> None:
    async with working(client, drain_seconds=60.0) as rig:
        run = claim(command="sleep 30")
        await rig.assign(run)
        await rig.report(run, "RUNNING")
        rig.worker.drain()
        rig.worker.drain()
        assert await asyncio.wait_for(rig.task, 3) == 0
