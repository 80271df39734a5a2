"""The processes of a soak: every service with its health served, workers, a log for each."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self

from penstock.cli.embedded_redis import free_port
from penstock.cli.probe import reasons_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SERVICES = ("pool_registry", "heartbeat_monitor", "dispatcher", "dispatcher", "scheduler")
WORKERS = ("soak-open", "soak-open", "soak-narrow", "soak-third")
"""The pool of each."""
PATIENCE_SECONDS = 120.0


class Processes:
    """Services and workers, each a process with a log of its own.

    Args:
        url: of Redis.
        folder: for the logs.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self.services: dict[str, subprocess.Popen[bytes]] = {}
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        for index, service in enumerate(SERVICES):
            name = f"{service} {index}" if SERVICES.count(service) > 1 else service
            self.ports[name] = free_port()
            self.services[name] = self._start(
                name,
                f"services.{service}",
                PENSTOCK_HEALTH_PORT=str(self.ports[name]),
                PENSTOCK_HEALTH_HOST="127.0.0.1",
            )
        return self

    def start_workers(self) -> None:
        """Start them when their pools exist."""
        for index, pool in enumerate(WORKERS):
            name = f"worker {index}"
            self.workers[name] = self._start(name, "tests.benchmarks.soak_worker", self._url, pool, f"w{index}")

    def _start(self, name: str, module: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env={**ours, "PENSTOCK_REDIS_URL": self._url, **variables},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: process.pid for name, process in {**self.services, **self.workers}.items()}

    def failed(self) -> str:
        """Say which process has ended, with the end of its log; '' when all run."""
        for name, process in {**self.services, **self.workers}.items():
            if process.poll() is not None:
                return f"{name} ended with {process.returncode}: {(self._folder / f'{name}.log').read_text()[-2000:]}"
        return ""

    async def unready(self) -> list[str]:
        """Say which service is not ready and why."""
        asked = [(name, await reasons_of(f"http://127.0.0.1:{port}/readyz")) for name, port in self.ports.items()]
        return [f"{name}: {'; '.join(reasons)}" for name, reasons in asked if reasons]

    async def watch(self) -> None:
        """Wait until one of them ends.

        Raises:
            RuntimeError: one has.
        """
        while not (problem := self.failed()):
            await asyncio.sleep(1.0)
        raise RuntimeError(problem)

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a condition while all of them run.

        Raises:
            RuntimeError: one has ended, or it takes too long.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while not await condition():
            if problem := self.failed():
                raise RuntimeError(problem)
            if time.monotonic() > end:
                raise RuntimeError(f"waited {PATIENCE_SECONDS:.0f} s in vain for {what}")
            await asyncio.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers.values(), *self.services.values()):
            process.kill()
            process.wait()
