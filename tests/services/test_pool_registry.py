from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys, streams
from penstock.bus.connection import connect, redis_now_ms
from penstock.bus.delivery import deliver
from penstock.bus.entries import Entry
from penstock.bus.health import Health
from penstock.bus.requests import request
from penstock.bus.service import Runner
from penstock.contracts.pools import CreatePool, DeletePool, PausePool, PoolChanges, ReadPool, UpdatePool
from penstock.contracts.queues import CreateQueue
from penstock.errors import Conflict, NotFound, Reserved
from penstock.templates import default_template
from services.pool_registry.app import SERVICE, build, subscription
from services.pool_registry.handlers import Handlers
from services.pool_registry.settings import PoolRegistrySettings
from services.pool_registry.store import RegistryStore
from tests.support import read_events, read_messages, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from penstock.bus.routing import Subscription

COMMANDS: dict[str, dict[str, Any]] = {
    "create_pool": {"pool": "etl"},
    "update_pool": {"pool": "etl", "changes": {"description": "new"}},
    "pause_pool": {"pool": "etl"},
    "resume_pool": {"pool": "etl"},
    "delete_pool": {"pool": "etl"},
    "read_pool": {"pool": "etl"},
    "create_queue": {"pool": "etl", "queue": "fast"},
    "update_queue": {"pool": "etl", "queue": "default", "changes": {"description": "new"}},
    "pause_queue": {"pool": "etl", "queue": "default"},
    "resume_queue": {"pool": "etl", "queue": "default"},
    "delete_queue": {"pool": "etl", "queue": "spare"},
}


class Bus:
    """Plain entries in, replies out; the registry in between handles what was sent when ``handle`` is called."""

    def __init__(self, client: Redis) -> None:
        self.client = client
        self.subscription: Subscription = subscription(Handlers(RegistryStore(client)))
        self._name = keys.key(0, "commands")
        self._last = "-"

    async def send(self, kind: str, **fields: Any) -> str:
        return await self.send_raw(orjson.dumps({"type": kind, **fields}), kind)

    async def send_raw(self, body: bytes, kind: str = "") -> str:
        fields: dict[Any, Any] = {"__data__": body, **({"type": kind} if kind else {})}
        entry_id: Any = await self.client.xadd(self._name, fields)
        return str(entry_id.decode())

    async def handle(self) -> None:
        """Handle everything sent since the last time as one batch."""
        await deliver(self.client, self.subscription, await self._new())

    async def redeliver(self, *entries: Entry) -> None:
        """Hand out entries again, as the reclaimer does."""
        await deliver(self.client, self.subscription, [entry._replace(again=True) for entry in entries])

    async def entries(self) -> list[Entry]:
        found: Any = await self.client.xrange(self._name)
        return [Entry(0, "commands", entry_id.decode(), fields) for entry_id, fields in found]

    async def _new(self) -> list[Entry]:
        found: Any = await self.client.xrange(self._name, self._last)
        if found:
            self._last = f"({found[-1][0].decode()}"
        return [Entry(0, "commands", entry_id.decode(), fields) for entry_id, fields in found]

    async def left_behind(self) -> list[Entry]:
        """What was sent since the last time, in the hands of somebody who never handles it."""
        return await self._new()

    async def replies(self, command_id: str) -> list[dict[str, Any]]:
        raw = await self.client.lrange(keys.key(0, "reply", command_id), 0, -1)
        return [orjson.loads(reply) for reply in raw]

    async def do(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send one command, handle it, take its reply."""
        command_id = fields.pop("id", f"{kind}-{await self.client.xlen(self._name)}")
        await self.send(kind, id=command_id, **fields)
        await self.handle()
        (reply,) = await self.replies(command_id)
        assert reply["id"] == command_id
        return reply

    async def prepare(self) -> None:
        """The pool every command of COMMANDS is about."""
        await self.do("create_pool", pool="etl")
        await self.do("create_queue", pool="etl", queue="spare")

    async def published(self) -> tuple[Any, Any]:
        return await read_events(self.client), await read_messages(self.client, "definitions")


@pytest.fixture
def bus(client: Redis) -> Bus:
    return Bus(client)


async def test_every_command_of_the_contracts_has_a_route(bus: Bus) -> None:
    assert [kind for kind in bus.subscription.by_type if kind.endswith(("_pool", "_queue"))] == list(COMMANDS)


@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_command_is_answered_with_the_whole_pool_or_queue(bus: Bus, kind: str) -> None:
    if kind != "create_pool":
        await bus.prepare()

    reply = await bus.do(kind, **COMMANDS[kind])

    assert reply["ok"], reply
    assert reply["result"]["name"] == COMMANDS[kind].get("queue", "etl")
    assert "status" in reply["result"]


@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_command_delivered_again_changes_nothing_and_answers_the_same(bus: Bus, kind: str) -> None:
    if kind != "create_pool":
        await bus.prepare()
    first = await bus.do(kind, id="once", **COMMANDS[kind])
    before = await bus.published()

    await bus.redeliver((await bus.entries())[-1])

    assert await bus.replies("once") == [first, first]
    assert await bus.published() == before


@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_command_past_its_deadline_is_refused_and_changes_nothing(bus: Bus, client: Redis, kind: str) -> None:
    if kind != "create_pool":
        await bus.prepare()
    before = await bus.published()
    now_ms = await redis_now_ms(client)

    late = await bus.do(kind, id="late", deadline=now_ms - 1, **COMMANDS[kind])
    in_time = await bus.do(kind, id="in-time", deadline=now_ms + 60_000, **COMMANDS[kind])

    assert late["error"]["code"] == "expired"
    assert late["error"]["hint"]
    assert in_time["ok"]
    events, definitions = before
    if kind not in ("read_pool", "resume_pool", "resume_queue"):
        assert len((await bus.published())[0]) > len(events)
        assert len((await bus.published())[1]) == len(definitions) + 1


@pytest.mark.parametrize("kind", [kind for kind in COMMANDS if kind != "create_pool"])
async def test_an_unknown_pool_is_not_found_and_the_hint_names_what_there_is(bus: Bus, kind: str) -> None:
    await bus.do("create_pool", pool="other")

    reply = await bus.do(kind, **COMMANDS[kind])

    assert reply["error"]["code"] == "not_found"
    assert "'etl'" in reply["error"]["message"]
    assert "other" in reply["error"]["hint"]


@pytest.mark.parametrize("kind", [kind for kind in COMMANDS if kind.endswith("_queue") and kind != "create_queue"])
async def test_an_unknown_queue_is_not_found_and_the_hint_names_what_there_is(bus: Bus, kind: str) -> None:
    await bus.prepare()

    reply = await bus.do(kind, **{**COMMANDS[kind], "queue": "defualt"})

    assert reply["error"]["code"] == "not_found"
    assert "'defualt'" in reply["error"]["message"]
    assert reply["error"]["hint"] == "there is: default, spare"


async def test_where_there_are_many_the_hint_says_how_to_list_them(bus: Bus) -> None:
    for number in range(11):
        await bus.send("create_pool", pool=f"p{number}")

    assert "`penstock work-pool ls`" in (await bus.do("pause_pool", pool="etl"))["error"]["hint"]
    assert "`penstock work-pool ls`" in (await bus.do("read_pool", pool="etl"))["error"]["hint"]


@pytest.mark.parametrize("kind", [kind for kind in COMMANDS if kind != "read_pool"])
async def test_a_command_that_comes_again_after_a_newer_one_is_refused_until_it_is_sent_again(
    bus: Bus, kind: str
) -> None:
    if kind != "create_pool":
        await bus.prepare()
    await bus.send(kind, id="older", **COMMANDS[kind])
    (older,) = await bus.left_behind()
    await bus.do("create_pool", pool="etl", if_missing=True)
    before = await bus.published()

    await bus.redeliver(older)

    (reply,) = await bus.replies("older")
    assert reply["error"]["code"] == "overtaken"
    assert "pool 'etl'" in reply["error"]["message"]
    assert await bus.published() == before
    await bus.send(kind, id="older", **COMMANDS[kind])
    await bus.handle()
    again = (await bus.replies("older"))[-1]
    assert again["ok"] or (kind, again["error"]["code"]) == ("create_pool", "conflict")
    assert await read_messages(bus.client, "dead") == []


async def test_nobody_hears_that_it_was_overtaken_so_an_operator_may_send_it_again(bus: Bus) -> None:
    await bus.prepare()
    await bus.send("pause_pool", pool="etl")
    (older,) = await bus.left_behind()
    await bus.do("resume_pool", pool="etl")

    await bus.redeliver(older)

    (letter,) = await read_messages(bus.client, "dead")
    assert "newer command about pool 'etl'" in letter["reason"]
    assert (await bus.do("read_pool", pool="etl"))["result"]["status"] == "NOT_READY"


async def test_commands_of_one_batch_are_executed_in_the_order_they_were_sent(bus: Bus) -> None:
    for kind in ("create_pool", "delete_pool", "create_pool", "pause_pool", "resume_pool", "pause_pool"):
        await bus.send(kind, pool="etl")
    await bus.handle()

    names = [event["event"].removeprefix("prefect.work-pool.") for event in await read_events(bus.client)]
    assert [name for name in names if not name.startswith("prefect")] == [
        *("created", "not-ready", "deleted", "created", "not-ready"),
        *("paused", "not-ready", "paused"),
    ]
    assert (await bus.do("read_pool", pool="etl"))["result"]["status"] == "PAUSED"


@pytest.mark.parametrize("name", ["prefect", "Prefect-pool", "PREFECT"])
async def test_reserved_pools_cannot_be_created_deleted_or_redefined(bus: Bus, name: str) -> None:
    for kind, fields in (
        ("create_pool", {}),
        ("delete_pool", {}),
        ("update_pool", {"changes": {"description": "mine", "concurrency_limit": 3}}),
    ):
        reply = await bus.do(kind, pool=name, **fields)
        assert (reply["ok"], reply["error"]["code"]) == (False, "reserved")
        assert reply["error"]["hint"]
    limit = await bus.do("update_pool", pool=name, changes={"concurrency_limit": 3})
    assert limit["error"]["code"] == "not_found"
    assert await bus.published() == ([], [])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        *[
            ("create_pool", {"pool": name})
            for name in ("a/b", "a%b", "a&b", "a>b", "a<b", "", "  ", "x" * 201, 7, None)
        ],
        *[("create_queue", {"pool": "etl", "queue": name}) for name in ("a/b", "a%b", "a&b", "a>b", "a<b", " ")],
        ("create_pool", {"pool": "etl", "concurrency_limit": -1}),
        ("create_pool", {"pool": "etl", "concurrency_limit": "5"}),
        ("create_pool", {"pool": "etl", "concurency_limit": 5}),
        ("create_pool", {"pool": "etl", "base_job_template": []}),
        ("update_pool", {"pool": "etl", "changes": {"concurrency_limit": -1}}),
        ("update_pool", {"pool": "etl", "changes": {"is_paused": True}}),
        ("update_pool", {"pool": "etl", "changes": {"max_attempts": None}}),
        ("update_pool", {"pool": "etl"}),
        ("create_queue", {"pool": "etl", "queue": "fast", "concurrency_limit": -1}),
        ("create_queue", {"pool": "etl", "queue": "fast", "priority": 0}),
        ("create_queue", {"pool": "etl", "queue": "fast", "priority": 1.5}),
        ("update_queue", {"pool": "etl", "queue": "default", "changes": {"name": "a/b"}}),
        ("update_queue", {"pool": "etl", "queue": "default", "changes": {"priority": None}}),
    ],
)
async def test_a_malformed_command_is_buried_with_its_reason_and_refused(
    bus: Bus, kind: str, fields: dict[str, Any]
) -> None:
    await bus.prepare()
    before = await bus.published()

    reply = await bus.do(kind, id="bad", **fields)

    (letter,) = await read_messages(bus.client, "dead")
    assert (reply["ok"], reply["error"]["code"]) == (False, "invalid")
    assert reply["error"]["message"] == letter["reason"]
    assert await bus.published() == before


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ({"job_configuration": {}}, "$.variables: "),
        ({"variables": {}}, "$.job_configuration: "),
        ({"job_configuration": {"a": "$"}, "variables": {}}, "job_configuration.a is inf; JSON has no such number"),
        ({"job_configuration": {"a": ["{{ b }}"]}, "variables": {}}, "$.job_configuration.a[0]: "),
        (
            {"job_configuration": {}, "variables": {"properties": {"n": {"type": "integer", "default": "x"}}}},
            "$.variables.properties.n.default: ",
        ),
    ],
)
async def test_a_wrong_template_is_refused_with_its_path_at_create_and_update(
    bus: Bus, template: dict[str, Any], said: str
) -> None:
    await bus.prepare()
    before = await bus.published()

    for number, (kind, fields) in enumerate(
        [
            ("create_pool", {"pool": "new", "base_job_template": template}),
            ("update_pool", {"pool": "etl", "changes": {"base_job_template": template}}),
        ]
    ):
        body = orjson.dumps({"type": kind, "id": f"t{number}", **fields}).replace(b'"$"', b"1e999")
        await bus.send_raw(body, kind)
        await bus.handle()
        (reply,) = await bus.replies(f"t{number}")
        assert (reply["ok"], reply["error"]["code"]) == (False, "invalid")
        assert said in reply["error"]["message"]
        # What is no message at all is buried, too.
        letters = await read_messages(bus.client, "dead")
        assert [letter["reason"] for letter in letters[number:]] in ([], [reply["error"]["message"]])
    assert await bus.published() == before


@pytest.mark.parametrize("fields", [{}, {"base_job_template": {}}])
async def test_a_pool_created_without_a_template_gets_the_default_one_of_its_type(
    bus: Bus, fields: dict[str, Any]
) -> None:
    known = await bus.do("create_pool", pool="known", **fields)
    unknown = await bus.do("create_pool", pool="unknown", worker_type="teleport", **fields)

    assert known["result"]["base_job_template"] == default_template("process")
    assert unknown["result"]["base_job_template"] == {}


async def test_overwriting_without_a_template_brings_the_default_one_back_and_if_missing_leaves_it(bus: Bus) -> None:
    own = {"job_configuration": {"command": "ls"}, "variables": {}}
    await bus.do("create_pool", pool="etl", base_job_template=own)

    left = await bus.do("create_pool", pool="etl", if_missing=True)
    overwritten = await bus.do("create_pool", pool="etl", overwrite=True)

    assert left["result"]["base_job_template"] == own
    assert overwritten["result"]["base_job_template"] == default_template("process")


async def test_an_update_to_the_empty_template_leaves_the_pool_without_one(bus: Bus) -> None:
    await bus.prepare()

    reply = await bus.do("update_pool", pool="etl", changes={"base_job_template": {}})

    assert reply["result"]["base_job_template"] == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[1, 2]",
        b'"text"',
        b"{",
        b"\xff\xfe",
        b'{"type": "nonsense"}',
        b"{}",
        b'{"type": "create_pool"}',
    ],
)
async def test_what_is_no_command_is_buried_and_its_neighbours_are_executed(bus: Bus, body: bytes) -> None:
    await bus.send("create_pool", id="before", pool="one")
    await bus.send_raw(body)
    await bus.send("create_pool", id="after", pool="two")
    await bus.handle()

    (letter,) = await read_messages(bus.client, "dead")
    assert letter["reason"]
    assert (await bus.replies("before"))[0]["ok"]
    assert (await bus.replies("after"))[0]["ok"]


async def test_names_and_texts_of_any_language_and_with_quotes_come_back_as_they_were_sent(bus: Bus) -> None:
    odd = 'größe-数据-🚰 "quoted" \\back'
    await bus.do("create_pool", pool=odd, description=odd, worker_type=odd)
    queue = await bus.do("create_queue", pool=odd, queue=odd, description=odd)
    await bus.do("update_queue", pool=odd, queue="default", changes={"name": "überlauf", "priority": 2})
    conflict = await bus.do("create_queue", pool=odd, queue=odd)
    missing = await bus.do("pause_queue", pool=odd, queue="fehlt'\"")
    await bus.do("pause_queue", pool=odd, queue="überlauf")

    pool = await bus.do("read_pool", pool=odd)

    assert (pool["result"]["name"], pool["result"]["description"], pool["result"]["type"]) == (odd, odd, odd)
    assert [found["name"] for found in pool["result"]["queues"]] == ["überlauf", odd]
    assert (queue["result"]["pool"], queue["result"]["description"]) == (odd, odd)
    assert (conflict["error"]["code"], missing["error"]["code"]) == ("conflict", "not_found")
    assert {event["resource"]["prefect.resource.name"] for event in await read_events(bus.client)} == {
        *("default", "überlauf", odd)
    }
    assert {message["pool"] for message in await read_messages(bus.client, "definitions")} == {odd}


async def test_a_command_nobody_waits_for_is_executed_without_leaving_a_reply(bus: Bus, client: Redis) -> None:
    await bus.send("create_pool", pool="etl")
    await bus.handle()

    assert (await bus.do("read_pool", pool="etl"))["ok"]
    assert [name async for name in client.scan_iter("penstock:{0}:reply:*")] == [b"penstock:{0}:reply:read_pool-1"]


async def test_a_command_nobody_waits_for_is_known_when_it_comes_again(bus: Bus) -> None:
    """By its entry's id: Redis may hand it out again after newer ones have been carried out."""
    await bus.prepare()
    await bus.send("update_pool", pool="etl", changes={"concurrency_limit": 3})
    older = (await bus.entries())[-1]
    await bus.handle()
    await bus.do("update_pool", pool="etl", changes={"concurrency_limit": 7})

    await bus.redeliver(older)

    assert (await bus.do("read_pool", pool="etl"))["result"]["concurrency_limit"] == 7


async def test_a_deleted_pool_leaves_no_key_behind_that_does_not_expire(bus: Bus, client: Redis) -> None:
    await bus.prepare()
    await bus.do("pause_pool", pool="etl")
    await bus.do("delete_pool", pool="etl")

    families = ("commands", "events", "definitions")
    left = {name async for name in client.scan_iter() if await client.ttl(name) < 0}
    assert left == {keys.key(0, family).encode() for family in families}


@pytest.fixture
async def running(client: Redis, redis_url: str) -> AsyncIterator[Redis]:
    """The real service, reading two partitions; answers a client."""
    settings = PoolRegistrySettings(redis_url=redis_url, partitions=2, health_port=-1)
    runner = Runner(build(settings, connect(redis_url), Health(SERVICE)))
    task = asyncio.create_task(runner.run())
    yield client
    runner._stop.set()
    assert await task == 0


@pytest.mark.parametrize("partition", [0, 1])
async def test_the_running_service_answers_requests_in_each_partition(running: Redis, partition: int) -> None:
    created = await request(running, streams.COMMANDS, partition, CreatePool(pool="größe-数据", concurrency_limit=2))
    await request(running, streams.COMMANDS, partition, CreateQueue(pool="größe-数据", queue="fast", priority=1))
    change = UpdatePool(pool="größe-数据", changes=PoolChanges(description="d"))
    updated = await request(running, streams.COMMANDS, partition, change)
    read = await request(running, streams.COMMANDS, partition, ReadPool(pool="größe-数据"))

    assert (created["concurrency_limit"], updated["concurrency_limit"]) == (2, 2)
    assert read == updated
    with pytest.raises(Conflict, match="already"):
        await request(running, streams.COMMANDS, partition, CreatePool(pool="größe-数据"))
    with pytest.raises(NotFound, match="'nowhere'"):
        await request(running, streams.COMMANDS, partition, PausePool(pool="nowhere"))
    with pytest.raises(Reserved):
        await request(running, streams.COMMANDS, partition, DeletePool(pool="prefect"))


async def test_what_was_sent_while_the_service_was_down_is_executed_when_it_comes(
    client: Redis, redis_url: str
) -> None:
    await Bus(client).send("create_pool", pool="etl")
    settings = PoolRegistrySettings(redis_url=redis_url, health_port=-1)
    runner = Runner(build(settings, connect(redis_url), Health(SERVICE)))
    task = asyncio.create_task(runner.run())

    async def created() -> bool:
        return bool(await client.hexists(keys.key(0, "pools"), "etl"))

    await wait_until(created, what="the backlog is executed")
    runner._stop.set()
    assert await task == 0
