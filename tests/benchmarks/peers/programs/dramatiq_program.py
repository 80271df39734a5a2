"""Dramatiq on Redis. A group enqueues one message after the other: there is no bulk call."""

from __future__ import annotations

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from tests.benchmarks.peers.programs import jobs

dramatiq.set_broker(RedisBroker(url=jobs.redis_url()))


@dramatiq.actor
def job(number: int, sent_ns: int, stay_seconds: float) -> None:
    """Be the job."""
    jobs.work(number, sent_ns, stay_seconds)


async def start() -> None:
    """Nothing: it connects with the first message."""


async def submit_all(given: list[tuple[int, int, float]]) -> None:
    """Send them one after the other."""
    for one in given:
        job.send(*one)


async def submit(one: tuple[int, int, float]) -> None:
    """Send one."""
    job.send(*one)
