from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.requests import request
from penstock.client import Penstock
from penstock.contracts.deployments import CreateDeployment, ScheduleSpec
from penstock.errors import Conflict, Invalid, NotFound
from penstock.streams import COMMANDS
from tests.answering import answering
from tests.support import read_messages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from penstock.contracts.deployments import Deployment

MANY = 4
HOURLY = ScheduleSpec(cron="@hourly", slug="often")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "day": {"type": "integer", "default": 1}},
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.fixture
async def penstock(client: Redis, redis_url: str) -> AsyncIterator[Penstock]:
    async with answering(client, redis_url):
        penstock = Penstock(client, 1)
        await penstock.create_pool("etl")
        yield penstock


def pool_in(partition: int) -> str:
    """Name of a pool that lives in one of four partitions."""
    names = (f"pool-{number}" for number in itertools.count())
    return next(name for name in names if keys.partition_of_pool(name, MANY) == partition)


@pytest.fixture
async def wide(client: Redis, redis_url: str) -> AsyncIterator[Penstock]:
    """An installation with four partitions, and a pool in each."""
    async with answering(client, redis_url, MANY):
        penstock = Penstock(client, MANY)
        for partition in range(MANY):
            await penstock.create_pool(pool_in(partition))
        yield penstock


async def deploy(penstock: Penstock, name: str = "hello/demo", /, **fields: Any) -> Deployment:
    return await penstock.create_deployment(name, **{"pool": "etl", "entrypoint": "hello.py:hello", **fields})


# Definitions


async def test_a_created_deployment_is_read_back_as_it_was_answered(penstock: Penstock) -> None:
    created = await penstock.create_deployment(
        "hello/demo ☂",
        pool="etl",
        queue="critical",
        command=["python", "-m", "hello"],
        working_dir="/srv",
        parameters={"name": "Marvin", "files": [], "deep": {"a": {}}},
        parameter_schema={"type": "object"},
        job_variables={"env": {"STAGE": "test"}},
        tags=["nightly", "etl"],
        description="says hello",
        version="1.2",
        concurrency_limit=2,
        collision_strategy="cancel_new",
        retries=3,
        retry_delay_seconds=0.5,
        schedules=[
            HOURLY,
            ScheduleSpec(interval_seconds=90.5, parameters={"name": "Ford"}),
            ScheduleSpec(cron="5 4 * * *"),
        ],
        paused=True,
    )

    assert await penstock.read_deployment("hello/demo ☂") == created
    assert await penstock.read_deployments() == [created]
    assert (created.flow, created.queue, created.command) == ("hello", "critical", ["python", "-m", "hello"])
    assert (created.parameters, created.tags) == (
        {"name": "Marvin", "files": [], "deep": {"a": {}}},
        ["nightly", "etl"],
    )
    assert (created.retry_delay_seconds, created.paused, len(created.schedules)) == (0.5, True, 3)


async def test_a_minimal_deployment_has_every_default(penstock: Penstock) -> None:
    created = await deploy(penstock)

    assert (created.queue, created.parameters, created.parameter_schema, created.tags) == ("default", {}, None, [])
    assert (created.paused, created.schedules, created.retries, created.concurrency_limit) == (False, [], 0, None)
    assert await penstock.read_deployment("hello/demo") == created


async def test_an_existing_deployment_is_refused_or_overwritten_with_its_schedules_kept(penstock: Penstock) -> None:
    first = await deploy(penstock, schedules=[HOURLY], paused=True, tags=["old"])

    with pytest.raises(Conflict, match="hello/demo"):
        await deploy(penstock)
    second = await deploy(penstock, overwrite=True, description="new")

    assert (second.id, second.schedules, second.paused) == (first.id, first.schedules, True)
    assert (second.description, second.tags) == ("new", [])


async def test_an_unknown_pool_gets_a_suggestion(penstock: Penstock) -> None:
    await deploy(penstock)

    with pytest.raises(NotFound, match="there is no work pool 'ett'") as refusal:
        await deploy(penstock, "hello/other", pool="ett")
    assert refusal.value.hint == "did you mean 'etl'?"
    with pytest.raises(NotFound, match="there is no work pool 'ett'") as refusal:
        await penstock.update_deployment("hello/demo", pool="ett")
    assert refusal.value.hint == "did you mean 'etl'?"
    assert [one.name for one in await penstock.read_deployments()] == ["hello/demo"]


@pytest.mark.parametrize("bad", ["demo", "a/b/c", "/demo", "hello/", "he%lo/demo", ""])
async def test_a_bad_name_is_refused_before_anything_is_sent(penstock: Penstock, client: Redis, bad: str) -> None:
    before = await client.xlen(keys.key(0, "commands"))

    with pytest.raises(Invalid):
        await deploy(penstock, bad)

    assert await client.xlen(keys.key(0, "commands")) <= before


@pytest.mark.parametrize("fields", [{"entrypoint": None}, {"command": "true"}, {"entrypoint": "hello.py"}])
async def test_there_is_exactly_one_thing_to_run(penstock: Penstock, fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="entrypoint"):
        await deploy(penstock, **fields)


async def test_an_update_changes_only_what_it_is_given(penstock: Penstock) -> None:
    before = await deploy(penstock, description="old", concurrency_limit=5, tags=["a"], schedules=[HOURLY])

    after = await penstock.update_deployment("hello/demo", concurrency_limit=None, queue="fast")

    assert (after.concurrency_limit, after.queue) == (None, "fast")
    kept = {"description", "tags", "schedules", "id", "entrypoint", "pool"}
    assert after.model_dump(include=kept) == before.model_dump(include=kept)
    assert await penstock.read_deployment("hello/demo") == after


@pytest.mark.parametrize("change", [{"concurrency_limit": -1}, {"qeue": "x"}, {"retries": 1001}, {"tags": "a"}])
async def test_a_bad_change_is_refused_with_the_name_of_its_field(penstock: Penstock, change: dict[str, Any]) -> None:
    await deploy(penstock)

    with pytest.raises(Invalid, match=next(iter(change))):
        await penstock.update_deployment("hello/demo", **change)


async def test_pause_and_resume_answer_what_is_so_now(penstock: Penstock) -> None:
    await deploy(penstock)

    assert (await penstock.pause_deployment("hello/demo")).paused
    assert (await penstock.read_deployment("hello/demo")).paused
    assert not (await penstock.resume_deployment("hello/demo")).paused


async def test_a_deleted_deployment_is_gone(penstock: Penstock) -> None:
    await deploy(penstock, schedules=[HOURLY])

    await penstock.delete_deployment("hello/demo")

    assert await penstock.read_deployments() == []
    with pytest.raises(NotFound) as refusal:
        await penstock.read_deployment("hello/demo")
    assert refusal.value.hint == "no deployment exists yet"


async def test_deployments_are_listed_by_name_and_by_pool(penstock: Penstock) -> None:
    await penstock.create_pool("ops")
    for name, pool in (("b/two", "etl"), ("a/one", "ops"), ("a/zero", "etl")):
        await deploy(penstock, name, pool=pool)

    assert [one.name for one in await penstock.read_deployments()] == ["a/one", "a/zero", "b/two"]
    assert [one.name for one in await penstock.read_deployments("etl")] == ["a/zero", "b/two"]
    with pytest.raises(NotFound, match="no work pool 'opt'") as refusal:
        await penstock.read_deployments("opt")
    assert refusal.value.hint == "did you mean 'ops'?"


async def test_deployments_of_a_deleted_pool_are_still_listed(penstock: Penstock) -> None:
    await deploy(penstock)
    await penstock.delete_pool("etl")

    assert [one.name for one in await penstock.read_deployments("etl")] == ["hello/demo"]


async def test_a_thousand_deployments_are_read_in_a_handful_of_round_trips(
    penstock: Penstock, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await deploy(penstock, schedules=[HOURLY])
    fields: Any = await client.hgetall(keys.key(0, "deployment", one.id))
    for number in range(1000):
        name = f"hello/{number:04}"
        await client.hset(keys.key(0, "deployment", name), mapping={**fields, b"name": f'"{name}"'})
        await client.hset(keys.key(0, "deployments"), name, name)
    trips = 0
    pipeline = client.pipeline

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal trips
        trips += 1
        return pipeline(*arguments, **options)

    monkeypatch.setattr(client, "pipeline", counted)

    found = await penstock.read_deployments()
    assert len(found) == 1001
    assert len(await penstock.read_deployment_counts(found)) == 1001
    assert trips == 5


# Names


async def test_a_bare_name_will_do_while_it_is_the_only_one(penstock: Penstock) -> None:
    demo = await deploy(penstock, "hello/demo")
    await deploy(penstock, "hello/my-demo")

    assert await penstock.read_deployment("demo") == demo
    assert (await penstock.pause_deployment("demo")).name == "hello/demo"

    await deploy(penstock, "other/demo")
    with pytest.raises(Invalid, match="2 deployments are called 'demo': hello/demo, other/demo"):
        await penstock.read_deployment("demo")


async def test_a_name_is_found_however_its_accents_are_spelled(penstock: Penstock) -> None:
    composed, decomposed = "caf\u00e9/d\u00e9mo", "cafe\u0301/de\u0301mo"
    created = await deploy(penstock, decomposed)

    assert created.name == composed
    assert await penstock.read_deployment(decomposed) == created
    assert await penstock.read_deployment("de\u0301mo") == created


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("hello/dmeo", "did you mean 'hello/demo'?"),
        ("dmeo", "did you mean 'demo'?"),
        ("HELLO/DEMO", "did you mean 'hello/demo'?"),
        ("quite/different", "`penstock deployment ls` lists them"),
    ],
)
async def test_an_unknown_deployment_gets_a_suggestion_wherever_it_is_named(
    penstock: Penstock, name: str, hint: str
) -> None:
    await deploy(penstock)

    actions: list[Callable[[], Awaitable[Any]]] = [
        lambda: penstock.read_deployment(name),
        lambda: penstock.update_deployment(name, description="x"),
        lambda: penstock.pause_deployment(name),
        lambda: penstock.resume_deployment(name),
        lambda: penstock.delete_deployment(name),
        lambda: penstock.run_deployment(name),
        lambda: penstock.create_schedule(name, HOURLY),
        lambda: penstock.update_schedule(name, "often", active=False),
        lambda: penstock.delete_schedule(name, "often"),
    ]
    for action in actions:
        with pytest.raises(NotFound, match=f"there is no deployment '{name}'") as refusal:
            await action()
        assert refusal.value.hint == hint


# Schedules


async def test_schedules_are_added_changed_and_deleted_by_id_or_slug(penstock: Penstock) -> None:
    await deploy(penstock)

    (often,) = (await penstock.create_schedule("hello/demo", HOURLY)).schedules
    assert (often.slug, often.cron, often.active) == ("often", "@hourly", True)
    assert not (await penstock.update_schedule("hello/demo", "often", active=False)).schedules[0].active
    changed = await penstock.update_schedule("hello/demo", often.id, schedule=ScheduleSpec(cron="@daily", slug="daily"))
    assert [(one.id, one.cron, one.slug) for one in changed.schedules] == [(often.id, "@daily", "daily")]
    assert changed == await penstock.read_deployment("hello/demo")
    assert (await penstock.delete_schedule("hello/demo", "daily")).schedules == []


async def test_schedules_come_by_slug_whatever_order_they_were_made_in(penstock: Penstock) -> None:
    specs = [ScheduleSpec(cron=f"{minute} * * * *", slug=slug) for minute, slug in enumerate("decba")]

    created = await deploy(penstock, schedules=specs)

    assert [one.slug for one in created.schedules] == ["a", "b", "c", "d", "e"]
    assert (await penstock.read_deployment("demo")).schedules == created.schedules


async def test_an_unknown_schedule_gets_a_suggestion(penstock: Penstock) -> None:
    await deploy(penstock, schedules=[HOURLY])

    actions: list[Callable[[], Awaitable[Any]]] = [
        lambda: penstock.update_schedule("hello/demo", "ofen", active=False),
        lambda: penstock.delete_schedule("hello/demo", "ofen"),
    ]
    for action in actions:
        with pytest.raises(NotFound, match="deployment 'hello/demo' has no schedule 'ofen'") as refusal:
            await action()
        assert refusal.value.hint == "did you mean 'often'?"


async def test_a_schedule_that_never_fires_is_refused(penstock: Penstock) -> None:
    await deploy(penstock)

    with pytest.raises(Invalid, match="0 0 31 2"):
        await penstock.create_schedule("hello/demo", ScheduleSpec(cron="0 0 31 2 *"))


# Parameters


async def test_defaults_and_schedules_that_do_not_fit_the_signature_are_refused_by_name(penstock: Penstock) -> None:
    for fields, told in (
        ({"parameters": {"dya": 1}}, "there is no parameter 'dya', did you mean 'day'?"),
        ({"parameters": {"day": "x"}}, "'day' does not fit"),
        ({"schedules": [HOURLY]}, "schedule 'often' of deployment 'hello/demo': 'name' is missing"),
        (
            {"schedules": [ScheduleSpec(cron="@daily", parameters={"name": 7})]},
            r"schedule 1 \(cron '@daily' \(UTC\)\) .*'name' does not fit",
        ),
    ):
        with pytest.raises(Invalid, match=told):
            await deploy(penstock, parameter_schema=SCHEMA, **fields)
    assert await penstock.read_deployments() == []

    await deploy(penstock, parameter_schema=SCHEMA)
    with pytest.raises(Invalid, match="'name' is missing"):
        await penstock.create_schedule("hello/demo", HOURLY)
    with pytest.raises(Invalid, match="'day' does not fit"):
        await penstock.update_deployment("hello/demo", parameters={"day": "x"})

    await penstock.update_deployment("hello/demo", parameters={"name": "Ford"})
    await penstock.create_schedule("hello/demo", HOURLY)
    with pytest.raises(Invalid, match="there is no parameter 'x'"):
        await penstock.update_schedule(
            "hello/demo", "often", schedule=HOURLY.model_copy(update={"parameters": {"x": 1}})
        )


# Runs


async def test_a_run_is_self_contained_and_goes_where_the_deployment_says(penstock: Penstock) -> None:
    deployment = await deploy(
        penstock,
        queue="critical",
        working_dir="/srv",
        parameters={"name": "Marvin", "day": 1},
        job_variables={"env": {"A": "1", "B": "1"}},
        tags=["nightly"],
    )
    moment = datetime.now(UTC) + timedelta(hours=1)

    run_id = await penstock.run_deployment(
        "hello/demo",
        {"day": 2},
        job_variables={"env.B": "2"},
        scheduled_time=moment,
        run_name="trial run",
        tags=["trial"],
    )

    run = await penstock.read_run(run_id)
    assert (run.pool, run.queue, run.name, run.state) == ("etl", "critical", "trial run", "SCHEDULED")
    assert (run.deployment, run.deployment_id) == ("hello/demo", deployment.id)
    assert datetime.fromisoformat(run.scheduled_time) - moment < timedelta(milliseconds=1)
    assert (run.spec["entrypoint"], run.spec["working_dir"]) == ("hello.py:hello", "/srv")
    assert run.spec["parameters"] == {"name": "Marvin", "day": 2}
    assert run.spec["job_variables"] == {"env": {"A": "1", "B": "2"}}
    assert run.spec["tags"] == ["nightly", "trial"]


async def test_later_changes_do_not_reach_a_run(penstock: Penstock) -> None:
    await deploy(penstock, parameters={"name": "Marvin"})
    run_id = await penstock.run_deployment("demo")

    await penstock.update_deployment("demo", parameters={"name": "Ford"}, entrypoint="other.py:other")

    spec = (await penstock.read_run(run_id)).spec
    assert (spec["parameters"], spec["entrypoint"]) == ({"name": "Marvin"}, "hello.py:hello")


async def test_a_paused_deployment_can_still_be_run(penstock: Penstock) -> None:
    await deploy(penstock, paused=True)

    assert (await penstock.read_run(await penstock.run_deployment("demo"))).state == "SCHEDULED"


async def test_the_same_key_is_the_same_run_of_this_deployment_only(penstock: Penstock) -> None:
    await deploy(penstock, "hello/one")
    await deploy(penstock, "hello/two")

    first = await penstock.run_deployment("one", {"day": 1}, idempotency_key="january")

    assert await penstock.run_deployment("one", {"day": 2}, idempotency_key="january") == first
    assert await penstock.run_deployment("two", idempotency_key="january") != first
    assert await penstock.run_deployment("one", idempotency_key="february") != first
    assert await penstock.run_deployment("one") != await penstock.run_deployment("one")


async def test_a_submission_says_whether_the_run_is_new(penstock: Penstock) -> None:
    await deploy(penstock)

    first, second = [await penstock.submit_deployment("demo", idempotency_key="january") for _ in range(2)]

    assert (first.id, first.created, second.created) == (second.id, True, False)
    assert (await penstock.submit_deployment("demo")).created


async def test_only_a_function_may_have_changed_since_it_was_deployed(penstock: Penstock) -> None:
    await deploy(penstock, parameter_schema=SCHEMA)
    await deploy(penstock, "hello/command", entrypoint=None, command="ls", parameter_schema=SCHEMA)

    for name, told in (("demo", True), ("command", False)):
        with pytest.raises(Invalid) as refusal:
            await penstock.run_deployment(name, {"new": 1})
        assert ("`penstock deploy` it again" in refusal.value.hint) is told


@pytest.mark.parametrize(
    ("parameters", "told", "hint"),
    [
        (
            {},
            "parameters of deployment 'hello/demo': 'name' is missing",
            "its parameters: name (string, required), day",
        ),
        ({"name": "x", "dya": 1}, "there is no parameter 'dya', did you mean 'day'?", "its parameters:"),
        ({"name": "x", "day": "two"}, '\'day\' does not fit: $.day: "two" is not of type "integer"', ""),
    ],
)
async def test_parameters_that_do_not_fit_are_refused_by_name_and_nothing_is_sent(
    penstock: Penstock, client: Redis, parameters: dict[str, Any], told: str, hint: str
) -> None:
    await deploy(penstock, parameter_schema=SCHEMA)
    before = await client.xlen(keys.key(0, "dispatch"))

    with pytest.raises(Invalid) as refusal:
        await penstock.run_deployment("demo", parameters)

    assert told in refusal.value.message
    assert hint in refusal.value.hint
    assert await client.xlen(keys.key(0, "dispatch")) == before


async def test_job_variables_that_the_pool_forbids_are_refused(penstock: Penstock) -> None:
    await deploy(penstock)

    with pytest.raises(Invalid, match="stream_output"):
        await penstock.run_deployment("demo", job_variables={"stream_output": "perhaps"})


async def test_a_deployment_whose_pool_was_deleted_says_what_to_do_and_runs_again_with_a_pool_of_that_name(
    penstock: Penstock,
) -> None:
    await deploy(penstock)
    await penstock.delete_pool("etl")

    with pytest.raises(NotFound, match="work pool 'etl' of deployment 'hello/demo' does not exist any more") as refusal:
        await penstock.run_deployment("demo")
    assert "penstock work-pool create 'etl'" in refusal.value.hint
    assert "penstock deployment update 'hello/demo' --pool" in refusal.value.hint

    await penstock.create_pool("etl")
    assert (await penstock.read_run(await penstock.run_deployment("demo"))).pool == "etl"


async def test_a_moment_without_a_time_zone_is_refused(penstock: Penstock) -> None:
    await deploy(penstock)

    with pytest.raises(Invalid, match="scheduled_time"):
        await penstock.run_deployment("demo", scheduled_time=datetime(2030, 1, 1))  # noqa: DTZ001 - the point


async def test_counts_say_what_waits_and_what_is_in_flight(penstock: Penstock, client: Redis) -> None:
    one, two = await deploy(penstock, "hello/one"), await deploy(penstock, "hello/two")
    for _ in range(3):
        await penstock.run_deployment("one")
    await client.zadd(keys.key(0, "deployment_in_flight", two.id), {"somebody": 1})

    counts = await penstock.read_deployment_counts([one, two])

    assert [(count.waiting, count.in_flight) for count in counts] == [(3, 0), (0, 1)]


# Partitions


async def test_deployments_are_found_in_whichever_partition_their_pool_lives(wide: Penstock, client: Redis) -> None:
    for partition in range(MANY):
        await deploy(wide, f"hello/in-{partition}", pool=pool_in(partition), schedules=[HOURLY])

    assert [one.name for one in await wide.read_deployments()] == [f"hello/in-{number}" for number in range(MANY)]
    for partition in range(MANY):
        name = f"hello/in-{partition}"
        assert await client.hkeys(keys.key(partition, "deployments")) == [name.encode()]
        assert [one.name for one in await wide.read_deployments(pool_in(partition))] == [name]
        assert (await wide.pause_deployment(name)).paused
        assert (await wide.read_deployment(f"in-{partition}")).paused
        assert not (await wide.update_schedule(name, "often", active=False)).schedules[0].active
        assert keys.partition_of_run(await wide.run_deployment(name)) == partition
        assert [count.waiting for count in await wide.read_deployment_counts([await wide.read_deployment(name)])] == [1]
    await wide.delete_deployment("in-2")
    assert len(await wide.read_deployments()) == MANY - 1


async def test_a_name_is_taken_in_all_partitions(wide: Penstock) -> None:
    await deploy(wide, pool=pool_in(1))

    with pytest.raises(Conflict, match=f"'hello/demo' exists already, in work pool '{pool_in(1)}'"):
        await deploy(wide, pool=pool_in(3))


async def test_a_deployment_moves_with_its_pool_and_stays_the_same(wide: Penstock, client: Redis) -> None:
    before = await deploy(
        wide,
        pool=pool_in(1),
        queue="critical",
        schedules=[HOURLY, ScheduleSpec(interval_seconds=90, active=False)],
        paused=True,
        parameters={"name": "Marvin"},
        description="says hello",
        concurrency_limit=2,
        retries=3,
    )

    after = await wide.update_deployment("demo", pool=pool_in(3), description="moved")

    assert (after.pool, after.description, after.paused) == (pool_in(3), "moved", True)
    its_own = {"pool", "description", "revision", "revised_ms", "created", "updated", "schedules"}
    assert after.model_dump(exclude=its_own) == before.model_dump(exclude=its_own)
    assert [one.model_dump(exclude={"id"}) for one in after.schedules] != []
    assert sorted((one.slug, one.interval_seconds, one.anchor, one.active) for one in after.schedules) == sorted(
        (one.slug, one.interval_seconds, one.anchor, one.active) for one in before.schedules
    )
    assert await wide.read_deployments() == [after]
    assert await client.hkeys(keys.key(1, "deployments")) == []
    left = (await read_messages(client, "definitions", partition=1))[-1]
    assert (left["type"], left["deployment_id"], left["moved_to"]) == ("deployment.deleted", before.id, pool_in(3))
    come = (await read_messages(client, "definitions", partition=3))[-1]
    assert (come["type"], come["deployment_id"]) == ("deployment.changed", before.id)
    assert keys.partition_of_run(await wide.run_deployment("demo")) == 3


async def test_a_move_the_other_pool_refuses_changes_nothing(wide: Penstock) -> None:
    before = await deploy(wide, pool=pool_in(1))

    with pytest.raises(NotFound, match="there is no work pool 'nowhere'"):
        await wide.update_deployment("demo", pool="nowhere")
    with pytest.raises(Invalid):
        await wide.update_deployment("demo", pool=pool_in(2), job_variables={"stream_output": "perhaps"})

    assert await wide.read_deployments() == [before]


async def test_deploying_again_to_a_pool_of_another_partition_moves_it(wide: Penstock) -> None:
    before = await deploy(wide, pool=pool_in(1), schedules=[HOURLY], paused=True)

    after = await deploy(wide, pool=pool_in(2), overwrite=True, schedules=[], description="new")

    assert (after.id, after.pool, after.paused, after.schedules) == (before.id, pool_in(2), True, [])
    assert await wide.read_deployments() == [after]


async def test_a_move_that_was_interrupted_is_finished_by_the_next_change(wide: Penstock, client: Redis) -> None:
    before = await deploy(wide, pool=pool_in(1))
    command = CreateDeployment(
        deployment="hello/demo", pool=pool_in(2), entrypoint="hello.py:hello", deployment_id=before.id, version="new"
    )
    await request(client, COMMANDS, 2, command)

    assert (await wide.read_deployment("demo")).version == "new"
    assert [one.version for one in await wide.read_deployments()] == ["new"]
    assert (await wide.pause_deployment("demo")).version == "new"

    assert await client.hkeys(keys.key(1, "deployments")) == []
    left = (await read_messages(client, "definitions", partition=1))[-1]
    assert (left["type"], left["moved_to"]) == ("deployment.deleted", pool_in(2))


async def test_deleting_leaves_nothing_of_a_move_that_was_interrupted(wide: Penstock, client: Redis) -> None:
    before = await deploy(wide, pool=pool_in(1))
    command = CreateDeployment(
        deployment="hello/demo", pool=pool_in(2), entrypoint="hello.py:hello", deployment_id=before.id
    )
    await request(client, COMMANDS, 2, command)

    await wide.delete_deployment("demo")

    for partition in range(MANY):
        assert await client.hkeys(keys.key(partition, "deployments")) == []
