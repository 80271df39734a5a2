"""A client of a Redis Cluster with the face of a single Redis's, as far as Penstock uses it.

Every command, script and transaction of Penstock stays in one partition, so in one slot; a pipeline without a transaction may go
through several, and redis-py sends each node its part.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final, cast

from redis.asyncio.cluster import ClusterPipeline, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SCHEMES: Final = {"redis+cluster://": "redis://", "rediss+cluster://": "rediss://"}
SCHEMES: Final = tuple(_SCHEMES)
_OF_CONNECTIONS: Final = ("redis_connect_func",)
AGAIN_SECONDS: Final = 0.25
_CLOSED: Final = ("the handler is closed", "'NoneType' object has no attribute 'writelines'")


def is_cluster(url: str) -> bool:
    """Say whether a URL names a cluster."""
    return url.startswith(SCHEMES)


def node_url(url: str) -> str:
    """The URL of the node by which a cluster is found; of any other URL, itself."""
    for scheme, of_node in _SCHEMES.items():
        if url.startswith(scheme):
            return of_node + url.removeprefix(scheme)
    return url


class ClusterClient(RedisCluster):
    """Reaches every partition wherever it is; made by :meth:`of`."""

    origin: tuple[str, dict[str, Any]]

    @classmethod
    def of(cls, url: str, **options: Any) -> ClusterClient:
        """Make a client.

        Args:
            url: of one node, which names the others.
            **options: of redis-py's clients, of a cluster or of a single Redis.
        """
        taken = {name: value for name, value in options.items() if name not in _OF_CONNECTIONS}
        made = cast("ClusterClient", cls.from_url(node_url(url), **taken))
        made.remember(url, options)
        return made

    def remember(self, url: str, options: dict[str, Any]) -> None:
        """Take over what it was made with, and what its constructor does not take."""
        self.origin = (url, options)
        of_connections = {name: options[name] for name in _OF_CONNECTIONS if name in options}
        self.nodes_manager.connection_kwargs.update(of_connections)
        for node in self.nodes_manager.startup_nodes.values():
            node.connection_kwargs.update(of_connections)

    def beside(self) -> ClusterClient:
        """Make another client of the same cluster."""
        url, options = self.origin
        return ClusterClient.of(url, **options)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Send a command."""
        with _outages():
            return await super().execute_command(*args, **kwargs)

    async def send_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands in one round trip to each node: :func:`penstock.bus.roundtrip.send_all`.

        A pipeline that is to hand out refusals as answers does so with lost connections, too, and tries none of them again; all are
        sent again here, as often as the client tries.
        """
        failures = 0
        while True:
            pipe = self.pipeline(transaction=False)
            for words in commands:
                pipe.execute_command(*words)
            try:
                answers = await pipe.execute(raise_on_error=False)
                lost = next((one for one in answers if isinstance(one, self.ERRORS_ALLOW_RETRY)), None)
            except RedisConnectionError as problem:
                lost = problem
            if lost is None:
                return answers
            failures += 1
            if failures > self.retry.get_retries():
                with _outages():
                    raise lost
            # Makes it look anew who serves what.
            await self.aclose()
            await asyncio.sleep(AGAIN_SECONDS * failures)

    def pipeline(self, transaction: bool | None = None, shard_hint: Any = None) -> ClusterPipeline:
        """Make a pipeline; with a transaction, of one partition."""
        del shard_hint
        return _Pipeline(self, transaction)  # type: ignore[abstract] # redis-py does the same with its own class


class _Pipeline(ClusterPipeline):
    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        with _outages():
            return await super().execute(raise_on_error, allow_redirections)


@contextlib.contextmanager
def _outages() -> Iterator[None]:
    """Call by the name of other outages what redis-py says of a cluster alone.

    No node can be reached, or nobody serves a slot. And what comes of a connection that another task, which has seen its node lost,
    closes while this one uses it: uvloop's word for it, or an attribute of a writer that is not there any more.
    """
    try:
        yield
    except RedisClusterException as problem:
        raise RedisConnectionError(str(problem)) from problem
    except (RuntimeError, AttributeError) as problem:
        if not any(sign in str(problem) for sign in _CLOSED):
            raise
        raise RedisConnectionError(str(problem)) from problem
