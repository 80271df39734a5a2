"""The health server of ``--with-healthcheck``: ``/health`` beside ``/livez``, ``/readyz`` and ``/metrics``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import uvicorn

from penstock.bus.health import asgi
from penstock.errors import BadSettings

if TYPE_CHECKING:
    from penstock.bus.health import Health


class Healthcheck:
    """Serves a worker's health over HTTP.

    Args:
        health: what is served. ``/health`` is ``/livez``: an outage of Redis is no reason to restart a worker with
            running work.
        host: address to listen on.
        port: 0 picks a free one.
    """

    def __init__(self, health: Health, host: str, port: int) -> None:
        serve = asgi(health)

        async def with_health(scope: Any, receive: Any, send: Any) -> None:
            await serve({**scope, "path": "/livez"} if scope.get("path") == "/health" else scope, receive, send)

        self._where = f"{host}:{port}"
        self._server = uvicorn.Server(
            uvicorn.Config(
                with_health,
                host=host,
                port=port,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
            )
        )
        # uvicorn would take over the signals that drain the worker.
        self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]

    async def run(self) -> None:
        """Serve until :meth:`stop`.

        Raises:
            BadSettings: the port is taken.
        """
        try:
            await self._server.serve()
        except SystemExit as problem:
            raise BadSettings(
                f"cannot serve the health check on {self._where}; set PENSTOCK_WORKER_HEALTH_PORT"
            ) from problem

    def stop(self) -> None:
        """Let :meth:`run` return."""
        self._server.should_exit = True
