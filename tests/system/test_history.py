"""Promises 1, 2, 3 and 5 under load, with kills: the event stream is replayed and must break none."""

from __future__ import annotations

import os
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.contracts.runs import CancelRuns, RunSpec, SubmitRuns, SubmittedRun, new_run_id
from tests.definitions import define_deployment, define_pool
from tests.support import wait_until
from tests.system.bus_worker import BusWorker
from tests.system.history import Recorder, check, load
from tests.system.history.records import now_ms
from tests.system.service_processes import Services

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis

pytestmark = pytest.mark.system
SEED = int(os.environ.get("CHAOS_SEED", "5"))
CHANCE = random.Random(f"{SEED}/history")
QUEUES = {"critical": (1, 1), "high": (5, 3), "low": (10, None), "default": (11, None)}
ENDS = (b"COMPLETED", b"FAILED", b"CRASHED", b"CANCELLED")
DEPLOYED = {"single": 1, "pair": 2}


async def submit(
    client: Redis, recorder: Recorder, queue: str, count: int, deployments: dict[str | None, str | None]
) -> list[str]:
    """Submit over the bus as a plain client would; the same message twice, as an impatient one would."""
    of = [CHANCE.choice([None, None, *DEPLOYED]) for _ in range(count)]
    runs = [
        SubmittedRun(
            id=new_run_id(0),
            name=f"{queue}-{n}",
            queue=queue,
            deployment=deployments[of[n]],
            retries=CHANCE.choice([0, 0, 1]),
            spec=RunSpec(command="x"),
        )
        for n in range(count)
    ]
    asked = [
        {"id": run.id, "queue": queue, "deployment": label, "due": None, "delay": 0}
        for run, label in zip(runs, of, strict=True)
    ]
    recorder.write("submit", runs=asked)
    fields: Any = {"__data__": SubmitRuns(pool="etl", runs=runs).wire()}
    for _ in range(2):
        await client.xadd(keys.key(0, "dispatch"), fields)
    recorder.write("accepted", runs=[run.id for run in runs])
    return [run.id for run in runs]


async def all_finished(client: Redis, accepted: list[str]) -> bool:
    pipe = client.pipeline(transaction=False)
    for run_id in accepted:
        pipe.hget(keys.key(0, "run", run_id), "state")
    return all(state in ENDS for state in await pipe.execute())


async def cancel_some(client: Redis, recorder: Recorder, accepted: list[str]) -> None:
    """Ask for the end of a few runs, whatever state they are in."""
    chosen = CHANCE.sample(accepted[-40:], 3)
    recorder.write("cancel", runs=chosen)
    fields: Any = {"__data__": CancelRuns(runs=chosen, force=CHANCE.random() < 0.3).wire()}
    await client.xadd(keys.key(0, "dispatch"), fields)


def define(recorder: Recorder, what: str, of: str, value: int | None) -> None:
    recorder.write("setting", what=what, of=of, value=value, sent=now_ms(), answered=now_ms(), ok=True)


@pytest.mark.timeout(180)
async def test_no_promise_breaks_while_dispatchers_monitors_and_workers_are_killed(
    own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    client = connect(own_redis.url)
    recorder = Recorder(tmp_path / "history.jsonl")
    queues: Any = {name: {"priority": priority, "limit": limit} for name, (priority, limit) in QUEUES.items()}
    await define_pool(client, "etl", queues=queues, limit=5, on_worker_lost="requeue", max_attempts=100)
    deployments: dict[str | None, str | None] = {None: None}
    for name, bound in DEPLOYED.items():
        deployments[name] = await define_deployment(client, f"hello/{name}", limit=bound)
        define(recorder, "limit", f"deployment/{name}", bound)
    define(recorder, "limit", "pool", 5)
    for name, (priority, limit) in QUEUES.items():
        define(recorder, "limit", f"queue/{name}", limit)
        define(recorder, "priority", f"queue/{name}", priority)

    def worker(name: str) -> BusWorker:
        return BusWorker(own_redis.url, "etl", name, slots=4, fails=0.1, recorder=recorder)

    accepted: list[str] = []
    with Services(own_redis.url, tmp_path, ["dispatcher", "dispatcher", "dispatcher", "heartbeat_monitor"]) as services:
        workers = [await worker(f"w{n}").__aenter__() for n in range(3)]
        try:
            for round_ in range(12):
                for queue in CHANCE.sample(list(QUEUES), 4):
                    accepted += await submit(client, recorder, queue, CHANCE.randint(5, 25), deployments)
                await cancel_some(client, recorder, accepted)
                victim = CHANCE.choice([0, 1, 2, 3, None])
                if victim is not None:
                    services.kill(victim)
                if round_ % 4 == 3:
                    # One worker dies in the middle of its runs; its successor of the same name is a new life.
                    dead = workers.pop(0)
                    await dead.kill()
                    workers.append(await worker(f"w{round_ % 3}").__aenter__())
                most = accepted[: max(0, len(accepted) - 60)]
                await wait_until(partial(all_finished, client, most), what="most of the work", timeout=60)
            await wait_until(partial(all_finished, client, accepted), what="all of the work", timeout=60)
        finally:
            for one in workers:
                await one.kill()
    events: Any = await client.xrange(keys.key(0, "events"))
    for entry_id, fields in events:
        recorder.write("event", id=entry_id.decode(), event=orjson.loads(fields[b"__data__"]))
    recorder.close()
    await client.aclose()

    verdict = check(load([recorder.file]))
    assert verdict.broken == [], f"CHAOS_SEED={SEED}"
    assert set(accepted) == set(verdict.states)
    held = {"pool": 5, "queue/critical": 1, "queue/high": 3, "deployment/single": 1, "deployment/pair": 2}
    assert {of: verdict.peak[of] for of in held} == held
