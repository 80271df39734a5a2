from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.contracts.deployments import DeleteDeployment, DeploymentDeleted
from tests.registering import Registry, assert_again_is_silent, has_id_of_deployment

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


async def test_it_is_answered_as_it_was_and_told(registry: Registry) -> None:
    await registry.pool()
    made = await registry.deployment(schedules=[{"cron": "0 6 * * *"}])
    await registry.forget()

    assert await registry.result(DeleteDeployment(deployment="hello/demo")) == made

    (event,) = await registry.events()
    assert (event["event"], event["payload"], event["seq"]) == ("prefect.deployment.deleted", {}, 2)
    assert has_id_of_deployment(event, made)
    assert [related["prefect.resource.role"] for related in event["related"]] == ["flow", "work-queue", "work-pool"]
    (message,) = await registry.definitions()
    assert message == {
        "type": "deployment.deleted",
        "deployment_id": made["id"],
        "deployment": "hello/demo",
        "pool": "etl",
        "moved_to": None,
    }
    assert DeploymentDeleted.model_validate(message).moved_to is None


async def test_who_moves_it_says_where_to(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment()
    await registry.forget()

    await registry.result(DeleteDeployment(deployment="hello/demo", moved_to="größe"))

    assert (await registry.definitions())[0]["moved_to"] == "größe"


async def test_nothing_of_it_is_left_behind(registry: Registry) -> None:
    await registry.pool()
    before = await registry.state()
    await registry.deployment(schedules=[{"cron": "0 6 * * *"}])

    await registry.result(DeleteDeployment(deployment="hello/demo"))

    after = await registry.state()
    told = {name for name in after if name.endswith((b":events", b":definitions"))}
    assert {name: after[name] for name in after.keys() - told} == {name: before[name] for name in before.keys() - told}


async def test_one_that_comes_back_with_its_id_never_uses_an_event_id_again(registry: Registry) -> None:
    await registry.pool()
    made = await registry.deployment()
    await registry.result(DeleteDeployment(deployment="hello/demo", moved_to="other"))
    await registry.deployment(deployment_id=made["id"])

    idents = [event["id"] for event in await registry.events()]
    assert len(set(idents)) == len(idents)


async def test_an_unknown_deployment_is_not_found(registry: Registry) -> None:
    assert (await registry.error(DeleteDeployment(deployment="a/b")))[0] == "not_found"
    assert await registry.quiet()


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment()
    await assert_again_is_silent(registry, DeleteDeployment(deployment="hello/demo"))
