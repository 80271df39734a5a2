"""Ten thousand runs: submitted in one call, listed by page, cancelled in bulk, and what one that waits costs."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from penstock.bus.connection import connect
from penstock.bus.requests import request_all
from penstock.client import NewRun, Penstock, flow_runs
from penstock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

RUNS = 10_000
PAGE = 1_000
MAX_BYTES = 1_500
"""For each waiting run with 300 bytes of parameters, measured with a small Redis: twice what is aimed at."""
MAX_SECONDS = 60.0


@pytest.fixture
async def live(url: str) -> AsyncIterator[Redis]:
    client = connect(url)
    yield client
    await client.aclose()


@pytest.fixture
async def penstock(url: str) -> AsyncIterator[Penstock]:
    async with Penstock.connect(Settings(redis_url=url)) as penstock:
        yield penstock


async def memory_of(client: Redis, *patterns: str) -> int:
    """Bytes of the keys that match, with all of their elements."""
    total = 0
    for pattern in patterns:
        names = [name async for name in client.scan_iter(pattern, count=5000)]
        pipe = client.pipeline(transaction=False)
        for name in names:
            pipe.memory_usage(name, samples=0)
        total += sum(await pipe.execute())
    return total


async def test_ten_thousand_runs_are_submitted_listed_by_page_and_cancelled(
    penstock: Penstock, live: Redis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = f"pool-{uuid.uuid4().hex[:8]}"
    await penstock.create_pool(pool)
    rounds: list[int] = []

    async def counted(client: Any, stream: Any, partition: int, commands: Any, *rest: Any, **named: Any) -> list[Any]:
        rounds.append(len(commands))
        return await request_all(client, stream, partition, commands, *rest, **named)

    monkeypatch.setattr(flow_runs, "request_all", counted)
    runs = [NewRun(entrypoint="flows.py:load", parameters={"text": "x" * 280, "n": number}) for number in range(RUNS)]
    seen: list[tuple[int, int]] = []

    began = time.monotonic()
    ids = await penstock.submit_runs(pool, runs, progress=lambda done, total: seen.append((done, total)))
    submitted = time.monotonic() - began

    assert len(set(ids)) == RUNS
    assert len(rounds) == 1, "one round trip for all messages"
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (RUNS, RUNS)

    bytes_each = await memory_of(live, "*:run:*", "*:waiting") / RUNS

    began = time.monotonic()
    pages = [
        [run.id for run in await penstock.read_runs(pool, limit=PAGE, offset=start)] for start in range(0, RUNS, PAGE)
    ]
    listed = time.monotonic() - began
    assert [run_id for page in pages for run_id in page] == ids, "every run once, in order"
    assert await penstock.read_runs(pool, limit=PAGE, offset=RUNS) == []

    began = time.monotonic()
    done = await penstock.cancel_runs(ids)
    cancelled = time.monotonic() - began
    assert (len(done.cancelled), done.cancelling, done.ended, done.unknown) == (RUNS, [], [], [])
    assert await penstock.read_runs(pool, states=["SCHEDULED"]) == []
    assert len(await penstock.read_runs(pool, states=["CANCELLED"], limit=RUNS)) == RUNS

    with capsys.disabled():
        print(  # noqa: T201 - a measurement is for people
            f"\n{RUNS} runs: submitted in {submitted:.1f} s, listed in {listed:.1f} s, cancelled in {cancelled:.1f} s; "
            f"{bytes_each:.0f} bytes a waiting run with 300 bytes of parameters"
        )
    assert max(submitted, listed, cancelled) < MAX_SECONDS
    assert bytes_each < MAX_BYTES
