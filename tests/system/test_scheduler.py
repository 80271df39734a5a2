"""Schedulers as real processes, killed while they work."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import pytest

from penstock import keys
from penstock.bus.connection import connect, redis_now_ms
from penstock.bus.requests import publish
from penstock.contracts.deployments import DeploymentChanged
from penstock.streams import DEFINITIONS
from tests.definitions import define_deployment, define_pool
from tests.scheduling import define_schedule, made_runs
from tests.support import wait_until
from tests.system.service_processes import Services

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis

pytestmark = pytest.mark.system

SCHEDULES = 20
KILLS = 8


async def deploy(client: Redis, number: int, step: int, revision: int = 1) -> str:
    now_ms = await redis_now_ms(client)
    deployment = await define_deployment(client, f"hello/{number}", revised_ms=now_ms, revision=revision)
    await define_schedule(client, deployment, interval_seconds=step, anchor="2026-01-01T00:00:00Z")
    message = DeploymentChanged(deployment_id=deployment, deployment=f"hello/{number}", pool="etl", revision=revision)
    await publish(client, DEFINITIONS, 0, message)
    return deployment


async def test_two_schedulers_killed_with_9_again_and_again_make_each_fire_time_once(
    own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    client = connect(own_redis.url)
    chance = random.Random(9)
    services = Services(own_redis.url, tmp_path, ["scheduler", "scheduler", "dispatcher"])
    # Six runs of a second each: every schedule is worked on every three seconds.
    services._environment |= {"PENSTOCK_SCHEDULER_MAX_RUNS": "6"}
    with services:
        await define_pool(client, "etl")
        deployments = [await deploy(client, number, 1) for number in range(SCHEDULES)]

        async def total() -> int:
            return sum([await client.zcard(keys.key(0, "deployment_waiting", one)) for one in deployments])

        for kill in range(KILLS):
            wanted = await total() + 3 * SCHEDULES

            async def moved(wanted: int = wanted) -> bool:
                return await total() >= wanted

            await wait_until(moved, what=f"runs after {kill} kills\n{services.log()}", timeout=40, every=0.2)
            services.kill(chance.choice([0, 0, 1, 1, 2]))

        for deployment in deployments:
            made = [run.due_ms for run in await made_runs(client, deployment)]
            apart = {later - earlier for earlier, later in itertools.pairwise(made)}
            assert apart == {1000}, f"{made}\n{services.log()}"
            assert len(made) > 2 * KILLS
    await client.aclose()


async def test_runs_are_there_a_moment_after_the_deployment(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    client = connect(own_redis.url)
    with Services(own_redis.url, tmp_path, ["scheduler", "dispatcher"]) as services:
        await define_pool(client, "etl")
        first = await deploy(client, 0, 3600)
        await wait_until(lambda: made_runs(client, first), what=services.log())
        for number in range(1, 6):
            deployment = await deploy(client, number, 3600)

            async def there(deployment: str = deployment) -> bool:
                return bool(await made_runs(client, deployment))

            await wait_until(there, what=services.log(), timeout=1, every=0.005)
    await client.aclose()
