"""The SDK's door to deployments, and it only reads. One lives in the partition of its pool; a name alone may be anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from penstock import keys
from penstock.client.outage import needs_redis
from penstock.contracts.deployments import Deployment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

PAGE: Final = 500
"""How many deployments are read in one round trip."""


class DeploymentCounts(NamedTuple):
    """How many runs of a deployment wait for their turn, and how many hold a slot."""

    waiting: int
    in_flight: int


class DeploymentStore:
    """Reads deployments.

    Args:
        client: reads only.
        partitions: of the installation.
    """

    def __init__(self, client: Redis, partitions: int) -> None:
        self._client = client
        self._partitions = partitions

    @needs_redis
    async def names(self) -> list[str]:
        """Names of all deployments, sorted."""
        pipe = self._client.pipeline(transaction=False)
        for partition in range(self._partitions):
            pipe.hkeys(keys.key(partition, "deployments"))
        return sorted({name.decode() for found in await pipe.execute() for name in found})

    @needs_redis
    async def find(self, name: str) -> list[Deployment]:
        """Look for a deployment in every partition.

        Args:
            name: ``flow/deployment``, normalised.

        Returns:
            The one there is. While one moves to another partition there are two for a moment, the newer one first.
        """
        pipe = self._client.pipeline(transaction=False)
        for partition in range(self._partitions):
            pipe.hget(keys.key(partition, "deployments"), name)
        found = [(partition, raw.decode()) for partition, raw in enumerate(await pipe.execute()) if raw]
        return sorted(await self._read(found), key=lambda one: one.updated, reverse=True)

    @needs_redis
    async def read_all(self, pool: str | None = None) -> list[Deployment]:
        """All deployments by name, or those of one pool.

        Args:
            pool: normalised; it need not exist any more.
        """
        where = range(self._partitions) if pool is None else [keys.partition_of_pool(pool, self._partitions)]
        pipe = self._client.pipeline(transaction=False)
        for partition in where:
            pipe.hvals(keys.key(partition, "deployments"))
        answers = zip(where, await pipe.execute(), strict=True)
        places = [(partition, raw.decode()) for partition, found in answers for raw in found]
        newest: dict[str, Deployment] = {}
        for start in range(0, len(places), PAGE):
            for one in await self._read(places[start : start + PAGE]):
                if one.name not in newest or one.updated > newest[one.name].updated:
                    newest[one.name] = one
        return [newest[name] for name in sorted(newest) if pool is None or newest[name].pool == pool]

    @needs_redis
    async def read_counts(self, deployments: Sequence[Deployment]) -> list[DeploymentCounts]:
        """What waits and what is in flight of each of some deployments, in their order."""
        pipe = self._client.pipeline(transaction=False)
        for one in deployments:
            partition = keys.partition_of_pool(one.pool, self._partitions)
            pipe.zcard(keys.key(partition, "deployment_waiting", one.id))
            pipe.zcard(keys.key(partition, "deployment_in_flight", one.id))
        answers = await pipe.execute()
        return [DeploymentCounts(*pair) for pair in zip(answers[::2], answers[1::2], strict=True)]

    async def _read(self, places: Sequence[tuple[int, str]]) -> list[Deployment]:
        pipe = self._client.pipeline(transaction=False)
        for partition, deployment_id in places:
            pipe.hgetall(keys.key(partition, "deployment", deployment_id))
            pipe.hgetall(keys.key(partition, "schedules", deployment_id))
        answers = await pipe.execute()
        found = zip(places, answers[::2], answers[1::2], strict=True)
        # What was deleted since its name was read has no fields any more.
        return [_to_deployment(where[1], fields, schedules) for where, fields, schedules in found if fields]


def _to_deployment(deployment_id: str, fields: Mapping[bytes, bytes], schedules: Mapping[bytes, bytes]) -> Deployment:
    values: dict[str, Any] = {name.decode(): orjson.loads(text) for name, text in fields.items()}
    found = [orjson.loads(text) for text in schedules.values()]
    return in_order(Deployment.model_validate({**values, "id": deployment_id, "schedules": found}))


def in_order(deployment: Deployment) -> Deployment:
    """Sort the schedules of a deployment, by slug and by id: a hash has no order of its own."""
    ordered = sorted(deployment.schedules, key=lambda schedule: (schedule.slug, schedule.id))
    return deployment.model_copy(update={"schedules": ordered})
