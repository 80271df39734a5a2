"""``python -m tests.benchmarks.hands --url URL --pool POOL``: a worker as a process that answers every assignment at once.

It does nothing but what a worker owes the bus: each run is reported RUNNING and COMPLETED. Ends with SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import signal

import uvloop

from penstock.contracts.workers import AssignRuns
from penstock.settings import Settings
from penstock.worker.custom import join


async def work(given: argparse.Namespace) -> None:
    """Answer until told to end."""
    settings = Settings.read(redis_url=given.url)
    async with join(given.pool, name=given.name, slots=given.slots, heartbeat_seconds=5, settings=settings) as worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.drain)
        print("joined", flush=True)
        async for message in worker:
            if isinstance(message, AssignRuns):
                for run in message.runs:
                    worker.report(run, "RUNNING")
                    worker.report(run, "COMPLETED")


def arguments() -> argparse.ArgumentParser:
    """Spell the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.hands", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--pool", required=True)
    parser.add_argument("--name", default="hands")
    parser.add_argument("--slots", type=int, default=1000)
    return parser


if __name__ == "__main__":
    uvloop.run(work(arguments().parse_args()))
