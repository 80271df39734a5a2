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

from penstock import keys, lua
from penstock.bus.connection import connect, redis_now_ms
from penstock.bus.delivery import deliver
from penstock.bus.entries import Entry
from penstock.bus.health import Health
from penstock.contracts.events import event_id
from penstock.contracts.replies import Reply
from penstock.errors import refusal
from services.dispatcher import app as dispatcher
from services.dispatcher.due import DueClock
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import ANNOUNCE_WORKER, LOSE_WORKER, REPORT_RUNS, DispatchStore
from services.heartbeat_monitor import app as heartbeat_monitor
from services.heartbeat_monitor.settings import HeartbeatMonitorSettings
from services.heartbeat_monitor.store import MonitorStore, Sweep
from services.pool_registry import app as pool_registry
from services.pool_registry.settings import PoolRegistrySettings
from tests.services.domain_model import COMMANDS, FIRST, THEN
from tests.services.domain_sight import Sight
from tests.services.domain_world import HOUR_MS, Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from penstock.bus.routing import Subscription
    from penstock.contracts.queues import CreateQueue
    from tests.services.domain_model import Reader
    from tests.services.domain_world import Wire

RUN_ALL: Final = lua.run_all
MAY_RETRY: Final = (ANNOUNCE_WORKER, LOSE_WORKER, REPORT_RUNS)
UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


class Services(Sight):
    """Registry, monitor and dispatcher on an empty Redis."""

    def __init__(self, url: str) -> None:
        super().__init__(connect(url))
        self.entries: dict[str, list[Entry]] = defaultdict(list)
        self.one_by_one = False
        self._patched: list[Any] = [
            patch.object(dispatcher, "request", self._create_queue),
            patch.object(lua, "run_all", self._run_all),
        ]
        for patched in self._patched:
            patched.start()
        self._subscriptions = self._wire()
        self._store = DispatchStore(self.client, DispatcherSettings())
        self._clock = DueClock(self._store, 1, Health("dispatcher"))
        self._retries = False
        self._unread = dict.fromkeys((*FIRST, *THEN), "-")
        self._taken = {"events": 0, "commands": 0, "dispatch": 0, "definitions": 0}
        self._asked: list[str] = []
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
        for patched in self._patched:
            patched.stop()
        await self.client.aclose()

    async def _run_all(self, client: Redis, calls: Sequence[lua.Call]) -> list[Any]:
        """Run scripts that let runs wait for their next attempt each in a millisecond of its own: only then is it certain who
        of those that may be started again at once comes first."""
        if not (self._retries and any(call.script in MAY_RETRY for call in calls)):
            return await RUN_ALL(client, calls)
        answers: list[Any] = []
        for call in calls:
            if call.script in MAY_RETRY:
                before = await redis_now_ms(client)
                while await redis_now_ms(client) == before:
                    pass
            answers += await RUN_ALL(client, [call])
        return answers

    async def send(self, stream: str, message: Any) -> None:
        """Append the model's message as a client would write it."""
        if stream == "heartbeats":
            _, sent, beat = message
            await self._add(stream, {"type": "worker.heartbeat", **beat}, f"{sent}-0")
            return
        if message.get("id"):
            self._asked.append(message["id"])
        if message["type"] == "submit_runs":
            self._retries |= any(run["retries"] for run in message["runs"])
            message = {**message, "runs": [self._submitted(run) for run in message["runs"]]}
        elif message["type"] == "report_runs":
            reports = [
                {**report, "token": self._tokens.get(report["token"], "forged")} for report in message["reports"]
            ]
            message = {**message, "reports": reports}
        await self._add(stream, message)

    def _submitted(self, run: Wire) -> Wire:
        when = None if run["at"] is None else datetime.fromtimestamp(run["due"] / 1000, UTC).isoformat()
        by = dict(zip(("schedule", "revision", "catch_up"), run["by"], strict=True)) if run["by"] else None
        return {
            "id": run["id"],
            "name": "r",
            "queue": run["queue"],
            "scheduled_time": when,
            "spec": {"command": ["true"]},
            "deployment": self._real(run["deployment"]),
            "scheduled_by": by,
            "idempotency_key": run["key"],
            "retries": run["retries"],
            "retry_delay_seconds": run["delay"],
        }

    def _real(self, symbol: str | None) -> str | None:
        return next((ident for ident, known in self._symbols.items() if known == symbol), None)

    async def _add(self, stream: str, message: Wire, entry_id: str = "*") -> None:
        fields: Any = {"type": message["type"], "__data__": orjson.dumps(message)}
        await self.client.xadd(keys.key(0, stream), fields, id=entry_id)

    async def settle(self) -> None:
        """Let everybody read until nothing is unread."""
        while await self._read_by(FIRST) or await self._read_by(THEN):
            pass
        await self._clock._look(0)

    async def _read_by(self, readers: Iterable[Reader]) -> bool:
        return any([await self._read_new(reader) for reader in readers])

    async def _read_new(self, reader: Reader) -> bool:
        found: Any = await self.client.xrange(keys.key(0, reader.stream), self._unread[reader])
        entries = [Entry(0, reader.stream, entry_id.decode(), fields) for entry_id, fields in found]
        entries = entries[: 1 if self.one_by_one else None]
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

    async def give_up_waiting(self) -> None:
        """Let the time be over in which workers may end what was cancelled."""
        name = keys.key(0, "cancelling")
        for run_id in await self._members("cancelling"):
            await self.client.zadd(name, {run_id: 1})
        await self._store.expire_cancelling(0)

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

    async def replies(self) -> dict[str, Any]:
        """What was answered since this was last asked."""
        asked, self._asked = self._asked, []
        found = {command_id: await self._reply(command_id) for command_id in asked}
        return {command_id: self._answer(reply) for command_id, reply in found.items()}

    def _answer(self, reply: Reply) -> Any:
        result: Any = reply.result
        if reply.error:
            return reply.error.code
        if "refused" in result:
            words = {"not_found": "unknown_queue", "stale": "stale"}
            refused = [(refused["run"], words[refused["code"]]) for refused in result["refused"]]
            return {**result, "refused": refused}
        return result if "unknown" in result else "ok"

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
        lives = resource.startswith(("prefect.worker.", "prefect.deployment."))
        if not lives or event["event"].endswith(".refused"):
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
        about, _, ident = resource.rpartition(".")
        kind = about.removeprefix("prefect.").removeprefix("work-")
        if event == f"{about}.created":
            known = sum(symbol.startswith(f"{kind}-") for symbol in self._symbols.values())
            self._symbols[ident] = f"{kind}-{known + 1}"

    def _symbolic(self, text: str) -> str:
        return UUID.sub(lambda found: self._symbols.get(found[0], found[0]), text)

    async def left_for_ever(self) -> set[str]:
        """Keys that nothing will ever remove."""
        names = sorted([name.decode() async for name in self.client.scan_iter()])
        pipe = self.client.pipeline(transaction=False)
        for name in names:
            pipe.ttl(name)
        prefix = keys.key(0, "events").removesuffix("events")
        return {name.removeprefix(prefix) for name, ttl in zip(names, await pipe.execute(), strict=True) if ttl < 0}


def _event(event: Wire, follows: int | None) -> Event:
    """Spell an event as the model does."""
    payload, detail = event["payload"], None
    if event["event"].endswith(".updated"):
        detail = payload["updates"]
        assert payload["updated_fields"] == list(detail)
    elif event["event"].startswith("prefect.flow-run."):
        message = payload["validated_state"].get("message", "")
        before = payload["initial_state"]
        came_from = (payload["intended"]["from"], before["name"]) if before else None
        detail = (came_from, payload["intended"]["to"], message)
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
