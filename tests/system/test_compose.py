"""compose.yaml on a real Docker engine: several of each service, a worker, work from the host, a container killed meanwhile."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from redis.exceptions import AuthenticationError, NoPermissionError

from penstock import keys
from penstock.access.grants import USERS
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
        self._ours = ours

    def url(self, user: str) -> str:
        return f"redis://{user}:{self.password(user)}@127.0.0.1:{self.port}/0"

    @functools.cache  # noqa: B019 - one project lives as long as its tests
    def password(self, user: str) -> str:
        """Read as compose.yaml says."""
        return self.compose("run", "--rm", "-T", "--no-deps", "users", "cat", f"/users/{user}/password").strip()

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
        environment = {**self._ours, "PENSTOCK_REDIS_URL": self.url("client")}
        done = subprocess.run(
            [*PENSTOCK, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
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

    client = connect(composed.url("client"))
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


def test_a_command_runs_in_a_container_of_its_own(composed: Composed) -> None:
    assert "default" in composed.compose("run", "--rm", "-T", "cli", "work-pool", "ls")


async def test_nobody_gets_into_redis_without_a_password_and_a_worker_not_to_the_runs(composed: Composed) -> None:
    nobody = connect(f"redis://127.0.0.1:{composed.port}/0", retries=0)
    with pytest.raises(AuthenticationError):
        await nobody.ping()
    await nobody.aclose()
    worker = connect(composed.url("worker"), retries=0)
    with pytest.raises(NoPermissionError):
        await worker.xrange(keys.key(0, "dispatch"))
    with pytest.raises(NoPermissionError):
        await worker.flushall()
    await worker.aclose()


@pytest.mark.parametrize("service", sorted({*SCALED} - {"redis"}))
def test_a_container_has_its_own_password_only_and_docker_shows_none(composed: Composed, service: str) -> None:
    passwords = {user: composed.password(user) for user in (*USERS, "worker")}
    assert len(set(passwords.values())) == len(passwords)
    own = composed.containers(service)[0]
    assert docker("exec", own, "cat", "/run/penstock/password") == passwords[service.replace("-", "_")]
    assert docker("exec", own, "ls", "/run/penstock") == "password"
    shown = docker("inspect", own) + docker("exec", own, "env") + composed.compose("logs", "--no-color", service)
    assert [user for user, password in passwords.items() if password in shown] == []


def test_the_services_do_not_run_as_root(composed: Composed) -> None:
    assert docker("exec", composed.containers("pool-registry")[0], "id", "-u") == "10001"


def test_a_stopped_service_drains_and_exits_with_0(composed: Composed) -> None:
    registry = composed.containers("pool-registry")[0]
    docker("stop", "--time", "30", registry)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", registry) == "0"
