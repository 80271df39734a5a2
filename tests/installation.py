"""A whole installation for tests of those who use one: a Redis and the services as processes of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys
from penstock.bus.requests import publish
from penstock.cli.embedded_redis import EmbeddedRedis
from penstock.contracts.runs import ReportRuns, RunReport
from penstock.contracts.workers import Heartbeat
from penstock.streams import DISPATCH, HEARTBEATS
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from redis.asyncio import Redis

SERVICES = ("pool_registry", "heartbeat_monitor", "dispatcher", "scheduler")
START_SECONDS = 60
STOP_SECONDS = 10


@contextlib.contextmanager
def installation(directory: Path) -> Iterator[str]:
    """Run everything but a worker.

    Yields:
        The URL of its Redis.
    """
    with EmbeddedRedis(directory, durable=False) as server:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        environment |= {"PENSTOCK_REDIS_URL": server.url, "PENSTOCK_HEALTH_PORT": "-1"}
        processes = []
        for service in SERVICES:
            with (directory / f"{service}.log").open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", f"services.{service}"], env=environment, stdout=log, stderr=log
                    )
                )
        try:
            _until_started(dict(zip(SERVICES, processes, strict=True)), directory)
            yield server.url
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(STOP_SECONDS)


def _until_started(processes: Mapping[str, subprocess.Popen[bytes]], directory: Path) -> None:
    """Wait until every service reads: the first question of a test must not run into its time limit on a busy machine."""
    end = time.monotonic() + START_SECONDS
    for service, process in processes.items():
        while b'"started"' not in (directory / f"{service}.log").read_bytes():
            assert time.monotonic() < end, f"{service} did not start within {START_SECONDS} s, see {directory}"
            with contextlib.suppress(subprocess.TimeoutExpired):
                pytest.fail(f"{service} ended with {process.wait(0.02)}, see {directory}")


class HandWorker:
    """A worker that does what the test says: joins, takes what it is assigned, reports."""

    def __init__(self, client: Redis, pool: str, name: str = "w1", *, slots: int = 10) -> None:
        self._client = client
        self._pool = pool
        self._name = name
        self._slots = slots
        self._last = "0"

    async def join(self) -> None:
        heartbeat = Heartbeat(
            pool=self._pool, worker=self._name, worker_type="process", boot_id="b1", slots=self._slots, version="1.2.3"
        )
        await publish(self._client, HEARTBEATS, 0, heartbeat)

    async def take(self, count: int) -> list[dict[str, Any]]:
        """Wait until so many runs were assigned."""
        taken: list[dict[str, Any]] = []

        async def enough() -> bool:
            name = keys.key(0, "inbox", f"{self._pool}/{self._name}")
            entries: Any = await self._client.xrange(name, f"({self._last}" if self._last != "0" else "-")
            for entry_id, fields in entries:
                self._last = entry_id.decode()
                message = orjson.loads(fields[b"__data__"])
                taken.extend(message["runs"] if message["type"] == "assign_runs" else [])
            return len(taken) >= count

        await wait_until(enough, what=f"{count} runs in the inbox")
        return taken

    async def report(self, run: dict[str, Any], state: Any, message: str = "") -> None:
        report = RunReport(run=run["id"], token=run["token"], epoch=run["epoch"], state=state, message=message)
        reports = ReportRuns(pool=self._pool, worker=self._name, reports=[report])
        await publish(self._client, DISPATCH, 0, reports)
