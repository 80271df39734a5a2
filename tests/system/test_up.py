"""``penstock up``: everything on one machine, and nothing left behind."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import orjson
import psutil
import pytest

from tests.support import wait_until
from tests.system.processes import PENSTOCK, Up, descendants, environment, is_gone

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.system

NAMES = ["redis", "pool-registry", "heartbeat-monitor", "dispatcher", "scheduler", "worker"]
BACK_WITHIN_SECONDS = 10.0


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    one = Up(tmp_path / "home")
    yield one
    one.clean_up()


async def test_up_runs_everything_says_so_and_stops_cleanly_on_ctrl_c(up: Up) -> None:
    await up.wait_ready()
    assert list(up.pids()) == NAMES
    health = up.run("health", "--output", "json")
    assert health.returncode == 0, health.stdout
    assert {one["name"]: one["ok"] for one in orjson.loads(health.stdout)["services"]} == dict.fromkeys(NAMES, True)

    assert up.run("health", "--live", "--service", "dispatcher").stdout == "dispatcher: live\n"
    assert up.run("health", "--url", up.state()["services"]["dispatcher"]["health_url"]).returncode == 0
    unknown = up.run("health", "--service", "dispacher")
    assert unknown.returncode == 1
    assert "it runs dispatcher, heartbeat-monitor" in unknown.stdout

    submitted = up.run("flow-run", "submit", "--pool", "local", "--command", "echo hello", "--wait")
    assert submitted.returncode == 0, submitted.stderr

    family = descendants(up.process.pid)
    assert set(up.pids().values()) <= set(family)
    assert up.interrupt(signal.SIGINT) == 0, up.printed
    assert [pid for pid in family if not is_gone(pid)] == []
    assert not (up.home / "up.json").exists()
    assert "Traceback" not in up.printed


async def test_sigterm_stops_it_as_cleanly_and_the_next_start_finds_the_data(up: Up) -> None:
    await up.wait_ready()
    assert up.run("work-pool", "create", "kept").returncode == 0
    assert up.interrupt(signal.SIGTERM) == 0, up.printed
    again = Up(up.home, "--no-worker")
    try:
        await again.wait_ready()
        assert "kept" in again.run("work-pool", "ls").stdout
        assert "worker" not in again.pids()
    finally:
        again.clean_up()


async def test_a_second_up_with_the_same_home_is_refused(up: Up) -> None:
    await up.wait_ready()
    second = up.run("up")
    assert second.returncode == 1
    assert "runs already" in second.stderr
    assert "PENSTOCK_UP_HOME" in second.stderr
    assert up.run("health").returncode == 0


async def test_every_child_killed_with_9_is_back_and_ready_within_ten_seconds(up: Up) -> None:
    await up.wait_ready()
    for name in NAMES:
        before = up.pids()[name]
        psutil.Process(before).kill()

        async def back(name: str = name, before: int = before) -> bool:
            if up.pids()[name] in (None, before):
                return False
            return up.run("health").returncode == 0

        await wait_until(back, what=f"{name} to be back", timeout=BACK_WITHIN_SECONDS)
    submitted = up.run("flow-run", "submit", "--pool", "local", "--command", "echo again", "--wait")
    assert submitted.returncode == 0, submitted.stderr


async def test_a_kill_9_of_up_itself_leaves_no_process_and_does_not_block_the_next_start(up: Up) -> None:
    await up.wait_ready()
    family = descendants(up.process.pid)
    assert len(family) >= len(NAMES)
    up.process.kill()
    up.process.wait()

    async def all_gone() -> bool:
        return all(is_gone(pid) for pid in family)

    await wait_until(all_gone, what="all children to be gone", timeout=5)
    # A state file of the dead is nobody's: commands do not believe it, and a new `up` starts.
    again = Up(up.home)
    try:
        await again.wait_ready()
        assert again.run("health").returncode == 0
    finally:
        again.clean_up()


async def test_wrong_settings_are_said_at_once(tmp_path: Path) -> None:
    one = Up(tmp_path / "home", PENSTOCK_LOG_LEVEL="loud")
    assert one.process.wait(30) == 2
    assert "PENSTOCK_LOG_LEVEL" in one.printed


async def test_a_redis_that_does_not_answer_is_said(tmp_path: Path) -> None:
    one = Up(tmp_path / "home", PENSTOCK_REDIS_URL="redis://127.0.0.1:1/0")
    assert one.process.wait(40) == 3
    assert "Redis at 127.0.0.1:1/0 does not answer" in one.printed


async def test_an_external_redis_is_used_and_left_alone(tmp_path: Path, redis_url: str) -> None:
    one = Up(tmp_path / "home", "--dispatchers", "2", PENSTOCK_REDIS_URL=redis_url)
    try:
        await one.wait_ready()
        assert list(one.pids()) == [
            "pool-registry",
            "heartbeat-monitor",
            "dispatcher",
            "dispatcher-2",
            "scheduler",
            "worker",
        ]
        assert one.interrupt() == 0, one.printed
    finally:
        one.clean_up()


def test_health_asks_the_service_of_its_own_container_when_nothing_else_is_known(tmp_path: Path) -> None:
    asked = subprocess.run(
        [*PENSTOCK, "health"],
        env=environment(tmp_path, PENSTOCK_HEALTH_PORT="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 1
    assert "127.0.0.1:1 does not answer" in asked.stdout
