"""A real Redis Cluster of masters on this machine."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

import redis

from penstock.cli.embedded_redis import EmbeddedRedis, free_port, port_is_free

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

SLOTS: Final = 16_384
BUS_OFFSET: Final = 10_000
"""Nodes talk to each other on a port so much higher."""
PATIENCE_SECONDS: Final = 30.0


class LocalCluster:
    """Servers as child processes, each master of its share of the slots.

    Args:
        directory: where their data and logs live.
        masters: how many.
        server: path of the executable; '' means the one that is found.
        durable: they keep what they have over a restart.
    """

    def __init__(self, directory: Path, masters: int = 3, server: str = "", *, durable: bool = False) -> None:
        options = {"cluster-enabled": "yes", "cluster-config-file": "nodes.conf"}
        self.nodes = [
            EmbeddedRedis(directory / str(number), port=_port(), durable=durable, options=options, server=server)
            for number in range(masters)
        ]
        self._running = ExitStack()

    @property
    def url(self) -> str:
        """Where clients find it: by any of its nodes."""
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def __enter__(self) -> Self:
        for node in self.nodes:
            self._running.enter_context(node)
        clients = [self._running.enter_context(redis.Redis(port=node.port)) for node in self.nodes]
        share = -(-SLOTS // len(clients))
        for number, client in enumerate(clients):
            client.cluster("ADDSLOTS", *range(number * share, min(SLOTS, (number + 1) * share)))
            clients[0].cluster("MEET", "127.0.0.1", self.nodes[number].port)
        end = time.monotonic() + PATIENCE_SECONDS
        while not all(self._sees_all(client) for client in clients):
            if time.monotonic() > end:
                raise TimeoutError("the nodes of the cluster do not find each other")
            clients[0].ping()
        return self

    def _sees_all(self, client: redis.Redis) -> bool:
        about = client.cluster("INFO")
        return about["cluster_state"] == "ok" and int(about["cluster_size"]) == len(self.nodes)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()


def _port() -> int:
    """A free port whose other one is free, too."""
    while True:
        port = free_port()
        if port + BUS_OFFSET < 65_536 and port_is_free(port + BUS_OFFSET):
            return port
