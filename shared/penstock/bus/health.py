"""Health that tells the truth: live = every subscriber and loop made progress; ready = Redis answers, groups exist, lag is sane.

A ping proves nothing: FastStream's subscriber can be gone for good while the process still answers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BEHIND = Gauge("penstock_stream_behind_seconds", "Age of the oldest entry not yet read", ["stream"])
MAX_BEHIND_SECONDS: Final = 30.0


class Health:
    """What one process knows of itself.

    Args:
        service: its name, for the report.
    """

    def __init__(self, service: str) -> None:
        self.service = service
        self._beats: dict[str, tuple[float, float]] = {}
        self._behind: dict[str, float] = {}
        self._stopping = False

    def beat(self, loop: str, max_silence_seconds: float = 10.0) -> None:
        """Record that a loop made progress; without another beat within ``max_silence_seconds`` the process is not live."""
        self._beats[loop] = (time.monotonic(), max_silence_seconds)

    def behind(self, stream: str, seconds: float) -> None:
        """Record how old the oldest unread entry of a stream is."""
        self._behind[stream] = seconds
        BEHIND.labels(stream).set(seconds)

    def stop(self) -> None:
        """From now on the process is live but not ready."""
        self._stopping = True

    def live(self) -> list[str]:
        """Say what made no progress; empty means live."""
        now = time.monotonic()
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
        if now - at > silence:
            reasons.append("Redis does not answer" if at > float("-inf") else "not connected to Redis yet")
        reasons += [
            f"{stream}: the oldest unread entry is {seconds:.0f} s old"
            for stream, seconds in sorted(self._behind.items())
            if seconds > MAX_BEHIND_SECONDS
        ]
        return [*reasons, "stopping"] if self._stopping else reasons

    def report(self, reasons: list[str]) -> bytes:
        """Spell a verdict as JSON."""
        return orjson.dumps({"service": self.service, "ok": not reasons, "reasons": reasons})


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
