"""SAQ. It documents no bulk call without waiting for results; the loop sends a batch concurrently, as users of asyncio do."""

from __future__ import annotations

import asyncio
from typing import Any

from saq import Queue

from tests.benchmarks.peers.programs import jobs

queue = Queue.from_url(jobs.redis_url())
BATCH = 50


async def job(_: dict[str, Any], *, number: int, sent_ns: int, stay_seconds: float) -> None:
    """Be the job."""
    jobs.begun(number, sent_ns)
    if stay_seconds:
        await asyncio.sleep(stay_seconds)


settings = {"queue": queue, "functions": [job]}
"""What ``saq`` starts its worker with; all else as by default: ten jobs at once, ten seconds for each."""


async def start() -> None:
    """Connect."""
    await queue.connect()


async def submit_all(given: list[tuple[int, int, float]]) -> None:
    """Send them in batches."""
    for start_at in range(0, len(given), BATCH):
        await asyncio.gather(*(submit(one) for one in given[start_at : start_at + BATCH]))


async def submit(one: tuple[int, int, float]) -> None:
    """Send one."""
    number, sent_ns, stay_seconds = one
    await queue.enqueue("job", number=number, sent_ns=sent_ns, stay_seconds=stay_seconds)
