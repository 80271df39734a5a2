"""The scheduler's only door to Redis: its plans, and the definitions it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
import structlog

from penstock import keys, lua
from penstock.bus.connection import redis_now_ms
from penstock.contracts.deployments import Deployment

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

log = structlog.get_logger("scheduler")

TAKE_PLANS = lua.load("services.scheduler", "take_plans")
ADVANCE_PLAN = lua.load("services.scheduler", "advance_plan")
FOLLOW_SCHEDULES = lua.load("services.scheduler", "follow_schedules")
RESTART_PLANS = lua.load("services.scheduler", "restart_plans")

AT_ONCE: Final = 200
"""Idents handed to one script call; keeps Redis for about a millisecond."""
_PAGE: Final = 1000


class Plan(NamedTuple):
    """How far a schedule is planned.

    Attributes:
        ident: ``<deployment id>/<schedule id>``.
        revision: of the deployment it belongs to.
        until_ms: every fire time up to here has its run.
    """

    ident: str
    revision: int
    until_ms: int

    @property
    def deployment(self) -> str:
        """Id of the deployment."""
        return self.ident.partition("/")[0]

    @property
    def schedule(self) -> str:
        """Id of the schedule."""
        return self.ident.partition("/")[2]

    @property
    def text(self) -> str:
        """As it is kept."""
        return f"{self.revision} {self.until_ms}"


class Advance(NamedTuple):
    """A plan that was worked on.

    Attributes:
        before: as it was.
        until_ms: as it is.
        next_ms: when it is due again.
        runs: that were there when it was worked on; one that is gone was forgotten by Redis, and has to be made again.
    """

    before: Plan
    until_ms: int
    next_ms: int
    runs: tuple[str, ...] = ()


class SchedulerStore:
    """Plans in Redis.

    Args:
        client: of the service.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def now_ms(self) -> int:
        """Redis TIME in milliseconds: the clock all schedulers share."""
        return await redis_now_ms(self._client)

    async def take_plans(self, partition: int, now_ms: int, lease_ms: int, max_plans: int) -> list[Plan]:
        """Take what is due, the longest due first."""
        answer: Any = await TAKE_PLANS(self._client, partition, now=now_ms, lease_ms=lease_ms, max_plans=max_plans)
        texts = [text.decode() for text in answer]
        return [_plan(ident, text) for ident, text in zip(texts[::2], texts[1::2], strict=True)]

    async def next_due_ms(self, partition: int) -> int | None:
        """Read when the next plan is due."""
        rows: Any = await self._client.zrange(keys.key(partition, "schedule_due"), 0, 0, withscores=True)
        return int(rows[0][1]) if rows else None

    async def advance_plan(self, partition: int, advances: Iterable[Advance], soon_ms: int) -> list[bool]:
        """Note how far schedules are planned.

        Args:
            partition: of all of them.
            advances: what was done.
            soon_ms: when a plan is due again whose runs are missing.

        Returns:
            For each, whether it was noted; else somebody has noted something else since, or runs are missing.
        """
        calls = [
            ADVANCE_PLAN.bind(
                partition,
                ident=one.before.ident,
                known=one.before.text,
                plan=one.before._replace(until_ms=one.until_ms).text,
                next_ms=one.next_ms,
                soon_ms=soon_ms,
                rest=one.runs,
            )
            for one in advances
        ]
        return [bool(answer) for answer in await lua.run_all(self._client, calls)]

    async def follow_schedules(self, partition: int, now_ms: int, idents: Sequence[str]) -> int:
        """Bring plans in line with the definitions.

        Returns:
            How many begin.
        """
        begun = 0
        for start in range(0, len(idents), AT_ONCE):
            begun += int(
                await FOLLOW_SCHEDULES(self._client, partition, now=now_ms, rest=idents[start : start + AT_ONCE])
            )
        return begun

    async def restart_plans(self, partition: int, since_ms: int, next_ms: int, idents: Sequence[str]) -> int:
        """Let plans begin again at a moment.

        Returns:
            How many do.
        """
        begun = 0
        for start in range(0, len(idents), AT_ONCE):
            rest = idents[start : start + AT_ONCE]
            begun += int(await RESTART_PLANS(self._client, partition, since=since_ms, next_ms=next_ms, rest=rest))
        return begun

    async def defined_idents(self, partition: int, deployments: Iterable[str]) -> list[str]:
        """Name all schedules some deployments have now."""
        ids = list(deployments)
        found: list[str] = []
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            pipe = self._client.pipeline(transaction=False)
            for deployment in page:
                pipe.hkeys(keys.key(partition, "schedules", deployment))
            answers = zip(page, await pipe.execute(), strict=True)
            found += [
                f"{deployment}/{schedule.decode()}" for deployment, schedules in answers for schedule in schedules
            ]
        return found

    async def planned_idents(self, partition: int, deployments: set[str] | None = None) -> list[str]:
        """Name all plans, or those of some deployments."""
        found = []
        async for raw, _ in self._client.hscan_iter(keys.key(partition, "schedule_plans"), count=_PAGE):
            ident = raw.decode()
            if deployments is None or ident.partition("/")[0] in deployments:
                found.append(ident)
        return found

    async def all_deployments(self, partition: int) -> list[str]:
        """Ids of all deployments."""
        found: Any = await self._client.hvals(keys.key(partition, "deployments"))
        return [raw.decode() for raw in found]

    async def deployments_of_pool(self, partition: int, pool: str, queue: str | None = None) -> list[str]:
        """Ids of the deployments whose runs go to a pool, or to one of its queues, which need not exist."""
        wanted = (pool, queue)
        found = []
        ids = await self.all_deployments(partition)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            pipe = self._client.pipeline(transaction=False)
            for deployment in page:
                pipe.hmget(keys.key(partition, "deployment", deployment), ["pool", "queue"])
            rows = zip(page, await pipe.execute(), strict=True)
            named = [(deployment, orjson.loads(row[0]), orjson.loads(row[1])) for deployment, row in rows if all(row)]
            found += [deployment for deployment, *where in named if wanted in ((where[0], None), tuple(where))]
        return found

    async def read_deployments(self, partition: int, ids: Iterable[str]) -> dict[str, Deployment | None]:
        """Read deployments with their schedules; what is gone is left out, what cannot be understood here is None."""
        wanted = sorted(set(ids))
        pipe = self._client.pipeline(transaction=True)
        for deployment in wanted:
            pipe.hgetall(keys.key(partition, "deployment", deployment))
            pipe.hgetall(keys.key(partition, "schedules", deployment))
        answers = await pipe.execute() if wanted else []
        found = zip(wanted, answers[::2], answers[1::2], strict=True)
        return {ident: _deployment(ident, fields, schedules) for ident, fields, schedules in found if fields}

    async def existing_pools(self, partition: int, names: Iterable[str]) -> set[str]:
        """Say which of some pools exist."""
        wanted = sorted(set(names))
        found: Any = await self._client.hmget(keys.key(partition, "pools"), wanted) if wanted else []
        return {name for name, pool_id in zip(wanted, found, strict=True) if pool_id}

    async def read_makers(self, partition: int, run_ids: Sequence[str]) -> list[tuple[str, int] | None]:
        """Read the state of runs and the revision that made them, 0 when no schedule did; None for a run that is gone."""
        pipe = self._client.pipeline(transaction=False)
        for run_id in run_ids:
            pipe.hmget(keys.key(partition, "run", run_id), ["name", "state", "auto"])
        return [_maker(*row) for row in (await pipe.execute() if run_ids else [])]


def _plan(ident: str, text: str) -> Plan:
    revision, until_ms = text.split()
    return Plan(ident, int(revision), int(until_ms))


def _deployment(ident: str, fields: dict[bytes, bytes], schedules: dict[bytes, bytes]) -> Deployment | None:
    try:
        values = {name.decode(): orjson.loads(text) for name, text in fields.items()}
        return Deployment.model_validate(
            {**values, "id": ident, "schedules": [orjson.loads(text) for text in schedules.values()]}
        )
    except ValueError as problem:
        # A newer registry's, or of a time zone this machine does not know: it must not hold up the others.
        log.error("deployment not understood", deployment=ident, error=str(problem))  # noqa: TRY400 - the message says it all
        return None


def _maker(name: bytes | None, state: bytes | None, auto: bytes | None) -> tuple[str, int] | None:
    if name is None:
        return None
    # Without a state it was only submitted.
    return state.decode() if state else "SCHEDULED", int(auto.split()[1]) if auto else 0
