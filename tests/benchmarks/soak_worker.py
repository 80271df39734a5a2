"""A worker for soaks: knows nothing but the bus, answers a whole assignment at once, and comes back under a new name now and then.

    python -m tests.benchmarks.soak_worker URL POOL PREFIX [--life SECONDS]

What becomes of a run stands in its parameters (:mod:`tests.benchmarks.soak_load`). Of four lives three end in order: draining,
what is held handed back, a last heartbeat. The fourth ends without a word, and its successor begins at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import secrets
import time
from typing import TYPE_CHECKING, Any

import orjson
import uvloop

from penstock import keys
from penstock.bus.connection import connect
from penstock.bus.requests import publish
from penstock.contracts.workers import Heartbeat
from penstock.streams import DISPATCH, HEARTBEATS
from penstock.worker.output import LogShipper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

INTERVAL_SECONDS = 2.0
SLOTS = 1000
REPORTS_AT_ONCE = 500
LINES = [f"line {number} of a run that prints something" for number in range(20)]


class Life:
    """One worker from its first heartbeat to its last.

    Args:
        client: where to.
        shipper: of output.
        pool: its name.
        name: of the worker; never used twice.
    """

    def __init__(self, client: Redis, shipper: LogShipper, pool: str, name: str) -> None:
        self._client, self._shipper, self._pool, self._name = client, shipper, pool, name
        self._inbox = keys.key(0, "inbox", f"{pool}/{name}")
        self._boot_id = secrets.token_hex(8)
        self._seq = itertools.count()
        self._held: dict[str, tuple[float, dict[str, Any]]] = {}
        self._draining = False

    async def live(self, seconds: float, *, in_order: bool) -> None:
        """Beat, take, report for a while; then drain and say good-bye, or fall silent."""
        end = time.monotonic() + seconds
        beating = asyncio.create_task(self._beat())
        try:
            while time.monotonic() < end:
                await self._turn()
            if in_order:
                await self._leave()
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def _beat(self, *, stopping: bool = False) -> None:
        while True:
            beat = Heartbeat(
                pool=self._pool,
                worker=self._name,
                worker_type="process",
                boot_id=self._boot_id,
                seq=next(self._seq),
                interval_seconds=INTERVAL_SECONDS,
                slots=SLOTS,
                draining=self._draining,
                stopping=stopping,
            )
            await publish(self._client, HEARTBEATS, 0, beat)
            if stopping or self._draining:
                return
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _leave(self) -> None:
        self._draining = True
        await self._beat()
        # What was assigned before the dispatcher knew; two reads without news mean that nothing more comes.
        quiet = 0
        while quiet < 2:
            quiet = 0 if await self._turn() else quiet + 1
        await self._report([(run, "SCHEDULED") for _, run in self._held.values()])
        self._held.clear()
        await self._beat(stopping=True)

    async def _turn(self) -> bool:
        """Read the inbox once, end what has been held for long enough; answers whether there was news."""
        answer: Any = await self._client.xread({self._inbox: b"0"}, count=100, block=50 if self._held else 200)
        entries = answer[0][1] if answer else []
        for _, fields in entries:
            await self._take(orjson.loads(fields[b"__data__"]))
        if entries:
            await self._client.xdel(self._inbox, *(entry_id for entry_id, _ in entries))
        now = time.monotonic()
        over = [run for end, run in self._held.values() if end <= now]
        for run in over:
            del self._held[run["id"]]
        await self._report([(run, "COMPLETED") for run in over])
        return bool(entries)

    async def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind == "assign_runs" and message["boot_id"] == self._boot_id:
            await self._execute(message["runs"])
        elif kind in ("stop_runs", "revoke_runs"):
            # A message may be about an earlier claim of a run that is held again.
            named = [
                self._held.pop(run["id"])[1]
                for run in message["runs"]
                if run["id"] in self._held and self._held[run["id"]][1]["epoch"] <= run["epoch"]
            ]
            await self._report([(run, "CANCELLED") for run in named] if kind == "stop_runs" else [])

    async def _execute(self, runs: Sequence[dict[str, Any]]) -> None:
        await self._report([(run, "RUNNING") for run in runs])
        ended, printed = [], []
        for run in runs:
            does = run["spec"].get("parameters", {})
            if does.get("prints"):
                await self._shipper.add(run["id"], "stdout", LINES)
                printed.append(run["id"])
            if "holds" in does:
                self._held[run["id"]] = time.monotonic() + does["holds"], run
            else:
                fails = does.get("fails", 0) >= run["epoch"]
                ended.append((run, "FAILED" if fails else "COMPLETED"))
        for ident in printed:
            self._shipper.end(ident)
        if printed:
            await self._shipper.flushed(5.0)
        await self._report(ended)

    async def _report(self, said: Sequence[tuple[dict[str, Any], str]]) -> None:
        at_ms = time.time_ns() // 1_000_000
        for start in range(0, len(said), REPORTS_AT_ONCE):
            reports = [
                {"run": run["id"], "token": run["token"], "epoch": run["epoch"], "state": state}
                | ({} if state == "SCHEDULED" else {"started_ms": at_ms})
                for run, state in said[start : start + REPORTS_AT_ONCE]
            ]
            body = orjson.dumps({"type": "report_runs", "pool": self._pool, "worker": self._name, "reports": reports})
            fields: Any = {"type": "report_runs", "__data__": body}
            await self._client.xadd(keys.key(0, DISPATCH.name), fields, maxlen=DISPATCH.max_length, approximate=True)


async def work(url: str, pool: str, prefix: str, life_seconds: float) -> None:
    """Live one life after the other until the process is ended."""
    client = connect(url)
    shipper = LogShipper(client)
    shipping = asyncio.create_task(shipper.run())
    for number in itertools.count():
        life = Life(client, shipper, pool, f"{prefix}-{number}")
        await life.live(life_seconds, in_order=number % 4 != 3)
        if shipping.done():
            await shipping


def main() -> None:
    """Read the command line and work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("pool")
    parser.add_argument("prefix")
    parser.add_argument("--life", type=float, default=20.0)
    given = parser.parse_args()
    uvloop.run(work(given.url, given.pool, given.prefix, given.life))


if __name__ == "__main__":
    main()
