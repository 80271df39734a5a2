"""The whole life of work where every party has a Redis user of its own that may do no more than it must."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys
from penstock.access.grants import USERS
from penstock.contracts.catalogue import SERVICES
from tests.guarded_redis import ADMIN, GuardedRedis, binary_for, password_of
from tests.support import wait_until
from tests.system.processes import PENSTOCK

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from penstock.access.acl import Dialect

pytestmark = pytest.mark.system


class Guarded:
    """An installation of processes, each with its own user, its password in a file."""

    def __init__(self, directory: Path, redis: GuardedRedis) -> None:
        self.redis = redis
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        for user in (*USERS, "worker"):
            (directory / f"{user}.password").write_text(f"{password_of(user)}\n")
        for service in SERVICES:
            self.start(service, [sys.executable, "-m", f"services.{service}"])

    def environment(self, user: str) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        return ours | {
            "PENSTOCK_REDIS_URL": f"redis://{user}@127.0.0.1:{self.redis.port}/0",
            "PENSTOCK_REDIS_PASSWORD_FILE": str(self._directory / f"{user}.password"),
            "PENSTOCK_HEALTH_PORT": "-1",
            "PENSTOCK_UP_HOME": str(self._directory / "home"),
        }

    def start(self, user: str, command: list[str]) -> None:
        with (self._directory / f"{user}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(command, env=self.environment(user), stdout=log, stderr=subprocess.STDOUT)
            )

    def penstock(self, *arguments: str, user: str = "client", code: int = 0) -> str:
        done = subprocess.run(
            [*PENSTOCK, *arguments],
            env=self.environment(user),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=self._directory,
        )
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout + done.stderr

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self._directory.glob("*.log")))

    def stop_last(self) -> int:
        """End what was started last; answers its exit code."""
        process = self._processes.pop()
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def stop(self) -> list[int]:
        return [self.stop_last() for _ in range(len(self._processes))]


@pytest.fixture(params=["6.2", "7"])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    dialect: Dialect = request.param
    if not binary_for(dialect):
        pytest.skip(f"there is no Redis {dialect} or later on this machine")
    with GuardedRedis(tmp_path / "redis", dialect) as redis:
        one = Guarded(tmp_path, redis)
        try:
            yield one
        finally:
            one.stop()


async def dead_letters(guarded: Guarded, admin: Redis) -> None:
    """What the operator does: look, send again, drop."""
    await admin.xadd(keys.key(0, "commands"), {"type": "nonsense", "__data__": "{"})

    async def buried() -> Any:
        return await admin.xlen(keys.key(0, "dead"))

    await wait_until(buried, what="the dead letter")
    dead = orjson.loads(guarded.penstock("dead", "ls", "-o", "json", user="operator"))
    guarded.penstock("dead", "retry", dead[0]["id"], user="operator")
    await wait_until(buried, what="it to die again")
    again = orjson.loads(guarded.penstock("dead", "ls", "-o", "json", user="operator"))
    guarded.penstock("dead", "drop", again[0]["id"], user="operator")


async def consumption(guarded: Guarded) -> None:
    """What a consumer of events does: a group of its own, and the command line."""
    consumer = guarded.redis.client("consumer")
    events = keys.key(0, "events")
    await consumer.xgroup_create(events, "billing", id="0", mkstream=True)
    read: Any = await consumer.xreadgroup("billing", "c1", {events: ">"}, count=10)
    (entries,) = read.values() if isinstance(read, dict) else [entries for _, entries in read]
    flat = entries[0] if isinstance(entries[0], list) else entries
    await consumer.xack(events, "billing", *[entry_id for entry_id, _ in flat])
    assert "work-pool" in guarded.penstock("events", "tail", "--since", "10m", "--no-follow", user="consumer")
    await consumer.aclose()


async def test_work_goes_through_and_nobody_is_refused_anything(guarded: Guarded) -> None:
    admin = guarded.redis.client(ADMIN)

    async def groups_exist() -> bool:
        return bool(await admin.exists(keys.key(0, "commands")) and await admin.exists(keys.PARTITIONS_KEY))

    await wait_until(groups_exist, what="the services to start")
    guarded.penstock("work-pool", "create", "etl", "--type", "process")
    guarded.penstock("work-queue", "create", "critical", "--pool", "etl", "--priority", "1")
    guarded.start("worker", [*PENSTOCK, "worker", "start", "--pool", "etl", "--name", "w1", "--type", "process"])

    runs = orjson.loads(
        guarded.penstock(
            "flow-run", "submit", "--pool", "etl", "--command", "echo hello", "--count", "20", "--wait", "-o", "json"
        )
    )
    assert {run["state"] for run in runs["runs"]} == {"COMPLETED"}
    first = runs["runs"][0]["id"]
    assert "hello" in guarded.penstock("flow-run", "logs", first)
    guarded.penstock("flow-run", "inspect", first)
    guarded.penstock("flow-run", "delete", "--yes", first)
    guarded.penstock("flow-run", "ls", "--pool", "etl")
    guarded.penstock("work-pool", "pause", "etl")
    guarded.penstock("work-pool", "resume", "etl")
    guarded.penstock("work-pool", "set-concurrency-limit", "3", "etl")
    assert "ONLINE" in guarded.penstock("worker", "ls", "-v")

    (guarded._directory / "flows.py").write_text("def work():\n    print('by the clock')\n")
    guarded.penstock(
        "deploy", "flows.py:work", "--name", "clock", "--pool", "etl", "--interval", "1", "--concurrency-limit", "1"
    )

    async def by_the_clock() -> bool:
        found = orjson.loads(
            guarded.penstock("flow-run", "ls", "--deployment", "work/clock", "--state", "COMPLETED", "-o", "json")
        )
        return bool(found)

    await wait_until(by_the_clock, what="a scheduled run", timeout=40, every=0.5)
    guarded.penstock("deployment", "pause", "work/clock")
    guarded.penstock("deployment", "run", "work/clock", "--watch")
    sleeping = orjson.loads(
        guarded.penstock("flow-run", "submit", "--pool", "etl", "--command", "sleep 60", "-o", "json")
    )["runs"][0]

    async def running() -> bool:
        return await admin.hget(keys.key(0, "run", sleeping), "state") == b"RUNNING"

    await wait_until(running, what="the run to run")
    guarded.penstock("flow-run", "explain", sleeping)
    guarded.penstock("flow-run", "cancel", "--yes", sleeping)
    guarded.penstock("deployment", "delete", "--yes", "work/clock")

    await dead_letters(guarded, admin)
    await consumption(guarded)
    assert guarded.stop_last() == 0, guarded.log()
    guarded.penstock("work-pool", "delete", "--yes", "etl")
    await admin.aclose()
    assert set(guarded.stop()) == {0}, guarded.log()
    assert guarded.redis.refused() == [], guarded.log()
    assert "NOPERM" not in guarded.log()
    assert all(password_of(user) not in guarded.log() for user in USERS)
