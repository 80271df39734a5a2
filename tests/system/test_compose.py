"""compose.yaml on a real Docker engine: several of each service, a worker, work from the host, a container killed meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from penstock.bus.connection import connect
from penstock.cli.demo_history import History, Lane
from penstock.cli.embedded_redis import free_port
from penstock.client import Penstock
from tests.support import wait_until
from tests.system.processes import PENSTOCK

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
RUNS = 200
POOL_LIMIT = 4
SCALED = {"dispatcher": 3, "heartbeat-monitor": 2, "scheduler": 2, "pool-registry": 1, "worker": 1, "redis": 1}


def compose_command() -> list[str]:
    """``docker compose`` (v2) where it exists, else ``docker-compose`` (v1.29 reads the same file)."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"]


def why_not() -> str:
    """Say why this cannot run here; empty when it can."""
    if not shutil.which("docker"):
        return "there is no docker command"
    asked = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False, timeout=30)
    if asked.returncode != 0:
        return "no Docker engine answers"
    if compose_command() == ["docker-compose"] and not shutil.which("docker-compose"):
        return "there is neither docker compose nor docker-compose"
    return ""


REASON = why_not()
pytestmark = [
    pytest.mark.system,
    pytest.mark.docker,
    pytest.mark.skipif(bool(REASON), reason=REASON),
    pytest.mark.timeout(600),
]


class Composed:
    """A compose project of the test's own: name, port, volume."""

    def __init__(self) -> None:
        self.project = f"penstock-test-{uuid.uuid4().hex[:8]}"
        self.port = free_port()
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self._environment = {**ours, "PENSTOCK_REDIS_PORT": str(self.port)}
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.cli_environment = {**ours, "PENSTOCK_REDIS_URL": self.url}

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(
            [*compose_command(), "-p", self.project, "--profile", "worker", *arguments],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def penstock(self, *arguments: str) -> str:
        """Run a command on the host."""
        done = subprocess.run(
            [*PENSTOCK, *arguments], env=self.cli_environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def containers(self, service: str) -> list[str]:
        """Ids of the running containers of a service."""
        every = self.compose("ps", "-q", service).split()
        return [one for one in every if docker("inspect", "--format", "{{.State.Running}}", one) == "true"]

    def health(self, container: str) -> str:
        """What Docker thinks of a container, e.g. ``healthy``."""
        return docker("inspect", "--format", "{{.State.Health.Status}}", container)


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    project = Composed()
    scale = [word for service, count in SCALED.items() for word in ("--scale", f"{service}={count}")]
    try:
        project.compose("up", "-d", "--build", *scale)
        yield project
    finally:
        print(project.compose("logs", "--no-color", "--tail", "15"), file=sys.stderr)  # noqa: T201 - shown when it fails
        project.compose("down", "-v", "--timeout", "30")


async def test_200_runs_complete_within_the_limit_while_a_dispatcher_is_killed(composed: Composed) -> None:
    for service, count in SCALED.items():
        assert len(composed.containers(service)) == count

    async def defined() -> bool:
        # The worker creates its pool, as soon as a registry answers it.
        return "default" in composed.penstock("work-pool", "ls")

    await wait_until(defined, what="the worker's pool", timeout=60)
    composed.penstock("work-pool", "set-concurrency-limit", str(POOL_LIMIT), "default")

    client = connect(composed.url)
    penstock = Penstock(client, 1)
    submitted = composed.penstock(
        "flow-run", "submit", "--pool", "default", "--command", "true", "--count", str(RUNS), "--output", "json"
    )
    run_ids: list[str] = orjson.loads(submitted)["runs"]
    assert len(run_ids) == RUNS

    async def under_way() -> bool:
        runs = await penstock.read_runs("default", states={"COMPLETED"}, limit=RUNS)
        return len(runs) >= RUNS // 10

    await wait_until(under_way, what="the first runs", timeout=60)
    victim = composed.containers("dispatcher")[0]
    docker("kill", "--signal", "KILL", victim)

    runs = await penstock.wait_for_runs(run_ids, timeout=120)
    assert {run.state for run in runs} == {"COMPLETED"}
    history = History([Lane("default", 1, None)], Lane("default", 0, POOL_LIMIT))
    async for _, event in penstock.events(since="0", follow=False):
        history.observe(event)
    assert history.problems(run_ids) == []
    assert history.pool.peak == POOL_LIMIT
    await client.aclose()


async def test_every_container_gets_healthy_by_the_image_s_own_check(composed: Composed) -> None:
    async def healthy() -> bool:
        return all(
            composed.health(container) == "healthy" for service in SCALED for container in composed.containers(service)
        )

    await wait_until(healthy, what="all containers to be healthy", timeout=90, every=0.5)


def test_the_services_do_not_run_as_root(composed: Composed) -> None:
    assert docker("exec", composed.containers("pool-registry")[0], "id", "-u") == "10001"


def test_a_stopped_service_drains_and_exits_with_0(composed: Composed) -> None:
    registry = composed.containers("pool-registry")[0]
    docker("stop", "--time", "30", registry)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", registry) == "0"
