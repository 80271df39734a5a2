"""What a run of entries leaves behind: nothing unfinished, no strange key, and readers that read on."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import TYPE_CHECKING, Any, Final

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.bus.entries import entry_fields
from penstock.contracts.logs import LogLine, RunLog
from tests.system.fuzz.messages import GOOD, HANDS, STRANGE, VICTIMS
from tests.system.processes import PENSTOCK

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.system.fuzz.crew import Crew
    from tests.system.fuzz.work import GoodWork

SETTLE_SECONDS: Final = 60.0
COMMAND_SECONDS: Final = 180.0
TYPES: Final = {
    name: kind.lower() for name, kind in re.findall(r"^(\w+)\s+([A-Z]+)\s", keys.__doc__ or "", re.MULTILINE)
}
"""Family -> type, as the map of keys says."""
FEW: Final = 4
STREAMS: Final = {"commands", "heartbeats", "dispatch", "definitions", "events", "dead"}
READING: Final = (
    ("work-pool", "ls"),
    ("work-pool", "ls", "-v", "-o", "json"),
    *(("work-queue", "ls", "-p", pool) for pool in (STRANGE, *VICTIMS)),
    ("work-queue", "ls", "-p", STRANGE, "-o", "json"),
    *(("work-pool", command, STRANGE) for command in ("inspect", "slots", "preview")),
    *(("worker", "ls", "-p", pool) for pool in (HANDS, *VICTIMS)),
    ("deployment", "ls"),
    ("deployment", "ls", "-o", "json"),
    *(("flow-run", "ls", "-p", pool, "--limit", "200") for pool in (STRANGE, HANDS)),
    *(("flow-run", "ls", "-p", pool, "--limit", "200", "-o", "json") for pool in (STRANGE, HANDS)),
    ("dead", "ls", "--limit", "2000"),
    ("dead", "ls", "--limit", "2000", "-o", "json"),
    ("events", "tail", "--since", "0", "--no-follow"),
    ("events", "tail", "--since", "0", "--no-follow", "-o", "json"),
)
"""What a person types afterwards; a pool that fuzz has deleted is not found, and that is no failure."""


async def unfinished(client: Redis, work: GoodWork) -> list[str]:
    """Wait until the fuzz's own runs have ended: nothing in flight, nothing waiting that is due."""
    found: list[str] = []
    for pool in (GOOD, STRANGE, HANDS):
        pool_id: Any = await client.hget(keys.key(0, "pools"), pool)
        if pool_id is None:
            found.append(f"work pool {pool} is gone")
            continue
        for _ in range(int(SETTLE_SECONDS / 0.2)):
            left = await _left(client, pool_id.decode())
            if not left:
                break
            await asyncio.sleep(0.2)
        else:
            found += [f"{pool}: {one} has not ended" for one in left[:10]]
    found += [f"run {run} ended {count} times" for run, count in work.ended.items() if count > 1]
    return found


async def _left(client: Redis, pool_id: str) -> list[str]:
    now = await redis_now_ms(client)
    held: Any = await client.zrange(keys.key(0, "pool_in_flight", pool_id), 0, -1)
    found = [f"in flight {run.decode()}" for run in held]
    queues: Any = await client.zrange(keys.key(0, "pool_queues", pool_id), 0, -1)
    for queue in queues:
        waiting: Any = await client.zrangebyscore(keys.key(0, "waiting", queue.decode()), "-inf", now - 1000)
        found += [f"waiting {run.decode()}" for run in waiting]
    return found


async def strange_keys(client: Redis) -> list[str]:
    """Find keys that the map of keys does not know, or that hold something else than it says."""
    shapes = [
        (re.compile(re.escape(f"penstock:{{0}}:{template}").replace(re.escape("{}"), "(.+)"), re.DOTALL), _type(family))
        for family, template in keys.FAMILIES.items()
    ]
    found = []
    names = [name async for name in client.scan_iter(count=5000)]
    for first in range(0, len(names), 1000):
        part = names[first : first + 1000]
        pipe = client.pipeline(transaction=False)
        for name in part:
            pipe.type(name)
        for name, kind in zip(part, await pipe.execute(), strict=True):
            text = name.decode(errors="backslashreplace")
            # A key may have expired since.
            if text == keys.PARTITIONS_KEY or kind == b"none":
                continue
            if not any(of == kind.decode() and shape.fullmatch(text) for shape, of in shapes):
                found.append(f"a {kind.decode()} at {text[:300]!r} is no key of ours")
    return found[:20]


def _type(family: str) -> str:
    return "stream" if family in STREAMS else TYPES[family]


async def readers_fail(url: str, folder: Path, *, few: bool) -> list[str]:
    """Type every reading command once, or a few of them."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    environment = {**ours, "PENSTOCK_REDIS_URL": url}
    found = []
    for words in READING[-FEW:] if few else READING:
        code, printed, said = await type_command(words, environment, folder)
        gone = code == 1 and "there is no work pool" in said
        if code not in (0, 1) or (code == 1 and not gone) or "Traceback" in said:
            found.append(f"penstock {' '.join(words)} exited with {code}: {said[-1500:]}")
        elif "json" in words and code == 0 and "tail" not in words:
            json.loads(printed)
    return found


async def output_fails(client: Redis, url: str, folder: Path, run_id: str) -> list[str]:
    """Read the output of the run that anybody has written to: a line that is right is shown, whatever lies around it."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    environment = {**ours, "PENSTOCK_REDIS_URL": url}
    line = LogLine(at_ms=await redis_now_ms(client), source="stdout", text="the last line")
    said: Any = entry_fields(RunLog(run=run_id, lines=[line]))
    await client.xadd(keys.key(0, "logs", run_id), said)
    found = []
    for words in (("logs", run_id), ("logs", run_id, "--tail", "5"), ("logs", run_id, "-o", "json"), ("watch", run_id)):
        code, printed, told = await type_command(("flow-run", *words), environment, folder)
        if code != 0 or "Traceback" in told or "the last line" not in printed:
            found.append(f"penstock flow-run {' '.join(words)} exited with {code}: {told[-1500:]}")
    return found


async def type_command(words: tuple[str, ...], environment: dict[str, str], folder: Path) -> tuple[int, str, str]:
    """Run one command as a process.

    Returns:
        Its exit code (-1 when it hangs), and what it wrote.
    """
    process = await asyncio.create_subprocess_exec(
        *PENSTOCK,
        *words,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, said = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return -1, "", "it hangs"
    return process.returncode or 0, printed.decode(errors="replace"), said.decode(errors="replace")


async def tails_behind(crew: Crew, work: GoodWork) -> list[str]:
    """Wait until both tails have shown the end of the last good run."""
    last = work.submitted[-1]
    for _ in range(int(SETTLE_SECONDS / 0.5)):
        seen = await asyncio.to_thread(crew.log, "tail-json")
        if f'"prefect.flow-run.{last}"' in seen and "prefect.flow-run.Completed" in crew.log("tail-table"):
            return []
        await asyncio.sleep(0.5)
    return ["penstock events tail --output json has not shown the last good run"]
