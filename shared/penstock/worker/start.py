"""Start a worker: what ``penstock worker start`` does."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING

import structlog

from penstock.bus.connection import check, connect
from penstock.bus.health import Health
from penstock.bus.logs import configure_logs
from penstock.worker.console import Console
from penstock.worker.healthcheck import Healthcheck
from penstock.worker.join import agreed_partitions, identify, join_pool
from penstock.worker.runtime import Options, Worker
from penstock.worker.types import load_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.worker.settings import WorkerSettings
    from penstock.worker.types import InstallPolicy


async def run_worker(
    settings: WorkerSettings,
    *,
    pool: str,
    name: str | None = None,
    worker_type: str | None = None,
    queues: Sequence[str] = (),
    limit: int | None = None,
    prefetch_seconds: float | None = None,
    run_once: bool = False,
    with_healthcheck: bool = False,
    install_policy: InstallPolicy = "prompt",
) -> int:
    """Join a pool and work until SIGTERM or SIGINT (twice: without waiting for running work).

    Args:
        settings: where Redis is, and the defaults of what is not given here.
        pool: name of the pool.
        name: of the worker, unique in its pool; generated when None.
        worker_type: None infers it from the pool; given, a missing pool is created with it.
        queues: names of the queues to serve; none means all. Missing ones are created.
        limit: runs at the same time, at least 1.
        prefetch_seconds: how long before its scheduled time a run's process may be started.
        run_once: take what is due now, execute it, end.
        with_healthcheck: serve ``/health``, ``/livez``, ``/readyz`` and ``/metrics``.
        install_policy: what to do when the type's package is missing.

    Returns:
        The exit code: 0, or 1 when states of runs could not be delivered.

    Raises:
        Refused: no such pool, wrong type, unknown type, bad name, or the name is taken over by another process.
        Unavailable: Redis does not answer, or (``run_once``) no service does.
        BadSettings: partitions disagree, or the health port is taken.
    """
    from penstock.client import Penstock  # noqa: PLC0415 - the SDK is needed only to join

    # Values given here obey the rules of the settings.
    settings = _with(settings, limit=limit, prefetch_seconds=prefetch_seconds)
    if not structlog.is_configured():
        configure_logs(settings, "worker")
    kind = load_type(worker_type, install_policy) if worker_type else None
    client = connect(settings.redis_url)
    console = Console()
    try:
        await check(client, settings.redis_url)
        partitions = await agreed_partitions(client, settings)
        penstock = Penstock(client, partitions)
        joined = await join_pool(penstock, pool, worker_type, queues, say=lambda line: console.say([line]))
        identity = identify(partitions, pool, name, joined, queues)
        options = Options(
            limit=settings.limit,
            heartbeat_seconds=settings.heartbeat_seconds,
            prefetch_seconds=settings.prefetch_seconds,
            drain_seconds=settings.drain_seconds,
            cancel_grace_seconds=settings.cancel_grace_seconds,
            log_bytes_per_run=settings.log_bytes_per_run,
            log_retention_seconds=settings.log_retention_seconds,
            run_once=run_once,
        )
        health = Health("worker")
        worker = Worker(
            client, identity, kind or load_type(joined, install_policy), options=options, health=health, console=console
        )
        server = Healthcheck(health, settings.health_host, settings.health_port) if with_healthcheck else None
        return await serve(worker, server)
    finally:
        await client.aclose()
        console.close()


async def serve(worker: Worker, healthcheck: Healthcheck | None = None) -> int:
    """Run a worker until a signal drains it; SIGTERM and SIGINT mean the same.

    Returns:
        The worker's exit code.
    """
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.drain)
    life = asyncio.create_task(worker.run())
    server = asyncio.create_task(healthcheck.run()) if healthcheck else None
    try:
        await asyncio.wait({life, *([server] if server else [])}, return_when=asyncio.FIRST_COMPLETED)
        if server and server.done():
            server.result()
        return await life
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        life.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await life
        if healthcheck and server:
            healthcheck.stop()
            await asyncio.gather(server, return_exceptions=True)


def _with(settings: WorkerSettings, **values: float | None) -> WorkerSettings:
    given = {name: value for name, value in values.items() if value is not None}
    known = {name: getattr(settings, name) for name in settings.model_fields_set - given.keys()}
    # By their variables' names, so that an error says which of them the option stands for.
    return type(settings).read(**known, **{f"PENSTOCK_WORKER_{name.upper()}": value for name, value in given.items()})
