from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.contracts.deployments import CreateDeployment, Deployment, DeploymentChanged, flow_id
from penstock.contracts.pools import DeletePool
from tests.registering import Registry, assert_again_is_silent, has_id_of_deployment, is_just_now

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


def command(**fields: Any) -> CreateDeployment:
    work = {} if "command" in fields else {"entrypoint": "hello.py:hello"}
    return CreateDeployment.model_validate({"deployment": "hello/demo", "pool": "etl", **work, **fields})


async def test_it_is_answered_whole_and_its_event_names_flow_queue_and_pool(registry: Registry) -> None:
    pool = await registry.pool()
    await registry.forget()

    made = await registry.deployment(
        parameters={"name": "world"}, tags=["a", "b"], retries=2, retry_delay_seconds=1.5, working_dir="/srv"
    )

    deployment = Deployment.model_validate(made, strict=True, extra="forbid")
    assert (deployment.name, deployment.flow, deployment.pool, deployment.queue) == (
        "hello/demo",
        "hello",
        "etl",
        "default",
    )
    assert (deployment.entrypoint, deployment.command, deployment.working_dir) == ("hello.py:hello", None, "/srv")
    assert (deployment.parameters, deployment.tags) == ({"name": "world"}, ["a", "b"])
    assert (deployment.retries, deployment.retry_delay_seconds) == (2, 1.5)
    assert (deployment.paused, deployment.schedules, deployment.revision) == (False, [], 1)
    assert deployment.created == deployment.updated
    (event,) = await registry.events()
    assert has_id_of_deployment(event, made)
    assert {name: event[name] for name in ("event", "resource", "related", "payload", "follows", "seq")} == {
        "event": "prefect.deployment.created",
        "resource": {
            "prefect.resource.id": f"prefect.deployment.{made['id']}",
            "prefect.resource.name": "demo",
        },
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{flow_id('hello')}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": "hello",
            },
            {
                "prefect.resource.id": f"prefect.work-queue.{pool['default_queue_id']}",
                "prefect.resource.role": "work-queue",
                "prefect.resource.name": "default",
            },
            {
                "prefect.resource.id": f"prefect.work-pool.{pool['id']}",
                "prefect.resource.role": "work-pool",
                "prefect.resource.name": "etl",
                "prefect.work-pool.type": "process",
            },
        ],
        "payload": {},
        "follows": None,
        "seq": 1,
    }


async def test_readers_of_definitions_are_told(registry: Registry) -> None:
    await registry.pool()
    await registry.forget()

    made = await registry.deployment()

    (message,) = await registry.definitions()
    assert message == {
        "type": "deployment.changed",
        "deployment_id": made["id"],
        "deployment": "hello/demo",
        "pool": "etl",
        "former_pool": None,
        "revision": 1,
    }
    assert DeploymentChanged.model_validate(message).revision == made["revision"]


async def test_what_is_stored_are_json_texts_under_the_names_of_the_contract(registry: Registry, client: Redis) -> None:
    await registry.pool()

    made = await registry.deployment(schedules=[{"cron": "0 6 * * *", "slug": "early"}], description="größe")

    assert await client.hget(keys.key(0, "deployments"), "hello/demo") == made["id"].encode()
    stored: Any = await client.hgetall(keys.key(0, "deployment", made["id"]))
    assert set(stored) == {
        name.encode() for name in (set(Deployment.model_fields) - {"id", "schedules"}) | {"label", "flow_id"}
    }
    assert stored[b"label"] == b'"demo"'
    assert stored[b"flow_id"] == f'"{flow_id("hello")}"'.encode()
    assert (stored[b"revision"], stored[b"paused"], stored[b"concurrency_limit"]) == (b"1", b"false", b"null")
    assert stored[b"description"].decode() == '"größe"'
    (schedule,) = made["schedules"]
    assert list(await client.hgetall(keys.key(0, "schedules", made["id"]))) == [schedule["id"].encode()]


async def test_schedules_come_in_the_order_they_were_given_each_with_an_id(registry: Registry) -> None:
    await registry.pool()

    made = await registry.deployment(schedules=[{"cron": f"{minute} * * * *"} for minute in range(30)])

    assert [schedule["cron"] for schedule in made["schedules"]] == [f"{minute} * * * *" for minute in range(30)]
    assert len({schedule["id"] for schedule in made["schedules"]}) == 30


@pytest.mark.parametrize(
    ("spec", "is_counted"),
    [
        ({"interval_seconds": 60}, True),
        ({"rrule": "DTSTART:20260101T000000\nRRULE:FREQ=DAILY"}, False),
        ({"cron": "* * * * *"}, False),
    ],
)
async def test_what_is_counted_from_nowhere_is_counted_from_its_creation(
    registry: Registry, spec: dict[str, Any], is_counted: bool
) -> None:
    await registry.pool()

    made = await registry.deployment(schedules=[spec])

    (schedule,) = made["schedules"]
    assert (schedule["anchor"] is not None) == is_counted
    if is_counted:
        assert is_just_now(schedule["anchor"], made["created"])


async def test_an_anchor_that_is_given_stays_the_moment_it_is(registry: Registry) -> None:
    await registry.pool()

    made = await registry.deployment(schedules=[{"interval_seconds": 60, "anchor": "2026-01-01T01:00:00+02:00"}])

    assert made["schedules"][0]["anchor"] == "2025-12-31T23:00:00Z"


@pytest.mark.parametrize("paused", [True, False, None])
async def test_it_can_be_created_paused(registry: Registry, paused: bool | None) -> None:
    await registry.pool()

    assert (await registry.deployment(paused=paused))["paused"] is bool(paused)


async def test_it_can_bring_its_id_along_but_not_another_ones(registry: Registry) -> None:
    await registry.pool()
    ident = "7d0f5b7e-6c1a-4a55-9c0e-2f1b7f0a9e33"

    made = await registry.deployment(deployment_id=ident)
    await registry.forget()
    code, said = await registry.error(
        CreateDeployment(deployment="other/name", pool="etl", command="ls", deployment_id=ident)
    )

    assert made["id"] == ident
    assert (code, ident in said) == ("conflict", True)
    assert await registry.quiet()


async def test_one_that_exists_is_refused_and_stays_as_it_is(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment()
    await registry.forget()
    before = await registry.state()

    code, said = await registry.error(command(description="other"))

    assert code == "conflict"
    assert "'hello/demo' already" in said
    assert "penstock deploy" in said
    assert await registry.quiet()
    assert await registry.state() == before


@pytest.mark.parametrize("overwrite", [False, True])
async def test_an_unknown_pool_is_refused_and_the_hint_names_what_there_is(registry: Registry, overwrite: bool) -> None:
    await registry.pool("etl")
    await registry.forget()

    code, said = await registry.error(command(pool="elt", overwrite=overwrite))

    assert (code, said) == ("not_found", "there is no pool 'elt' | there is: etl")
    assert await registry.quiet()


async def test_overwriting_gives_it_every_field_but_what_was_left_open(registry: Registry) -> None:
    await registry.pool()
    before = await registry.deployment(
        description="old", parameters={"n": 1}, tags=["a"], paused=True, schedules=[{"cron": "0 6 * * *"}]
    )
    await registry.forget()

    after = await registry.deployment(overwrite=True, command="ls", tags=["a"])

    assert (after["id"], after["created"]) == (before["id"], before["created"])
    assert (after["entrypoint"], after["command"], after["description"]) == (None, "ls", None)
    assert (after["parameters"], after["paused"], after["schedules"]) == ({}, True, before["schedules"])
    assert after["revision"] == 2
    assert after["revised_ms"] >= before["revised_ms"]
    assert after["updated"] > before["updated"]
    (event,) = await registry.events()
    assert (event["event"], event["seq"]) == ("prefect.deployment.updated", 2)
    assert has_id_of_deployment(event, after)
    assert event["payload"] == {
        "updated_fields": ["entrypoint", "command", "parameters", "description"],
        "updates": {
            "entrypoint": {"from": "hello.py:hello", "to": None},
            "command": {"from": None, "to": "ls"},
            "description": {"from": "old", "to": None},
        },
    }
    (message,) = await registry.definitions()
    assert (message["revision"], message["former_pool"]) == (2, None)


@pytest.mark.parametrize("paused", [True, False])
async def test_overwriting_pauses_and_resumes_where_it_says_so(registry: Registry, paused: bool) -> None:
    await registry.pool()
    await registry.deployment(paused=not paused)
    await registry.forget()

    after = await registry.deployment(overwrite=True, paused=paused)

    assert (after["paused"], after["revision"]) == (paused, 2)
    (event,) = await registry.events()
    assert event["payload"]["updates"] == {"paused": {"from": not paused, "to": paused}}


async def test_overwriting_with_the_same_is_silent(registry: Registry) -> None:
    await registry.pool()
    fields: dict[str, Any] = {
        "parameters": {"a": 1, "b": [1.5, None, {}]},
        "retry_delay_seconds": 0,
        "schedules": [{"interval_seconds": 60}, {"cron": "0 6 * * *", "slug": "early"}, {"rrule": "FREQ=DAILY"}],
        "paused": False,
    }
    made = await registry.deployment(**fields)
    await registry.forget()
    before = await registry.state()

    assert await registry.deployment(**fields, overwrite=True) == made
    fields["schedules"].reverse()
    fields["retry_delay_seconds"] = 0.0
    assert await registry.deployment(**fields, overwrite=True) == made
    assert await registry.quiet()
    assert await registry.state() == before


async def test_overwriting_keeps_the_schedules_that_are_the_same_and_only_those(registry: Registry) -> None:
    await registry.pool()
    made = await registry.deployment(
        schedules=[{"cron": "0 6 * * *"}, {"interval_seconds": 60}, {"cron": "0 7 * * *", "slug": "seven"}]
    )
    await registry.forget()

    after = await registry.deployment(
        overwrite=True,
        schedules=[
            {"cron": "0 7 * * *", "slug": "seven", "active": False},
            {"interval_seconds": 60},
            {"cron": "0 8 * * *"},
        ],
    )

    assert after["schedules"][0] == made["schedules"][1]
    assert [schedule["cron"] for schedule in after["schedules"]] == [None, "0 7 * * *", "0 8 * * *"]
    assert not {schedule["id"] for schedule in after["schedules"][1:]} & {
        schedule["id"] for schedule in made["schedules"]
    }
    assert after["revision"] == 2
    (event,) = await registry.events()
    assert event["payload"]["updates"] == {"schedules": {"from": made["schedules"], "to": after["schedules"]}}


async def test_of_two_equal_schedules_each_counts(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment(schedules=[{"cron": "0 6 * * *"}] * 2)
    await registry.forget()

    assert len((await registry.deployment(overwrite=True, schedules=[{"cron": "0 6 * * *"}] * 2))["schedules"]) == 2
    assert await registry.quiet()
    assert len((await registry.deployment(overwrite=True, schedules=[{"cron": "0 6 * * *"}] * 3))["schedules"]) == 3
    assert (await registry.deployment(overwrite=True, schedules=[]))["schedules"] == []


async def test_another_anchor_is_another_schedule(registry: Registry) -> None:
    await registry.pool()
    made = await registry.deployment(schedules=[{"interval_seconds": 60}])

    after = await registry.deployment(
        overwrite=True, schedules=[{"interval_seconds": 60, "anchor": "2026-01-01T00:00:00Z"}]
    )

    assert after["schedules"][0]["anchor"] == "2026-01-01T00:00:00Z"
    assert after["schedules"][0]["id"] != made["schedules"][0]["id"]


async def test_what_says_nothing_about_runs_leaves_the_revision_as_it_is(registry: Registry) -> None:
    await registry.pool()
    made = await registry.deployment()
    await registry.forget()

    after = await registry.deployment(
        overwrite=True,
        description="d",
        version="2",
        concurrency_limit=1,
        collision_strategy="cancel_new",
        parameter_schema={"type": "object"},
    )

    assert (after["revision"], after["revised_ms"]) == (1, made["revised_ms"])
    assert len((await registry.events())[0]["payload"]["updated_fields"]) == 5
    assert (await registry.definitions())[0]["revision"] == 1


async def test_overwriting_can_switch_the_pool(registry: Registry) -> None:
    await registry.pool()
    other = await registry.pool("other")
    await registry.deployment()
    await registry.forget()

    after = await registry.deployment(overwrite=True, pool="other")

    assert (after["pool"], after["revision"]) == ("other", 2)
    (message,) = await registry.definitions()
    assert (message["pool"], message["former_pool"]) == ("other", "etl")
    (event,) = await registry.events()
    assert event["related"][-1]["prefect.resource.id"] == f"prefect.work-pool.{other['id']}"


async def test_an_event_names_only_the_pool_and_queue_that_are_there(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment(queue="nowhere")
    (*_, event) = await registry.events()
    assert [related["prefect.resource.role"] for related in event["related"]] == ["flow", "work-pool"]

    await registry.result(DeletePool(pool="etl"))
    await registry.forget()
    await registry.change_deployment(description="orphan")

    (event,) = await registry.events()
    assert [related["prefect.resource.role"] for related in event["related"]] == ["flow"]


async def test_a_deleted_pool_leaves_its_deployments(registry: Registry) -> None:
    await registry.pool()
    made = await registry.deployment()
    await registry.result(DeletePool(pool="etl"))
    await registry.pool()

    assert (await registry.error(command()))[0] == "conflict"
    assert await registry.deployment(overwrite=True) == made


async def test_names_and_texts_of_any_language_and_with_quotes_come_back(registry: Registry) -> None:
    odd = 'größe-数据-🚰 "quoted" \\back'
    await registry.pool(odd)
    fields: dict[str, Any] = {
        "name": f"{odd}/{odd}",
        "pool": odd,
        "parameters": {odd: [odd, "\x00\u2028", -1.5e300, 2**63]},
        "schedules": [{"cron": "0 6 * * *", "slug": f'{odd}","anchor":1,', "parameters": {odd: {odd: []}}}],
    }
    made = await registry.deployment(**fields)

    assert (made["name"], made["flow"], made["pool"]) == (f"{odd}/{odd}", odd, odd)
    assert made["parameters"] == fields["parameters"]
    assert made["schedules"][0]["slug"] == fields["schedules"][0]["slug"]
    assert made["schedules"][0]["parameters"] == {odd: {odd: []}}
    await registry.forget()
    assert await registry.deployment(**fields, overwrite=True) == made
    assert await registry.quiet()


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await assert_again_is_silent(registry, command(schedules=[{"interval_seconds": 60}]))
