"""Health that tells the truth: live = every subscriber and loop made progress; ready = Redis answers, groups exist, lag is sane.

A ping proves nothing: FastStream's subscriber can be gone for good while the process still answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

import orjson
import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from penstock.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock.settings import Settings

log = structlog.get_logger("penstock.bus")

BEHIND = Gauge("penstock_stream_behind_seconds", "Age of the oldest entry not yet read", ["stream"])
MAX_BEHIND_SECONDS: Final = 30.0
OUTAGE_EXCUSE_SECONDS: Final = 30.0
"""Loops are not blamed for standing still this long after Redis was last found missing: restarting them would not bring it back."""


class Health:
    """What one process knows of itself.

    Args:
        service: its name, for the report.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self._beats: dict[str, tuple[float, float]] = {}
        self._behind: dict[str, float] = {}
        self._outage_at = float("-inf")
        self._stopping = False
        self._information: dict[str, int] = {}

    def beat(self, loop: str, max_silence_seconds: float = 10.0) -> None:
        """Record that a loop made progress; without another beat within ``max_silence_seconds`` the process is not live."""
        self._beats[loop] = (time.monotonic(), max_silence_seconds)

    def outage(self) -> None:
        """Record that Redis did not answer just now."""
        self._outage_at = time.monotonic()

    def behind(self, stream: str, seconds: float) -> None:
        """Record how old the oldest unread entry of a stream is."""
        self._behind[stream] = seconds
        BEHIND.labels(stream).set(seconds)

    def inform(self, name: str, number: int) -> None:
        """Report a number that operators should see, whatever it is; it never makes the process not ready."""
        self._information[name] = number

    def stop(self) -> None:
        """From now on the process is live but not ready."""
        self._stopping = True

    def live(self) -> list[str]:
        """Say what made no progress; empty means live."""
        now = time.monotonic()
        if now - self._outage_at < OUTAGE_EXCUSE_SECONDS:
            return []
        return [
            f"{loop} made no progress for {now - at:.1f} s"
            for loop, (at, silence) in sorted(self._beats.items())
            if now - at > silence and loop != "redis"
        ]

    def ready(self) -> list[str]:
        """Say why the process should get no work; empty means ready."""
        reasons = self.live()
        now = time.monotonic()
        at, silence = self._beats.get("redis", (float("-inf"), 0.0))
        if now - at > silence or self._outage_at > at:
            reasons.append("Redis does not answer" if at > float("-inf") else "not connected to Redis yet")
        reasons += [
            f"{stream}: the oldest unread entry is {seconds:.0f} s old"
            for stream, seconds in sorted(self._behind.items())
            if seconds > MAX_BEHIND_SECONDS
        ]
        return [*reasons, "stopping"] if self._stopping else reasons

    def report(self, reasons: list[str]) -> bytes:
        """Spell a verdict as JSON."""
        return orjson.dumps({"service": self.service, "ok": not reasons, "reasons": reasons, **self._information})


def asgi(health: Health) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Make the ASGI application: ``/livez``, ``/readyz``, ``/metrics``; exact paths only."""

    async def serve(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status, content_type, body = 200, b"application/json", b""
        match scope["path"]:
            case "/livez":
                reasons = health.live()
                status, body = (503 if reasons else 200), health.report(reasons)
            case "/readyz":
                reasons = health.ready()
                status, body = (503 if reasons else 200), health.report(reasons)
            case "/metrics":
                content_type, body = CONTENT_TYPE_LATEST.encode(), generate_latest()
            case path:
                status, body = 404, orjson.dumps({"error": f"no such path: {path}; try /livez, /readyz or /metrics"})
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", content_type)]})
        await send({"type": "http.response.body", "body": body})

    return serve


class HealthServer:
    """Serves :func:`asgi` beside the service.

    Args:
        health: what to report.
        settings: where to serve it; a negative port serves nothing.
    """

    def __init__(self, health: Health, settings: Settings) -> None:
        self._where = f"{settings.health_host}:{settings.health_port}"
        self._task: asyncio.Task[None] | None = None
        self._server: uvicorn.Server | None = None
        if settings.health_port >= 0:
            config = uvicorn.Config(
                asgi(health),
                host=settings.health_host,
                port=settings.health_port,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
            )
            self._server = uvicorn.Server(config)
            # uvicorn would install its own signal handlers and raise the signal again at the end.
            self._server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]

    async def start(self) -> None:
        """Bind the port.

        Raises:
            Unavailable: it cannot be bound.
        """
        if not self._server:
            return
        self._task = asyncio.create_task(self._run(self._server))
        while not self._server.started:
            await asyncio.wait({self._task}, timeout=0.01)
            if self._task.done():
                await self._task
        for listener in self._server.servers:
            for bound in listener.sockets:
                log.info("serving health", address="{}:{}".format(*bound.getsockname()[:2]))

    async def watch(self) -> None:
        """Return, or raise, when the server ends by itself; wait for ever when there is none."""
        await (asyncio.shield(self._task) if self._task else asyncio.Event().wait())

    async def stop(self) -> None:
        """Answer what is asked now, then close the port."""
        if self._server and self._task:
            self._server.should_exit = True
            with contextlib.suppress(Unavailable):
                await self._task

    async def _run(self, server: uvicorn.Server) -> None:
        try:
            await server.serve()
        except SystemExit as problem:
            raise Unavailable(
                f"cannot serve health on {self._where}; is the port taken? Set PENSTOCK_HEALTH_PORT"
            ) from problem
