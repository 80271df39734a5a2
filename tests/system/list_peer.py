"""The smallest peer there is: a list in Redis. ``python -m tests.system.list_peer`` is its worker, which forgets what it holds."""

from __future__ import annotations

from typing import Any

import orjson
import redis

from tests.benchmarks.peers.programs import jobs


async def start() -> None:
    pass


async def submit_all(given: list[tuple[int, int, float]]) -> None:
    with redis.Redis.from_url(jobs.redis_url()) as client:
        client.lpush("jobs", *(orjson.dumps(one) for one in given))


async def submit(one: tuple[int, int, float]) -> None:
    await submit_all([one])


def work() -> None:
    with redis.Redis.from_url(jobs.redis_url()) as client:
        while True:
            taken: Any = client.brpop(["jobs"], timeout=0)
            jobs.work(*orjson.loads(taken[1]))


if __name__ == "__main__":
    work()
