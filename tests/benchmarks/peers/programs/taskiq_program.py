"""Taskiq with the broker its documentation recommends where work must not be lost: Redis Streams, acknowledged.

It documents no bulk call; the loop sends a batch concurrently, as users of asyncio do.
"""

from __future__ import annotations

import asyncio

from taskiq_redis import RedisStreamBroker

from tests.benchmarks.peers.programs import jobs

broker = RedisStreamBroker(url=jobs.redis_url())
BATCH = 50


@broker.task
async def job(number: int, sent_ns: int, stay_seconds: float) -> None:
    """Be the job."""
    jobs.begun(number, sent_ns)
    if stay_seconds:
        await asyncio.sleep(stay_seconds)


async def start() -> None:
    """Connect."""
    await broker.startup()


async def submit_all(given: list[tuple[int, int, float]]) -> None:
    """Send them in batches."""
    for start_at in range(0, len(given), BATCH):
        await asyncio.gather(*(submit(one) for one in given[start_at : start_at + BATCH]))


async def submit(one: tuple[int, int, float]) -> None:
    """Send one."""
    await job.kiq(*one)
