"""The supervisor alone, with tiny stand-ins for the services."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from penstock.cli import supervisor as supervising
from penstock.cli.supervisor import Child, Supervisor, describe, pause_before_restart
from penstock.errors import Unavailable
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.system

STEADY = "import sys, time; print('hello', flush=True); time.sleep(1000)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('hello', flush=True); time.sleep(1000)"
)
SERVING = """
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b'{"ok": true, "reasons": []}')
    def log_message(self, *_): pass
where = os.environ['PENSTOCK_HEALTH_HOST'], int(os.environ['PENSTOCK_HEALTH_PORT'])
http.server.HTTPServer(where, Answer).serve_forever()
"""


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def supervisor(lines: list[tuple[str, str]]) -> AsyncIterator[Supervisor]:
    family = Supervisor(lambda name, line: lines.append((name, line)))
    yield family
    family.kill()
    await family.stop()


def child(name: str, script: str, lines: list[tuple[str, str]], stop_seconds: float = 5.0) -> Child:
    """A stand-in that is ready once it has said something in its present life."""

    async def probe() -> list[str]:
        return [] if (name, "hello") in lines else ["has not said hello"]

    return Child(name, [sys.executable, "-c", script], probe=probe, stop_seconds=stop_seconds)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_started_child_is_ready_and_its_lines_carry_its_name(
    supervisor: Supervisor, lines: list[tuple[str, str]]
) -> None:
    await supervisor.start(child("one", STEADY, lines))
    assert ("one", "hello") in lines


async def test_a_killed_child_is_started_again_and_the_restart_is_said(
    supervisor: Supervisor, lines: list[tuple[str, str]]
) -> None:
    one = child("one", STEADY, lines)
    await supervisor.start(one)
    first = one.pid
    assert first
    lines.clear()
    os.kill(first, signal.SIGKILL)

    async def again() -> bool:
        return one.pid not in (None, first) and not await one.reasons()

    await wait_until(again, what="a second life")
    assert one.restarts == 1
    assert ("one", "ended (killed by SIGKILL), starting it again in 0.2 s") in lines


async def test_every_life_gets_a_health_port_of_its_own(supervisor: Supervisor) -> None:
    one = Child("one", [sys.executable, "-c", SERVING])
    await supervisor.start(one)
    first, url = one.pid, one.health_url
    assert first
    os.kill(first, signal.SIGKILL)

    async def again() -> bool:
        return one.pid not in (None, first) and not await one.reasons()

    await wait_until(again, what="a second life that answers on its port")
    assert one.health_url != url


async def test_children_are_stopped_in_reverse_order_and_a_stubborn_one_is_killed(
    supervisor: Supervisor, lines: list[tuple[str, str]]
) -> None:
    script = "import signal, sys, time\n"
    script += "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))\n"
    script += "print('hello', flush=True)\ntime.sleep(1000)"
    await supervisor.start(child("redis", script, lines))
    await supervisor.start(child("worker", script, lines), child("stubborn", STUBBORN, lines, stop_seconds=0.2))
    await supervisor.stop()
    ended = [name for name, line in lines if line == "bye"]
    assert ended == ["worker", "redis"]
    assert ("stubborn", "did not stop within 0.2 s, killing it") in lines
    assert all(one.pid is None for one in supervisor.children)


async def test_a_child_that_never_gets_ready_is_reported_with_its_reason(
    supervisor: Supervisor, lines: list[tuple[str, str]]
) -> None:
    with pytest.raises(Unavailable, match=r"mute is not ready after 0\.3 s: has not said hello"):
        await supervisor.start(child("mute", "import time; time.sleep(1000)", lines), timeout=0.3)


async def test_wrong_settings_end_the_work_instead_of_restarting_for_ever(
    supervisor: Supervisor, lines: list[tuple[str, str]]
) -> None:
    wrong = child("wrong", "import sys; sys.exit(78)", lines)
    with pytest.raises(Unavailable, match="wrong refuses its settings"):
        await supervisor.run(supervisor.start(wrong), asyncio.Event())
    assert wrong.restarts == 0


async def test_work_that_is_told_to_stop_answers_none(supervisor: Supervisor) -> None:
    stop = asyncio.Event()
    stop.set()
    assert await supervisor.run(asyncio.sleep(1000, "never"), stop) is None


async def test_a_kill_9_of_the_supervisor_leaves_no_child(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"""
import asyncio, pathlib
from penstock.cli.supervisor import Child, Supervisor
async def ready(): return []
async def main():
    family = Supervisor(lambda *_: None)
    await family.start(Child("one", [{sys.executable!r}, "-c", {STUBBORN!r}], probe=ready))
    pathlib.Path({str(note)!r}).write_text(f"{{family.children[0].pid}} ")
    await asyncio.Event().wait()
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script)

    async def written() -> bool:
        return note.exists() and note.read_text().endswith(" ")

    await wait_until(written, what="the child's process id")
    pid = int(note.read_text())
    assert not gone(pid)
    parent.kill()
    await parent.wait()

    async def over() -> bool:
        return gone(pid)

    await wait_until(over, what="the child's end", timeout=5)


def test_the_pause_doubles_from_a_fifth_of_a_second_to_five() -> None:
    assert [pause_before_restart(n) for n in range(1, 8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert pause_before_restart(10_000) == supervising.LONGEST_PAUSE_SECONDS


def test_an_end_is_described_by_its_code_or_its_signal() -> None:
    assert describe(70) == "exit code 70"
    assert describe(-9) == "killed by SIGKILL"
    assert describe(-250) == "killed by signal 250"
