from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock.contracts.deployments import DeploymentChanges, UpdateDeployment
from penstock.contracts.pools import DeletePool
from tests.registering import Registry, assert_again_is_silent, has_id_of_deployment

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


def command(name: str = "hello/demo", **changes: Any) -> UpdateDeployment:
    return UpdateDeployment(deployment=name, changes=DeploymentChanges.model_validate(changes))


async def test_what_runs_get_is_not_told_to_everybody(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment(job_variables={"env": {"TOKEN": "s3cr3t-one"}})
    await registry.forget()

    await registry.change_deployment(job_variables={"env": {"TOKEN": "s3cr3t-two"}}, parameters={"key": "s3cr3t"})

    (event,) = await registry.events()
    assert event["payload"] == {"updated_fields": ["parameters", "job_variables"], "updates": {}}
    assert "s3cr3t" not in str(event)


async def test_several_fields_are_one_event_with_from_and_to(registry: Registry) -> None:
    await registry.pool()
    made = await registry.deployment(tags=["a"])
    await registry.forget()

    after = await registry.change_deployment(tags=["b"], parameters={"n": 1}, concurrency_limit=3)

    assert {**after, **{name: made[name] for name in ("updated", "revised_ms")}} == {
        **made,
        "tags": ["b"],
        "parameters": {"n": 1},
        "concurrency_limit": 3,
        "revision": 2,
    }
    assert after["updated"] > made["updated"]
    (event,) = await registry.events()
    assert event["event"] == "prefect.deployment.updated"
    assert has_id_of_deployment(event, after)
    assert [related["prefect.resource.role"] for related in event["related"]] == ["flow", "work-queue", "work-pool"]
    assert list(event["payload"].items()) == [
        ("updated_fields", ["parameters", "tags", "concurrency_limit"]),
        (
            "updates",
            {
                "tags": {"from": ["a"], "to": ["b"]},
                "concurrency_limit": {"from": None, "to": 3},
            },
        ),
    ]
    assert await registry.definitions() == [
        {
            "type": "deployment.changed",
            "deployment_id": made["id"],
            "deployment": "hello/demo",
            "pool": "etl",
            "former_pool": None,
            "revision": 2,
        }
    ]


@pytest.mark.parametrize(
    ("changes", "revision"),
    [
        ({"description": "d"}, 1),
        ({"version": "2"}, 1),
        ({"concurrency_limit": 1}, 1),
        ({"collision_strategy": "cancel_new"}, 1),
        ({"parameter_schema": {"type": "object"}}, 1),
        ({"queue": "fast"}, 2),
        ({"entrypoint": "other.py:other"}, 2),
        ({"working_dir": "/srv"}, 2),
        ({"parameters": {"n": 1}}, 2),
        ({"job_variables": {"n": 1}}, 2),
        ({"tags": ["a"]}, 2),
        ({"retries": 1}, 2),
        ({"retry_delay_seconds": 0.5}, 2),
        ({"description": "d", "retries": 1}, 2),
    ],
)
async def test_the_revision_grows_with_what_future_runs_are_made_of(
    registry: Registry, changes: dict[str, Any], revision: int
) -> None:
    await registry.pool()
    made = await registry.deployment()
    await registry.forget()

    after = await registry.change_deployment(**changes)

    assert {name: after[name] for name in changes} == changes
    assert after["revision"] == revision
    assert (after["revised_ms"] >= made["revised_ms"]) if revision == 2 else (after["revised_ms"] == made["revised_ms"])
    assert (await registry.definitions())[0]["revision"] == revision


@pytest.mark.parametrize(
    "changes",
    [{}, {"parameters": {"b": 2, "a": 1}}, {"retry_delay_seconds": 0}, {"pool": "etl"}, {"command": None, "tags": []}],
)
async def test_nothing_different_is_answered_and_silent(registry: Registry, changes: dict[str, Any]) -> None:
    await registry.pool()
    made = await registry.deployment(parameters={"a": 1, "b": 2})
    await registry.forget()
    before = await registry.state()

    assert await registry.change_deployment(**changes) == made
    assert await registry.quiet()
    assert await registry.state() == before


async def test_switching_the_pool_names_the_former_one(registry: Registry) -> None:
    await registry.pool()
    await registry.pool("other")
    await registry.deployment()
    await registry.forget()

    after = await registry.change_deployment(pool="other")

    assert (after["pool"], after["revision"]) == ("other", 2)
    (message,) = await registry.definitions()
    assert (message["pool"], message["former_pool"]) == ("other", "etl")


async def test_an_unknown_pool_is_refused_but_a_lost_one_may_stay(registry: Registry) -> None:
    await registry.pool()
    await registry.pool("other")
    made = await registry.deployment()
    await registry.result(DeletePool(pool="etl"))
    await registry.forget()

    assert await registry.error(command(pool="nowhere")) == (
        "not_found",
        "there is no pool 'nowhere' | there is: other",
    )
    assert await registry.change_deployment(pool="etl") == made
    assert await registry.quiet()


async def test_a_command_can_take_the_place_of_an_entrypoint(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment()

    after = await registry.change_deployment(entrypoint=None, command=["ls", "-l"])

    assert (after["entrypoint"], after["command"]) == (None, ["ls", "-l"])


@pytest.mark.parametrize("changes", [{"entrypoint": None}, {"command": "ls"}, {"entrypoint": None, "command": None}])
async def test_one_thing_to_run_must_be_left(registry: Registry, changes: dict[str, Any]) -> None:
    await registry.pool()
    await registry.deployment()
    await registry.forget()

    code, said = await registry.error(command(description="new", **changes))

    assert (code, "command" in said) == ("invalid", True)
    assert await registry.quiet()


async def test_an_unknown_deployment_is_not_found_and_the_hint_names_what_there_is(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment()

    assert await registry.error(command("hello/dmo")) == (
        "not_found",
        "there is no deployment 'hello/dmo' | there is: hello/demo",
    )
    for number in range(10):
        await registry.deployment(f"hello/d{number}")
    assert "`penstock deployment ls`" in (await registry.error(command("hello/dmo")))[1]


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment()
    await assert_again_is_silent(registry, command(description="new"))
