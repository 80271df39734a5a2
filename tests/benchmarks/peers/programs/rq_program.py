"""RQ, with its bulk call ``enqueue_many``."""

from __future__ import annotations

from redis import Redis
from rq import Queue

from tests.benchmarks.peers.programs import jobs

QUEUE = Queue(connection=Redis.from_url(jobs.redis_url()))
BATCH = 1000


async def start() -> None:
    """Nothing: it connects with the first job."""


async def submit_all(given: list[tuple[int, int, float]]) -> None:
    """Send them in batches."""
    for start_at in range(0, len(given), BATCH):
        QUEUE.enqueue_many([Queue.prepare_data(jobs.work, one) for one in given[start_at : start_at + BATCH]])


async def submit(one: tuple[int, int, float]) -> None:
    """Send one."""
    QUEUE.enqueue(jobs.work, *one)
