"""Promises 1, 2, 3 and 5 under load, with kills: the event stream is replayed and must break none."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.contracts.runs import CancelRuns, RunSpec, SubmitRuns, SubmittedRun, new_run_id
from tests.definitions import define_deployment, define_pool
from tests.support import read_events, wait_until
from tests.system.bus_worker import BusWorker
from tests.system.history import History
from tests.system.service_processes import Services

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis

pytestmark = pytest.mark.system
QUEUES = {"critical": (1, 1), "high": (5, 3), "low": (10, None), "default": (11, None)}
ENDS = (b"COMPLETED", b"FAILED", b"CRASHED", b"CANCELLED")
DEPLOYED = {"single": 1, "pair": 2}


async def submit(client: Redis, queue: str, count: int, deployments: list[str]) -> list[str]:
    """Submit over the bus as a plain client would; the same message twice, as an impatient one would."""
    runs = [
        SubmittedRun(
            id=new_run_id(0),
            name=f"{queue}-{n}",
            queue=queue,
            deployment=random.choice([None, None, *deployments]),
            retries=random.choice([0, 0, 1]),
            spec=RunSpec(command="x"),
        )
        for n in range(count)
    ]
    fields: Any = {"__data__": SubmitRuns(pool="etl", runs=runs).wire()}
    for _ in range(2):
        await client.xadd(keys.key(0, "dispatch"), fields)
    return [run.id for run in runs]


async def all_finished(client: Redis, accepted: list[str]) -> bool:
    pipe = client.pipeline(transaction=False)
    for run_id in accepted:
        pipe.hget(keys.key(0, "run", run_id), "state")
    return all(state in ENDS for state in await pipe.execute())


async def cancel_some(client: Redis, accepted: list[str]) -> None:
    """Ask for the end of a few runs, whatever state they are in."""
    chosen = random.sample(accepted[-40:], 3)
    fields: Any = {"__data__": CancelRuns(runs=chosen, force=random.random() < 0.3).wire()}
    await client.xadd(keys.key(0, "dispatch"), fields)


@pytest.mark.timeout(180)
async def test_no_promise_breaks_while_dispatchers_monitors_and_workers_are_killed(
    own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    client = connect(own_redis.url)
    queues: Any = {name: {"priority": priority, "limit": limit} for name, (priority, limit) in QUEUES.items()}
    await define_pool(client, "etl", queues=queues, limit=5, on_worker_lost="requeue", max_attempts=100)
    deployments = [await define_deployment(client, f"hello/{name}", limit=limit) for name, limit in DEPLOYED.items()]
    accepted: list[str] = []
    with Services(own_redis.url, tmp_path, ["dispatcher", "dispatcher", "dispatcher", "heartbeat_monitor"]) as services:
        workers = [await BusWorker(own_redis.url, "etl", f"w{n}", slots=4, fails=0.1).__aenter__() for n in range(3)]
        try:
            for round_ in range(12):
                for queue in random.sample(list(QUEUES), 4):
                    accepted += await submit(client, queue, random.randint(5, 25), deployments)
                await cancel_some(client, accepted)
                victim = random.choice([0, 1, 2, 3, None])
                if victim is not None:
                    services.kill(victim)
                if round_ % 4 == 3:
                    # One worker dies in the middle of its runs; its successor of the same name is a new life.
                    dead = workers.pop(0)
                    await dead.kill()
                    workers.append(
                        await BusWorker(own_redis.url, "etl", f"w{round_ % 3}", slots=4, fails=0.1).__aenter__()
                    )
                most = accepted[: max(0, len(accepted) - 60)]
                await wait_until(partial(all_finished, client, most), what="most of the work", timeout=60)
            await wait_until(partial(all_finished, client, accepted), what="all of the work", timeout=60)
        finally:
            for worker in workers:
                await worker.kill()
    history = History(5, QUEUES, DEPLOYED).replay(await read_events(client))
    await client.aclose()

    assert history.violations == []
    assert history.unfinished(accepted) == []
    assert set(accepted) == set(history.states)
    assert (history.peak["pool"], history.peak["critical"], history.peak["high"]) == (5, 1, 3)
    assert (history.peak["single"], history.peak["pair"]) == (1, 2)
