"""Services as real processes, to be killed for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class Services:
    """Real service processes on one Redis.

    Args:
        url: of Redis.
        logs: folder for one log per process.
        names: modules under ``services``; a name may come several times.
        variables: further ones of their environment.
    """

    def __init__(self, url: str, logs: Path, names: list[str], **variables: str) -> None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self._environment = {**ours, "PENSTOCK_REDIS_URL": url, "PENSTOCK_HEALTH_PORT": "-1", **variables}
        self._logs = logs
        self.names = names
        self.processes: list[subprocess.Popen[bytes]] = []

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        with (self._logs / f"{index}-{self.names[index]}.log").open("ab") as log:
            command = [sys.executable, "-m", f"services.{self.names[index]}"]
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=subprocess.STDOUT)

    def __enter__(self) -> Self:
        self.processes = [self._start(index) for index in range(len(self.names))]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def kill(self, index: int) -> None:
        """kill -9 one process and start another in its place."""
        self.processes[index].send_signal(signal.SIGKILL)
        self.processes[index].wait()
        self.processes[index] = self._start(index)

    def replace(self, index: int, patience_seconds: float = 20) -> int:
        """SIGTERM one process, wait for its end, start another in its place.

        Returns:
            The exit code of the old one.
        """
        self.processes[index].send_signal(signal.SIGTERM)
        code = self.processes[index].wait(patience_seconds)
        self.processes[index] = self._start(index)
        return code

    def log(self) -> str:
        """All they wrote, for a failed test."""
        return "\n".join(path.read_text() for path in sorted(self._logs.glob("*.log")))
