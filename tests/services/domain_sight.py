"""What an onlooker sees of the domain on Redis, spelled as the model does; for :mod:`tests.services.domain_on_redis`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from penstock import keys
from penstock.client.records import queue_id_of
from penstock.contracts.pools import Pool, ReadPool
from services.pool_registry.rules import Place
from services.pool_registry.store import RegistryStore
from tests.services.domain_world import IN_FLIGHT

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.services.domain_world import Wire


class Sight:
    """Definitions, workers, runs and inboxes; ``_symbols`` are the model's for real ids, ``_tokens`` those of its claims."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self._symbols: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._keys: list[str] = []

    async def seen(self) -> Wire:
        """Everything an onlooker can see."""
        self._keys = sorted([name.decode() async for name in self.client.scan_iter(count=1000)])
        real = {symbol: ident for ident, symbol in self._symbols.items()}
        inboxes = await self._inboxes()
        names: Any = await self.client.hkeys(keys.key(0, "pools"))
        pools = [await RegistryStore(self.client).read_pool(Place(0), ReadPool(pool=name.decode())) for name in names]
        return {
            "pools": {pool.result["name"]: await self._pool(Pool(**pool.result)) for pool in pools},
            "workers": await self._workers([real[symbol] for symbol in real if symbol.startswith("pool-")]),
            "runs": await self._runs(),
            "deployments": {
                symbol: await self._deployment(ident)
                for symbol, ident in real.items()
                if symbol.startswith("deployment-")
            },
            "cancelling": set(await self._members("cancelling")),
            "known by a key": sorted([await self._text(name) for name, _ in self._names("idempotency", "*")]),
            "due": set(await self._members("due")),
            "inboxes": inboxes,
            "dead letters": await self.client.xlen(keys.key(0, "dead")),
        }

    async def _text(self, name: str) -> str:
        value: Any = await self.client.get(name)
        return str(value.decode())

    async def _members(self, family: str, ident: str = "") -> list[str]:
        found: Any = await self.client.zrange(keys.key(0, family, ident), 0, -1)
        return [member.decode() for member in found]

    async def _offers(self, family: str, ident: str) -> dict[str, int]:
        found: Any = await self.client.zrange(keys.key(0, family, ident), 0, -1, withscores=True)
        return {member.decode(): int(score) for member, score in found}

    async def _pool(self, pool: Pool) -> Wire:
        fields = ("type", "is_paused", "concurrency_limit", "on_worker_lost")
        return {
            **{name: getattr(pool, name) for name in fields},
            "id": self._symbols[pool.id],
            "status": pool.status.lower().replace("_", "-"),
            "in flight": set(await self._members("pool_in_flight", pool.id)),
            "offers": await self._offers("pool_free", pool.id),
            "held": await self._held(pool.id),
            "queues": [
                {
                    **{name: getattr(queue, name) for name in ("name", "priority", "concurrency_limit", "is_paused")},
                    "id": self._symbols[queue.id],
                    "status": queue.status.lower().replace("_", "-"),
                    "waiting": await self._members("waiting", queue.id),
                    "in flight": set(await self._members("queue_in_flight", queue.id)),
                    "offers": await self._offers("queue_free", queue.id),
                }
                for queue in pool.queues
            ],
        }

    async def _deployment(self, ident: str) -> Wire:
        names = ("concurrency_limit", "collision_strategy", "revision", "paused")
        values: Any = await self.client.hmget(keys.key(0, "deployment", ident), names)
        return {
            "defined": dict(zip(names, map(orjson.loads, values), strict=True)) if all(values) else None,
            "waiting": set(await self._members("deployment_waiting", ident)),
            "parked": {
                self._symbols[queue]: await self._parked(queue, ident)
                for _, queue in self._names("parked", f"*/{ident}")
            },
            "in flight": set(await self._members("deployment_in_flight", ident)),
        }

    async def _parked(self, queue: str, deployment: str) -> list[str]:
        """What is parked in a queue; by two sets it is found from the queue and from the deployment."""
        by_queue = await self.client.sismember(keys.key(0, "queue_parked", queue), deployment)
        by_deployment = await self.client.sismember(keys.key(0, "deployment_parked", deployment), queue)
        assert (by_queue, by_deployment) == (1, 1), f"what is parked in {queue} would never be found"
        return await self._members("parked", f"{queue}/{deployment}")

    def _names(self, family: str, ident: str) -> list[tuple[str, str]]:
        """Every key of a family that was there at the last look, and what stands for the star in the pattern of its id."""
        before, _, after = keys.key(0, family, ident).partition("*")
        found = [name for name in self._keys if name.startswith(before) and name.endswith(after)]
        return [(name, name[len(before) : len(name) - len(after)]) for name in found]

    async def _held(self, pool_id: str) -> dict[str, set[str]]:
        held = {}
        for name, rest in self._names("slots_in_flight", f"{pool_id}/*"):
            members: Any = await self.client.smembers(name)
            held[rest] = {member.decode() for member in members}
        return held

    async def _workers(self, pool_ids: list[str]) -> dict[str, tuple[str, str]]:
        workers = {}
        for pool_id in pool_ids:
            for name, worker in self._names("worker", f"{pool_id}/*"):
                found: Any = await self.client.hmget(name, ["status", "boot_id"])
                status, boot = found
                workers[f"{self._symbols[pool_id]}/{worker}"] = (status.decode(), boot.decode())
        return workers

    async def _runs(self) -> dict[str, tuple[Any, ...]]:
        names = self._names("run", "*")
        pipe = self.client.pipeline(transaction=False)
        for name, _ in names:
            pipe.hmget(name, ["state", "label", "queue", "run_count", "epoch", "retry", "worker"])
        runs: dict[str, tuple[Any, ...]] = {}
        for (_, run_id), values in zip(names, await pipe.execute(), strict=True):
            queue_id = queue_id_of({b"queue": values.pop(2)})
            state, label, count, epoch, retry, worker = [(value or b"").decode() for value in values]
            runs[run_id] = (
                *(state or "SCHEDULED", label, self._symbols[queue_id], int(count or 0), int(epoch or 0)),
                int(retry.partition(" ")[0] or 0),
                worker if state in IN_FLIGHT else None,
            )
        return runs

    async def _inboxes(self) -> dict[str, list[tuple[Any, ...]]]:
        """What lies in every inbox; learns the tokens of the claims on the way."""
        inboxes: dict[str, list[tuple[Any, ...]]] = {}
        for name, worker in self._names("inbox", "*"):
            entries: Any = await self.client.xrange(name)
            bodies = [orjson.loads(fields[b"__data__"]) for _, fields in entries]
            for body in bodies:
                for run in body["runs"] if body["type"] == "assign_runs" else ():
                    self._tokens[f"{run['id']}.{run['epoch']}"] = run["token"]
            if bodies:
                inboxes[worker] = [told for body in bodies for told in _told(body)]
        return inboxes


def _told(body: Wire) -> list[tuple[Any, ...]]:
    """Spell an inbox message as the model does."""
    match body["type"]:
        case "accept_worker":
            return [("accepted", body["boot_id"], body["slots"])]
        case "refuse_worker":
            return [("refused", body["boot_id"], body["code"])]
        case "revoke_runs" | "stop_runs":
            what = "stop" if body["type"] == "stop_runs" else "revoked"
            return [(what, *sorted((run["id"], run["epoch"]) for run in body["runs"]))]
        case _:
            return [("assigned", run["id"], run["epoch"], body["boot_id"]) for run in body["runs"]]
