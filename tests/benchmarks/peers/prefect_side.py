"""Prefect's server, which its producer and its worker need; the producer is a program like any other."""

from __future__ import annotations

import asyncio
import subprocess
import urllib.error
import urllib.request
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from penstock.cli.embedded_redis import free_port
from penstock.cli.processes import die_with_parent
from tests.benchmarks.peers.homes import NotMeasured, last_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.benchmarks.peers.homes import Home

START_SECONDS: Final = 60


@asynccontextmanager
async def server(home: Home, environment: Mapping[str, str], folder: Path) -> AsyncIterator[Mapping[str, str]]:
    """Run ``prefect server start`` with data of its own.

    Raises:
        NotMeasured: it did not come up.
    """
    port = free_port()
    variables = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    log = folder / "server.log"
    command = home.command(["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"])
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time, coming up does
            command,
            env={**environment, **variables},
            stdout=output,
            stderr=output,
            preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call
        )
    try:
        for _ in range(START_SECONDS * 4):
            if await asyncio.to_thread(_answers, port):
                break
            if process.poll() is not None:
                raise NotMeasured(f"its server ended: {last_line(log.read_text(errors='replace'))}")
            await asyncio.sleep(0.25)
        else:
            raise NotMeasured(f"its server did not answer within {START_SECONDS} s")
        yield variables
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
