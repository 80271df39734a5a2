"""What ends the processes of runs, and a small process beside the worker that does it when the worker cannot.

Runs of a worker that died without a word (``kill -9``) are given back and start elsewhere; their old processes must not
go on. The kernel's parent-death signal reaches only direct children and no grandchildren, so the guardian keeps the list
of process groups and holds one end of a pipe whose other end only the worker has: the pipe's end is the worker's end. Run
as a script it imports the standard library only.

A process that left its group (``setsid``, a daemon) is known by its environment: it inherited the run's id and the number
of the claim. Both, because another worker of this machine may hold a later claim of the same run. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from typing import BinaryIO, NamedTuple

ROUNDS = 40
"""How often what a run left is looked for: it may start more while it is being killed."""
_PAUSE_MS = 25


class Mark(NamedTuple):
    """One claim of a run, as the environment of its processes tells it."""

    run: str
    attempt: int


def kill_group(group: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process group that may have ended already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _carries(pid: int, mark: Mark) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 - pathlib would double the cost
            variables = b"\0" + file.read()
    except OSError:
        # Gone, or somebody else's; a zombie has no environment any more.
        return False
    return (
        b"\0PENSTOCK_RUN_ID=%b\0" % mark.run.encode() in variables
        and b"\0PENSTOCK_RUN_ATTEMPT=%d\0" % mark.attempt in variables
    )


def marked(mark: Mark) -> list[int]:
    """Find the live processes of one claim, wherever they went; about 25 microseconds for each process of the machine.

    Returns:
        Their ids; none where there is no ``/proc``. A process that was given another environment is not found.
    """
    if sys.platform != "linux":
        return []
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names are wanted
    return [pid for pid in pids if pid != os.getpid() and _carries(pid, mark)]


def signal_marked(pid: int, mark: Mark, number: int) -> int | None:
    """Send a signal to a process of a claim; never to another one that has its id by now.

    Returns:
        A handle that becomes readable when the process has ended, to be closed; None when there is none.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except (AttributeError, OSError):
        # An old kernel: the moment between looking and sending is left to chance.
        if _carries(pid, mark):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        return None
    # The handle means one process for ever. If that is not the claim's, its id had been given away before.
    if _carries(pid, mark):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(handle, number)
    return handle


def kill_marked(mark: Mark) -> list[int]:
    """Kill every process of a claim, again and again until there is none, for a second at most.

    Returns:
        The ids of those that are there all the same.
    """
    for _ in range(ROUNDS):
        left = marked(mark)
        if not left:
            break
        handles = [signal_marked(pid, mark, signal.SIGKILL) for pid in left]
        ends = select.poll()
        for handle in handles:
            if handle is not None:
                ends.register(handle, select.POLLIN)
        ends.poll(_PAUSE_MS)
        for handle in handles:
            if handle is not None:
                os.close(handle)
    return left


def watch(pipe: BinaryIO) -> None:
    """Follow ``+<group> <run> <attempt>`` and ``-<group>`` lines until the pipe ends, then kill what is left."""
    groups: dict[int, Mark] = {}
    for line in pipe:
        words = line[1:].split()
        group = int(words[0])
        if line[:1] == b"+":
            groups[group] = Mark(words[1].decode(), int(words[2]))
        else:
            groups.pop(group, None)
    for group in groups:
        kill_group(group)
    for mark in groups.values():
        kill_marked(mark)


class Guardian:
    """The worker's side."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: dict[int, Mark] = {}

    @property
    def pid(self) -> int | None:
        """The guardian's process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process. In a session of its own, because a signal to the worker's group must not reach it."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, start_new_session=True, bufsize=0
        )

    def add(self, group: int, mark: Mark) -> None:
        """Name a process group that must not outlive the worker, and the claim it belongs to."""
        self._groups[group] = mark
        self._tell(_added(group, mark))

    def remove(self, group: int) -> None:
        """Forget a group that has ended."""
        self._groups.pop(group, None)
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
        for group, mark in self._groups.items():
            self._write(_added(group, mark))


def _added(group: int, mark: Mark) -> bytes:
    return b"+%d %b %d\n" % (group, mark.run.encode(), mark.attempt)


if __name__ == "__main__":
    # `systemctl stop` signals every process of the unit; the guardian leaves last.
    for _number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(_number, signal.SIG_IGN)
    watch(sys.stdin.buffer)
