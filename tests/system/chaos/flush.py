"""Redis loses everything while all is at work: the services stay up, recover by themselves and say what was lost.

What was there is gone, nobody can bring it back; what is made anew must work at once, under the same limits, in a history of
its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final

import orjson

from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import connect
from penstock.cli.embedded_redis import EmbeddedRedis
from tests.system.chaos.arena import RECOVERY_SECONDS
from tests.system.chaos.crew import Crew
from tests.system.chaos.hands import Hands
from tests.system.chaos.load import POOL, Load
from tests.system.chaos.mix import EVERYTHING, SERVICES
from tests.system.chaos.tail import Tail
from tests.system.history import Recorder, check, load

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

WORK_SECONDS: Final = 5.0


class Flush:
    """One installation, flushed again and again.

    Args:
        seed: decides.
        folder: for data, logs and records.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self._seed = seed
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._server = EmbeddedRedis(folder / "redis")
        self._crew = Crew(folder, self._server.url)
        self._broken: list[str] = []
        self._flushed_at = 0.0
        self.recoveries: list[float] = []

    async def run(self, lives: int) -> list[str]:
        """Work, lose everything, work again.

        Args:
            lives: how often it begins anew.

        Returns:
            What must not be.
        """
        with self._server:
            client = connect(self._server.url)
            for name in SERVICES:
                self._crew.add_service(name)
            watch = asyncio.ensure_future(self._crew.watch())
            try:
                async with asyncio.timeout(EVERYTHING.patience):
                    await self._crew.until_ready()
                for life in range(lives):
                    await self._life(client, life)
            finally:
                watch.cancel()
                self._crew.end()
                await client.aclose()
        self._broken += self._crew.wrong
        if sum(member.starts for member in self._crew.members) != len(SERVICES):
            self._broken.append("a service had to be started again")
        self._judge_logs(lives - 1)
        return self._broken

    async def _life(self, client: Redis, number: int) -> None:
        """Make everything anew, work, end in the middle of it."""
        recorder = Recorder(self._folder / f"life-{number}.jsonl")
        clients = [connect(self._server.url) for _ in range(2)]
        tail = Tail(clients[0], recorder)
        load_ = Load(clients[1], recorder, tail, f"{self._seed}/{number}")
        async with asyncio.timeout(EVERYTHING.patience):
            await load_.define("requeue")
        tasks = [asyncio.ensure_future(body) for body in (tail.run(), *load_.loops())]
        async with Hands(POOL, self._server.url, self._server.url, recorder, self._folder / "hurry"):
            await load_.resume()
            try:
                async with asyncio.timeout(EVERYTHING.patience):
                    await tail.until_one_finished()
                    await self._crew.until_ready()
                    self._judge_recovery(number)
                    await asyncio.sleep(WORK_SECONDS)
                    await load_.settle()
                    await load_.until_finished()
            except TimeoutError:
                self._broken.append(f"life {number}: {len(load_.unfinished())} runs are not finished")
            # What is judged ends here; everything is lost in the middle of work.
            await asyncio.sleep(0.2)
            recorder.close()
            await load_.resume()
            await asyncio.sleep(0.5)
            await client.flushall()
            await asyncio.sleep(0.2)
            load_.on = False
        self._flushed_at = asyncio.get_running_loop().time()
        await end_tasks(tasks)
        await load_.close()
        for one in clients:
            await one.aclose()
        self._broken += check(load([recorder.file])).broken

    def _judge_recovery(self, life: int) -> None:
        """The first run of this life has ended and everybody is ready."""
        took = asyncio.get_running_loop().time() - self._flushed_at
        if life and took > RECOVERY_SECONDS:
            self._broken.append(f"life {life}: back to work {took:.1f} s after the loss")
        self.recoveries += [took] * bool(life)

    def _judge_logs(self, losses: int) -> None:
        """At every loss somebody of every service says that something was lost: who creates the group again."""
        said: Counter[str] = Counter()
        for member in self._crew.services:
            kind = member.name.partition(" ")[0]
            for line in member.log.read_bytes().splitlines():
                with contextlib.suppress(orjson.JSONDecodeError):
                    said[kind] += "lost data" in orjson.loads(line).get("event", "")
        for kind in set(SERVICES):
            if said[kind] < losses:
                self._broken.append(f"{kind} said {said[kind]} times of {losses} that Redis had lost data")


async def flush(seed: int, folder: Path, lives: int = 4) -> tuple[list[str], list[float]]:
    """Run the scenario.

    Returns:
        What must not be, and how long it took to be back at work after each loss but the last.
    """
    scenario = Flush(seed, folder)
    return await scenario.run(lives), scenario.recoveries
