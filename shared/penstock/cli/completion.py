"""Names offered by the shell's completion: read from Redis within a moment, or none; a prompt must never hang or complain."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import typer  # noqa: TC002 - typer reads the annotations

from penstock.cli.parsing import choose_pool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock.client import Penstock

PATIENCE_SECONDS: Final = 0.5
"""Longer, and a person takes the Tab key for broken."""


def pool_names(incomplete: str) -> list[str]:
    """Names of work pools that begin as typed."""

    async def read(penstock: Penstock) -> list[str]:
        return [pool.name for pool in await penstock.read_pools()]

    return _offer(read, incomplete)


def queue_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the work queues of the pool typed so far, or of the default one."""

    async def read(penstock: Penstock) -> list[str]:
        return [queue.name for queue in await penstock.read_queues(await _pool(penstock, ctx))]

    return _offer(read, incomplete)


def worker_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the workers of the pool typed so far, or of the default one."""

    async def read(penstock: Penstock) -> list[str]:
        return [worker.name for worker in await penstock.read_workers(await _pool(penstock, ctx))]

    return _offer(read, incomplete)


def deployment_names(incomplete: str) -> list[str]:
    """Names of deployments that begin as typed."""

    async def read(penstock: Penstock) -> list[str]:
        return [deployment.name for deployment in await penstock.read_deployments()]

    return _offer(read, incomplete)


def schedule_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Slugs of the schedules of the deployment typed so far, ids of those without one."""

    async def read(penstock: Penstock) -> list[str]:
        deployment = await penstock.read_deployment(ctx.params["name"])
        return [schedule.slug or schedule.id for schedule in deployment.schedules]

    return _offer(read, incomplete)


async def _pool(penstock: Penstock, ctx: typer.Context) -> str:
    from penstock.client.local_state import read_settings  # noqa: PLC0415 - only where names are asked for
    from penstock.settings import Settings  # noqa: PLC0415 - the same

    existing = [pool.name for pool in await penstock.read_pools()]
    return choose_pool(ctx.params.get("pool"), read_settings(Settings).default_pool, existing)


def _offer(read: Callable[[Penstock], Awaitable[list[str]]], incomplete: str) -> list[str]:
    async def ask() -> list[str]:
        from penstock.client import Penstock  # noqa: PLC0415 - only where names are asked for

        async with asyncio.timeout(PATIENCE_SECONDS), Penstock.connect() as penstock:
            return await read(penstock)

    names: list[str] = []
    with contextlib.suppress(Exception):
        names = asyncio.run(ask())
    return [name for name in names if name.startswith(incomplete)]
