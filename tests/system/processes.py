"""Start ``penstock`` commands as a person would, watch them, end them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson
import psutil

from tests.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PENSTOCK = [sys.executable, "-m", "penstock"]


def environment(home: Path, **more: str) -> dict[str, str]:
    """Our environment without any ``PENSTOCK_`` variable, and a home of the test's own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return {**ours, "PENSTOCK_UP_HOME": str(home), **more}


def is_gone(pid: int) -> bool:
    """True when no such process runs; one that has ended and waits for its parent does not run."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def descendants(pid: int) -> list[int]:
    """Process ids of all children and their children."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


class Up:
    """A running ``penstock up``.

    Args:
        home: for its data, its state file and ``up.log``, what it printed.
        options: further options.
    """

    def __init__(self, home: Path, *options: str, **variables: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.variables = environment(home, **variables)
        with (home / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*PENSTOCK, "up", *options], env=self.variables, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def printed(self) -> str:
        """All it has printed so far."""
        return (self.home / "up.log").read_text()

    def state(self) -> dict[str, Any]:
        """What its state file says; empty before there is one."""
        try:
            state: dict[str, Any] = orjson.loads((self.home / "up.json").read_bytes())
        except FileNotFoundError:
            return {}
        return state

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: about["pid"] for name, about in self.state().get("services", {}).items()}

    async def wait_ready(self) -> None:
        """Wait until it says that it is up."""

        async def says_so() -> bool:
            assert self.process.poll() is None, self.printed
            return "Penstock is up" in self.printed

        await wait_until(says_so, what="penstock up to be up", timeout=40)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command beside it."""
        return subprocess.run(
            [*PENSTOCK, *arguments], env=self.variables, capture_output=True, text=True, check=False, timeout=60
        )

    def interrupt(self, number: int = signal.SIGINT) -> int:
        """Send a signal and wait for the end.

        Returns:
            The exit code.
        """
        self.process.send_signal(number)
        return self.process.wait(60)

    def clean_up(self) -> None:
        """End it, however it is."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
