"""Celery on Redis, results ignored as its documentation advises where nobody reads them.

It documents no call that sends many tasks at once: a group sends one after the other, as the loop here does.
"""

from __future__ import annotations

from celery import Celery

from tests.benchmarks.peers.programs import jobs

app = Celery("bench", broker=jobs.redis_url())
app.conf.task_ignore_result = True


@app.task(name="job")
def job(number: int, sent_ns: int, stay_seconds: float) -> None:
    """Be the job."""
    jobs.work(number, sent_ns, stay_seconds)


async def start() -> None:
    """Connect."""
    app.connection_for_write().ensure_connection(max_retries=3)


async def submit_all(given: list[tuple[int, int, float]]) -> None:
    """Send them one after the other."""
    for one in given:
        job.delay(*one)


async def submit(one: tuple[int, int, float]) -> None:
    """Send one."""
    job.delay(*one)
