"""The installation under fire: services, a real worker, two readers of events. Nobody is started a second time."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Final

import psutil

from penstock.cli.embedded_redis import free_port
from tests.support import wait_until
from tests.system.chaos.crew import Member
from tests.system.fuzz.messages import HAND, HANDS
from tests.system.processes import PENSTOCK

if TYPE_CHECKING:
    from pathlib import Path

SERVICES: Final = ("pool_registry", "heartbeat_monitor", "dispatcher", "dispatcher", "scheduler")
LOOK_SECONDS: Final = 1.0
MAX_LINE_BYTES: Final = 20_000
"""A line of a log that is longer than that carries somebody's input into it."""


class Crew:
    """Real processes on one Redis.

    Args:
        folder: for their logs.
        url: of Redis.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self._environment = {**ours, "PENSTOCK_REDIS_URL": url, "PENSTOCK_HEALTH_HOST": "127.0.0.1"}
        self.members: list[Member] = []
        self.wrong: list[str] = []

    @property
    def services(self) -> list[Member]:
        """Those with a port for their health."""
        return [member for member in self.members if member.is_service]

    def start_services(self) -> None:
        """Start them."""
        for number, name in enumerate(SERVICES):
            port = free_port()
            environment = {"PENSTOCK_HEALTH_PORT": str(port), "PENSTOCK_DISPATCHER_FINISHED_KEPT": "1000000"}
            self._start(f"{number}-{name}", [sys.executable, "-m", f"services.{name}"], environment, port)

    def start_others(self) -> None:
        """Start the worker and the readers of events, once the pools are there."""
        # Its runs end at once, and a claim that nobody knows of is dropped; output is of no interest.
        self._start("worker", [*PENSTOCK, "worker", "start", "--pool", HANDS, "--name", HAND, "--limit", "2"], {})
        self._start("tail-table", [*PENSTOCK, "events", "tail"], {"TZ": "UTC"})
        self._start("tail-json", [*PENSTOCK, "events", "tail", "--output", "json"], {})

    def _start(self, name: str, command: list[str], environment: dict[str, str], port: int = 0) -> None:
        member = Member(name, command, {**self._environment, **environment}, self._folder / f"{name}.log", port)
        member.start()
        self.members.append(member)

    async def until_ready(self, seconds: float = 240.0) -> None:
        """Wait until all services say that they are."""
        for member in self.services:
            await wait_until(partial(_is_ready, member), what=f"{member.name} to be ready", timeout=seconds)

    async def watch(self) -> None:
        """Write down who is down, not live or not ready, for ever."""
        while True:
            self.look()
            for member in self.services:
                for probe in ("livez", "readyz"):
                    if why := await asyncio.to_thread(_why_not, member, probe):
                        self._say(f"{member.name} {probe}: {why}")
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Write down who has ended."""
        for member in self.members:
            if member.process and member.process.poll() is not None:
                self._say(f"{member.name} ended with {member.process.returncode}: {self.tail(member)}")

    def _say(self, text: str) -> None:
        if text not in self.wrong and len(self.wrong) < 100:
            self.wrong.append(text)

    def tail(self, member: Member) -> str:
        """The end of what somebody wrote."""
        with member.log.open("rb") as log:
            log.seek(max(0, member.log.stat().st_size - 1500))
            return log.read().decode(errors="replace")

    def memory(self) -> dict[str, int]:
        """Resident MB of each process that lives."""
        found = {}
        for member in self.members:
            if member.process and member.process.poll() is None:
                found[member.name] = psutil.Process(member.process.pid).memory_info().rss // 1_000_000
        return found

    def log_bytes(self) -> dict[str, int]:
        """What services and worker have written."""
        return {member.name: member.log.stat().st_size for member in self.members if not member.name.startswith("tail")}

    def log(self, name: str) -> str:
        """All that one has written."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def judge_logs(self) -> list[str]:
        """Find tracebacks, bugs and lines that are too long."""
        found = []
        for member in self.members:
            with member.log.open("rb") as log:
                for line in log:
                    if b"Traceback" in line or b"bug in Penstock" in line or b"part failed" in line:
                        found.append(f"{member.name} wrote: {line[:1500]!r}")
                    elif len(line) > MAX_LINE_BYTES and not member.name.startswith("tail"):
                        found.append(f"{member.name} wrote a line of {len(line)} bytes: {line[:300]!r}")
        return found[:30]

    def end(self) -> None:
        """Kill them all."""
        for member in self.members:
            if member.process:
                if member.process.poll() is None:
                    member.process.kill()
                member.process.wait()


async def _is_ready(member: Member) -> bool:
    return not await asyncio.to_thread(_why_not, member, "readyz")


def _why_not(member: Member, probe: str) -> str:
    """Ask a service how it is; '' when well."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{member.port}/{probe}", timeout=10):
            return ""
    except urllib.error.HTTPError as problem:
        with problem:
            return str(json.loads(problem.read()).get("reasons"))
    except (urllib.error.URLError, OSError) as problem:
        return str(problem)
