"""What redis-cli alone can do: be a worker, be refused, read every event with a plain consumer group.

redis-cli stands for any client in any language: it knows nothing of this library.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from penstock.cli.embedded_redis import find_server
from tests.installation import installation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.system
INTERVAL_SECONDS = 1


def find_redis_cli() -> str:
    """It lies beside the server, wherever that was found."""
    return str(Path(find_server()).resolve().with_name("redis-cli"))


class Shell:
    """redis-cli and penstock on one installation."""

    def __init__(self, url: str) -> None:
        self.url = url
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self.environment = {**ours, "PENSTOCK_REDIS_URL": url}

    def redis(self, *words: str) -> Any:
        """Run one command; answers what redis-cli prints as JSON would (lists of texts)."""
        done = subprocess.run(
            [find_redis_cli(), "-u", self.url, *words], capture_output=True, text=True, check=True, timeout=30
        )
        return done.stdout.splitlines()

    def add(self, stream: str, message: dict[str, Any]) -> None:
        """XADD one message."""
        self.redis("XADD", f"penstock:{{0}}:{stream}", "*", "type", message["type"], "__data__", json.dumps(message))

    def inbox(self, worker: str) -> list[dict[str, Any]]:
        """XREAD what lies in a worker's inbox."""
        lines = self.redis("XRANGE", f"penstock:{{0}}:inbox:{worker}", "-", "+")
        return [json.loads(line) for line in lines if line.startswith("{")]

    def penstock(self, *words: str) -> str:
        """Run the command line."""
        command = [sys.executable, "-m", "penstock", *words]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def wait(self, condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
        """Ask again until it is so."""
        end = time.monotonic() + seconds
        while not (answer := condition()):
            assert time.monotonic() < end, f"waited in vain: {what}"
        return answer


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with installation(tmp_path_factory.mktemp("installation")) as url:
        yield Shell(url)


def heartbeat(worker: str, worker_type: str = "process") -> dict[str, Any]:
    return {
        "type": "worker.heartbeat", "pool": "etl", "worker": worker, "worker_type": worker_type,
        "boot_id": f"life-of-{worker}", "interval_seconds": 30, "slots": 2,
    }  # fmt: skip


def test_a_worker_written_with_redis_cli_gets_a_run_and_completes_it(shell: Shell) -> None:
    shell.penstock("work-pool", "create", "etl", "--type", "process")
    shell.add("heartbeats", heartbeat("w1"))
    submitted = json.loads(
        shell.penstock("flow-run", "submit", "--pool", "etl", "--command", "echo hi", "--output", "json")
    )
    messages = shell.wait(
        lambda: [message for message in shell.inbox("etl/w1") if message["type"] == "assign_runs"], "an assignment"
    )
    (run,) = messages[0]["runs"]
    for state in ("RUNNING", "COMPLETED"):
        report = {"run": run["id"], "token": run["token"], "epoch": run["epoch"], "state": state}
        shell.add("dispatch", {"type": "report_runs", "pool": "etl", "worker": "w1", "reports": [report]})

    def inspected() -> Any:
        return json.loads(shell.penstock("flow-run", "inspect", run["id"], "--output", "json"))

    shell.wait(lambda: inspected()["state"] == "COMPLETED", "the run is completed")
    assert run["id"] in json.dumps(submitted)
    assert inspected()["worker"] == "w1"


def test_a_worker_of_the_wrong_type_reads_why_it_is_refused_and_makes_no_pool_ready(shell: Shell) -> None:
    shell.penstock("work-pool", "create", "etl-2", "--type", "process")
    shell.add("heartbeats", {**heartbeat("k1", "kubernetes"), "pool": "etl-2"})

    (refusal,) = shell.wait(lambda: shell.inbox("etl-2/k1"), "a refusal")

    assert (refusal["type"], refusal["boot_id"]) == ("refuse_worker", "life-of-k1")
    assert "process" in refusal["reason"]
    assert "kubernetes" in refusal["reason"]
    pool = json.loads(shell.penstock("work-pool", "inspect", "etl-2", "--output", "json"))
    assert pool["status"] == "NOT_READY"


class Group:
    """A plain consumer group on the events, read with redis-cli."""

    STREAM = "penstock:{0}:events"

    def __init__(self, shell: Shell, name: str) -> None:
        self._shell, self._name = shell, name
        shell.redis("XGROUP", "CREATE", self.STREAM, name, "$", "MKSTREAM")
        self.events: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """Read and acknowledge what is new; answers everything read so far."""
        words = ("XREADGROUP", "GROUP", self._name, "c1", "COUNT", "100", "STREAMS", self.STREAM, ">")
        lines = self._shell.redis(*words)
        self.events += [json.loads(line) for line in lines if line.startswith("{")]
        ids = [line for line in lines if line.replace("-", "").isdigit() and "-" in line]
        if ids:
            self._shell.redis("XACK", self.STREAM, self._name, *ids)
        return self.events

    def names(self, about: str) -> list[str]:
        """Names of the events of one kind of resource."""
        return [event["event"] for event in self.read() if event["event"].startswith(about)]

    def wait_for(self, event: str, seconds: float = 20) -> dict[str, Any]:
        """Wait until an event of this name has come."""
        return dict(
            self._shell.wait(
                lambda: next((found for found in self.read()[::-1] if found["event"] == event), None), event, seconds
            )
        )


def test_a_plain_consumer_group_reads_the_life_of_a_pool(shell: Shell) -> None:
    group = Group(shell, "billing")
    shell.penstock("work-pool", "create", "life", "--type", "process")
    created = group.wait_for("prefect.work-pool.not-ready")
    command = [sys.executable, "-m", "penstock", "worker", "start", "--pool", "life", "--name", "w1"]
    worker = subprocess.Popen(
        command,
        env={**shell.environment, "PENSTOCK_WORKER_HEARTBEAT_SECONDS": str(INTERVAL_SECONDS)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    group.wait_for("prefect.work-pool.ready")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    killed = time.monotonic()
    offline = group.wait_for("penstock.worker.offline")
    group.wait_for("prefect.work-pool.not-ready")
    took = time.monotonic() - killed
    shell.penstock("work-pool", "pause", "life")
    shell.penstock("work-pool", "pause", "life")
    shell.penstock("work-pool", "resume", "life")
    shell.penstock("work-pool", "set-concurrency-limit", "5", "life")
    shell.penstock("work-pool", "delete", "life", "--yes")
    group.wait_for("prefect.work-pool.deleted")

    assert group.names("prefect.work-pool.") == [
        f"prefect.work-pool.{name}"
        for name in ("created", "not-ready", "ready", "not-ready", "paused", "not-ready", "updated", "deleted")
    ]
    assert group.names("penstock.worker.") == ["penstock.worker.online", "penstock.worker.offline"]
    assert offline["payload"]["reason"] == "heartbeat-lost"
    # Reading through redis-cli processes costs a little on top of the promise, which is measured in the monitor's own tests.
    assert took < 3 * INTERVAL_SECONDS + 1 + 1
    updated = next(event for event in group.events if event["event"] == "prefect.work-pool.updated")
    assert updated["payload"] == {
        "updated_fields": ["concurrency_limit"],
        "updates": {"concurrency_limit": {"from": None, "to": 5}},
    }
    of_pool = [event for event in group.events if event["event"].startswith("prefect.work-pool.")]
    assert [event["seq"] for event in of_pool] == list(range(1, 9))
    assert {event["resource"]["prefect.resource.id"] for event in of_pool} == {
        created["resource"]["prefect.resource.id"]
    }


BAD = [
    ("commands", "type x __data__ notjson"),
    ("commands", 'type create_pool __data__ {"type":"create_pool","pool":"a/b"}'),
    ("heartbeats", 'type worker.heartbeat __data__ {"type":"worker.heartbeat"}'),
    ("heartbeats", "some thing"),
    ("dispatch", 'type submit_runs __data__ {"type":"submit_runs","pool":"nowhere","runs":[{}]}'),
    ("dispatch", "type report_runs __data__ [1,2]"),
    ("definitions", "type pool.changed __data__ {}"),
]


@pytest.mark.parametrize(
    ("stream", "fields"), BAD, ids=[f"{stream}-{number}" for number, (stream, _) in enumerate(BAD)]
)
def test_a_bad_entry_on_any_stream_is_dead_with_its_reason_and_the_service_goes_on(
    shell: Shell, stream: str, fields: str
) -> None:
    def letters() -> list[dict[str, Any]]:
        lines = shell.redis("XRANGE", "penstock:{0}:dead", "-", "+")
        return [json.loads(line) for line in lines if line.startswith("{")]

    before = len(letters())
    shell.redis("XADD", f"penstock:{{0}}:{stream}", "*", *fields.split(" ", 3))
    (letter, *_) = shell.wait(lambda: letters()[before:], "a dead letter")

    assert letter["reason"]
    assert letter["stream"] == f"penstock:{{0}}:{stream}"
    assert letter["deliveries"] >= 1
    name = f"after-{stream}-{abs(hash(fields)) % 10_000}"
    shell.penstock("work-pool", "create", name)
    shell.penstock("work-pool", "delete", name, "--yes")
