"""``python -m tests.system.chaos.worker OPTIONS``: a bus worker as a process of its own, until it is killed."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

from tests.system.bus_worker import BusWorker
from tests.system.history import Recorder


async def work(given: argparse.Namespace) -> None:
    """Work for ever."""
    recorder = Recorder(given.records / f"{given.name}-{os.getpid()}.jsonl")
    async with BusWorker(
        given.url,
        given.pool,
        given.name,
        slots=given.slots,
        interval=given.interval,
        work_seconds=given.work,
        fails=given.fails,
        long=given.long,
        queues=given.queue,
        hurry=given.hurry,
        recorder=recorder,
    ):
        await asyncio.Event().wait()


def arguments() -> argparse.ArgumentParser:
    """Spell the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--records", type=Path, required=True)
    parser.add_argument("--slots", type=int, default=3)
    parser.add_argument("--interval", type=float, default=0.7)
    parser.add_argument("--work", type=float, default=0.15)
    parser.add_argument("--long", type=float, default=0.1)
    parser.add_argument("--hurry", type=Path)
    parser.add_argument("--fails", type=float, default=0.1)
    parser.add_argument("--queue", action="append", default=[])
    return parser


if __name__ == "__main__":
    asyncio.run(work(arguments().parse_args()))
