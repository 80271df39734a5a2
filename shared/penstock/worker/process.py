"""The worker type ``process``: every run is a process with a session and a directory of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from penstock.worker.environment import environment, instruction
from penstock.worker.guardian import Guardian, kill_group
from penstock.worker.job import CannotStart, Outcome
from penstock.worker.output import LineSplitter

if TYPE_CHECKING:
    from penstock.contracts.logs import Source
    from penstock.worker.job import Job, Watcher

log = structlog.get_logger("penstock.worker")

_CHILD: Final = str(Path(__file__).with_name("child.py"))
_READ_BYTES: Final = 65_536
_LAST_WORDS_SECONDS: Final = 2.0
"""How long output is read after the end; only a grandchild that left the process group can hold it open longer."""


@dataclass(slots=True)
class Said:
    """What the child has said so far."""

    started_ms: int | None = None
    completed: bool = False
    failed: str | None = None


def judge(status: int, said: Said) -> Outcome:
    """Decide how a run ended.

    Args:
        status: the exit status; negative: minus the signal that killed the process.
        said: what the child had said.

    Returns:
        FAILED when the child said so; COMPLETED for status 0; else CRASHED, even when the function had returned: what
        it left to threads and exit handlers did not finish.
    """
    if said.failed is not None:
        return Outcome("FAILED", said.failed)
    if status == 0:
        return Outcome("COMPLETED")
    if status > 0:
        message = f"Process exited with status {status}"
    else:
        names = {int(known): known.name for known in signal.Signals}
        message = f"Process was killed by signal {-status} ({names.get(-status, 'unknown')})"
    return Outcome("CRASHED", message + (", after the function had returned" if said.completed else ""))


class ProcessType:
    """Starts runs as processes of this machine."""

    def __init__(self) -> None:
        self._start_dir = str(Path.cwd())
        self._guardian = Guardian()

    async def open(self) -> None:
        """Start the guardian."""
        self._guardian.start()

    async def close(self) -> None:
        """End the guardian."""
        self._guardian.close()

    async def start(self, job: Job, watcher: Watcher) -> RunningProcess:
        """Start a run's process.

        Raises:
            CannotStart: the specification is wrong: its working directory, command or environment.
            OSError: this machine cannot start a process.
        """
        order = orjson.dumps(instruction(job, self._start_dir), option=orjson.OPT_NON_STR_KEYS)
        variables = environment(job, os.environ)
        temporary = None
        if job.spec.working_dir is None:
            temporary = folder = tempfile.mkdtemp(prefix="penstock-run-")
        else:
            folder = os.path.join(self._start_dir, job.spec.working_dir)  # noqa: PTH118
            if not Path(folder).is_dir():  # noqa: ASYNC240 - as blocking as starting a process is
                raise CannotStart(
                    f"working directory {folder} does not exist on the worker's host {os.uname().nodename}"
                )
        running = RunningProcess(watcher, self._guardian, temporary)
        try:
            await running.start(_python(job), folder, variables, order)
        except BaseException:
            await running.discard()
            raise
        return running


def _python(job: Job) -> list[str]:
    # A command needs neither site-packages nor the run's PYTHON* variables on its way to exec; user code does.
    # -P: the folder of child.py must not be importable.
    flags = ["-P"] if job.spec.entrypoint is not None else ["-I", "-S"]
    return [sys.executable, *flags, _CHILD]


class RunningProcess:
    """One run's process, its process group and its pipes."""

    def __init__(self, watcher: Watcher, guardian: Guardian, temporary: str | None) -> None:
        self._watcher = watcher
        self._guardian = guardian
        self._temporary = temporary
        self._said = Said()
        self._process: asyncio.subprocess.Process | None = None
        self._pumps: list[asyncio.Task[None]] = []
        self._transports: list[asyncio.ReadTransport] = []

    @property
    def group(self) -> int:
        """Its process group, which is the process's id."""
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    async def start(self, python: list[str], folder: str, variables: dict[str, str], order: bytes) -> None:
        """Start the process; it does nothing before it has read its order, and by then the guardian knows it."""
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for _ in range(3):
                end, other = os.pipe()
                ours.append(end)
                theirs.append(other)
            progress, out, err = theirs
            self._process = await asyncio.create_subprocess_exec(
                *python,
                str(progress),
                str(os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=out,
                stderr=err,
                pass_fds=(progress,),
                cwd=folder,
                env=variables,
                start_new_session=True,
            )
            self._guardian.add(self.group)
            readers = [await self._reader(ours.pop(0)) for _ in range(3)]
        finally:
            for number in (*ours, *theirs):
                os.close(number)
        self._pumps = [
            asyncio.create_task(self._follow(readers[0])),
            asyncio.create_task(self._pump("stdout", readers[1])),
            asyncio.create_task(self._pump("stderr", readers[2])),
            asyncio.create_task(self._order(order)),
        ]

    async def wait(self) -> Outcome:
        """Wait for the end, take the last output, leave nothing behind."""
        if self._process is None:
            raise RuntimeError("not started")
        status = await self._process.wait()
        ended_ms = time.time_ns() // 1_000_000
        await self._clean_up(_LAST_WORDS_SECONDS)
        verdict = judge(status, self._said)
        return Outcome(verdict.state, verdict.message, self._said.started_ms, ended_ms)

    def terminate(self) -> None:
        """Send SIGTERM to the whole group."""
        if self._process and self._process.returncode is None:
            kill_group(self.group, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the whole group."""
        if self._process and self._process.returncode is None:
            kill_group(self.group)

    async def discard(self) -> None:
        """Undo a start that failed half-way."""
        if self._process:
            self.kill()
            if self._process.stdin:
                self._process.stdin.close()
            await self._process.wait()
        await self._clean_up(0)

    async def _clean_up(self, patience_seconds: float) -> None:
        if self._process:
            # Grandchildren do not outlive the run.
            kill_group(self.group)
            self._guardian.remove(self.group)
        if self._pumps:
            _, late = await asyncio.wait(self._pumps, timeout=patience_seconds)
            for pump in late:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)
        for transport in self._transports:
            transport.close()
        if self._temporary:
            await asyncio.to_thread(shutil.rmtree, self._temporary, ignore_errors=True)

    async def _reader(self, number: int) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=_READ_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(number, "rb", 0)
        )
        self._transports.append(transport)
        return reader

    async def _order(self, order: bytes) -> None:
        if self._process and self._process.stdin:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(order)
                await self._process.stdin.drain()
            self._process.stdin.close()
            with contextlib.suppress(ConnectionError):
                await self._process.stdin.wait_closed()

    async def _pump(self, source: Source, reader: asyncio.StreamReader) -> None:
        splitter = LineSplitter()
        while data := await reader.read(_READ_BYTES):
            if lines := splitter.feed(data):
                await self._watcher.printed(source, lines)
        if lines := splitter.end():
            await self._watcher.printed(source, lines)

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while data := await reader.read(_READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        try:
            what: dict[str, Any] = orjson.loads(line)
            match what["said"]:
                case "started":
                    self._said.started_ms = int(what["at_ms"])
                    self._watcher.started(self._said.started_ms)
                case "completed":
                    self._said.completed = True
                case "failed":
                    self._said.failed = str(what["message"])
        except (ValueError, KeyError, TypeError, AttributeError):
            # The pipe's number is no secret to the run's code.
            log.warning("a run wrote something else into its progress pipe", line=line[:200].decode(errors="replace"))
