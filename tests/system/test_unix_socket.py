"""Redis by a socket of the file system: services, SDK, worker and command get there with ``unix://``."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from penstock.cli.embedded_redis import EmbeddedRedis
from penstock.client import NewRun, Penstock
from penstock.settings import Settings
from penstock.worker.custom import join
from tests.support import wait_until
from tests.system.processes import PENSTOCK
from tests.system.service_processes import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

SERVICES = ["pool_registry", "heartbeat_monitor", "dispatcher", "scheduler"]


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    # The path of a socket has at most 107 bytes.
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "redis.sock"
        with EmbeddedRedis(tmp_path / "redis", durable=False, options={"unixsocket": str(socket)}):
            yield f"unix://{socket}?db=0"


async def test_a_run_is_submitted_executed_and_seen_over_a_unix_socket(url: str, tmp_path: Path) -> None:
    settings = Settings.read(redis_url=url)
    with Services(url, tmp_path, SERVICES) as services:

        async def started() -> bool:
            return services.log().count('"started"') == len(SERVICES)

        await wait_until(started, what="the services to start", timeout=60)
        async with Penstock.connect(settings) as penstock:
            await penstock.create_pool("etl")
            async with join("etl", settings=settings) as worker:
                ids = await penstock.submit_runs("etl", [NewRun(command="true")])
                message = await anext(worker)
                for run in getattr(message, "runs", ()):
                    worker.report(run, "COMPLETED")
                (run,) = await penstock.wait_for_runs(ids, timeout=20)
        assert run.state == "COMPLETED"
        environment = {"PENSTOCK_REDIS_URL": url, "PATH": "/usr/bin:/bin"}
        listed = await asyncio.to_thread(
            subprocess.run, [*PENSTOCK, "work-pool", "ls"], env=environment, capture_output=True, text=True, check=False
        )
        assert (listed.returncode, "etl" in listed.stdout) == (0, True), listed.stderr
