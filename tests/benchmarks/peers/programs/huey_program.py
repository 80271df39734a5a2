"""Huey on Redis, its queue of choice (``RedisHuey``, a blocking pop). No call enqueues many tasks at once."""

from __future__ import annotations

from huey import RedisHuey

from tests.benchmarks.peers.programs import jobs

huey = RedisHuey("bench", url=jobs.redis_url())


@huey.task()
def job(number: int, sent_ns: int, stay_seconds: float) -> None:
    """Be the job."""
    jobs.work(number, sent_ns, stay_seconds)


async def start() -> None:
    """Nothing: it connects with the first task."""


async def submit_all(given: list[tuple[int, int, float]]) -> None:
    """Send them one after the other."""
    for one in given:
        job(*one)


async def submit(one: tuple[int, int, float]) -> None:
    """Send one."""
    job(*one)
