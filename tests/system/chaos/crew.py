"""Processes that are started again when they die, as a supervisor or compose would."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.cli.embedded_redis import free_port
from penstock.cli.processes import die_with_parent
from tests.system.chaos.failpoints import POINTS, VARIABLE, WORKER_POINTS

if TYPE_CHECKING:
    from pathlib import Path

WATCH_SECONDS = 0.1
TERM_SECONDS = 20.0
"""A service that was told to stop and has not by then hangs."""
EXPECTED = {0, -signal.SIGKILL}
AT_REDIS = frozenset({1, 3})
"""A worker that finds no Redis at its start, or at its end cannot say what became of its runs, says so to who started it."""


@dataclass(eq=False)
class Member:
    """One process and its successors."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    port: int = 0
    failpoint: Path | None = None
    points: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    frozen: bool = False
    asked_to_end: float | None = None
    drains: bool = False
    expected: frozenset[int] = frozenset()
    starts: int = 0
    said_before: int = 0

    @property
    def is_service(self) -> bool:
        """Say whether it has a health port."""
        return self.port > 0

    def start(self) -> None:
        """Start it, from the main thread."""
        with self.log.open("ab") as log:
            self.said_before = log.tell()
            self.process = subprocess.Popen(
                self.command,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - one system call
            )
        self.frozen, self.asked_to_end = False, None
        self.starts += 1

    def signal(self, number: int) -> None:
        """Send a signal, if there is anybody."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen = False
        self.signal(signal.SIGCONT)

    def has_begun(self) -> bool:
        """Say whether a real worker has said that it has started: from then on it knows what SIGTERM means."""
        return b" started!" in self.log.read_bytes()[self.said_before :]

    def ready(self) -> bool:
        """Ask its readiness."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@dataclass
class Crew:
    """All processes of an installation but Redis.

    Args:
        folder: for logs and failpoints.
        url: of Redis.
    """

    folder: Path
    url: str
    members: list[Member] = field(default_factory=list)
    exits: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def services(self) -> list[Member]:
        """Those of the product."""
        return [member for member in self.members if member.is_service]

    @property
    def workers(self) -> list[Member]:
        """Workers in processes of their own."""
        return [member for member in self.members if not member.is_service]

    def _environment(self, **more: str) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        return {**ours, **more}

    def add_service(self, name: str, url: str = "", **variables: str) -> None:
        """Start a service.

        Args:
            name: of its module.
            url: where it finds Redis, if not where all do.
            **variables: of its environment.
        """
        number = len(self.members)
        failpoint = self.folder / f"failpoint-{number}"
        port = free_port()
        environment = self._environment(
            PENSTOCK_REDIS_URL=url or self.url,
            PENSTOCK_HEALTH_PORT=str(port),
            PENSTOCK_HEALTH_HOST="127.0.0.1",
            **{VARIABLE: str(failpoint)},
            **variables,
        )
        command = [sys.executable, "-m", "tests.system.chaos.service", name]
        log = self.folder / f"{number}-{name}.log"
        self.members.append(Member(f"{name} {number}", command, environment, log, port, failpoint, POINTS))
        self.members[-1].start()

    def add_worker(self, name: str, pool: str, records: Path, *options: str) -> None:
        """Start a bus worker as a process."""
        command = [sys.executable, "-m", "tests.system.chaos.worker", "--url", self.url, "--pool", pool]
        command += ["--name", name, "--records", str(records), *options]
        self.members.append(Member(name, command, self._environment(), self.folder / f"{name}.log"))
        self.members[-1].start()

    def add_real_worker(self, name: str, pool: str, records: Path, *options: str) -> None:
        """Start a worker as users do, which runs real processes."""
        command = [sys.executable, "-m", "tests.system.chaos.process_worker", str(records)]
        command += ["worker", "start", "--pool", pool, "--name", name, *options]
        failpoint = self.folder / f"failpoint-{name}"
        environment = self._environment(
            PENSTOCK_REDIS_URL=self.url,
            PENSTOCK_WORKER_HEARTBEAT_SECONDS="0.7",
            PENSTOCK_WORKER_PREFETCH_SECONDS="0",
            PENSTOCK_WORKER_DRAIN_SECONDS="5",
            **{VARIABLE: str(failpoint)},
        )
        log = self.folder / f"{name}.log"
        member = Member(name, command, environment, log, failpoint=failpoint, points=WORKER_POINTS)
        member.drains, member.expected = True, AT_REDIS
        self.members.append(member)
        self.members[-1].start()

    async def until_ready(self) -> None:
        """Wait until all services say that they are."""
        while True:
            if all(await asyncio.gather(*(asyncio.to_thread(member.ready) for member in self.services))):
                return
            await asyncio.sleep(WATCH_SECONDS)

    async def watch(self) -> None:
        """Start again whoever died, for ever."""
        while True:
            for member in self.members:
                self._look(member)
            await asyncio.sleep(WATCH_SECONDS)

    def _look(self, member: Member) -> None:
        assert member.process
        code = member.process.poll()
        if code is None:
            if (
                member.asked_to_end is not None
                and asyncio.get_running_loop().time() > member.asked_to_end + TERM_SECONDS
            ):
                self.wrong.append(f"{member.name} did not end within {TERM_SECONDS:g} s of SIGTERM")
                member.signal(signal.SIGKILL)
                member.asked_to_end = None
            return
        asked = member.asked_to_end is not None
        self.exits[f"exit {code}"] += 1
        if code not in (member.expected | EXPECTED) or (code == 0 and not asked):
            self.wrong.append(f"{member.name} ended with {code}")
        member.start()

    def end(self) -> None:
        """Kill them all."""
        for member in self.members:
            member.signal(signal.SIGKILL)
            if member.process:
                member.process.wait()

    def log_bytes(self) -> int:
        """How much all of them have written."""
        return sum(member.log.stat().st_size for member in self.members)
