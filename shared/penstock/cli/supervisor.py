"""Keep a family of child processes running: start them in order, start dead ones again, stop them in reverse.

Promise: kill -9 of any child is repaired by itself, and nothing outlives the supervisor (``tests/system/test_up.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from penstock.bus.cancellation import end_tasks
from penstock.cli.embedded_redis import free_port
from penstock.cli.probe import reasons_of
from penstock.cli.processes import die_with_parent
from penstock.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
STEADY_AFTER_SECONDS: Final = 10.0
"""A child that lived this long is no longer suspected of failing at every start."""
EX_CONFIG: Final = 78
"""Exit code for wrong settings (``sysexits.h``): starting again would not help."""
MAX_LINE_BYTES: Final = 1_048_576
POLL_SECONDS: Final = 0.05

T = TypeVar("T")


def pause_before_restart(failures: int) -> float:
    """Say how long to wait before a child is started again.

    Args:
        failures: how often in a row it died young, 1 for the first time.

    Returns:
        Seconds: 0.2, doubled by each failure, 5 at most.
    """
    doublings = min(max(0, failures - 1), 10)
    return float(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**doublings))


@dataclass
class Child:
    """One supervised process.

    Attributes:
        name: for people; unique in the family.
        command: what to run.
        probe: answers why it is not ready, empty means ready; None: it serves its health on a port of its own, a fresh
            one for every life, so that a port taken meanwhile by somebody else is no obstacle.
        env: variables on top of our own environment.
        stop_seconds: how long it may take to stop before it is killed.
    """

    name: str
    command: Sequence[str]
    probe: Callable[[], Awaitable[list[str]]] | None = None
    env: dict[str, str] = field(default_factory=dict)
    stop_seconds: float = 10.0

    process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    health_url: str | None = None
    restarts: int = 0

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self.process.pid if self.process and self.process.returncode is None else None

    async def reasons(self) -> list[str]:
        """Say why it is not ready; empty means ready."""
        if self.pid is None:
            return ["it does not run"]
        return await (self.probe() if self.probe else reasons_of(f"{self.health_url}/readyz"))

    def environment(self) -> dict[str, str]:
        """Make the environment of its next life."""
        if self.probe:
            return {**os.environ, **self.env}
        port = free_port()
        self.health_url = f"http://127.0.0.1:{port}"
        health = {"PENSTOCK_HEALTH_PORT": str(port), "PENSTOCK_HEALTH_HOST": "127.0.0.1"}
        return {**os.environ, **health, **self.env}


class Supervisor:
    """Runs children until told to stop. Use it from the main thread (see :func:`die_with_parent`).

    Args:
        say: gets every line the children write, and our own about them, with the child's name.
        changed: called when a process was started, so that its id can be noted.
    """

    def __init__(self, say: Callable[[str, str], None], changed: Callable[[], None] = lambda: None) -> None:
        self._together: list[tuple[Child, ...]] = []
        self._problem = ""
        self._broken = asyncio.Event()
        self._say = say
        self._changed = changed
        self._halt = asyncio.Event()
        self._guards: list[asyncio.Task[None]] = []

    @property
    def children(self) -> list[Child]:
        """All children, in the order of their start."""
        return [child for children in self._together for child in children]

    async def run(self, work: Coroutine[None, None, T], stop: asyncio.Event) -> T | None:
        """Run something that needs the children: until it is done, or ``stop`` is set.

        Returns:
            What ``work`` answered, None when it was stopped before its end.

        Raises:
            Unavailable: a child cannot run at all.
        """
        working = asyncio.create_task(work, name="work")
        others = [asyncio.create_task(stop.wait()), asyncio.create_task(self._broken.wait())]
        try:
            await asyncio.wait({working, *others}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            if self._broken.is_set():
                raise Unavailable(self._problem)
            return None
        finally:
            await end_tasks((working, *others))

    async def start(self, *children: Child, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - part of the error message
        """Start children together and wait until all of them are ready; they will be stopped together too.

        Raises:
            Unavailable: one is not ready in time, or its settings are wrong; the message says why.
        """
        self._together.append(children)
        for child in children:
            await self._spawn(child)
            self._guards.append(asyncio.create_task(self._guard(child), name=child.name))
        end = time.monotonic() + timeout
        for child in children:
            await self._wait_ready(child, end, timeout)

    async def _wait_ready(self, child: Child, end: float, timeout: float) -> None:  # noqa: ASYNC109 - as above
        while reasons := await child.reasons():
            if time.monotonic() > end:
                raise Unavailable(f"{child.name} is not ready after {timeout:g} s: {'; '.join(reasons)}")
            await asyncio.sleep(POLL_SECONDS)

    async def _spawn(self, child: Child) -> None:
        child.process = await asyncio.create_subprocess_exec(
            *child.command,
            env=child.environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=MAX_LINE_BYTES,
            # Its own session: Ctrl-C in the terminal must reach us alone, so that the order of stopping is ours.
            start_new_session=True,
            preexec_fn=die_with_parent(),
        )
        self._changed()

    async def _guard(self, child: Child) -> None:
        """Follow one child through its lives."""
        failures = 0
        while child.process:
            born = time.monotonic()
            await self._relay(child, child.process)
            code = await child.process.wait()
            if self._halt.is_set():
                return
            if code == EX_CONFIG:
                self._problem = f"{child.name} refuses its settings (exit code {code}), see its last lines"
                self._broken.set()
                return
            failures = 1 if time.monotonic() - born >= STEADY_AFTER_SECONDS else failures + 1
            pause = pause_before_restart(failures)
            self._say(child.name, f"ended ({describe(code)}), starting it again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._halt.wait(), pause)
                return
            await self._spawn(child)
            child.restarts += 1
            if self._halt.is_set():
                # Told to stop while it was being started: nobody else knows of this process yet.
                _signal(child, signal.SIGKILL)

    async def _relay(self, child: Child, process: asyncio.subprocess.Process) -> None:
        """Pass its lines on until it has ended; a grandchild that still holds the pipe does not delay the restart."""
        reading = asyncio.create_task(self._read(child.name, process))
        await process.wait()
        await asyncio.wait({reading}, timeout=1.0)
        reading.cancel()

    async def _read(self, name: str, process: asyncio.subprocess.Process) -> None:
        stream = process.stdout
        while stream:
            try:
                line = await stream.readline()
            except ValueError:
                self._say(name, f"(a line of more than {MAX_LINE_BYTES} bytes was left out)")
                continue
            if not line:
                return
            self._say(name, line.decode(errors="replace").rstrip())

    async def stop(self) -> None:
        """Stop all children, those started last first; each gets its time, then it is killed."""
        self._halt.set()
        for children in reversed(self._together):
            await asyncio.gather(*(self._end(child) for child in children))
        await asyncio.gather(*self._guards, return_exceptions=True)

    def kill(self) -> None:
        """Kill all children at once, without waiting."""
        self._halt.set()
        for child in self.children:
            _signal(child, signal.SIGKILL)

    async def _end(self, child: Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        _signal(child, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), child.stop_seconds)
        except TimeoutError:
            self._say(child.name, f"did not stop within {child.stop_seconds:g} s, killing it")
            _signal(child, signal.SIGKILL)
            await process.wait()


def stop_on_signals(supervisor: Supervisor) -> asyncio.Event:
    """Make an event that Ctrl-C, SIGTERM or a closed terminal sets; a second signal kills everything and ends us."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            supervisor.kill()
            os._exit(1)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop


def describe(code: int) -> str:
    """Say in words how a process ended: its exit code, or the signal that killed it (a negative code)."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def _signal(child: Child, number: signal.Signals) -> None:
    if child.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)
