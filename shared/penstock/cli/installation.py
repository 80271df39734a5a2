"""One whole Penstock on one machine, for ``up`` and ``demo``: Redis, services, workers, each a supervised process."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from penstock.bus.connection import check, connect
from penstock.cli.embedded_redis import EmbeddedRedis
from penstock.cli.probe import redis_reasons
from penstock.cli.supervisor import Child, Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REDIS: Final = "redis"
SERVICES: Final = ("pool-registry", "heartbeat-monitor", "dispatcher", "scheduler")
"""The services, as compose.yaml names them; module ``services.pool_registry`` and so on."""
WORKER_STOP_SECONDS: Final = 90.0
"""A draining worker lets its runs finish; a second Ctrl-C does not wait for them."""
REDIS_STOP_SECONDS: Final = 15.0


class Installation:
    """A Redis, services and workers.

    Args:
        directory: where the embedded Redis keeps its data.
        say: gets every line a process writes, with the process's name.
        redis_url: a Redis that runs already; None starts an embedded one.
        port: of the embedded Redis; 0 picks a free one.
        dispatchers: how many of them.
        env: variables for every process.
        changed: called when a process was started.
    """

    def __init__(
        self,
        directory: Path,
        say: Callable[[str, str], None],
        *,
        redis_url: str | None = None,
        port: int = 0,
        dispatchers: int = 1,
        env: dict[str, str] | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.supervisor = Supervisor(say, changed)
        self._redis = None if redis_url else EmbeddedRedis(directory / "redis", port=port)
        self.redis_url = redis_url or (self._redis.url if self._redis else "")
        self._dispatchers = dispatchers
        # A person reads these lines; whoever wants JSON says so.
        text = {} if "PENSTOCK_LOG_FORMAT" in os.environ else {"PENSTOCK_LOG_FORMAT": "text"}
        self._env = {"PENSTOCK_REDIS_URL": self.redis_url, "PYTHONUNBUFFERED": "1", **text, **(env or {})}

    async def start_services(self) -> None:
        """Start Redis, then the services; all are ready afterwards.

        Raises:
            Unavailable: something did not come up; the message says what and why.
        """
        if self._redis:
            port = self._redis.port
            await self.supervisor.start(
                Child(REDIS, self._redis.command(), probe=lambda: redis_reasons(port), stop_seconds=REDIS_STOP_SECONDS),
            )
        else:
            client = connect(self.redis_url)
            try:
                await check(client, self.redis_url)
            finally:
                await client.aclose()
        names = [name for name in SERVICES for _ in range(self._dispatchers if name == "dispatcher" else 1)]
        await self.supervisor.start(
            *(
                Child(
                    _numbered(name, names[:index].count(name)),
                    python_module(f"services.{name.replace('-', '_')}"),
                    env=self._env,
                )
                for index, name in enumerate(names)
            ),
        )

    async def start_workers(self, pool: str, count: int = 1, *, limit: int | None = None) -> None:
        """Start process workers on a pool, which is created when it is missing; all are ready afterwards.

        Their names stay the same from start to start: a new life takes over from the old one at once.
        """
        options = ["--type", "process", "--with-healthcheck"] + (["--limit", str(limit)] if limit else [])
        await self.supervisor.start(
            *(
                Child(
                    name := _numbered("worker", index),
                    [
                        *python_module("penstock"),
                        "worker",
                        "start",
                        "--pool",
                        pool,
                        "--name",
                        f"local-{name}",
                        *options,
                    ],
                    env=self._env,
                    stop_seconds=WORKER_STOP_SECONDS,
                )
                for index in range(count)
            ),
        )

    def state(self) -> dict[str, Any]:
        """Describe it for the state file."""
        services: dict[str, dict[str, Any]] = {
            child.name: {"pid": child.pid, "health_url": child.health_url} for child in self.supervisor.children
        }
        if self._redis and REDIS in services:
            services[REDIS]["port"] = self._redis.port
        return {"redis_url": self.redis_url, "services": services}


def python_module(module: str) -> list[str]:
    """Say how to run a module of ours; ``-P`` keeps a folder ``services`` of the current directory from hiding ours."""
    return [sys.executable, "-P", "-m", module]


def _numbered(name: str, index: int) -> str:
    return f"{name}-{index + 1}" if index else name
