"""What goes wrong: each fault is a coroutine that does its harm and, where it lasts, takes it back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from tests.rewinding import kill_and_bring_back, save
from tests.system.chaos.deliveries import Deliveries
from tests.system.history.records import now_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from random import Random

    from redis.asyncio import Redis

    from penstock.cli.embedded_redis import EmbeddedRedis
    from tests.system.chaos.crew import Crew
    from tests.system.chaos.hands import Hands
    from tests.system.chaos.mix import Mix
    from tests.system.chaos.proxy import Proxy
    from tests.system.chaos.tail import Tail
    from tests.system.history import Recorder

AT_ONCE: Final = 3
"""More faults at the same time than that, and the system is never alive to be hurt."""


_OWN_CHANCE: Final[ContextVar[Random]] = ContextVar("own_chance")


class Faults:
    """Strikes at random.

    Args:
        server: Redis.
        client: of its own.
        crew: processes.
        hands: workers inside the harness.
        proxies: networks: of one of them and of some services.
        tail: told of outages.
        recorder: told of every fault.
        chance: decides.
        mix: which faults, how often.
    """

    def __init__(
        self,
        server: EmbeddedRedis,
        client: Redis,
        crew: Crew,
        hands: Hands,
        proxies: Mapping[str, Proxy],
        tail: Tail,
        recorder: Recorder,
        chance: Random,
        mix: Mix,
    ) -> None:
        self._server, self._client, self._crew, self._hands = server, client, crew, hands
        self._proxies, self._tail, self._recorder, self._plan = proxies, tail, recorder, chance
        # Apart from the plan: how long others take must not decide what is next.
        self._pauses = random.Random(chance.getrandbits(64))
        self._apart = mix.apart
        self._deliveries = deliveries = Deliveries(client, lambda: self._chance)
        self._redis_is_hurt = asyncio.Lock()
        self._running: set[asyncio.Task[None]] = set()
        self.struck: Counter[str] = Counter()
        """By kind of fault; what has a colon in its name says more of a fault that is counted already."""
        self.forgotten_events = 0
        self.kinds: dict[str, tuple[int, Callable[[], Awaitable[None]]]] = {
            "kill service": (8, self._kill_service),
            "stop service gently": (3, self._end_service),
            "freeze service": (4, self._freeze_service),
            "failpoint": (10, self._arm),
            # One of the failpoints, by itself; only where a mix asks for it.
            "die with entries in hand": (0, self._arm_reading),
            "kill worker process": (3, self._kill_worker),
            "freeze worker process": (4, self._freeze_worker),
            "stop worker gently": (2, self._end_worker),
            "replace worker": (8, self._replace_worker),
            "silence worker": (3, self._silence_worker),
            "cut network": (2, self._cut),
            "freeze network": (3, self._freeze_network),
            "kill redis": (3, self._kill_redis),
            "rewind redis": (3, self._rewind_redis),
            "restart redis gently": (1, self._restart_redis),
            "freeze redis": (2, self._freeze_redis),
            "redis full": (2, self._fill_redis),
            "duplicate entries": (4, deliveries.duplicate),
            "deliver again": (3, deliveries.again),
            "late words": (2, self._say_late),
            "steal entries in hand": (4, self._steal),
            "trim pending entries": (3, deliveries.trim),
            "forge reports": (3, self._forge),
            "forget scripts": (2, self._forget_scripts),
            "kill connections": (3, self._kill_connections),
        }
        if mix.faults is not None:
            self.kinds = {name: (weight, self.kinds[name][1]) for name, weight in mix.faults.items()}

    @property
    def _chance(self) -> Random:
        """What decides for the fault that asks: its own, so that the next one does not depend on how long this one takes."""
        return _OWN_CHANCE.get()

    async def storm(self, seconds: float) -> None:
        """Strike again and again; returns when the last fault is over."""
        end = asyncio.get_running_loop().time() + seconds
        names = list(self.kinds)
        weights = [self.kinds[name][0] for name in names]
        while asyncio.get_running_loop().time() < end:
            if names and len(self._running) < AT_ONCE:
                (name,) = self._plan.choices(names, weights)
                self._strike(name)
            await asyncio.sleep(self._pauses.uniform(*self._apart))
        while self._running:
            done, _ = await asyncio.wait(self._running)
            for task in done:
                task.result()

    def _strike(self, name: str) -> None:
        chance = random.Random(self._plan.getrandbits(64))

        async def strike() -> None:
            _OWN_CHANCE.set(chance)
            self._recorder.write("fault", name=name)
            self.struck[name] += 1
            # Redis may be away by another fault: then this one had no harm to do.
            with contextlib.suppress(RedisError, OSError):
                await self.kinds[name][1]()

        task = asyncio.create_task(strike(), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def heal(self) -> None:
        """Take back what outlasts its fault."""
        for member in self._crew.members:
            if member.failpoint:
                member.failpoint.unlink(missing_ok=True)
            if member.frozen:
                member.thaw()
        for proxy in self._proxies.values():
            proxy.heal()

    async def _wait(self, least: float, most: float) -> None:
        await asyncio.sleep(self._chance.uniform(least, most))

    # Processes

    async def _kill_service(self) -> None:
        self._chance.choice(self._crew.services).signal(signal.SIGKILL)

    async def _end_service(self) -> None:
        member = self._chance.choice(self._crew.services)
        # One that is still starting has no handler of the signal yet.
        if not member.frozen and member.asked_to_end is None and await asyncio.to_thread(member.ready):
            member.asked_to_end = asyncio.get_running_loop().time()
            member.signal(signal.SIGTERM)

    async def _freeze_service(self) -> None:
        member = self._chance.choice(self._crew.services)
        if member.asked_to_end is None:
            member.freeze()
            await self._wait(0.3, 6)
            member.thaw()

    async def _arm(self) -> None:
        member = self._chance.choice([one for one in self._crew.members if one.points])
        assert member.failpoint
        point = self._chance.choice(member.points)
        member.failpoint.write_text(f"{point} {self._chance.randint(1, 5)}")

    async def _arm_reading(self) -> None:
        dispatchers = [one for one in self._crew.services if one.name.startswith("dispatcher")]
        failpoint = self._chance.choice(dispatchers).failpoint
        assert failpoint
        failpoint.write_text("read 1")

    async def _kill_worker(self) -> None:
        self._chance.choice(self._crew.workers).signal(signal.SIGKILL)

    async def _freeze_worker(self) -> None:
        """Often longer than three heartbeats: it comes back after its runs were given away."""
        member = self._chance.choice(self._crew.workers)
        member.freeze()
        await self._wait(0.5, 5)
        member.thaw()

    async def _replace_worker(self) -> None:
        await self._hands.replace(self._chance)

    async def _end_worker(self) -> None:
        """SIGTERM: it finishes what it has, or hands it back, and another takes its place."""
        gentle = [member for member in self._crew.workers if member.drains]
        member = self._chance.choice(gentle)
        if not member.frozen and member.asked_to_end is None and member.has_begun():
            member.asked_to_end = asyncio.get_running_loop().time()
            member.signal(signal.SIGTERM)

    async def _forge(self) -> None:
        await self._hands.forge(self._chance)

    async def _silence_worker(self) -> None:
        await self._hands.silence(self._chance)

    async def _say_late(self) -> None:
        if self._redis_is_hurt.locked():
            return
        async with self._redis_is_hurt:
            self.struck["late: words"] += await self._deliveries.late(self._chance.uniform(3, 6))

    async def _steal(self) -> None:
        member = self._chance.choice(self._crew.services)
        if not member.frozen and member.asked_to_end is None:
            self.struck["steal: entries"] += await self._deliveries.steal(member)

    # The network

    def _network(self, what: str) -> Proxy:
        name = self._chance.choice(list(self._proxies))
        self.struck[f"network: {name} {what}"] += 1
        return self._proxies[name]

    async def _cut(self) -> None:
        proxy = self._network("cut")
        proxy.cut()
        await self._wait(0.2, 4)
        proxy.heal()

    async def _freeze_network(self) -> None:
        proxy = self._network("frozen")
        proxy.freeze()
        await self._wait(0.5, 5)
        proxy.heal()

    # Redis

    async def _kill_redis(self) -> None:
        await self._away(self._server.kill)

    async def _rewind_redis(self) -> None:
        """It forgets its last moments for sure: what it has on disk is brought back to what it was a moment ago."""
        copy = self._server.directory.with_name("copy")
        about: Any = await self._client.info("persistence")
        if about["aof_rewrite_in_progress"]:
            return  # files come and go while it is copied
        async with self._redis_is_hurt:
            save(self._server, copy)
            await self._wait(0.1, 1)
            await self._go_away(lambda: kill_and_bring_back(self._server, copy), lossy=True)

    async def _restart_redis(self) -> None:
        """Asked to end it writes down everything."""
        async with self._redis_is_hurt:
            await self._go_away(self._server.stop, lossy=False)

    async def _away(self, end: Callable[[], None]) -> None:
        async with self._redis_is_hurt:
            appendfsync = self._server._options["appendfsync"]
            self.struck[f"killed: appendfsync {appendfsync}"] += 1
            await self._go_away(end, lossy=appendfsync != "always")

    async def _go_away(self, end: Callable[[], None], *, lossy: bool) -> None:
        since = now_ms()
        end()
        ended = now_ms()
        await self._wait(0.1, 3)
        self._server._options["appendfsync"] = self._chance.choice(["always", "everysec"])
        self._server.start()
        back = now_ms()
        forgotten, knows = await self._tail.after_outage(ended)
        self._recorder.write("outage", at=back, since=since, lossy=lossy, knows=knows)
        self.forgotten_events += forgotten

    async def _freeze_redis(self) -> None:
        async with self._redis_is_hurt:
            assert self._server.process
            self._server.process.send_signal(signal.SIGSTOP)
            await self._wait(0.3, 3)
            self._server.process.send_signal(signal.SIGCONT)

    async def _fill_redis(self) -> None:
        async with self._redis_is_hurt:
            about: Any = await self._client.info("memory")
            await self._client.config_set("maxmemory", str(int(about["used_memory"])))
            await self._wait(0.5, 3)
            while True:
                with contextlib.suppress(RedisError, OSError):
                    await self._client.config_set("maxmemory", "0")
                    return

    async def _forget_scripts(self) -> None:
        await self._client.script_flush()

    async def _kill_connections(self) -> None:
        await self._client.client_kill_filter(_type="normal", skipme=True)
