"""What benchmarks need around what they measure: a Redis, services and workers as processes, and what each of them has cost."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from penstock.bus.connection import connect
from penstock.cli.embedded_redis import EmbeddedRedis
from tests.system.service_processes import Services

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis.asyncio import Redis

SERVICES: Final = ("pool_registry", "heartbeat_monitor", "dispatcher")


@contextlib.contextmanager
def empty_redis() -> Iterator[str]:
    """Start a Redis that writes nothing to disk, as the bare limits have it.

    Yields:
        Its URL.
    """
    with tempfile.TemporaryDirectory() as folder, EmbeddedRedis(Path(folder), durable=False) as server:
        yield server.url


@contextlib.contextmanager
def services(url: str, names: Sequence[str] = SERVICES) -> Iterator[dict[str, psutil.Process]]:
    """Run services as processes; they may take a moment to be ready.

    Yields:
        The processes by name; of several with one name each with its number behind it.
    """
    with tempfile.TemporaryDirectory() as logs, Services(url, Path(logs), list(names)) as running:
        yield {
            f"{name} {index}" if names.count(name) > 1 else name: psutil.Process(process.pid)
            for index, (name, process) in enumerate(zip(names, running.processes, strict=True))
        }


@contextlib.contextmanager
def program(module: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program of this folder until the end of the block; it has printed its first line by then."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            if not process.stdout.readline():
                raise RuntimeError(f"{module} ended with {process.wait()} before it was ready")
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time a process has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def redis_cpu_seconds(client: Redis) -> float:
    """The same of Redis."""
    about = await client.info("cpu")
    return float(about["used_cpu_user"]) + float(about["used_cpu_sys"])


__all__ = ["connect", "cpu_seconds", "empty_redis", "program", "redis_cpu_seconds", "services"]
