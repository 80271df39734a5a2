"""The shipped worker as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def worker(
    url: str, pool: str, folder: Path, name: str, *options: str, interval: float, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A real worker process."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}
    environment = {
        **ours,
        "PENSTOCK_REDIS_URL": url,
        "PENSTOCK_WORKER_HEARTBEAT_SECONDS": str(interval),
        "PENSTOCK_WORKER_PREFETCH_SECONDS": "0",
        **variables,
    }
    with (folder / f"worker-{pool}-{name}.log").open("wb") as log:
        command = [sys.executable, "-m", "penstock", "worker", "start", "-p", pool, "-n", name, *options]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
