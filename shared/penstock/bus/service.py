"""Run one service: subscribers, reclaimers, its own loops, the watchdog and the health server, until SIGTERM.

Exit codes: 0 after a clean stop, 70 (EX_SOFTWARE) when a part failed for good, 78 (EX_CONFIG) for wrong settings; a second signal
kills the process as if it had not been handled. FastStream alone would exit with 0 after losing its consumer group, and its ASGI
flavour would stay up as a zombie.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
from redis.exceptions import RedisError, ResponseError

from penstock import keys
from penstock.bus.broker import consumer_name, create_broker, ensure_group, subscribe
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import OUTAGES, agree_on_partitions, check, connect, is_outage
from penstock.bus.delivery import deliver, deliver_each
from penstock.bus.health import Health, HealthServer
from penstock.bus.logs import configure_logs
from penstock.bus.reclaim import Reclaimer
from penstock.bus.watchdog import Broken, Watchdog, Watched
from penstock.errors import BadSettings, Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from faststream.redis import RedisBroker
    from redis.asyncio import Redis

    from penstock.bus.entries import Entry
    from penstock.bus.routing import Subscription
    from penstock.settings import Settings

log = structlog.get_logger("penstock.service")

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
EX_SOFTWARE: Final = 70
EX_CONFIG: Final = 78
RECLAIM_SECONDS: Final = 1.0
RECLAIMER_SILENCE_SECONDS: Final = 30.0
"""Far above what one stream of one partition may take: :data:`penstock.bus.reclaim.TURN_SECONDS` and one more delivery."""
TRIM_EVERY: Final = 5
FORGET_EVERY: Final = 60
STARTUP_PATIENCE_SECONDS: Final = 30.0
AFTER_OUTAGE_SECONDS: Final = 0.5
AFTER_REFUSAL_SECONDS: Final = 1.0
"""Pause after Redis refused a batch (out of memory, read only): the backlog must not all end up pending meanwhile."""


@dataclass
class Service:
    """What makes one service.

    Attributes:
        name: ``dispatcher``, also the name of its consumer group.
        subscriptions: what it reads.
        loops: named coroutines that run for ever beside the subscribers and call ``health.beat(name)``; each is restarted after
            an outage of Redis, any other exception ends the process, and so does returning.
        health: shared with the loops.
        setup: awaited before anything is read, and again after Redis lost its data; must be idempotent.
    """

    name: str
    settings: Settings
    client: Redis
    health: Health
    subscriptions: Sequence[Subscription]
    loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = field(default_factory=dict)
    setup: Callable[[], Awaitable[None]] | None = None


class Runner:
    """Runs a :class:`Service`."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._client = service.client
        self._health = service.health
        self._consumer = consumer_name(service.name)
        self._watchdog = Watchdog(self._client, self._health, self._prepare)
        self._reclaimers: list[Reclaimer] = []
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Run until a signal or a failure.

        Returns:
            The exit code.
        """
        self._listen_for_signals()
        server = HealthServer(self._health, self._service.settings)
        code = 0
        try:
            # Served first, so that a service that still waits for Redis says so.
            await server.start()
            if await self._wait_for_redis():
                await self._serve(server)
        except BadSettings as problem:
            log.error("cannot start", error=str(problem))  # noqa: TRY400 - the message says it all
            code = EX_CONFIG
        except (Unavailable, Broken, *OUTAGES, RedisError) as problem:
            log.critical("stopping: a part failed for good", error=_spelled(problem))
            code = EX_SOFTWARE
        finally:
            self._health.stop()
            await server.stop()
            with contextlib.suppress(*OUTAGES, RedisError):
                await self._client.aclose()
            log.info("stopped", code=code)
        return code

    def _listen_for_signals(self) -> None:
        """Stop in order at the first signal; the next one ends the process whatever it does: what is in hand stays pending."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self._stop.set()
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_DFL)

        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, stop)

    async def _wait_for_redis(self) -> bool:
        """Give Redis time to come up beside us (compose, `penstock up`) before calling it an error.

        Returns:
            False when a signal came first.
        """
        end = time.monotonic() + STARTUP_PATIENCE_SECONDS
        while not self._stop.is_set():
            try:
                await check(self._client, self._service.settings.redis_url)
                await self._prepare()
                await self._create_groups()
            except Exception as problem:
                if time.monotonic() > end or not (isinstance(problem, Unavailable) or is_outage(problem)):
                    raise
                log.warning("waiting for Redis", error=str(problem))
                await asyncio.sleep(AFTER_OUTAGE_SECONDS)
            else:
                return True
        return False

    async def _prepare(self) -> None:
        """Bring an empty Redis into shape; changes nothing on one that is."""
        await agree_on_partitions(self._client, self._service.settings.partitions)
        if self._service.setup:
            await self._service.setup()

    async def _serve(self, server: HealthServer) -> None:
        broker = create_broker(self._service.settings)
        for subscription in self._service.subscriptions:
            for partition in range(self._service.settings.partitions):
                self._subscribe(broker, subscription, partition)
        try:
            await self._start(broker)
            log.info("started", consumer=self._consumer, partitions=self._service.settings.partitions)
            await self._supervise(server)
        finally:
            # Not ready any more, nothing new is read, what is in hand is finished and acknowledged.
            self._health.stop()
            with contextlib.suppress(*OUTAGES, RedisError):
                await broker.stop()
                for reclaimer in self._reclaimers:
                    await reclaimer.finish()

    async def _create_groups(self) -> None:
        """Make sure that the groups exist before anything is read.

        Raises:
            Broken: a stream's key is not a stream, or Redis forbids it.
        """
        for subscription in self._service.subscriptions:
            for partition in range(self._service.settings.partitions):
                try:
                    await ensure_group(self._client, subscription.stream, partition, subscription.group)
                except ResponseError as problem:
                    if is_outage(problem):
                        raise
                    raise Broken(f"{keys.key(partition, subscription.stream.name)}: {problem}") from problem

    async def _start(self, broker: RedisBroker) -> None:
        """Begin to read; subscribers that Redis does not answer or refuses now are started by the watchdog."""
        try:
            await broker.start()
        except Exception as problem:
            if not is_outage(problem):
                raise
            log.warning("Redis does not answer or refuses, trying again", error=_spelled(problem))

    def _subscribe(self, broker: RedisBroker, subscription: Subscription, partition: int) -> None:
        watched = Watched(subscription, partition)
        reclaimer = Reclaimer(self._client, subscription, partition, self._consumer)
        watched.subscriber = subscribe(
            broker,
            subscription.stream,
            partition,
            group=subscription.group,
            consumer=self._consumer,
            handle=self._handler(watched),
            on_read=watched.count_read,
            catch_up=partial(self._catch_up, watched, reclaimer) if subscription.ordered else None,
        )
        self._watchdog.watched.append(watched)
        self._reclaimers.append(reclaimer)

    def _handler(self, watched: Watched) -> Callable[[Sequence[Entry]], Awaitable[None]]:
        async def handle(entries: Sequence[Entry]) -> None:
            watched.busy_since = time.monotonic()
            try:
                await self._deliver(watched.subscription, entries)
            finally:
                watched.busy_since = None

        return handle

    async def _catch_up(
        self, watched: Watched, reclaimer: Reclaimer, before: str, going_on: Callable[[], bool]
    ) -> bool:
        """Handle what came before an entry; the watchdog sees each of them in hand."""

        def busy() -> bool:
            watched.busy_since = time.monotonic()
            return going_on()

        try:
            return await reclaimer.catch_up(before, busy)
        finally:
            watched.busy_since = None

    async def _deliver(self, subscription: Subscription, entries: Sequence[Entry]) -> None:
        """Deliver a batch; what raises stays pending for the reclaimer (``broker`` swallows the exception)."""
        try:
            await deliver(self._client, subscription, entries)
        except Exception as problem:
            log.warning("batch failed", stream=subscription.stream.name, entries=len(entries), error=_spelled(problem))
            if isinstance(problem, OUTAGES):
                raise
            if isinstance(problem, RedisError):
                await asyncio.sleep(AFTER_REFUSAL_SECONDS)
                raise
            if len(entries) == 1 or await deliver_each(self._client, subscription, entries):
                raise

    async def _supervise(self, server: HealthServer) -> None:
        bodies = {**self._service.loops, "watchdog": self._watchdog.run, "reclaimer": self._reclaim}
        tasks = {asyncio.create_task(self._forever(name, body), name=name) for name, body in bodies.items()}
        tasks.add(asyncio.create_task(server.watch(), name="health server"))
        stop = asyncio.create_task(self._stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait({*tasks, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks((*tasks, stop))
        for task in done - {stop}:
            problem = task.exception()
            if isinstance(problem, BadSettings):
                raise problem
            log.error("part failed", part=task.get_name(), error=_spelled(problem), exc_info=problem)
            raise Broken(f"{task.get_name()}: {_spelled(problem)}")

    async def _forever(self, name: str, body: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await body()
            except Exception as problem:
                if not is_outage(problem):
                    raise
                log.warning("Redis does not answer or refuses, trying again", part=name, error=str(problem))
                self._health.outage()
                await asyncio.sleep(AFTER_OUTAGE_SECONDS)
            else:
                raise Broken(f"{name} returned; a loop runs until it is cancelled")

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
                self._health.beat("reclaimer", RECLAIMER_SILENCE_SECONDS)
            turn += 1
            await asyncio.sleep(RECLAIM_SECONDS)


def _spelled(problem: BaseException | None) -> str:
    """Name an exception and say what it says: that of redis-py keeps its text to itself when it is shown as a value."""
    return f"{type(problem).__name__}: {problem}"


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
        try:
            client = connect(settings.redis_url)
        except BadSettings as problem:
            log.error("cannot start", error=str(problem))  # noqa: TRY400 - the message says it all
            return EX_CONFIG
        runner = Runner(build(settings, client, Health(name)))
        # What is there by now stays as long as the process: the collector need not go through it in the middle of a batch.
        gc.collect()
        gc.freeze()
        return await runner.run()

    sys.exit(uvloop.run(run()))
