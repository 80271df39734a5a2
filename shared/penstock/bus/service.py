"""Run one service: subscribers, reclaimers, its own loops, the watchdog and the health server, until SIGTERM.

Exit codes: 0 after a clean stop, 70 (EX_SOFTWARE) when a part failed for good, 78 (EX_CONFIG) for wrong settings. FastStream alone
would exit with 0 after losing its consumer group, and its ASGI flavour would stay up as a zombie.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvicorn
from redis.exceptions import RedisError, ResponseError

from penstock import keys
from penstock.bus.broker import consumer_name, create_broker, ensure_group, subscribe
from penstock.bus.connection import OUTAGES, agree_on_partitions, check, connect, redis_now_ms
from penstock.bus.delivery import deliver
from penstock.bus.health import Health, asgi
from penstock.bus.logs import configure_logs
from penstock.bus.reclaim import Reclaimer
from penstock.errors import BadSettings, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from penstock.bus.delivery import Subscription
    from penstock.bus.entries import Entry
    from penstock.settings import Settings

log = structlog.get_logger("penstock.service")

EX_SOFTWARE: Final = 70
EX_CONFIG: Final = 78
WATCH_SECONDS: Final = 1.0
TRIM_EVERY: Final = 5
FORGET_EVERY: Final = 60
STARTUP_PATIENCE_SECONDS: Final = 30.0

Loop = "Callable[[], Awaitable[None]]"


@dataclass
class Service:
    """What makes one service.

    Attributes:
        name: ``dispatcher``, also the name of its consumer group.
        subscriptions: what it reads.
        loops: named coroutines that run for ever beside the subscribers and call ``health.beat(name)``; each is restarted after
            an outage of Redis, any other exception ends the process.
        health: shared with the loops.
        setup: awaited once with the client, before anything is read.
    """

    name: str
    settings: Settings
    client: Redis
    health: Health
    subscriptions: Sequence[Subscription]
    loops: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    setup: Callable[[], Awaitable[None]] | None = None


class _Failed(Exception):
    """A part of the service failed for good."""


class Runner:
    """Runs a :class:`Service`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._client = service.client
        self._consumer = consumer_name(service.name)
        self._subscribers: list[tuple[Subscription, int, Any]] = []
        self._reclaimers: list[Reclaimer] = []
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal or a failure.

        Returns:
            The exit code.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        service = self._service
        try:
            await self._wait_for_redis()
            await agree_on_partitions(self._client, service.settings.partitions)
            if service.setup:
                await service.setup()
        except (Unavailable, BadSettings) as problem:
            log.error("cannot start", error=str(problem))  # noqa: TRY400 - the message says it all
            return EX_CONFIG if isinstance(problem, BadSettings) else EX_SOFTWARE
        broker = create_broker(service.settings)
        for subscription in service.subscriptions:
            for partition in range(service.settings.partitions):
                await ensure_group(self._client, subscription.stream, partition, subscription.group)
                subscriber = subscribe(
                    broker,
                    subscription.stream,
                    partition,
                    group=subscription.group,
                    consumer=self._consumer,
                    handle=self._handler(subscription),
                )
                self._subscribers.append((subscription, partition, subscriber))
                self._reclaimers.append(Reclaimer(self._client, subscription, partition, self._consumer))
        server = self._health_server()
        code = 0
        try:
            await broker.start()
            log.info("started", consumer=self._consumer, partitions=service.settings.partitions)
            await self._supervise(server)
        except _Failed as failure:
            log.critical("stopping: a part failed for good", error=str(failure))
            code = EX_SOFTWARE
        finally:
            service.health.stop()
            with contextlib.suppress(*OUTAGES, RedisError):
                await broker.stop()
            with contextlib.suppress(*OUTAGES, RedisError):
                await self._client.aclose()
            log.info("stopped", code=code)
        return code

    async def _wait_for_redis(self) -> None:
        """Give Redis time to come up beside us (compose, `penstock up`) before calling it an error."""
        end = asyncio.get_running_loop().time() + STARTUP_PATIENCE_SECONDS
        while True:
            try:
                return await check(self._client, self._service.settings.redis_url)
            except Unavailable:
                if asyncio.get_running_loop().time() > end or self._stop.is_set():
                    raise
                await asyncio.sleep(0.2)

    def _handler(self, subscription: Subscription) -> Callable[[Sequence[Entry]], Awaitable[None]]:
        async def handle(entries: Sequence[Entry]) -> None:
            try:
                await deliver(self._client, subscription, entries)
            except Exception as problem:
                # FastStream swallows it and leaves the batch pending; the reclaimer tries each entry alone.
                log.warning("batch failed", stream=subscription.stream.name, entries=len(entries), error=repr(problem))
                raise

        return handle

    async def _supervise(self, server: uvicorn.Server | None) -> None:
        tasks = {
            asyncio.create_task(self._forever(name, body), name=name) for name, body in self._service.loops.items()
        }
        tasks.add(asyncio.create_task(self._forever("watchdog", self._watch), name="watchdog"))
        tasks.add(asyncio.create_task(self._forever("reclaimer", self._reclaim), name="reclaimer"))
        if server:
            tasks.add(asyncio.create_task(self._serve(server), name="health server"))
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait({*tasks, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, stop):
                task.cancel()
            await asyncio.gather(*tasks, stop, return_exceptions=True)
        for task in done - {stop}:
            problem = task.exception()
            if problem:
                log.error("part failed", part=task.get_name(), error=repr(problem), exc_info=problem)
            raise _Failed(f"{task.get_name()}: {problem!r}")

    async def _forever(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await body()
            except OUTAGES as problem:
                log.warning("Redis does not answer, trying again", part=name, error=str(problem))
                await asyncio.sleep(0.5)

    async def _watch(self) -> None:
        """Every second: is each subscriber alive, does its group exist, how far behind is it?"""
        health = self._service.health
        while True:
            now_ms = await redis_now_ms(self._client)
            health.beat("redis", 5.0)
            for subscription, partition, subscriber in self._subscribers:
                await self._heal(subscription, partition, subscriber)
                await self._measure(subscription, partition, now_ms)
            health.beat("watchdog")
            await asyncio.sleep(WATCH_SECONDS)

    async def _heal(self, subscription: Subscription, partition: int, subscriber: Any) -> None:
        """Restart a subscriber that lost its group (FLUSHALL, restart without data)."""
        try:
            created = await ensure_group(self._client, subscription.stream, partition, subscription.group)
        except ResponseError as problem:
            raise _Failed(f"{subscription.stream.name}: {problem}") from problem
        if created:
            log.warning("consumer group was gone, created again", stream=subscription.stream.name, partition=partition)
        if not subscriber.running or all(task.done() for task in subscriber.tasks):
            log.warning("subscriber had stopped, starting it again", stream=subscription.stream.name, partition=partition)
            await subscriber.stop()
            await subscriber.start()
            if self._service.setup:
                await self._service.setup()

    async def _measure(self, subscription: Subscription, partition: int, now_ms: int) -> None:
        name = keys.key(partition, subscription.stream.name)
        label = f"{subscription.stream.name}/{partition}"
        health = self._service.health
        for about in await self._client.xinfo_consumers(name, subscription.group):
            # The server's own view of when this consumer last asked: the one proof of progress that cannot lie.
            if about["name"] == self._consumer.encode() and about["idle"] < 10_000:  # noqa: PLR2004 - five blocking reads
                health.beat(f"subscriber {label}", 15.0)
        for about in await self._client.xinfo_groups(name):
            if about["name"] == subscription.group.encode():
                after = about["last-delivered-id"].decode()
                unread: Any = await self._client.xrange(name, f"({after}", "+", count=1)
                oldest = int(unread[0][0].split(b"-")[0]) if unread else now_ms
                health.behind(label, max(0.0, (now_ms - oldest) / 1000))

    async def _reclaim(self) -> None:
        turn = 0
        while True:
            for reclaimer in self._reclaimers:
                try:
                    await reclaimer.reclaim()
                    if turn % TRIM_EVERY == 0:
                        await reclaimer.trim()
                    if turn % FORGET_EVERY == 0:
                        await reclaimer.forget_consumers()
                except ResponseError as problem:
                    # NOGROUP while the watchdog is creating it again; anything else the watchdog sees too.
                    log.warning("reclaim", error=str(problem))
            self._service.health.beat("reclaimer")
            turn += 1
            await asyncio.sleep(WATCH_SECONDS)

    def _health_server(self) -> uvicorn.Server | None:
        settings = self._service.settings
        if settings.health_port < 0:
            return None
        config = uvicorn.Config(
            asgi(self._service.health),
            host=settings.health_host,
            port=settings.health_port,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        return uvicorn.Server(config)

    async def _serve(self, server: uvicorn.Server) -> None:
        # uvicorn would install its own signal handlers and re-raise the signal at the end.
        server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
        try:
            await server.serve()
        except SystemExit as problem:
            settings = self._service.settings
            raise _Failed(f"cannot serve health on {settings.health_host}:{settings.health_port}") from problem


def main(name: str, settings_class: type[Settings], build: Callable[[Any, Redis, Health], Service]) -> None:
    """Entry point of every service's ``__main__``; does not return.

    Args:
        name: of the service.
        settings_class: read from the environment.
        build: makes the service from its settings, a client and its health.
    """
    import uvloop  # noqa: PLC0415 - only processes that run a loop pay for it

    try:
        settings = settings_class.read()
    except BadSettings as problem:
        print(f"{name}: {problem}", file=sys.stderr)  # noqa: T201 - logging is not configured yet
        sys.exit(EX_CONFIG)
    configure_logs(settings, name)

    async def run() -> int:
        client = connect(settings.redis_url)
        return await Runner(build(settings, client, Health(name))).run()

    sys.exit(uvloop.run(run()))
