"""arq. It documents no bulk call; the loop sends a batch concurrently, as users of asyncio do."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings

from tests.benchmarks.peers.programs import jobs

REDIS = RedisSettings.from_dsn(jobs.redis_url())
BATCH = 50
QUIET = {"version": 1, "disable_existing_loggers": False}
"""Instead of a line or two a job."""
connections: list[Any] = []


async def job(_: dict[str, Any], number: int, sent_ns: int, stay_seconds: float) -> None:
    """Be the job."""
    jobs.begun(number, sent_ns)
    if stay_seconds:
        await asyncio.sleep(stay_seconds)


class WorkerSettings:
    """What ``arq`` starts its worker with; all else as by default: ten jobs at once, a poll every half second."""

    functions: ClassVar[list[Any]] = [job]
    redis_settings = REDIS


async def start() -> None:
    """Connect."""
    connections.append(await create_pool(REDIS))


async def submit_all(given: list[tuple[int, int, float]]) -> None:
    """Send them in batches."""
    for start_at in range(0, len(given), BATCH):
        await asyncio.gather(*(submit(one) for one in given[start_at : start_at + BATCH]))


async def submit(one: tuple[int, int, float]) -> None:
    """Send one."""
    await connections[0].enqueue_job("job", *one)
