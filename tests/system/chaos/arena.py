"""Puts everything together: cycles of faults, calms in which all must recover, and the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import connect
from penstock.cli.embedded_redis import EmbeddedRedis
from tests.system.chaos.crew import Crew
from tests.system.chaos.failpoints import fired
from tests.system.chaos.faults import Faults
from tests.system.chaos.hands import Hands
from tests.system.chaos.load import POOL, Load, slow_consumer
from tests.system.chaos.mix import EVERYTHING
from tests.system.chaos.mutation import VARIABLE
from tests.system.chaos.proxy import Proxy
from tests.system.chaos.service import CLOCK_VARIABLE
from tests.system.chaos.state import read_state
from tests.system.chaos.tail import Tail
from tests.system.history import Recorder, Verdict, check, load

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.system.chaos.mix import Mix

RECOVERY_SECONDS: Final = 10.0
USUAL_BOOT_SECONDS: Final = 5.0
"""All services together, started on two idle cores, are ready within this; what a busy machine takes longer is allowed for."""
BOOT_SECONDS: Final = 120.0
"""Longer than this nothing is waited for at the start."""
HOUR_SECONDS: Final = 3600
STORM_SECONDS: Final = 20.0
LOG_BYTES_A_SECOND: Final = 200_000
"""Of all processes together, under faults; beyond it something floods."""


@dataclass
class Result:
    """What a chaos run proves."""

    seed: int
    verdict: Verdict
    faults: Counter[str]
    recoveries: list[float]
    wrong: list[str]
    allowed_seconds: float = RECOVERY_SECONDS
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def broken(self) -> list[str]:
        """Everything that must not be."""
        slow = [
            f"promise 7: recovered in {seconds:.1f} s, at most {self.allowed_seconds:.1f} s are allowed"
            for seconds in self.recoveries
            if seconds > self.allowed_seconds
        ]
        return [*self.verdict.broken, *slow, *(f"promise 7: {text}" for text in self.wrong)]

    def text(self) -> str:
        """Spell it for people."""
        late = [text for text in self.broken if text.startswith("promise 7")]
        seconds = ", ".join(f"{one:.1f}" for one in self.recoveries)
        return "\n".join(
            [
                self.verdict.text(),
                f"promise 7 {'BROKEN' if late else 'held'}: back to work within {self.allowed_seconds:.1f} s, by itself",
                *(f"    {text}" for text in late),
                f"recovered in (s): {seconds}",
                f"faults {sum(n for name, n in self.faults.items() if ':' not in name)}: "
                + ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items())),
                ", ".join(f"{name} {value}" for name, value in self.figures.items()),
                f"seed {self.seed}: {'BROKEN' if self.broken else 'all promises held'}",
            ]
        )


class Arena:
    """One chaos run.

    Args:
        seed: decides what is submitted, changed and cancelled and what strikes whom, each in its order; the speed of the machine
            decides how they meet.
        folder: for data, logs and the record.
        seconds: how long faults strike altogether.
        mix: who takes part and what goes wrong.
        mutation: name of the safeguard that is taken out of the services; none if empty.
    """

    def __init__(self, seed: int, folder: Path, seconds: float, mix: Mix = EVERYTHING, mutation: str = "") -> None:
        self._chance = random.Random(f"{seed}/arena")
        self._seed, self._folder, self._seconds, self._mix, self._mutation = seed, folder, seconds, mix, mutation
        self._records = folder / "records"
        self._records.mkdir(parents=True, exist_ok=True)
        self._recorder = Recorder(self._records / "harness.jsonl")
        # There during a calm: what is measured then is how soon work goes on, not how long it takes one at a time.
        self._hurry = folder / "hurry"
        self._server = EmbeddedRedis(
            folder / "redis", options={"appendfsync": self._chance.choice(["always", "everysec"])}
        )
        self._crew = Crew(folder, self._server.url)
        self._clients: list[Redis] = []
        self._recoveries: list[float] = []
        self._wrong: list[str] = []
        self._booted_in = 0.0
        self._dead = 0

    async def run(self) -> Result:
        """Run it to the end."""
        began = asyncio.get_running_loop().time()
        with self._server:
            try:
                async with self._everything() as (faults, load_, tail):
                    await self._cycles(faults, load_, tail)
                    await self._write_state(tail)
            finally:
                self._crew.end()
                for client in self._clients:
                    await client.aclose()
        self._recorder.close()
        took = asyncio.get_running_loop().time() - began
        self._judge_logs(took)
        struck = fired(self._folder)
        faults.struck |= {f"failpoint: {point}": count for point, count in struck.items()}
        # Those that were only armed have done no harm.
        faults.struck["failpoint"] = min(faults.struck["failpoint"], struck.total())
        verdict = check(load(sorted(self._records.glob("*.jsonl"))))
        figures = {
            "seconds": round(took),
            "booted in": round(self._booted_in, 1),
            "runs finished": tail.finished,
            "commands": load_.commands,
            "starts": sum(member.starts for member in self._crew.members),
            **self._crew.exits,
            "dead letters": self._dead,
            "events redis forgot": faults.forgotten_events,
            "log MB": round(self._crew.log_bytes() / 1e6, 1),
        }
        wrong = self._wrong + self._crew.wrong
        allowed = RECOVERY_SECONDS + max(0.0, self._booted_in - USUAL_BOOT_SECONDS)
        return Result(self._seed, verdict, faults.struck, self._recoveries, wrong, allowed, figures)

    def _client(self) -> Redis:
        self._clients.append(connect(self._server.url))
        return self._clients[-1]

    @contextlib.asynccontextmanager
    async def _everything(self) -> AsyncIterator[tuple[Faults, Load, Tail]]:
        async with contextlib.AsyncExitStack() as stack:
            proxies = {
                name: await stack.enter_async_context(Proxy(self._server.port))
                for name in ("worker", *dict.fromkeys(self._mix.services))
            }
            self._start_services(proxies)
            async with self._at_work(proxies) as parts:
                yield parts

    def _start_services(self, proxies: Mapping[str, Proxy]) -> None:
        """Of each kind the first has a bad network, and the last lives on a host whose clock is wrong."""
        names = self._mix.services
        off = str(self._chance.choice([-1, 1]) * HOUR_SECONDS)
        for number, name in enumerate(names):
            variables = {"PENSTOCK_DISPATCHER_FINISHED_KEPT": "10000000", "PENSTOCK_SCHEDULER_MAX_RUNS": "6"}
            if self._mutation:
                variables[VARIABLE] = self._mutation
            if name not in names[number + 1 :]:
                variables[CLOCK_VARIABLE] = off
            url = "" if name in names[:number] else proxies[name].url
            self._crew.add_service(name, url, **variables)

    @contextlib.asynccontextmanager
    async def _at_work(self, proxies: Mapping[str, Proxy]) -> AsyncIterator[tuple[Faults, Load, Tail]]:
        tail = Tail(self._client(), self._recorder)
        load_ = Load(self._client(), self._recorder, tail, str(self._seed), self._mix.changes)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(BOOT_SECONDS):
            await self._crew.until_ready()
        self._booted_in = loop.time() - began
        await load_.define(self._chance.choice(self._mix.on_worker_lost))
        if self._mix.workers:
            self._start_workers()
        async with Hands(POOL, self._server.url, proxies["worker"].url, self._recorder, self._hurry) as hands:
            bodies = [
                self._crew.watch(),
                tail.run(),
                slow_consumer(self._client(), keys.key(0, "events")),
                *load_.loops(),
            ]
            tasks = [asyncio.ensure_future(body) for body in bodies]
            chance = random.Random(f"{self._seed}/faults")
            parts = (self._server, self._client(), self._crew, hands, proxies, tail, self._recorder, chance)
            try:
                yield Faults(*parts, self._mix), load_, tail
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                await end_tasks(tasks)

    def _start_workers(self) -> None:
        for number, queues in enumerate(([], [], ["critical", "high"])):
            options = ["--hurry", str(self._hurry), *(word for queue in queues for word in ("--queue", queue))]
            self._crew.add_worker(f"own-{number}", POOL, self._records, *options)
        self._crew.add_real_worker("real", POOL, self._records, "--limit", "4")

    async def _cycles(self, faults: Faults, load_: Load, tail: Tail) -> None:
        left = self._seconds
        while left > 0:
            self._hurry.unlink(missing_ok=True)
            await load_.resume()
            await faults.storm(min(STORM_SECONDS, left))
            left -= STORM_SECONDS
            faults.heal()
            self._hurry.touch()
            self._recoveries.append(await self._calm(load_))
            if self._recoveries[-1] >= self._mix.patience:
                self._wrong.append(f"not recovered, still open: {await self._describe(tail)}")
                return

    async def _calm(self, load_: Load) -> float:
        """Wait until all runs are finished and every service is ready.

        Returns:
            Seconds since the last fault.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._mix.patience):
                await load_.settle()
                await load_.until_finished()
                await self._crew.until_ready()
        except TimeoutError:
            return self._mix.patience
        return loop.time() - began

    async def _describe(self, tail: Tail) -> list[Any]:
        described: list[Any] = [
            f"{member.name} not ready" for member in self._crew.services if not await asyncio.to_thread(member.ready)
        ]
        return described + [{"run": run_id, **await self._hash("run", run_id)} for run_id in sorted(tail.open)[:5]]

    async def _hash(self, family: str, ident: str) -> dict[str, str]:
        found: Any = await self._clients[0].hgetall(keys.key(0, family, ident))
        return {name.decode(): value.decode()[:200] for name, value in found.items() if name not in (b"queue", b"spec")}

    async def _write_state(self, tail: Tail) -> None:
        """What is stored, to be held against what was told."""
        await asyncio.sleep(0.5)  # what is on its way is read
        client = self._clients[0]
        self._recorder.write("state", **await read_state(client, sorted(tail.states)))
        self._dead = await client.xlen(keys.key(0, "dead"))

    def _judge_logs(self, took: float) -> None:
        if self._crew.log_bytes() > took * LOG_BYTES_A_SECOND:
            self._wrong.append(f"{self._crew.log_bytes() / 1e6:.0f} MB of logs in {took:.0f} s")
