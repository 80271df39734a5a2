"""Prefect: a deployment of a flow in a work pool; its API takes one run a call."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate

from tests.benchmarks.peers.programs import jobs

POOL = "bench"
deployments: list[Any] = []


@flow
def job(number: int, sent_ns: int, stay_seconds: float) -> None:
    """Be the job."""
    jobs.work(number, sent_ns, stay_seconds)


async def start() -> None:
    """Create pool and deployment."""
    async with get_client() as client:
        await client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    here = Path(__file__)
    found: Any = flow.from_source(source=str(here.parent), entrypoint=f"{here.name}:job")
    source = await found if asyncio.iscoroutine(found) else found
    made: Any = source.deploy(name="bench", work_pool_name=POOL, build=False, push=False, print_next_steps=False)
    deployments.append(await made if asyncio.iscoroutine(made) else made)


async def submit_all(given: list[tuple[int, int, float]]) -> None:
    """Send them at the same time."""
    await asyncio.gather(*(submit(one) for one in given))


async def submit(one: tuple[int, int, float]) -> None:
    """Send one."""
    number, sent_ns, stay_seconds = one
    parameters = {"number": number, "sent_ns": sent_ns, "stay_seconds": stay_seconds}
    async with get_client() as client:
        await client.create_flow_run_from_deployment(deployments[0], parameters=parameters)
