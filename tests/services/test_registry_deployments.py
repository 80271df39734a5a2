from __future__ import annotations

import asyncio
import random
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from penstock import keys, streams
from penstock.bus.connection import connect, redis_now_ms
from penstock.bus.health import Health
from penstock.bus.requests import request
from penstock.bus.service import Runner
from penstock.contracts.deployments import CreateDeployment, Deployment, ScheduleSpec, UpdateDeployment
from penstock.contracts.pools import CreatePool
from penstock.errors import Invalid, NotFound
from penstock.streams import MAX_MESSAGE_BYTES
from services.pool_registry import rules
from services.pool_registry.app import SERVICE, build
from services.pool_registry.settings import PoolRegistrySettings
from tests.registering import Registry
from tests.services.test_pool_registry import Bus
from tests.support import read_events, read_messages, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

ONE: dict[str, Any] = {"deployment": "hello/demo"}
MADE: dict[str, Any] = {**ONE, "pool": "etl", "entrypoint": "hello.py:hello"}
COMMANDS: dict[str, dict[str, Any]] = {
    "create_deployment": {**MADE, "schedules": [{"interval_seconds": 60}]},
    "update_deployment": {**ONE, "changes": {"description": "new"}},
    "pause_deployment": ONE,
    "resume_deployment": ONE,
    "delete_deployment": ONE,
    "create_schedule": {**ONE, "schedule": {"interval_seconds": 60}},
    "update_schedule": {**ONE, "schedule_id": "early", "active": False},
    "delete_schedule": {**ONE, "schedule_id": "early"},
}


class Deployments(Bus):
    async def prepare(self, **fields: Any) -> None:
        """The pool and the deployment every command of COMMANDS is about."""
        await self.do("create_pool", pool="etl")
        early = {"cron": "0 6 * * *", "slug": "early"}
        reply = await self.do("create_deployment", **{**MADE, "schedules": [early], **fields})
        assert reply["ok"], reply

    async def prepare_for(self, kind: str) -> None:
        if kind == "create_deployment":
            await self.do("create_pool", pool="etl")
        else:
            await self.prepare(paused=kind == "resume_deployment")

    async def queues(self, pool: str = "etl") -> list[str]:
        return [queue["name"] for queue in (await self.do("read_pool", pool=pool))["result"]["queues"]]

    async def refused(self, kind: str, **fields: Any) -> str:
        """Send a command that is refused for what it says; nothing may change."""
        before = await self.published()
        reply = await self.do(kind, **fields)
        assert not reply["ok"], reply
        assert reply["error"]["code"] == "invalid"
        assert await self.published() == before
        assert await read_messages(self.client, "dead") == []
        return f"{reply['error']['message']} | {reply['error']['hint']}"


@pytest.fixture
def bus(client: Redis) -> Deployments:
    return Deployments(client)


async def test_every_command_of_the_contracts_has_a_route(bus: Deployments) -> None:
    assert [kind for kind in bus.subscription.by_type if kind.endswith(("_deployment", "_schedule"))] == list(COMMANDS)


@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_command_is_answered_with_the_whole_deployment_and_told_once(bus: Deployments, kind: str) -> None:
    await bus.prepare_for(kind)
    events, definitions = await bus.published()

    reply = await bus.do(kind, **COMMANDS[kind])

    assert reply["ok"], reply
    assert Deployment.model_validate(reply["result"]).name == "hello/demo"
    assert len((await bus.published())[0]) == len(events) + 1
    assert len((await bus.published())[1]) == len(definitions) + 1


@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_command_that_comes_again_after_a_newer_one_changes_nothing(bus: Deployments, kind: str) -> None:
    await bus.prepare()
    await bus.send(kind, id="older", **COMMANDS[kind])
    (older,) = await bus.left_behind()
    assert (await bus.do("update_deployment", **ONE, changes={"description": "newer"}))["ok"]
    before = await bus.published()

    await bus.redeliver(older)

    (reply,) = await bus.replies("older")
    assert reply["error"]["code"] == "overtaken"
    assert "deployment 'hello/demo'" in reply["error"]["message"]
    assert await bus.published() == before


async def test_what_no_longer_fits_was_overtaken_and_is_not_wrong(bus: Deployments) -> None:
    await bus.prepare()
    await bus.send("update_deployment", id="older", **ONE, changes={"queue": "new", "parameters": {"n": 1}})
    (older,) = await bus.left_behind()
    schema = {"type": "object", "properties": {"n": {"type": "string"}}}
    assert (await bus.do("update_deployment", **ONE, changes={"parameter_schema": schema}))["ok"]

    await bus.redeliver(older)

    (reply,) = await bus.replies("older")
    assert reply["error"]["code"] == "overtaken"
    assert await bus.queues() == ["default"], "nor was its queue made"


@pytest.mark.parametrize("kind", ["delete_queue", "delete_pool"])
async def test_a_deletion_that_comes_again_leaves_what_a_newer_deployment_needs(bus: Deployments, kind: str) -> None:
    await bus.do("create_pool", pool="etl")
    await bus.do("create_queue", pool="etl", queue="spare")
    await bus.send(kind, id="older", pool="etl", **({"queue": "spare"} if kind == "delete_queue" else {}))
    (older,) = await bus.left_behind()
    assert (await bus.do("create_deployment", **MADE, queue="spare"))["ok"]

    await bus.redeliver(older)

    assert (await bus.replies("older"))[0]["error"]["code"] == "overtaken"
    assert await bus.queues() == ["default", "spare"]


async def test_a_deployment_that_comes_again_does_not_bring_back_a_queue(bus: Deployments) -> None:
    await bus.do("create_pool", pool="etl")
    await bus.do("create_queue", pool="etl", queue="spare")
    await bus.send("create_deployment", id="older", **MADE, queue="spare")
    (older,) = await bus.left_behind()
    assert (await bus.do("delete_queue", pool="etl", queue="spare"))["ok"]

    await bus.redeliver(older)

    assert (await bus.replies("older"))[0]["error"]["code"] == "overtaken"
    assert await bus.queues() == ["default"]


@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_command_delivered_again_changes_nothing_and_answers_the_same(bus: Deployments, kind: str) -> None:
    await bus.prepare_for(kind)
    first = await bus.do(kind, id="once", **COMMANDS[kind])
    before = await bus.published()

    await bus.redeliver((await bus.entries())[-1])

    assert await bus.replies("once") == [first, first]
    assert await bus.published() == before


@pytest.mark.parametrize("kind", [kind for kind in COMMANDS if kind != "delete_deployment"])
async def test_a_command_delivered_again_is_not_judged_by_what_came_after_it(bus: Deployments, kind: str) -> None:
    fields = {**COMMANDS[kind], "queue": "fast"} if kind == "create_deployment" else COMMANDS[kind]
    await bus.prepare_for(kind)
    first = await bus.do(kind, id="once", **fields)
    entry = (await bus.entries())[-1]
    await bus.do("delete_deployment", **ONE)
    await bus.do("delete_pool", pool="etl")
    await bus.do(
        "create_pool", pool="etl", base_job_template={"job_configuration": {}, "variables": {"properties": {}}}
    )
    before = await bus.published()

    await bus.redeliver(entry)

    assert await bus.replies("once") == [first, first]
    assert await bus.published() == before


async def test_an_update_delivered_again_does_not_bring_back_a_queue(bus: Deployments) -> None:
    await bus.prepare()
    await bus.do("update_deployment", id="once", **ONE, changes={"queue": "fast"})
    entry = (await bus.entries())[-1]
    await bus.do("delete_queue", pool="etl", queue="fast")

    await bus.redeliver(entry)

    assert await bus.queues() == ["default"]


@pytest.mark.parametrize("kind", COMMANDS)
async def test_a_command_past_its_deadline_is_refused_and_changes_nothing(
    bus: Deployments, client: Redis, kind: str
) -> None:
    await bus.prepare_for(kind)
    before = await bus.published()
    now_ms = await redis_now_ms(client)
    fields = {**COMMANDS[kind], **({"queue": "new"} if kind == "create_deployment" else {})}

    late = await bus.do(kind, id="late", deadline=now_ms - 1, **fields)

    assert (late["error"]["code"], await bus.published()) == ("expired", before)
    assert (await bus.do(kind, id="in-time", deadline=now_ms + 60_000, **fields))["ok"]


async def test_a_missing_queue_is_created_before_the_deployment_and_only_then(bus: Deployments) -> None:
    await bus.do("create_pool", pool="etl")
    await bus.do("create_deployment", **MADE, queue="fast")
    assert await bus.queues() == ["default", "fast"]
    (*_, queue, deployment) = [event["event"] for event in await read_events(bus.client)]
    assert (queue, deployment) == ("prefect.work-queue.created", "prefect.deployment.created")

    refused = await bus.do("create_deployment", **MADE, queue="other")
    wrong = await bus.do("create_deployment", **MADE, queue="other", overwrite=True, parameters={"n": LARGE})
    nowhere = await bus.do("update_deployment", **ONE, changes={"pool": "nowhere", "queue": "other"})

    assert [reply["error"]["code"] for reply in (refused, wrong, nowhere)] == ["conflict", "invalid", "not_found"]
    assert await bus.queues() == ["default", "fast"]


async def test_another_queue_or_pool_brings_the_queue_along(bus: Deployments) -> None:
    await bus.prepare()
    await bus.do("create_pool", pool="other")

    await bus.do("update_deployment", **ONE, changes={"queue": "fast"})
    moved = await bus.do("update_deployment", **ONE, changes={"pool": "other"})

    assert (moved["result"]["pool"], moved["result"]["queue"]) == ("other", "fast")
    assert await bus.queues() == ["default", "fast"]
    assert await bus.queues("other") == ["default", "fast"]


async def test_giving_a_command_takes_the_entrypoint_away_and_back(bus: Deployments) -> None:
    await bus.prepare()

    command = await bus.do("update_deployment", **ONE, changes={"command": "ls -l"})
    both = await bus.do("update_deployment", **ONE, changes={"command": "ls", "entrypoint": "a.py:a"})
    none = await bus.do("update_deployment", **ONE, changes={"command": None})
    back = await bus.do("update_deployment", **ONE, changes={"entrypoint": "a.py:a"})

    assert (command["result"]["entrypoint"], command["result"]["command"]) == (None, "ls -l")
    assert [reply["error"]["code"] for reply in (both, none)] == ["invalid", "invalid"]
    assert (back["result"]["entrypoint"], back["result"]["command"]) == ("a.py:a", None)


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}


async def test_parameters_must_fit_the_schema_whichever_of_them_changes(bus: Deployments) -> None:
    await bus.do("create_pool", pool="etl")
    said = await bus.refused("create_deployment", **MADE, parameter_schema=SCHEMA, parameters={"n": "x"})
    assert "parameters: $.n: " in said
    assert "(type)" in said
    await bus.do("create_deployment", **MADE, parameters={"n": "x"}, schedules=[{"cron": "0 6 * * *", "slug": "early"}])

    assert "$.n" in await bus.refused("update_deployment", **ONE, changes={"parameter_schema": SCHEMA})
    fits = await bus.do("update_deployment", **ONE, changes={"parameter_schema": SCHEMA, "parameters": {}})
    assert fits["ok"], fits
    assert "$.n" in await bus.refused("update_deployment", **ONE, changes={"parameters": {"n": "x"}})
    wrong = {"cron": "0 5 * * *", "parameters": {"m": 1}}
    assert "parameters of schedule 1: $.m: " in await bus.refused("create_schedule", **ONE, schedule=wrong)
    wrong["slug"] = "late"
    said = await bus.refused("update_schedule", **ONE, schedule_id="early", schedule=wrong)
    assert "parameters of schedule 'late': $.m: " in said
    assert "$.m" in await bus.refused(
        "create_deployment", **MADE, overwrite=True, parameter_schema=SCHEMA, schedules=[wrong]
    )


async def test_schedules_that_stay_must_fit_what_changes(bus: Deployments) -> None:
    await bus.prepare(schedules=[{"cron": "0 6 * * *", "slug": "early", "parameters": {"n": "x"}}])

    for kind, fields in (
        ("update_deployment", {**ONE, "changes": {"parameter_schema": SCHEMA}}),
        ("create_deployment", {**MADE, "overwrite": True, "parameter_schema": SCHEMA}),
    ):
        assert "parameters of schedule 'early': $.n: " in await bus.refused(kind, **fields)


async def test_job_variables_must_fit_the_template_of_the_pool_they_come_to(bus: Deployments) -> None:
    strict = {"type": "object", "properties": {"cpu": {"type": "integer"}}, "required": ["cpu"]}
    template = {"job_configuration": {"cpu": "{{ cpu }}"}, "variables": strict}
    await bus.do("create_pool", pool="strict", base_job_template=template)
    said = await bus.refused("create_deployment", **{**MADE, "pool": "strict"}, job_variables={"cpu": "many"})
    assert "job variables: $.cpu: " in said
    await bus.prepare(job_variables={"cpu": "many"})

    assert "$.cpu" in await bus.refused("update_deployment", **ONE, changes={"pool": "strict"})
    both = await bus.do("update_deployment", **ONE, changes={"pool": "strict", "job_variables": {}})
    assert both["result"]["pool"] == "strict"
    assert "$.cpu" in await bus.refused("update_deployment", **ONE, changes={"job_variables": {"cpu": []}})


@pytest.mark.parametrize("spec", [{"cron": "0 0 30 2 *"}, {"cron": "nonsense"}, {"rrule": "nonsense"}])
async def test_a_schedule_that_never_fires_or_is_none_is_refused(bus: Deployments, spec: dict[str, Any]) -> None:
    await bus.do("create_pool", pool="etl")
    assert "schedule 2: " in await bus.refused(
        "create_deployment", **MADE, schedules=[{"cron": "0 6 * * *", "slug": "early"}, spec]
    )
    await bus.do("create_deployment", **MADE, schedules=[{"cron": "0 6 * * *", "slug": "early"}])

    assert "schedule 1: " in await bus.refused("create_schedule", **ONE, schedule=spec)
    assert "schedule 'x': " in await bus.refused(
        "update_schedule", **ONE, schedule_id="early", schedule={**spec, "slug": "x"}
    )


LARGE = "x" * 300_000


async def test_parameters_of_all_schedules_together_are_bounded(bus: Deployments) -> None:
    half = [{"cron": "0 6 * * *", "slug": slug, "parameters": {"text": "x" * 140_000}} for slug in ("one", "two")]
    await bus.do("create_pool", pool="etl")
    assert "parameters of all schedules: " in await bus.refused("create_deployment", **MADE, schedules=half)
    await bus.do("create_deployment", **MADE, schedules=half[:1])

    assert "parameters of all schedules: " in await bus.refused("create_schedule", **ONE, schedule=half[1])
    assert (await bus.do("create_schedule", **ONE, schedule={"cron": "0 6 * * *", "slug": "small"}))["ok"]
    assert (await bus.do("update_schedule", **ONE, schedule_id="one", schedule=half[1]))["ok"]
    assert "all schedules" in await bus.refused("update_schedule", **ONE, schedule_id="small", schedule=half[0])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("create_deployment", {**MADE, "deployment": "nameless"}),
        ("create_deployment", {**MADE, "deployment": "a/b/c"}),
        ("create_deployment", {**MADE, "command": "ls"}),
        ("create_deployment", {**MADE, "entrypoint": None}),
        ("create_deployment", {**MADE, "queue": "a/b"}),
        ("create_deployment", {**MADE, "parameters": {"n": "INFINITE"}}),
        ("create_deployment", {**MADE, "parameters": {"text": LARGE}}),
        ("create_deployment", {**MADE, "job_variables": {"text": LARGE}}),
        ("create_deployment", {**MADE, "parameter_schema": {"title": LARGE}}),
        ("create_deployment", {**MADE, "parameter_schema": {"properties": {"n": {"type": "integr"}}}}),
        ("create_deployment", {**MADE, "schedules": [{"cron": "* * * * *", "parameters": {"text": LARGE}}]}),
        ("create_deployment", {**MADE, "schedules": [{"interval_seconds": 0}]}),
        ("create_deployment", {**MADE, "schedules": [{"interval_seconds": 60, "anchor": "0001-01-01T00:00:00+14:00"}]}),
        ("create_deployment", {**MADE, "schedules": [{"cron": "* * * * *", "timezone": "Europe/Atlantis"}]}),
        ("create_deployment", {**MADE, "schedules": [{"cron": "* * * * *"}] * 101}),
        ("create_deployment", {**MADE, "working_dir": LARGE * 5}),
        ("update_deployment", {**ONE, "changes": {"paused": True}}),
        ("update_deployment", {**ONE, "changes": {"entrypoint": "hello.py"}}),
        ("update_deployment", {**ONE, "changes": {"parameters": {"n": "INFINITE"}}}),
        ("update_deployment", {**ONE, "changes": {"job_variables": {"a..b": 1}}}),
        ("update_deployment", ONE),
        ("create_schedule", {**ONE, "schedule": {}}),
        ("create_schedule", {**ONE, "schedule": {"cron": "* * * * *", "slug": 7}}),
        ("update_schedule", {**ONE, "schedule_id": ""}),
        ("delete_schedule", ONE),
    ],
)
async def test_bad_input_is_refused_or_buried_and_what_follows_is_executed(
    bus: Deployments, kind: str, fields: dict[str, Any]
) -> None:
    await bus.prepare()
    before = await bus.published()
    fields = {**fields, "overwrite": True} if kind == "create_deployment" else fields
    body = orjson.dumps({"type": kind, "id": "bad", **fields})
    body = body.replace(b'"INFINITE"', b"1e999")

    await bus.send_raw(body, kind)
    await bus.send("pause_deployment", id="next", **ONE)
    await bus.handle()

    letters = await read_messages(bus.client, "dead")
    if len(body) <= MAX_MESSAGE_BYTES:
        (reply,) = await bus.replies("bad")
        assert (reply["ok"], reply["error"]["code"]) == (False, "invalid")
        assert len(reply["error"]["message"]) < 10_000
        assert [letter["reason"] for letter in letters] in ([], [reply["error"]["message"]])
    else:
        assert len(letters) == 1
    (after,) = await bus.replies("next")
    assert after["ok"]
    events, definitions = await bus.published()
    assert (len(events), len(definitions)) == (len(before[0]) + 1, len(before[1]) + 1)


async def test_commands_of_one_batch_are_executed_in_the_order_they_were_sent(bus: Deployments) -> None:
    for kind, fields in (
        ("create_pool", {"pool": "etl"}),
        ("create_deployment", MADE),
        ("pause_deployment", ONE),
        ("delete_deployment", ONE),
        ("create_deployment", MADE),
        ("create_schedule", {**ONE, "schedule": {"cron": "0 6 * * *", "slug": "early"}}),
        ("delete_schedule", {**ONE, "schedule_id": "early"}),
    ):
        await bus.send(kind, **fields)
    await bus.handle()

    names = [event["event"] for event in await read_events(bus.client)]
    assert [name.rpartition(".")[2] for name in names if ".deployment." in name] == [
        *("created", "updated", "deleted", "created", "updated", "updated")
    ]


class Model:
    """One deployment as the pure rules would have it."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.fields = made
        self.revision = made["revision"]
        self.schedules = [kept(one) for one in made["schedules"]]

    def change(self, changes: dict[str, Any], rows: list[rules.ScheduleRow] | None) -> list[str]:
        """Apply a change; answers the names of the fields that differ."""
        changed = [name for name, value in changes.items() if self.fields[name] != value]
        self.fields = {**self.fields, **changes}
        if rows is not None:
            merged = rules.merged_schedules(self.schedules, rows)
            if merged != self.schedules:
                changed.append("schedules")
                self.schedules = merged
        self.revision += rules.revises(changed)
        return changed


def kept(one: dict[str, Any]) -> rules.KeptSchedule:
    rest = {name: value for name, value in one.items() if name not in ("id", "anchor")}
    return rules.KeptSchedule(one["id"], rules.json_text(one["anchor"]), rules.json_text(rest)[1:])


VALUES: dict[str, list[Any]] = {
    "pool": ["etl", "other"],
    "queue": ["default", "fast"],
    "working_dir": [None, "/srv"],
    "parameters": [{}, {"a": [], "b": {}}, {"b": {}, "a": []}],
    "parameter_schema": [None, {}],
    "job_variables": [{}, {"x": 1}],
    "tags": [[], ["a"]],
    "description": [None, "d"],
    "version": [None, "1"],
    "concurrency_limit": [None, 0, 3],
    "collision_strategy": ["enqueue", "cancel_new"],
    "retries": [0, 1],
    "retry_delay_seconds": [0, 0.0, 1.5],
}
SPECS: list[dict[str, Any]] = [
    {"interval_seconds": 60},
    {"interval_seconds": 60, "anchor": "2026-01-01T00:00:00Z"},
    {"cron": "* * * * *"},
    {"cron": "* * * * *", "parameters": {"a": {}}},
    {"rrule": "FREQ=DAILY", "active": False},
]


@pytest.mark.parametrize("seed", range(5))
async def test_random_changes_end_as_the_pure_rules_say(client: Redis, seed: int) -> None:
    chance = random.Random(seed)
    registry = Registry(client)
    await registry.pool()
    await registry.pool("other")
    model = Model(await registry.deployment())
    await registry.forget()
    for _ in range(60):
        changes = {name: chance.choice(VALUES[name]) for name in VALUES if chance.random() < 0.1}
        rows = None
        if chance.random() < 0.5:
            after = await registry.change_deployment(**changes)
        else:
            specs = chance.sample(SPECS * 2, k=chance.randrange(4))
            changes = {**{name: model.fields[name] for name in VALUES}, **changes}
            after = await registry.deployment(overwrite=True, **changes, schedules=specs)
            known = {old.id for old in model.schedules}
            fresh = [one for one in after["schedules"] if one["id"] not in known]
            rows = [row_of(spec, after, fresh) for spec in specs]
            rows = named(rows, model.schedules, [one["id"] for one in fresh])
        changed = model.change(changes, rows)

        assert {name: after[name] for name in VALUES} == {name: model.fields[name] for name in VALUES}
        assert after["revision"] == model.revision
        assert [kept(one) for one in after["schedules"]] == model.schedules
        events = await registry.events()
        assert [set(event["payload"]["updated_fields"]) for event in events] == ([set(changed)] if changed else [])
        messages = await registry.definitions()
        assert [message["revision"] for message in messages] == ([model.revision] if changed else [])


def row_of(spec: dict[str, Any], after: dict[str, Any], fresh: list[dict[str, Any]]) -> rules.ScheduleRow:
    """The row as it was sent, counted from the same moment; its id is found out later.

    The moment is that of the check before the script, so it may be of the second before.
    """
    given = {spec.get("anchor") for spec in SPECS}
    moments = [one["anchor"] for one in fresh if one["interval_seconds"] and one["anchor"] not in given]
    moment = datetime.fromisoformat(moments[0] if moments else after["updated"])
    return rules.schedule_row(ScheduleSpec.model_validate(spec), "", moment)


def named(rows: list[rules.ScheduleRow], before: list[rules.KeptSchedule], fresh: list[str]) -> list[rules.ScheduleRow]:
    """Give rows the ids that were made up for them: those that became new schedules, in their order."""
    marked = [row._replace(id=f"~{number}") for number, row in enumerate(rows)]
    new = sorted(one.id for one in rules.merged_schedules(before, marked) if one.id.startswith("~"))
    found = dict(zip(new, fresh, strict=True))
    return [row._replace(id=found.get(row.id, row.id)) for row in marked]


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
async def test_the_running_service_survives_raw_nonsense_and_answers_in_each_partition(
    running: Redis, partition: int
) -> None:
    for body in (
        b"",
        b"{",
        b'{"type": "create_deployment"}',
        b'{"type": "create_deployment", "deployment": "a/b", "pool": 7, "entrypoint": "a.py:a", "command": "ls"}',
        b'{"type": "create_deployment", "deployment": "a/b", "pool": "\\ud800", "command": "ls"}',
        b'{"type": "create_deployment", "id": "huge", "description": "' + b"x" * MAX_MESSAGE_BYTES + b'"}',
        b'{"type": "update_deployment", "deployment": "\xff", "changes": {}}',
        b'{"type": "create_schedule", "deployment": "a/b", "schedule": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    ):
        await running.xadd(keys.key(partition, "commands"), {"__data__": body, "type": "create_deployment"})

    await request(running, streams.COMMANDS, partition, CreatePool(pool="größe"))
    create = CreateDeployment(deployment="größe/数据", pool="größe", command="ls", queue="fast")
    created = await request(running, streams.COMMANDS, partition, create)
    with pytest.raises(NotFound, match="'nowhere'"):
        await request(
            running, streams.COMMANDS, partition, create.model_copy(update={"pool": "nowhere", "overwrite": True})
        )
    change = UpdateDeployment.model_validate({"deployment": "größe/数据", "changes": {"parameters": {"x": LARGE}}})
    with pytest.raises(Invalid, match="parameters"):
        await request(running, streams.COMMANDS, partition, change)

    assert Deployment.model_validate(created).queue == "fast"

    async def buried() -> bool:
        return await running.xlen(keys.key(partition, "dead")) == 8

    await wait_until(buried, what="the nonsense is buried")
