"""What becomes of much, long and binary output: a real worker process, real runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from penstock import keys
from tests.support import wait_until
from tests.worker_rig import Remote, claim, start_process, working

if TYPE_CHECKING:
    from redis.asyncio import Redis

MEGABYTE = 1024 * 1024
FLOODS = {
    "text": "sys.stdout.write(('x' * 79 + '\\n') * 13_107)",
    "binary": "sys.stdout.buffer.write(os.urandom(1024 * 1024))",
    "zeros": "sys.stdout.buffer.write(bytes(1024 * 1024 - 1) + b'\\n')",
    "line breaks": "sys.stdout.buffer.write(b'\\n' * 1024 * 1024)",
    "one line": "sys.stdout.buffer.write(b'y' * 1024 * 1024)",
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_hundred_megabytes_grow_neither_the_worker_nor_redis_and_the_log_says_what_is_missing(
    client: Redis, redis_url: str, flood: str
) -> None:
    process = await start_process(redis_url)
    rig = Remote(client)
    await rig.adopt()
    warm = claim(command="echo warm", stream_output=False)
    await rig.assign(warm)
    await rig.completed(warm)
    worker = psutil.Process(process.pid)
    before, peak = worker.memory_info().rss, 0
    code = f"import os, sys\nfor _ in range(100):\n    {FLOODS[flood]}\n"
    run = claim(command=[sys.executable, "-c", code], stream_output=False)
    await rig.assign(run)

    async def ended() -> bool:
        nonlocal peak
        peak = max(peak, worker.memory_info().rss)
        return "COMPLETED" in await rig.states(run)

    await wait_until(ended, what="the end of the run", timeout=100)
    assert peak - before < 40 * MEGABYTE
    assert (await client.memory_usage(keys.key(0, "logs", run.id), samples=0) or 0) < 12 * MEGABYTE
    texts = [text for _, text in await rig.output(run)]
    notes = [text for text in texts if text.startswith("output cut: ")]
    assert texts[-len(notes) :] == notes, "said at the end"
    missing = sum(int(note.split()[2]) for note in notes)
    kept = sum(len(text.removesuffix(" [line cut]").encode()) for text in texts[: -len(notes)])
    assert missing + kept > 98 * MEGABYTE
    if flood != "binary":
        # Rounds of 13107 lines of text are not quite a megabyte; line breaks of kept lines count, too.
        assert missing + kept <= 100 * MEGABYTE
    process.terminate()
    await process.communicate()


async def test_a_flood_in_front_of_the_console_does_not_grow_the_worker_either(client: Redis, redis_url: str) -> None:
    # Nobody reads the worker's stdout.
    process = await start_process(redis_url)
    rig = Remote(client)
    await rig.adopt()
    worker = psutil.Process(process.pid)
    before = worker.memory_info().rss
    code = "import sys\nfor _ in range(40):\n    sys.stdout.write(('x' * 8000 + '\\n') * 131)\n"
    run = claim(command=[sys.executable, "-c", code])
    await rig.assign(run)
    await rig.completed(run)
    assert worker.memory_info().rss - before < 40 * MEGABYTE
    process.kill()
    await process.communicate()


async def test_a_smaller_limit_and_a_shorter_retention_are_obeyed(client: Redis) -> None:
    async with working(client, log_bytes_per_run=10_000, log_retention_seconds=90) as rig:
        run, later = claim(command="seq 100000"), claim(command="echo fine")
        await rig.assign(run)
        await rig.completed(run)
        texts = [text for _, text in await rig.output(run)]
        kept = texts[:-1]
        assert kept == [str(number) for number in range(1, len(kept) + 1)]
        assert 100 < len(kept) < 160
        missing = sum(len(str(number)) + 1 for number in range(len(kept) + 1, 100_001))
        lines = 100_000 - len(kept)
        assert texts[-1] == f"output cut: {missing} bytes in {lines} lines not kept (a run's log takes 10000 bytes)"
        assert 30 < await client.ttl(keys.key(0, "logs", run.id)) <= 90
        await rig.assign(later)
        await rig.completed(later)
        assert await rig.output(later) == [("stdout", "fine")]
