"""``penstock demo``: the promises, on real work, while its parts are killed."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.support import wait_until
from tests.system.processes import PENSTOCK, descendants, environment, is_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

PARTS = {
    "pool-registry": "services.pool_registry",
    "heartbeat-monitor": "services.heartbeat_monitor",
    "dispatcher": "services.dispatcher",
    "scheduler": "services.scheduler",
    "worker": "--with-healthcheck",
    "redis": "redis-server",
}
"""Part -> what its command line, and no other, contains."""


class Demo:
    """A running demo whose temporary directory is ours."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            [*PENSTOCK, "demo", *options],
            env=environment(directory / "home", TMPDIR=str(directory), COLUMNS="120"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []

    def read(self) -> Iterator[str]:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            yield line

    def finish(self) -> int:
        """Read to the end.

        Returns:
            The exit code.
        """
        for _ in self.read():
            pass
        return self.process.wait(30)

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout
        self.process.stdout.close()

    @property
    def printed(self) -> str:
        logs = [log.read_text() for log in self.directory.glob("penstock-demo-*/processes.log")]
        return "".join([*self.lines, *logs])

    def pid_of(self, part: str) -> int:
        """Process id of a part, looked up by its command line."""
        found = [
            child.pid for child in psutil.Process(self.process.pid).children() if PARTS[part] in command_line(child)
        ]
        assert len(found) == 1, (part, found)
        return int(found[0])


def command_line(process: psutil.Process) -> str:
    """Its command line; empty when it has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture
def start_demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    demos: list[Demo] = []

    def start(*options: str) -> Demo:
        demos.append(Demo(tmp_path, *options))
        return demos[-1]

    yield start
    for demo in demos:
        demo.clean_up()


def row(printed: str, queue: str) -> list[str]:
    """The figures of one row of the closing table."""
    lines = [line for line in printed.splitlines() if line.startswith("│") and queue in line]
    return [cell.strip() for cell in lines[-1].strip("│").split("│")[1:]]


def test_the_demo_completes_every_run_within_its_limits_and_leaves_nothing_behind(
    start_demo: Callable[..., Demo],
) -> None:
    demo = start_demo()
    assert demo.finish() == 0, demo.printed
    assert row(demo.printed, "critical") == ["1", "1", "10", "10", "1"]
    assert row(demo.printed, "high") == ["5", "3", "20", "20", "3"]
    priority, limit, runs, completed, peak = row(demo.printed, "low")
    assert (priority, limit, runs, completed) == ("10", "none", "30", "30")
    assert 1 <= int(peak) <= 5
    assert row(demo.printed, "pool demo") == ["", "5", "60", "60", "5"]
    assert "no limit was passed" in demo.printed
    assert list(demo.directory.glob("penstock-demo-*")) == []


def test_a_kill_9_of_every_part_in_turn_loses_no_run_and_repeats_none(start_demo: Callable[..., Demo]) -> None:
    demo = start_demo("--runs", "150", "--keep")
    left = list(PARTS)
    for line in demo.read():
        # Between two lines ten runs have completed: each part dies in the middle of the work.
        if "completed  slots held" in line and left:
            psutil.Process(demo.pid_of(left.pop(0))).kill()
    assert demo.finish() == 0, demo.printed
    assert left == []
    assert row(demo.printed, "pool demo")[:4] == ["", "5", "150", "150"]
    assert "6 processes had ended and were started again meanwhile" in demo.printed
    assert "Every run completed exactly once" in demo.printed


async def test_ctrl_c_ends_the_demo_and_all_its_processes(
    start_demo: Callable[..., Demo],
) -> None:
    demo = start_demo()
    next(demo.read())

    async def started() -> list[int]:
        return descendants(demo.process.pid)

    family = await wait_until(started, what="the demo's processes")
    demo.process.send_signal(signal.SIGINT)
    assert demo.finish() == 130, demo.printed
    assert [pid for pid in family if not is_gone(pid)] == []
