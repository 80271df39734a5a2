"""The three services on a real Redis, told and seen as :class:`tests.services.domain_model.Model` is.

Messages go onto the streams; :meth:`Services.settle` lets the services read, each through the delivery and the wiring it has in
production, in a fixed order until nothing is unread. Random ids are replaced by the model's symbols: the n-th pool that is
created is ``pool-n``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

import orjson

from penstock import keys
from penstock.bus.connection import connect
from penstock.bus.delivery import Subscription, deliver
from penstock.bus.entries import Entry
from penstock.bus.health import Health
from penstock.contracts.events import event_id
from penstock.contracts.pools import Pool, ReadPool
from penstock.contracts.replies import Reply
from penstock.errors import refusal
from services.dispatcher import app as dispatcher
from services.dispatcher.settings import DispatcherSettings
from services.heartbeat_monitor import app as heartbeat_monitor
from services.heartbeat_monitor.settings import HeartbeatMonitorSettings
from services.heartbeat_monitor.store import MonitorStore, Sweep
from services.pool_registry import app as pool_registry
from services.pool_registry.settings import PoolRegistrySettings
from services.pool_registry.store import RegistryStore
from tests.services.domain_model import COMMANDS, FIRST, THEN
from tests.services.domain_world import HOUR_MS, Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.contracts.queues import CreateQueue
    from tests.services.domain_model import Reader
    from tests.services.domain_world import Wire

UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class Services:
    """Registry, monitor and dispatcher on an empty Redis."""

    def __init__(self, url: str) -> None:
        self.client = connect(url)
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        self._patched = patch.object(dispatcher, "request", self._create_queue)
        self._patched.start()
        self._subscriptions = self._wire()
        self._unread = dict.fromkeys((*FIRST, *THEN), "-")
        self._taken = {"events": 0, "commands": 0, "dispatch": 0, "definitions": 0}
        self._symbols: dict[str, str] = {}
        self._tokens: dict[str, str] = {}
        self._asked: list[str] = []
        self._keys: list[str] = []
        self._seqs: dict[tuple[str, str], int] = {}

    def _wire(self) -> dict[Reader, Subscription]:
        services = [
            pool_registry.build(PoolRegistrySettings(), self.client, Health("pool_registry")),
            heartbeat_monitor.build(HeartbeatMonitorSettings(), self.client, Health("heartbeat_monitor")),
            dispatcher.build(DispatcherSettings(), self.client, Health("dispatcher")),
        ]
        return {
            reader: subscription
            for reader in (*FIRST, *THEN)
            for service in services
            for subscription in service.subscriptions
            if (service.name, subscription.stream.name) == reader
        }

    async def close(self) -> None:
        self._patched.stop()
        await self.client.aclose()

    async def send(self, stream: str, message: Any) -> None:
        """Append the model's message as a client would write it."""
        if stream == "heartbeats":
            _, sent, beat = message
            await self._add(stream, {"type": "worker.heartbeat", **beat}, f"{sent}-0")
            return
        if message.get("id"):
            self._asked.append(message["id"])
        if message["type"] == "submit_runs":
            message = {**message, "runs": [_submitted(run) for run in message["runs"]]}
        elif message["type"] == "report_runs":
            reports = [
                {**report, "token": self._tokens.get(report["token"], "forged")} for report in message["reports"]
            ]
            message = {**message, "reports": reports}
        await self._add(stream, message)

    async def _add(self, stream: str, message: Wire, entry_id: str = "*") -> None:
        fields: Any = {"type": message["type"], "__data__": orjson.dumps(message)}
        await self.client.xadd(keys.key(0, stream), fields, id=entry_id)

    async def settle(self) -> None:
        """Let everybody read until nothing is unread."""
        while await self._read_by(FIRST) or await self._read_by(THEN):
            pass

    async def _read_by(self, readers: Iterable[Reader]) -> bool:
        return any([await self._read_new(reader) for reader in readers])

    async def _read_new(self, reader: Reader) -> bool:
        found: Any = await self.client.xrange(keys.key(0, reader.stream), self._unread[reader])
        entries = [Entry(0, reader.stream, entry_id.decode(), fields) for entry_id, fields in found]
        if entries:
            self._unread[reader] = f"({entries[-1].id}"
            if reader in FIRST or reader.stream == "dispatch":
                self.entries[reader.stream].extend(entries)
            await deliver(self.client, self._subscriptions[reader], entries)
        return bool(entries)

    async def again(self, reader: Reader, place: int) -> None:
        """Deliver one entry once more; whoever asks has gone, so nobody takes the answer."""
        await deliver(self.client, self._subscriptions[reader], [self.entries[reader.stream][place]])

    async def sweep(self, now_ms: int, *, outage: bool) -> Sweep:
        """Judge who is alive; a last tick of tomorrow keeps a slow machine from looking like an outage."""
        tick = keys.key(0, "liveness_tick")
        await (self.client.delete(tick) if outage else self.client.set(tick, now_ms + 24 * HOUR_MS))
        return (await MonitorStore(self.client).expire_workers(1))[0]

    async def _create_queue(self, *arguments: Any) -> Any:
        """Ask the registry as the dispatcher does, but one that answers at once."""
        command: CreateQueue = arguments[3]
        sent = command.model_copy(update={"id": f"asked-{len(self.entries['commands'])}"})
        await self._add("commands", sent.model_dump())
        await self._read_new(COMMANDS)
        reply = await self._reply(sent.id)
        if reply.error:
            raise refusal(reply.error.code, reply.error.message)
        return reply.result

    async def _reply(self, command_id: str) -> Reply:
        popped: Any = await self.client.lpop(keys.key(0, "reply", command_id))
        assert popped, f"{command_id} was not answered"
        return Reply.model_validate_json(popped)

    async def replies(self) -> dict[str, str]:
        """What was answered since this was last asked."""
        asked, self._asked = self._asked, []
        found = {command_id: await self._reply(command_id) for command_id in asked}
        return {command_id: reply.error.code if reply.error else "ok" for command_id, reply in found.items()}

    async def events(self) -> list[Event]:
        """What happened since this was last asked."""
        texts = await self._new("events")
        raw = [orjson.loads(text) for text in texts]
        for event in raw:
            self._meet(event["resource"]["prefect.resource.id"], event["event"])
            self._identify(event)
        told = [orjson.loads(self._symbolic(text)) for text in texts]
        return [_event(event, self._follows(before)) for event, before in zip(told, raw, strict=True)]

    def _identify(self, event: Wire) -> None:
        """Hold an event's id against its resource's; a worker's is made of its record, which may be gone, and must be new."""
        resource = event["resource"]["prefect.resource.id"]
        if not resource.startswith("prefect.worker.") or event["event"].endswith(".refused"):
            assert event["id"] == event_id(resource, event["seq"])
        assert (resource, event["id"]) not in self._seqs
        self._seqs[resource, event["id"]] = event["seq"]

    def _follows(self, event: Wire) -> int | None:
        return self._seqs[event["resource"]["prefect.resource.id"], event["follows"]] if event["follows"] else None

    async def messages(self, stream: str) -> list[Wire]:
        """What was sent on a stream since this was last asked, whoever sent it."""
        return [orjson.loads(self._symbolic(text)) for text in await self._new(stream)]

    async def _new(self, stream: str) -> list[str]:
        entries: Any = await self.client.xrange(keys.key(0, stream))
        texts = [fields[b"__data__"].decode() for _, fields in entries[self._taken[stream] :]]
        self._taken[stream] = len(entries)
        return texts

    def _meet(self, resource: str, event: str) -> None:
        kind = resource.removeprefix("prefect.work-").partition(".")[0]
        if event == f"prefect.work-{kind}.created":
            known = sum(symbol.startswith(f"{kind}-") for symbol in self._symbols.values())
            self._symbols[resource.rpartition(".")[2]] = f"{kind}-{known + 1}"

    def _symbolic(self, text: str) -> str:
        return UUID.sub(lambda found: self._symbols.get(found[0], found[0]), text)

    async def seen(self) -> Wire:
        """Everything an onlooker can see."""
        self._keys = sorted([name.decode() async for name in self.client.scan_iter(count=1000)])
        real = {symbol: ident for ident, symbol in self._symbols.items()}
        inboxes = await self._inboxes()
        names: Any = await self.client.hkeys(keys.key(0, "pools"))
        pools = [await RegistryStore(self.client).read_pool(0, ReadPool(pool=name.decode())) for name in names]
        return {
            "pools": {pool.result["name"]: await self._pool(Pool(**pool.result)) for pool in pools},
            "workers": await self._workers([real[symbol] for symbol in real if symbol.startswith("pool-")]),
            "runs": await self._runs(),
            "due": set(await self._members("due")),
            "inboxes": inboxes,
            "dead letters": await self.client.xlen(keys.key(0, "dead")),
        }

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
            pipe.hmget(name, ["state", "queue_id", "run_count", "epoch", "worker"])
        runs: dict[str, tuple[Any, ...]] = {}
        for (_, run_id), values in zip(names, await pipe.execute(), strict=True):
            state, queue_id, count, epoch, worker = [(value or b"").decode() for value in values]
            held = worker if state in ("PENDING", "RUNNING") else None
            runs[run_id] = (state or "SCHEDULED", self._symbols[queue_id], int(count or 0), int(epoch or 0), held)
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

    async def left_for_ever(self) -> set[str]:
        """Keys that nothing will ever remove."""
        names = sorted([name.decode() async for name in self.client.scan_iter()])
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.ttl(name)
        prefix = keys.key(0, "events").removesuffix("events")
        return {name.removeprefix(prefix) for name, ttl in zip(names, await pipe.execute(), strict=True) if ttl < 0}


def _submitted(run: Wire) -> Wire:
    when = None if run["at"] is None else datetime.fromtimestamp(run["due"] / 1000, UTC).isoformat()
    about = {"name": "r", "queue": run["queue"], "scheduled_time": when, "spec": {"command": ["true"]}}
    return {"id": run["id"], **about}


def _told(body: Wire) -> list[tuple[Any, ...]]:
    """Spell an inbox message as the model does."""
    match body["type"]:
        case "accept_worker":
            return [("accepted", body["boot_id"], body["slots"])]
        case "refuse_worker":
            return [("refused", body["boot_id"], body["code"])]
        case "revoke_runs":
            return [("revoked", *sorted((run["id"], run["epoch"]) for run in body["runs"]))]
        case _:
            return [("assigned", run["id"], run["epoch"], body["boot_id"]) for run in body["runs"]]


def _event(event: Wire, follows: int | None) -> Event:
    """Spell an event as the model does."""
    payload, detail = event["payload"], None
    if event["event"].endswith(".updated"):
        detail = payload["updates"]
        assert payload["updated_fields"] == list(detail)
    elif event["event"].startswith("prefect.flow-run."):
        message = payload["validated_state"].get("message", "")
        detail = (payload["intended"]["from"], payload["intended"]["to"], message)
    elif payload:
        detail = {
            name: payload[name] for name in payload if name not in ("last_heartbeat", "reason" * ("code" in payload))
        }
    return Event(
        resource=event["resource"]["prefect.resource.id"],
        name=event["event"],
        seq=event["seq"],
        follows=follows,
        related=tuple(each["prefect.resource.id"] for each in event["related"]),
        detail=detail,
    )
