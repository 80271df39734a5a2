"""The output of a run, read as a worker writes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.bus.entries import entry_fields
from penstock.client import logs
from penstock.client.logs import BATCH, RunOutput
from penstock.contracts.logs import LogLine, RunLog
from penstock.contracts.runs import new_run_id
from penstock.errors import Unavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis

RUN = new_run_id(0)


async def say(client: Redis, *texts: str) -> None:
    pipe = client.pipeline(transaction=False)
    for text in texts:
        message = RunLog(run=RUN, lines=[LogLine(at_ms=1, source="stdout", text=text)])
        pipe.xadd(keys.key(0, "logs", RUN), {**entry_fields(message)})
    await pipe.execute()


async def read(output: RunOutput, ended: asyncio.Task[None] | None = None) -> list[str]:
    return [line.text async for line in output.read(ended)]


async def test_more_than_one_read_takes_is_read_to_the_end(client: Redis) -> None:
    texts = [str(number) for number in range(2 * BATCH + 1)]
    await say(client, *texts)

    assert await read(RunOutput(client, RUN)) == texts


async def test_without_output_there_is_nothing_to_read(client: Redis) -> None:
    assert await read(RunOutput(client, RUN)) == []


@pytest.mark.parametrize("count", [0, 1, 5, BATCH + 1, 10 * BATCH])
async def test_the_tail_is_the_last_lines_and_reading_goes_on_behind_it(client: Redis, count: int) -> None:
    texts = [str(number) for number in range(2 * BATCH + 1)]
    await say(client, *texts)
    output = RunOutput(client, RUN)

    assert [line.text for line in await output.tail(count)] == texts[len(texts) - count if count < len(texts) else 0 :]
    await say(client, "more")
    assert await read(output) == ["more"]


async def test_the_tail_of_nothing_is_nothing(client: Redis) -> None:
    output = RunOutput(client, RUN)
    assert await output.tail(3) == []
    await say(client, "first")
    assert await read(output) == ["first"]


async def test_following_outlasts_silence_and_ends_with_the_run(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "BLOCK_MS", 10)
    over, last_words = asyncio.Event(), [str(number) for number in range(BATCH + 1)]

    async def end() -> None:
        await over.wait()

    await say(client, "first")
    ended = asyncio.create_task(end())
    seen, tasks = [], []
    async for line in RunOutput(client, RUN).read(ended):
        seen.append(line.text)
        if line.text == "first":
            # Several reads time out before anything more is said.
            tasks.append(asyncio.create_task(later(client, last_words, over)))
    assert seen == ["first", *last_words]


async def later(client: Redis, texts: list[str], over: asyncio.Event) -> None:
    await asyncio.sleep(0.1)
    await say(client, *texts)
    over.set()


async def test_a_redis_that_goes_away_is_unavailable(own_redis: EmbeddedRedis) -> None:
    client = connect(own_redis.url, retries=0)
    own_redis.kill()

    with pytest.raises(Unavailable, match="Redis does not answer"):
        await read(RunOutput(client, RUN))
    await client.aclose()
