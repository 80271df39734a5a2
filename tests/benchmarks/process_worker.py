"""A real ``penstock worker start`` for benchmarks, of the type that runs processes."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from tests.system.processes import PENSTOCK, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.client import Penstock
    from penstock.contracts.pools import Pool

STOP_SECONDS: Final = 40


@contextlib.contextmanager
def process_worker(url: str, pool: str, *options: str) -> Iterator[psutil.Process]:
    """Run a worker of a pool that exists until the end of the block; it may take a moment to be ONLINE.

    Yields:
        Its process.
    """
    with tempfile.TemporaryDirectory() as home:
        command = [*PENSTOCK, "worker", "start", "-p", pool, *options]
        variables = environment(Path(home), PENSTOCK_REDIS_URL=url)
        with subprocess.Popen(
            command, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home
        ) as worker:
            try:
                yield psutil.Process(worker.pid)
            finally:
                worker.terminate()
                worker.wait(STOP_SECONDS)


async def ready_pool(penstock: Penstock, name: str) -> Pool | None:
    """The pool once a worker of it is ONLINE."""
    pool = await penstock.read_pool(name)
    return pool if pool.status == "READY" else None
