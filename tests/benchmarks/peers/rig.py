"""One peer set up: a Redis of its own, its producer, its worker, and the tally its jobs write."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import psutil

from penstock.cli.embedded_redis import EmbeddedRedis
from penstock.cli.processes import die_with_parent
from tests.benchmarks.peers.homes import NotMeasured, last_line
from tests.benchmarks.peers.programs.jobs import RECORD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from tests.benchmarks.peers.homes import Home
    from tests.benchmarks.peers.table import Peer

ROOT: Final = Path(__file__).parents[3]
POLL_SECONDS: Final = 0.01
ANSWER_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
PRODUCER_STOP_SECONDS: Final = 3.0


class Begun(NamedTuple):
    """One start of one job; times in nanoseconds of CLOCK_MONOTONIC."""

    number: int
    sent_ns: int
    began_ns: int


@dataclass(frozen=True, slots=True)
class Sent:
    """Jobs that were submitted: their numbers from ``first``, and when the producer began and ended."""

    first: int
    count: int
    began_ns: int
    ended_ns: int


class Tally:
    """What the jobs of one peer have written, read as it grows.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        path.touch()
        self._file = path.open("rb")
        self.begun: dict[int, list[Begun]] = {}
        """Starts by the number of the job."""

    def read(self) -> None:
        """Take in what has been added."""
        added = self._file.read()
        whole = len(added) - len(added) % RECORD.size
        self._file.seek(whole - len(added), os.SEEK_CUR)
        for record in RECORD.iter_unpack(added[:whole]):
            one = Begun(*record)
            self.begun.setdefault(one.number, []).append(one)

    def first_starts(self, sent: Sent) -> list[Begun]:
        """Answer the first start of each of these jobs that has begun."""
        return [starts[0] for n in range(sent.first, sent.first + sent.count) if (starts := self.begun.get(n))]

    def close(self) -> None:
        """Let the file go."""
        self._file.close()


class Rig:
    """One peer, ready to be measured; an asynchronous context manager.

    Args:
        peer: what to set up.
        home: where its programs are.
    """

    def __init__(self, peer: Peer, home: Home) -> None:
        self._peer = peer
        self._home = home
        self._stack = AsyncExitStack()
        self._next = 1
        self._worker: subprocess.Popen[bytes] | None = None
        self.version = ""

    async def __aenter__(self) -> Self:
        try:
            await self._set_up()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _set_up(self) -> None:
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        server = self._stack.enter_context(EmbeddedRedis(self._folder / "redis", durable=False))
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "PREFECT_"))}
        self._environment: dict[str, str] = {
            **ours,
            **self._home.environment,
            "PYTHONPATH": str(ROOT),
            "BENCHMARK_REDIS_URL": server.url,
            "BENCHMARK_TALLY": str(self._folder / "tally"),
        }
        self.tally = Tally(self._folder / "tally")
        self._stack.callback(self.tally.close)
        if self._peer.around:
            around = self._peer.around(self._home, self._environment, self._folder)
            self._environment |= await self._stack.enter_async_context(around)
        self._stack.callback(self.kill_worker)
        await self._start_producer()

    async def _start_producer(self) -> None:
        with (self._folder / "producer.log").open("wb") as log:
            try:
                self._producer = await asyncio.create_subprocess_exec(
                    *self._home.command(self._peer.producer),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    env=self._environment,
                    cwd=self._folder,
                )
            except OSError as problem:
                raise NotMeasured(f"its producer could not be started: {problem}") from problem
        self._stack.push_async_callback(self._stop_producer)
        self.version = (await self._answer())["version"]

    async def _stop_producer(self) -> None:
        assert self._producer.stdin
        self._producer.stdin.close()
        try:
            await asyncio.wait_for(self._producer.wait(), PRODUCER_STOP_SECONDS)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._producer.kill()
            await self._producer.wait()

    async def _answer(self) -> dict[str, Any]:
        assert self._producer.stdout
        try:
            line = await asyncio.wait_for(self._producer.stdout.readline(), ANSWER_SECONDS)
        except TimeoutError as slow:
            raise NotMeasured(f"its producer did not answer within {ANSWER_SECONDS:g} s") from slow
        answer: dict[str, Any] = json.loads(line) if line else {"problem": self._said("producer.log")}
        if "problem" in answer:
            raise NotMeasured(f"its producer: {answer['problem']}")
        return answer

    def _said(self, log: str) -> str:
        return last_line((self._folder / log).read_text(errors="replace"))

    async def order(self, do: str, count: int, **more: Any) -> Sent:
        """Have jobs submitted, and wait until they are.

        Args:
            do: ``submit``, ``pace`` (with ``per_second``) or ``stay`` (one job, with ``seconds``).
            count: how many.
            more: see :mod:`tests.benchmarks.peers.programs.produce`.

        Raises:
            NotMeasured: the producer has ended, or says why not.
        """
        first, self._next = self._next, self._next + count
        numbers = {"number": first} if do == "stay" else {"first": first, "count": count}
        assert self._producer.stdin
        self._producer.stdin.write(json.dumps({"do": do, **numbers, **more}).encode() + b"\n")
        with suppress(ConnectionError):  # the answer says more
            await self._producer.stdin.drain()
        answer = await self._answer()
        return Sent(first, count, answer["began_ns"], answer["ended_ns"])

    async def until_begun(self, sent: Sent, seconds: float) -> list[Begun]:
        """Wait until each of these jobs has begun; answers their first starts.

        Raises:
            NotMeasured: the worker has ended, or they have not begun in time.
        """
        end = time.monotonic() + seconds
        while True:
            self.tally.read()
            starts = self.tally.first_starts(sent)
            if len(starts) == sent.count:
                return starts
            self.check_worker()
            if time.monotonic() > end:
                log = self._said("worker.log")
                raise NotMeasured(f"{len(starts)} of {sent.count} jobs began within {seconds:g} s; its log ends: {log}")
            await asyncio.sleep(POLL_SECONDS)

    def start_worker(self, command: Sequence[str] = ()) -> None:
        """Start a worker; another command than the peer's own may be given.

        Raises:
            NotMeasured: there is no such program.
        """
        with (self._folder / "worker.log").open("ab") as log:
            try:
                self._worker = subprocess.Popen(
                    self._home.command(command or self._peer.worker),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment,
                    cwd=self._folder,
                    preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call
                )
            except OSError as problem:
                raise NotMeasured(f"its worker could not be started: {problem}") from problem

    def check_worker(self) -> None:
        """Make sure that the worker runs.

        Raises:
            NotMeasured: it has ended; quotes its log.
        """
        if self._worker and self._worker.poll() is not None:
            said = self._said("worker.log")
            raise NotMeasured(f"its worker ended with {self._worker.returncode}: {said}")

    async def stop_worker(self) -> None:
        """SIGTERM, as a deployment would; what is left after a while is killed."""
        assert self._worker
        self._worker.send_signal(signal.SIGTERM)
        end = time.monotonic() + STOP_SECONDS
        while self._worker.poll() is None and time.monotonic() < end:
            await asyncio.sleep(POLL_SECONDS)
        self.kill_worker()

    def kill_worker(self) -> None:
        """kill -9 of the worker and of all processes it has started."""
        if self._worker is None:
            return
        processes: Mapping[int, psutil.Process] = _family(self._worker.pid)
        for process in processes.values():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._worker.wait()
        self._worker = None


def _family(pid: int) -> dict[int, psutil.Process]:
    try:
        parent = psutil.Process(pid)
        # Stopped first: a parent that notices a dead child would start another.
        parent.suspend()
        return {process.pid: process for process in (parent, *parent.children(recursive=True))}
    except psutil.NoSuchProcess:
        return {}
