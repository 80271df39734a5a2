"""Workers inside the harness: beside a plain one, one behind a bad network and one whose clock is an hour wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import orjson

from penstock import keys
from penstock.bus.connection import connect
from tests.system.bus_worker import BusWorker

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from tests.system.history import Recorder

HOUR_MS = 3_600_000
WAITS = 100


class Hands:
    """Makes and replaces them.

    Args:
        pool: where they work.
        urls: of Redis by worker; the second goes through the proxy.
        recorder: told what they do.
        hurry: while this file is there, their runs take no time.
    """

    def __init__(self, pool: str, url: str, proxied: str, recorder: Recorder, hurry: Path) -> None:
        common: dict[str, Any] = {"slots": 3, "interval": 0.7, "work_seconds": 0.15, "long": 0.1, "fails": 0.1}
        common |= {"recorder": recorder, "hurry": hurry}
        self._pool, self._recorder = pool, recorder
        self._forger = connect(url)
        self._options: dict[str, dict[str, Any]] = {
            "plain": {"url": url, **common},
            "far": {"url": proxied, **common},
            "wrong-clock": {"url": url, "clock_off_ms": HOUR_MS, "twice": 0.3, **common},
            "early-clock": {"url": url, "clock_off_ms": -HOUR_MS, "queues": ["low", "default"], **common},
        }
        self._living: dict[str, BusWorker] = {}

    async def __aenter__(self) -> Self:
        for name in self._options:
            await self._start(name)
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._living.values():
            await worker.kill()
        await self._forger.aclose()

    async def _start(self, name: str) -> None:
        options = dict(self._options[name])
        self._living[name] = await BusWorker(options.pop("url"), self._pool, name, **options).__aenter__()

    async def replace(self, chance: Random) -> None:
        """At once a new one takes the name of another, which dies without a word or goes on as if nothing had happened."""
        name = chance.choice(list(self._living))
        zombie = chance.random() < 0.7
        if zombie:
            name = await self._busiest()
        old = self._living.pop(name)
        held = list(old.held.values())
        await self._start(name)
        try:
            if zombie:
                # Its claims have been given to others by now; what it says of them must not count.
                await old.insist(held, chance.uniform(0.5, 1.5))
        finally:
            await old.kill()

    async def silence(self, chance: Random) -> None:
        """One is not heard of for more than three heartbeats, and works on; then it is back, while others have its runs."""
        worker = self._living[chance.choice(list(self._living))]
        worker.heard.clear()
        await asyncio.sleep(chance.uniform(1, 4))
        worker.heard.set()

    async def forge(self, chance: Random) -> None:
        """Say that runs are done in the name of whom they were given to, each time with one thing wrong."""
        name = await self._busiest()
        others = [one for one in self._living if one != name]
        for wrong in ("token", "epoch", "worker"):
            held = list(self._living[name].held.values())
            if not held:
                return
            run = chance.choice(held)
            report: dict[str, Any] = {
                "run": run["id"],
                "token": run["token"],
                "epoch": run["epoch"],
                "state": "COMPLETED",
            }
            worker = name
            if wrong == "token":
                report["token"] = report["token"][::-1]
            elif wrong == "epoch":
                report["epoch"] += 1
            else:
                worker = chance.choice(others)
            self._recorder.write("report", worker=worker, **report)
            message = {"type": "report_runs", "pool": self._pool, "worker": worker, "reports": [report]}
            fields: Any = {"type": "report_runs", "__data__": orjson.dumps(message)}
            await self._forger.xadd(keys.key(0, "dispatch"), fields)

    async def _busiest(self) -> str:
        """Name who holds most; wait a little for somebody who holds anything."""
        for _ in range(WAITS):
            name = max(self._living, key=lambda one: len(self._living[one].held))
            if len(self._living[name].held) > 1:
                break
            await asyncio.sleep(0.02)
        return name
