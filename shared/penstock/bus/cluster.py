"""A client of a Redis Cluster with the face of a single Redis's, as far as Penstock uses it.

Every command, script and transaction of Penstock stays in one partition, so in one slot; a pipeline without a transaction may go
through several, and redis-py sends each node its part.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, cast

from redis.asyncio.cluster import ClusterPipeline, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCHEMES: Final = {"redis+cluster://": "redis://", "rediss+cluster://": "rediss://"}
SCHEMES: Final = tuple(_SCHEMES)
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
        of_connections = {name: value for name, value in options.items() if name == "redis_connect_func"}
        taken = {name: value for name, value in options.items() if name not in of_connections}
        made = cast("ClusterClient", cls.from_url(node_url(url), **taken))
        made.origin = (url, options)
        # Its constructor does not take it.
        made.nodes_manager.connection_kwargs.update(of_connections)
        for node in made.nodes_manager.startup_nodes.values():
            node.connection_kwargs.update(of_connections)
        return made

    def beside(self) -> ClusterClient:
        """Make another client of the same cluster."""
        url, options = self.origin
        return ClusterClient.of(url, **options)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Send a command."""
        with _outages():
            return await super().execute_command(*args, **kwargs)

    def pipeline(self, transaction: bool | None = None, shard_hint: Any = None) -> ClusterPipeline:
        """Make a pipeline; with a transaction, of one partition."""
        del shard_hint
        return _Pipeline(self, transaction)  # type: ignore[abstract] # redis-py does the same with its own class


class _Pipeline(ClusterPipeline):
    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Call a script; redis-py blocks it here, although it finds the slot by the keys as it does elsewhere."""
        return self.execute_command("EVALSHA", sha, numkeys, *keys_and_args)

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
