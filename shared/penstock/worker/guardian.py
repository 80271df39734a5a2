"""A small process beside the worker: when that dies without a word (``kill -9``), it kills what the worker had started.

Runs of a dead worker are given back and start elsewhere; their old processes must not go on. The kernel's
parent-death signal reaches only direct children and no grandchildren, so the guardian keeps the list of process
groups and holds one end of a pipe whose other end only the worker has: the pipe's end is the worker's end. Run as a
script it imports the standard library only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import BinaryIO


def kill_group(group: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process group that may have ended already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def watch(pipe: BinaryIO) -> None:
    """Follow ``+<group>`` and ``-<group>`` lines until the pipe ends, then kill the groups that are left."""
    groups: set[int] = set()
    for line in pipe:
        group = int(line[1:])
        if line[:1] == b"+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        kill_group(group)


class Guardian:
    """The worker's side."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: set[int] = set()

    @property
    def pid(self) -> int | None:
        """The guardian's process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process. In a session of its own, because a signal to the worker's group must not reach it."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, start_new_session=True, bufsize=0
        )

    def add(self, group: int) -> None:
        """Name a process group that must not outlive the worker."""
        self._groups.add(group)
        self._tell(b"+%d\n" % group)

    def remove(self, group: int) -> None:
        """Forget a group that has ended."""
        self._groups.discard(group)
        self._tell(b"-%d\n" % group)

    def close(self) -> None:
        """End the guardian; groups still named are killed."""
        if self._process and self._process.stdin:
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)
        self._process = None

    def _tell(self, line: bytes) -> None:
        try:
            self._write(line)
        except (OSError, ValueError):
            # Somebody killed it; a new one is told everything.
            self._restart()

    def _write(self, line: bytes) -> None:
        if self._process is None or self._process.stdin is None:
            raise BrokenPipeError
        self._process.stdin.write(line)

    def _restart(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()
        self.start()
        for group in self._groups:
            self._write(b"+%d\n" % group)


if __name__ == "__main__":
    # `systemctl stop` signals every process of the unit; the guardian leaves last.
    for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(_number, signal.SIG_IGN)
    watch(sys.stdin.buffer)
