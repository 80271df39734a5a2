"""Everything is replaced, one process after the other, while work goes on: nothing is lost and nothing happens twice."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.client import NewRun, Penstock
from tests.support import read_events, wait_until
from tests.system.history import check, parse
from tests.system.service_processes import Services

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis

pytestmark = pytest.mark.system

CHANCE = random.Random(f"{os.environ.get('CHAOS_SEED', '5')}/rolling")

SERVICES = ["pool_registry", "heartbeat_monitor", "heartbeat_monitor", "dispatcher", "dispatcher", "scheduler"]
WORKERS = ("w0", "w1", "w2")
QUEUES: dict[str, tuple[int, int | None]] = {"critical": (1, 2), "low": (5, None), "default": (6, None)}
POOL_LIMIT = 6


class Workers:
    """Real worker processes, replaced like the services."""

    def __init__(self, url: str, folder: Path) -> None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        self._environment = {**ours, "PENSTOCK_REDIS_URL": url, "PENSTOCK_WORKER_HEARTBEAT_SECONDS": "1"}
        self._folder = folder
        self.processes = {name: self._start(name) for name in WORKERS}

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "penstock", "worker", "start", "-p", "etl", "-n", name, "--limit", "4"]
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)

    def replace(self, name: str) -> int:
        self.processes[name].send_signal(signal.SIGTERM)
        code = self.processes[name].wait(40)
        self.processes[name] = self._start(name)
        return code

    def kill(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


def setting(what: str, of: str, value: int | None) -> dict[str, Any]:
    return {"kind": "setting", "what": what, "of": of, "value": value, "at": 0, "sent": 0, "answered": 0, "ok": True}


async def everything(client: Redis, queues: dict[str, str]) -> list[dict[str, Any]]:
    """The record that the checker judges.

    Args:
        client: of the installation.
        queues: accepted run id -> its queue.
    """
    asked = [{"id": run, "queue": queue, "deployment": None, "due": None, "delay": 0} for run, queue in queues.items()]
    entries: Any = await client.xrange(keys.key(0, "events"))
    return [
        setting("limit", "pool", POOL_LIMIT),
        *(setting("limit", f"queue/{name}", limit) for name, (_, limit) in QUEUES.items()),
        *(setting("priority", f"queue/{name}", priority) for name, (priority, _) in QUEUES.items()),
        {"kind": "submit", "at": 0, "runs": asked},
        {"kind": "accepted", "at": 0, "runs": list(queues)},
        *(
            {"kind": "event", "at": 0, "id": entry_id.decode(), "event": orjson.loads(fields[b"__data__"])}
            for entry_id, fields in entries
        ),
    ]


async def heard(client: Redis, name: str, lives: int) -> bool:
    """Whether so many lives of a worker have started."""
    started = [event for event in await read_events(client) if event["event"] == "prefect.worker.started"]
    return len([event for event in started if event["resource"]["prefect.resource.name"] == name]) >= lives


@pytest.mark.timeout(240)
async def test_a_rolling_restart_of_everything_under_load_loses_nothing_and_does_nothing_twice(
    own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    client = connect(own_redis.url)
    penstock = Penstock(client, 1, timeout_seconds=30)
    executed = tmp_path / "executed"
    accepted: dict[str, str] = {}
    enough = asyncio.Event()

    async def load() -> None:
        while not enough.is_set():
            queue = CHANCE.choice(list(QUEUES))
            work = NewRun(
                command=f"sh -c 'echo $PENSTOCK_RUN_ID >> {executed}; sleep 0.{CHANCE.randint(0, 3)}'", queue=queue
            )
            ids = await penstock.submit_runs("etl", [work] * CHANCE.randint(1, 4))
            accepted.update(dict.fromkeys(ids, queue))
            await asyncio.sleep(0.2)

    with Services(own_redis.url, tmp_path, SERVICES) as services:
        await penstock.create_pool("etl", concurrency_limit=POOL_LIMIT)
        await penstock.update_queue("etl", "default", priority=QUEUES["default"][0])
        for name, (priority, limit) in QUEUES.items():
            if name != "default":
                await penstock.create_queue("etl", name, priority=priority, concurrency_limit=limit)
        workers = Workers(own_redis.url, tmp_path)
        try:
            for name in WORKERS:
                await wait_until(partial(heard, client, name, 1), what=f"{name} has started")
            loading = asyncio.create_task(load())
            codes = []
            for index in range(len(SERVICES)):
                codes.append(await asyncio.to_thread(services.replace, index))
                most = len(accepted) + 5
                await wait_until(_more(accepted, most), what="submissions go on", timeout=40)
            for name in WORKERS:
                codes.append(await asyncio.to_thread(workers.replace, name))
                await wait_until(partial(heard, client, name, 2), what=f"{name} is back", timeout=40)
            enough.set()
            await loading
            runs = await penstock.wait_for_runs(list(accepted), timeout=90)
        finally:
            workers.kill()
        logs = services.log()
    verdict = check(parse(await everything(client, accepted)))
    lines = Counter((await asyncio.to_thread(executed.read_text)).split())
    dead: Any = await client.xlen(keys.key(0, "dead"))
    not_ready = [one for one in await read_events(client) if one["event"] == "prefect.work-pool.not-ready"]
    await client.aclose()

    assert codes == [0] * (len(SERVICES) + len(WORKERS)), logs
    assert Counter(run.state for run in runs) == {"COMPLETED": len(accepted)}
    assert verdict.broken == []
    assert set(lines) == set(accepted) == set(verdict.states)
    assert [run for run, times in lines.items() if times > 1] == [], "executed once each"
    assert dead == 0
    assert len(not_ready) == 1, "only at its creation: there was always a worker"
    assert len(accepted) > 60


def _more(accepted: dict[str, str], count: int) -> Any:
    async def look() -> bool:
        return len(accepted) >= count

    return look
