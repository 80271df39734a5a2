"""Every option of ``penstock worker start``, end to end: real worker processes, real services, real Redis."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import textwrap
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import orjson
import pytest

from penstock.bus.connection import connect
from penstock.cli.embedded_redis import free_port
from penstock.client import NewRun, Penstock
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from pathlib import Path

    from penstock.client import Worker
    from penstock.contracts.runs import Run

    Start = Callable[..., AbstractAsyncContextManager["Process"]]

DONE, REFUSED, USAGE = 0, 1, 2
STOP_SECONDS = 30


class Process(NamedTuple):
    """One ``penstock worker start``, and the file it prints to."""

    popen: subprocess.Popen[bytes]
    output: Path

    @property
    def printed(self) -> str:
        return self.output.read_text()

    async def started(self) -> None:
        async def said() -> bool:
            assert self.popen.poll() is None, self.printed
            return " started!\n" in self.printed

        await wait_until(said, what="the worker to start")

    async def ended(self) -> int:
        async def over() -> bool:
            return self.popen.poll() is not None

        await wait_until(over, what="the worker to end", timeout=STOP_SECONDS)
        return self.popen.wait()


@pytest.fixture
async def penstock(url: str) -> AsyncIterator[Penstock]:
    client = connect(url)
    yield Penstock(client, 1)
    await client.aclose()


@pytest.fixture
def pool() -> str:
    """The name of a pool that does not exist yet."""
    return f"pool-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def start(url: str, pool: str, tmp_path: Path) -> Start:
    """Start a worker of the pool, and stop it with SIGTERM at the end."""
    started = iter(range(100))

    @contextlib.asynccontextmanager
    async def start(*options: str, terminal: int | None = None, **variables: str) -> AsyncIterator[Process]:
        output = tmp_path / f"worker-{next(started)}.txt"
        variables |= {"PENSTOCK_REDIS_URL": url, "PENSTOCK_WORKER_DRAIN_SECONDS": "5"}
        process = launch(["--pool", pool, *options], variables, output, terminal)
        try:
            yield Process(process, output)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)

    return start


def launch(
    arguments: list[str], variables: dict[str, str], output: Path, terminal: int | None
) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "penstock", "worker", "start", *arguments],
            env=environment | variables,
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=file if terminal is None else terminal,
            stderr=file,
        )


async def only_worker(penstock: Penstock, pool: str) -> Worker:
    (worker,) = await penstock.read_workers(pool)
    return worker


async def submit(penstock: Penstock, pool: str, code: str = "", *, count: int = 1, **fields: Any) -> list[str]:
    runs = [NewRun(command=[sys.executable, "-c", code], **fields) for _ in range(count)]
    return await penstock.submit_runs(pool, runs)


async def states(penstock: Penstock, pool: str) -> list[str]:
    return sorted(run.state for run in await penstock.read_runs(pool))


async def in_seconds(penstock: Penstock, seconds: float) -> datetime:
    from penstock.cli.times import of_ms  # noqa: PLC0415 - the clock of Redis, as a moment

    return of_ms(await penstock.now_ms() + round(seconds * 1000))


async def test_pool_name_and_interval_of_heartbeats_are_those_given(
    penstock: Penstock, pool: str, start: Start
) -> None:
    await penstock.create_pool(pool)

    async with start("--name", "größe 1", PENSTOCK_WORKER_HEARTBEAT_SECONDS="3") as process:
        await process.started()
        worker = await only_worker(penstock, pool)
        assert (worker.name, worker.pool, worker.status) == ("größe 1", pool, "ONLINE")
        assert worker.heartbeat_interval_seconds == 3
    assert await process.ended() == DONE


async def test_without_a_name_it_makes_up_a_unique_one(penstock: Penstock, pool: str, start: Start) -> None:
    await penstock.create_pool(pool)

    async with start() as one, start() as other:
        await one.started()
        await other.started()
        first, second = [worker.name for worker in await penstock.read_workers(pool)]
    assert first != second
    assert first.startswith("ProcessWorker ")


async def test_without_a_type_it_takes_the_one_of_the_pool(penstock: Penstock, pool: str, start: Start) -> None:
    await penstock.create_pool(pool, worker_type="process")

    async with start() as process:
        await process.started()
        worker = await only_worker(penstock, pool)
    assert worker.type == "process"
    assert process.printed.startswith(f"Discovered worker type 'process' for work pool '{pool}'.\n")
    assert f"Worker '{worker.name}' started!\n" in process.printed


async def test_without_a_type_a_missing_pool_is_an_error_and_stays_missing(
    penstock: Penstock, pool: str, start: Start
) -> None:
    async with start() as process:
        assert await process.ended() == REFUSED

    assert f"Error: Work pool '{pool}' does not exist" in process.printed
    assert pool not in [one.name for one in await penstock.read_pools()]


async def test_with_a_type_a_missing_pool_is_created(penstock: Penstock, pool: str, start: Start) -> None:
    async with start("--type", "process") as process:
        await process.started()
        assert (await penstock.read_pool(pool)).status == "READY"
    assert f"Worker pool '{pool}' created.\n" in process.printed


async def test_a_type_other_than_the_pools_is_refused_and_the_pool_does_not_turn_ready(
    penstock: Penstock, pool: str, start: Start
) -> None:
    await penstock.create_pool(pool, worker_type="kubernetes")

    async with start("-t", "process") as process:
        assert await process.ended() == REFUSED

    assert f"work pool '{pool}' takes workers of type 'kubernetes', not 'process'" in process.printed
    assert (await penstock.read_pool(pool)).status == "NOT_READY"


async def test_several_work_queues_are_served_and_no_other_and_missing_ones_are_created(
    penstock: Penstock, pool: str, start: Start
) -> None:
    await penstock.create_pool(pool)
    await penstock.create_queue(pool, "low")

    async with start("-q", "critical", "--work-queue", "low") as process:
        await process.started()
        queues = {queue.name: queue.status for queue in await penstock.read_queues(pool)}
        assert queues == {"default": "NOT_READY", "critical": "READY", "low": "READY"}
        (unserved,) = await submit(penstock, pool)
        served = await submit(penstock, pool, queue="low") + await submit(penstock, pool, queue="critical")
        assert [run.state for run in await penstock.wait_for_runs(served, 30)] == ["COMPLETED"] * 2
        assert (await penstock.read_run(unserved)).state == "SCHEDULED"
        assert (await only_worker(penstock, pool)).queues == ["critical", "low"]


async def test_prefetch_seconds_hand_a_run_over_early_and_it_runs_at_its_time(
    penstock: Penstock, pool: str, start: Start
) -> None:
    await penstock.create_pool(pool)

    async with start("--prefetch-seconds", "60") as process:
        await process.started()
        moment = await in_seconds(penstock, 2)
        (run_id,) = await submit(penstock, pool, scheduled_time=moment)

        (run,) = await penstock.wait_for_runs([run_id], 30)
    due_ms = round(moment.timestamp() * 1000)
    assert run.state == "COMPLETED"
    assert run.claimed_ms is not None
    assert run.started_ms is not None
    assert run.claimed_ms < due_ms <= run.started_ms


@pytest.mark.parametrize("option", [True, False], ids=["by the option", "by the variable"])
async def test_a_prefetch_of_zero_leaves_a_run_until_it_is_due(
    penstock: Penstock, pool: str, start: Start, option: bool
) -> None:
    await penstock.create_pool(pool)
    given: Any = {"options": ("--prefetch-seconds", "0"), "variables": {}}
    if not option:
        given = {"options": (), "variables": {"PENSTOCK_WORKER_PREFETCH_SECONDS": "0"}}

    async with start(*given["options"], **given["variables"]) as process:
        await process.started()
        moment = await in_seconds(penstock, 1)
        (run,) = await penstock.wait_for_runs(await submit(penstock, pool, scheduled_time=moment), 30)
    assert run.claimed_ms is not None
    assert run.claimed_ms >= round(moment.timestamp() * 1000)


async def test_run_once_does_what_is_due_and_ends(penstock: Penstock, pool: str, start: Start) -> None:
    await penstock.create_pool(pool)
    due = await submit(penstock, pool, count=2)
    (later,) = await submit(penstock, pool, scheduled_time=await in_seconds(penstock, 3600))

    async with start("--run-once") as process:
        assert await process.ended() == DONE

    assert [run.state for run in await penstock.wait_for_runs(due, 5)] == ["COMPLETED"] * 2
    assert (await penstock.read_run(later)).state == "SCHEDULED"
    assert (await only_worker(penstock, pool)).status == "OFFLINE"


async def test_a_limit_bounds_what_it_runs_at_the_same_time(
    penstock: Penstock, pool: str, start: Start, tmp_path: Path
) -> None:
    await penstock.create_pool(pool)
    go = tmp_path / "go"
    os.mkfifo(go)

    async with start("--limit", "2") as process:
        await process.started()
        ids = await submit(penstock, pool, f"open({str(go)!r}).read()", count=5)

        async def two_run() -> bool:
            return await states(penstock, pool) == ["RUNNING"] * 2 + ["SCHEDULED"] * 3

        await wait_until(two_run, what="two runs, and no third")
        worker = await only_worker(penstock, pool)
        assert (worker.slots, worker.slots_used) == (2, 2)
        # A reader of the pipe ends when a writer has come and gone; one writer lets all go on that wait for it.
        go_on = os.open(go, os.O_RDWR)
        go.unlink()
        go.write_text("")
        os.close(go_on)
        ended = await penstock.wait_for_runs(ids, 30)
    assert [run.state for run in ended] == ["COMPLETED"] * 5
    assert most_at_once(ended) == 2


def most_at_once(runs: list[Run]) -> int:
    """How many runs held a slot at the same time."""
    moments = [(run.claimed_ms or 0, 1) for run in runs] + [(run.ended_ms or 0, -1) for run in runs]
    held = most = 0
    for _, change in sorted(moments):
        held += change
        most = max(most, held)
    return most


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
async def test_a_limit_that_is_none_is_a_usage_error(start: Start, limit: str) -> None:
    async with start("--limit", limit) as process:
        assert await process.ended() == USAGE
    assert "--limit" in process.printed


def ask(port: int, path: str) -> int:
    with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return int(answer.status)


async def test_with_healthcheck_serves_its_health_until_it_ends(penstock: Penstock, pool: str, start: Start) -> None:
    await penstock.create_pool(pool)
    port = free_port()

    async with start("--with-healthcheck", PENSTOCK_WORKER_HEALTH_PORT=str(port)) as process:
        await process.started()

        async def ready() -> bool:
            with contextlib.suppress(URLError):
                return ask(port, "/readyz") == 200
            return False

        await wait_until(ready, what="the worker to be ready")
        assert ask(port, "/health") == ask(port, "/livez") == 200
    with pytest.raises(URLError):
        ask(port, "/health")


async def test_without_healthcheck_nothing_is_served(penstock: Penstock, pool: str, start: Start) -> None:
    await penstock.create_pool(pool)
    port = free_port()

    async with start(PENSTOCK_WORKER_HEALTH_PORT=str(port)) as process:
        await process.started()
        with pytest.raises(URLError):
            ask(port, "/health")


# --install-policy: the installer is a stand-in that is found before the real one and needs no network

INSTALLER = """
import json, pathlib, sys
here = pathlib.Path(__file__).parent.parent
with (here / "installed.jsonl").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
(here / "penstock_toy.py").write_text("from penstock.worker.process import ProcessType as ToyType\\n")
about = here / "penstock_toy-1.0.dist-info"
about.mkdir(exist_ok=True)
(about / "METADATA").write_text("Metadata-Version: 2.1\\nName: penstock-toy\\nVersion: 1.0\\n")
(about / "entry_points.txt").write_text("[penstock.worker_types]\\ntoy = penstock_toy:ToyType\\n")
"""
CALL = ["install", "--upgrade", "penstock-toy"]


class Packages(NamedTuple):
    """A folder that the worker imports from, with the stand-in for the installer."""

    folder: Path

    @property
    def variables(self) -> dict[str, str]:
        folders = [str(self.folder), os.environ.get("PYTHONPATH", "")]
        return {"PYTHONPATH": os.pathsep.join(filter(None, folders))}

    @property
    def calls(self) -> list[list[str]]:
        """What the installer was asked for."""
        calls = self.folder / "installed.jsonl"
        return [orjson.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    def install(self) -> None:
        """Have the package before the worker starts."""
        subprocess.run([sys.executable, "-m", "pip", *CALL], env={**os.environ, **self.variables}, check=True)
        (self.folder / "installed.jsonl").unlink()


@pytest.fixture
def packages(tmp_path: Path) -> Packages:
    installer = tmp_path / "packages" / "pip"
    installer.mkdir(parents=True)
    (installer / "__init__.py").touch()
    (installer / "__main__.py").write_text(textwrap.dedent(INSTALLER))
    return Packages(installer.parent)


@pytest.mark.parametrize("policy", ["always", "if-not-present"])
async def test_install_policies_that_install_make_a_missing_type_usable(
    penstock: Penstock, pool: str, start: Start, packages: Packages, policy: str
) -> None:
    async with start("--type", "toy", "--install-policy", policy, **packages.variables) as process:
        await process.started()
        (run,) = await penstock.wait_for_runs(await submit(penstock, pool), 30)
    assert run.state == "COMPLETED"
    assert packages.calls == [CALL]


@pytest.mark.parametrize(
    ("policy", "calls"), [("always", [CALL]), ("if-not-present", []), ("never", []), ("prompt", [])]
)
async def test_only_always_updates_a_package_that_is_there(
    pool: str, start: Start, packages: Packages, policy: str, calls: list[list[str]]
) -> None:
    packages.install()

    async with start("-t", "toy", "--install-policy", policy, **packages.variables) as process:
        await process.started()
    assert packages.calls == calls, pool


@pytest.mark.parametrize("policy", [["--install-policy", "never"], ["--install-policy", "prompt"], []])
async def test_never_and_prompt_without_a_terminal_install_nothing_and_say_what_is_missing(
    penstock: Penstock, pool: str, start: Start, packages: Packages, policy: list[str]
) -> None:
    async with start("--type", "toy", *policy, **packages.variables) as process:
        assert await process.ended() == REFUSED

    assert "the package 'penstock-toy' is not installed" in process.printed
    assert "--install-policy if-not-present" in process.printed
    assert packages.calls == []
    assert pool not in [one.name for one in await penstock.read_pools()]


@pytest.mark.parametrize(("answer", "calls"), [("y", [CALL]), ("n", [])])
async def test_prompt_on_a_terminal_asks_and_obeys(
    penstock: Penstock, pool: str, start: Start, packages: Packages, answer: str, calls: list[list[str]]
) -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{answer}\n".encode())
    try:
        async with start("-t", "toy", "--run-once", terminal=terminal, **packages.variables) as process:
            assert await process.ended() == (DONE if calls else REFUSED)
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert "needs the package 'penstock-toy'. Install it? [y/N]" in process.printed
    assert packages.calls == calls
    assert (pool in [one.name for one in await penstock.read_pools()]) == bool(calls)


async def test_the_default_install_policy_is_prompt_and_an_unknown_one_a_usage_error(start: Start) -> None:
    async with start("--install-policy", "sometimes") as process:
        assert await process.ended() == USAGE
    assert "'always', 'if-not-present', 'never', 'prompt'" in " ".join(process.printed.split())
