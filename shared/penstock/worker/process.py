"""The worker type ``process``: every run is a process with a session and a directory of its own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog

from penstock.worker.clock import wall_ms
from penstock.worker.environment import environment, instruction
from penstock.worker.guardian import Guardian, Mark, kill_group, kill_marked, marked, signal_marked
from penstock.worker.job import CannotStart, Outcome
from penstock.worker.lines import LineSplitter
from penstock.worker.verdict import Said, brought_about, judge

if TYPE_CHECKING:
    from penstock.contracts.logs import Source
    from penstock.worker.job import Job, Watcher

log = structlog.get_logger("penstock.worker")

_CHILD: Final = str(Path(__file__).with_name("child.py"))
_READ_BYTES: Final = 65_536
_LAST_WORDS_SECONDS: Final = 2.0
"""How long output is read after the end; only a process nobody can find (it has left the process group and has another
environment) can hold it open longer."""
_SHORTEST_LOOK: Final = 0.05
_LONGEST_LOOK: Final = 0.5
"""Seconds between two looks at what is left of a run that was asked to end."""


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
        running = RunningProcess(watcher, self._guardian, Mark(job.run, job.attempt), temporary)
        try:
            await running.start(_python(job), folder, variables, order)
        except OSError as problem:
            await running.discard()
            if problem.errno != errno.E2BIG:
                raise
            raise CannotStart(
                "its environment and parameters are larger than this host gives to a process (on Linux 128 KiB each)"
            ) from problem
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

    def __init__(self, watcher: Watcher, guardian: Guardian, mark: Mark, temporary: str | None) -> None:
        self._watcher = watcher
        self._guardian = guardian
        self._mark = mark
        self._temporary = temporary
        self._said = Said()
        self._stopped_ms: int | None = None
        self._killed = asyncio.Event()
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
            self._guardian.add(self.group, self._mark)
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
        if self._stopped_ms is not None:
            await self._let_the_rest_end()
        ended_ms = wall_ms()
        await self._clean_up(_LAST_WORDS_SECONDS)
        verdict = judge(status, self._said)
        stopped = brought_about(status, self._said, self._stopped_ms)
        return Outcome(verdict.state, verdict.message, self._said.started_ms, ended_ms, stopped)

    def terminate(self) -> None:
        """Send SIGTERM to the whole group."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to the whole group; what has left the group is killed when the process has ended."""
        self._killed.set()
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process and self._process.returncode is None and not _has_ended(self.group):
            self._stopped_ms = self._stopped_ms or wall_ms()
            kill_group(self.group, number)

    async def _let_the_rest_end(self) -> None:
        """Let what a terminated run had started end in its own time too, until the run is killed."""
        pause = _SHORTEST_LOOK
        told = False
        while not self._killed.is_set() and (left := await asyncio.to_thread(marked, self._mark)):
            if not told:
                # SIGTERM went to the group only.
                for pid in left:
                    _terminate_outside(pid, self.group, self._mark)
                told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._killed.wait(), pause)
            pause = min(2 * pause, _LONGEST_LOOK)

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
            # Nothing of it outlives the run. While a group has members, nothing else gets its number.
            kill_group(self.group)
            if left := await asyncio.to_thread(kill_marked, self._mark):
                log.warning("processes of a run cannot be killed", run=self._mark.run, pids=left)
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
        try:
            while data := await reader.read(_READ_BYTES):
                if lines := splitter.feed(data):
                    await self._watcher.printed(source, lines)
            if lines := splitter.end():
                await self._watcher.printed(source, lines)
        finally:
            if splitter.cut_lines:
                self._watcher.cut(splitter.cut_lines, splitter.cut_bytes)

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        while data := await reader.read(_READ_BYTES):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._hear(line)

    def _hear(self, line: bytes) -> None:
        try:
            what: dict[str, Any] = orjson.loads(line)
            self._said.last_ms = int(what["at_ms"])
            match what["said"]:
                case "started":
                    self._said.started_ms = self._said.last_ms
                    self._watcher.started(self._said.started_ms)
                case "completed":
                    self._said.completed = True
                case "failed":
                    self._said.failed = str(what["message"])
        except (ValueError, KeyError, TypeError, AttributeError):
            # The pipe's number is no secret to the run's code.
            log.warning("a run wrote something else into its progress pipe", line=line[:200].decode(errors="replace"))


def _has_ended(pid: int) -> bool:
    """Whether a child has ended by itself, though nobody has taken note of it yet."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
    except AttributeError:
        return False  # not every system can tell


def _terminate_outside(pid: int, group: int, mark: Mark) -> None:
    """Send SIGTERM to a process of a run that is not in its group."""
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) != group and (handle := signal_marked(pid, mark, signal.SIGTERM)) is not None:
            os.close(handle)
