"""``python -m tests.benchmarks.fleet --url URL --pool POOL --workers N``: many workers in one process, on the bare bus.

What somebody would write in another language: heartbeats by XADD, one XREAD over all inboxes. Every assignment is answered at once.
At the end of its input it prints one JSON object: run id -> ``time.monotonic_ns()`` at which the assignment was in its hand.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import Any

import orjson
import uvloop

from penstock import keys
from penstock.bus.connection import connect

HEARTBEAT_SECONDS = 10
BLOCK_MS = 1000


async def beat(url: str, pool: str, names: list[str], slots: int) -> None:
    """Say for ever that everybody lives."""
    client = connect(url)
    while True:
        pipe = client.pipeline(transaction=False)
        for name in names:
            body = {"pool": pool, "worker": name, "worker_type": "process", "boot_id": "1", "slots": slots}
            spelled = orjson.dumps({"type": "worker.heartbeat", "interval_seconds": HEARTBEAT_SECONDS, **body})
            pipe.xadd(keys.key(0, "heartbeats"), {"type": "worker.heartbeat", "__data__": spelled})
        await pipe.execute()
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def work(given: argparse.Namespace) -> None:
    """Answer until the input ends."""
    client = connect(given.url)
    names = [f"w{number}" for number in range(given.workers)]
    inboxes: dict[Any, Any] = {keys.key(0, "inbox", f"{given.pool}/{name}"): "0" for name in names}
    beating = asyncio.create_task(beat(given.url, given.pool, names, given.slots))
    ended = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    in_hand: dict[str, int] = {}
    accepted: set[str] = set()
    while not ended.done():
        answer: Any = await client.xread(inboxes, block=BLOCK_MS)
        now = time.monotonic_ns()
        reports = client.pipeline(transaction=False)
        for inbox, entries in answer:
            name = inbox.decode().rpartition("/")[2]
            inboxes[inbox.decode()] = entries[-1][0]
            for _, fields in entries:
                message = orjson.loads(fields[b"__data__"])
                accepted |= {name} if message["type"] == "accept_worker" else set()
                runs = message.get("runs", ())
                in_hand.update((run["id"], now) for run in runs)
                if runs:
                    told = [{"run": run["id"], "token": run["token"], "epoch": run["epoch"]} for run in runs]
                    body = {"type": "report_runs", "pool": given.pool, "worker": name}
                    body["reports"] = [{**one, "state": "COMPLETED"} for one in told]
                    reports.xadd(keys.key(0, "dispatch"), {"type": "report_runs", "__data__": orjson.dumps(body)})
            reports.xdel(inbox, *(entry_id for entry_id, _ in entries))
        await reports.execute()
        if len(accepted) == len(names):
            print("joined", flush=True)
            accepted.clear()
    beating.cancel()
    await client.aclose()
    print(json.dumps(in_hand), flush=True)


def arguments() -> argparse.ArgumentParser:
    """Spell the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--slots", type=int, default=1000)
    return parser


if __name__ == "__main__":
    uvloop.run(work(arguments().parse_args()))
