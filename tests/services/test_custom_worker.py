"""A worker of one's own in Python, on the whole installation."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from typing import TYPE_CHECKING

import pytest

from penstock.client import NewRun, Penstock
from penstock.contracts.workers import AssignRuns, RevokeRuns, StopRuns, StopWorker
from penstock.errors import Conflict, NoReply, NotFound
from penstock.settings import Settings
from penstock.worker import custom
from penstock.worker.custom import join
from tests.architecture.source import ROOT
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from penstock.worker.custom import CustomWorker


@pytest.fixture
def settings(url: str) -> Settings:
    return Settings.read(redis_url=url)


@pytest.fixture
async def penstock(settings: Settings) -> AsyncIterator[Penstock]:
    async with Penstock.connect(settings) as penstock:
        yield penstock


@pytest.fixture
async def pool(penstock: Penstock) -> AsyncIterator[str]:
    """A pool of the test's own."""
    name = f"custom-{os.urandom(4).hex()}"
    await penstock.create_pool(name)
    yield name
    await penstock.delete_pool(name)


async def submit(penstock: Penstock, pool: str, count: int = 1) -> list[str]:
    return await penstock.submit_runs(pool, [NewRun(command="true") for _ in range(count)])


async def assigned(worker: CustomWorker) -> AssignRuns:
    message = await asyncio.wait_for(anext(worker), 20)
    assert isinstance(message, AssignRuns)
    return message


async def test_what_it_is_assigned_it_reports_and_the_runs_end_so(
    penstock: Penstock, settings: Settings, pool: str
) -> None:
    async with join(pool, name="w1", slots=3, settings=settings) as worker:
        ids = await submit(penstock, pool, 5)
        seen = 0
        async for message in worker:
            assert isinstance(message, AssignRuns)
            assert len(message.runs) <= 3
            for run in message.runs:
                worker.report(run, "RUNNING")
                worker.report(run, "FAILED" if run.id == ids[3] else "COMPLETED", "that is how it was")
            seen += len(message.runs)
            if seen == 5:
                worker.drain()
        runs = await penstock.wait_for_runs(ids, timeout=20)
    assert [run.state for run in runs] == ["COMPLETED"] * 3 + ["FAILED", "COMPLETED"]
    assert {run.message for run in runs} == {"that is how it was"}
    assert [[past.state for past in run.states[1:]] for run in runs[:1]] == [["PENDING", "RUNNING", "COMPLETED"]]


async def test_it_is_online_inside_of_its_block_and_offline_behind_it(
    penstock: Penstock, settings: Settings, pool: str
) -> None:
    async with join(pool, name="w1", queues=["high"], slots=2, settings=settings):
        (worker,) = await penstock.read_workers(pool)
        assert (worker.name, worker.status, worker.slots, worker.queues) == ("w1", "ONLINE", 2, ["high"])
        assert "high" in {queue.name for queue in await penstock.read_queues(pool)}

    async def offline() -> bool:
        return [one.status for one in await penstock.read_workers(pool)] == ["OFFLINE"]

    await wait_until(offline, what="the worker to be OFFLINE at once")


async def test_it_hears_what_is_to_be_stopped_and_what_is_not_its_own_any_more(
    penstock: Penstock, settings: Settings, pool: str
) -> None:
    async with join(pool, slots=2, settings=settings) as worker:
        asked, taken = await submit(penstock, pool, 2)
        held = {run.id: run for run in (await assigned(worker)).runs}
        if len(held) < 2:
            held |= {run.id: run for run in (await assigned(worker)).runs}
        await penstock.cancel_runs([asked])
        stop = await asyncio.wait_for(anext(worker), 20)
        assert isinstance(stop, StopRuns)
        assert [run.id for run in stop.runs] == [asked]
        worker.report(held[asked], "CANCELLED")
        await penstock.cancel_runs([taken], force=True)
        revoked = await asyncio.wait_for(anext(worker), 20)
        assert isinstance(revoked, RevokeRuns)
        assert [run.id for run in revoked.runs] == [taken]
        runs = await penstock.wait_for_runs([asked, taken], timeout=20)
    assert [run.state for run in runs] == ["CANCELLED", "CANCELLED"]


async def test_a_drain_from_outside_ends_the_iteration_and_nothing_more_is_assigned(
    penstock: Penstock, settings: Settings, pool: str
) -> None:
    async with join(pool, name="w1", slots=2, settings=settings) as worker:
        await penstock.drain_worker(pool, "w1")
        messages = [message async for message in worker]
        assert [type(message) for message in messages] == [StopWorker]
        (waiting,) = await submit(penstock, pool)
        assert (await penstock.read_run(waiting)).state == "SCHEDULED"


async def test_what_it_holds_when_it_leaves_goes_to_the_next_one(
    penstock: Penstock, settings: Settings, pool: str
) -> None:
    (run_id,) = await submit(penstock, pool)
    async with join(pool, settings=settings) as worker:
        first = await assigned(worker)
    async with join(pool, settings=settings) as worker:
        second = await assigned(worker)
        worker.report(second.runs[0], "COMPLETED")
        await penstock.wait_for_runs([run_id], timeout=20)
    assert first.runs[0].id == second.runs[0].id == run_id
    assert first.runs[0].epoch < second.runs[0].epoch


async def test_a_pool_of_another_type_a_missing_pool_and_missing_services_are_told_apart(
    settings: Settings, pool: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Conflict, match="takes workers of type 'process', not 'kubernetes'"):
        async with join(pool, worker_type="kubernetes", settings=settings):
            pass
    with pytest.raises(NotFound, match="Work pool 'nowhere' does not exist"):
        async with join("nowhere", settings=settings):
            pass

    async def as_process(*_: object, **__: object) -> str:
        return "process"

    monkeypatch.setattr(custom, "join_pool", as_process)
    monkeypatch.setattr(custom, "ACCEPT_SECONDS", 0.3)
    with pytest.raises(NoReply, match=r"nobody accepted worker 'w1' of pool 'etl' within 0\.3 s"):
        async with join("etl", name="w1", settings=Settings.read(redis_url=redis_url)):
            pass


async def test_the_readmes_program_greets_whom_its_runs_name(
    penstock: Penstock, settings: Settings, tmp_path: Path
) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("### In Python\n")[2]
    program = re.search(r"^```python\n# greeter.py\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert program
    (tmp_path / "greeter.py").write_text(program[1])
    await penstock.create_pool("etl")
    output = tmp_path / "output.txt"
    environment = {**os.environ, "PENSTOCK_REDIS_URL": settings.redis_url}
    with output.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "greeter.py", cwd=tmp_path, env=environment, stdout=out
        )
        try:
            ids = await penstock.submit_runs("etl", [NewRun(command="true", name="first", parameters={"whom": "Ford"})])
            (run,) = await penstock.wait_for_runs(ids, timeout=60)
        finally:
            process.kill()
            await process.wait()
    assert run.state == "COMPLETED"
    assert output.read_text() == "first {'whom': 'Ford'}\n"
