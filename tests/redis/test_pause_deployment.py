from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.contracts.deployments import PauseDeployment
from tests.registering import Registry, assert_again_is_silent, has_id_of_deployment

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


async def test_it_is_told_and_voids_the_future_runs_of_schedules(registry: Registry) -> None:
    await registry.pool()
    made = await registry.deployment(paused=False, schedules=[{"cron": "0 6 * * *"}])
    await registry.forget()

    after = await registry.result(PauseDeployment(deployment="hello/demo"))

    assert (after["paused"], after["revision"], after["schedules"]) == (True, 2, made["schedules"])
    assert after["revised_ms"] >= made["revised_ms"]
    (event,) = await registry.events()
    assert event["event"] == "prefect.deployment.updated"
    assert has_id_of_deployment(event, after)
    assert event["payload"] == {"updated_fields": ["paused"], "updates": {"paused": {"from": False, "to": True}}}
    (message,) = await registry.definitions()
    assert (message["type"], message["revision"]) == ("deployment.changed", 2)


async def test_twice_is_silent(registry: Registry) -> None:
    await registry.pool()
    made = await registry.deployment(paused=True)
    await registry.forget()
    before = await registry.state()

    assert await registry.result(PauseDeployment(deployment="hello/demo")) == made
    assert await registry.quiet()
    assert await registry.state() == before


async def test_an_unknown_deployment_is_not_found(registry: Registry) -> None:
    assert (await registry.error(PauseDeployment(deployment="a/b")))[0] == "not_found"
    assert await registry.quiet()


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await registry.deployment(paused=False)
    await assert_again_is_silent(registry, PauseDeployment(deployment="hello/demo"))
