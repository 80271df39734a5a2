"""Cancelling from the command to the process: real services, a real ``penstock worker start``, real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import pytest

from penstock.bus.connection import connect
from penstock.bus.requests import request
from penstock.client import NewRun, Penstock
from penstock.contracts.runs import CancelRuns
from penstock.streams import DISPATCH
from tests.installation import installation
from tests.support import wait_until
from tests.worker_rig import gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

STOP_SECONDS = 30
POLITE = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


@pytest.fixture
async def penstock(tmp_path: Path) -> AsyncIterator[Penstock]:
    """An installation with a pool ``etl`` and a worker that runs two at a time."""
    with installation(tmp_path / "installation") as url:
        client = connect(url)
        penstock = Penstock(client, 1)
        await penstock.create_pool("etl")
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        variables |= {"PENSTOCK_REDIS_URL": url, "PENSTOCK_WORKER_CANCEL_GRACE_SECONDS": "0.5"}
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "penstock", "worker", "start", "--pool", "etl", "--limit", "2"),
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        yield penstock
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            assert await worker.wait() == 0
        await client.aclose()


async def test_a_cancelled_run_is_ended_by_its_worker_with_all_it_has_started(
    penstock: Penstock, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    stubborn = (
        f"trap '' TERM; setsid sleep 60 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; while :; do sleep 0.05; done"
    )
    first, second, third = await penstock.submit_runs(
        "etl", [NewRun(command=["sh", "-c", stubborn]), NewRun(command=POLITE), NewRun(command="true")]
    )
    await wait_until(partial(has_state, penstock, second, "RUNNING"), what="the second run")
    await wait_until(partial(asyncio.to_thread, pids.exists), what="the first run's processes")
    assert (await penstock.read_run(third)).state == "SCHEDULED"
    await request(penstock._client, DISPATCH, 0, CancelRuns(runs=[first, second]))
    ended = {run.id: run for run in await penstock.wait_for_runs([first, second, third], timeout=30)}
    assert {ended[run].state for run in (first, second)} == {"CANCELLED"}
    assert ended[first].message.endswith("It was killed 0.5 s after SIGTERM.")
    assert ended[second].message.endswith("It ended after SIGTERM.")
    assert ended[third].state == "COMPLETED", "their slots are free again"
    for pid in map(int, pids.read_text().split()):
        assert await gone(pid)


async def has_state(penstock: Penstock, run_id: str, state: str) -> bool:
    return (await penstock.read_run(run_id)).state == state
