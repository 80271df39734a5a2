from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.contracts.pools import PoolChanges, UpdatePool
from penstock.templates import default_template
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


async def test_several_fields_are_one_event_with_from_and_to(registry: Registry) -> None:
    pool = await registry.pool()
    await registry.forget()

    after = await registry.result(UpdatePool(pool="etl", changes=PoolChanges(concurrency_limit=5, description="hello")))

    (event,) = await registry.events()
    assert (after["description"], after["concurrency_limit"]) == ("hello", 5)
    assert after["updated"] > pool["updated"] == after["created"]
    assert event["event"] == "prefect.work-pool.updated"
    assert event["resource"]["prefect.resource.role"] == "work-pool"
    assert (event["related"], event["follows"]) == ([], None)
    assert list(event["payload"].items()) == [
        ("updated_fields", ["description", "concurrency_limit"]),
        (
            "updates",
            {"description": {"from": None, "to": "hello"}, "concurrency_limit": {"from": None, "to": 5}},
        ),
    ]
    assert await registry.definitions() == [{"type": "pool.changed", "pool_id": pool["id"], "pool": "etl"}]


async def test_a_template_and_the_policy_for_lost_workers_can_change(registry: Registry) -> None:
    await registry.pool()
    template = {"job_configuration": {"command": "{{ command }}"}, "variables": {"properties": {"command": {}}}}

    after = await registry.result(
        UpdatePool(pool="etl", changes=PoolChanges(base_job_template=template, on_worker_lost="keep", max_attempts=1))
    )

    event = (await registry.events())[-1]
    assert (after["base_job_template"], after["on_worker_lost"], after["max_attempts"]) == (template, "keep", 1)
    assert event["payload"]["updates"] == {
        "base_job_template": {"from": {}, "to": template},
        "on_worker_lost": {"from": "crash", "to": "keep"},
        "max_attempts": {"from": 3, "to": 1},
    }


async def test_an_empty_template_takes_the_template_away(registry: Registry) -> None:
    template = default_template("process")
    await registry.pool(base_job_template=template)
    await registry.forget()

    after = await registry.result(UpdatePool(pool="etl", changes=PoolChanges(base_job_template={})))

    assert after["base_job_template"] == {}
    (event,) = await registry.events()
    assert event["payload"]["updates"] == {"base_job_template": {"from": template, "to": {}}}


async def test_null_takes_a_limit_away_and_what_is_not_given_stays(registry: Registry) -> None:
    await registry.pool(concurrency_limit=5, description="stays", max_attempts=9)
    await registry.forget()

    after = await registry.result(UpdatePool(pool="etl", changes=PoolChanges(concurrency_limit=None)))

    assert (after["concurrency_limit"], after["description"], after["max_attempts"]) == (None, "stays", 9)
    (event,) = await registry.events()
    assert event["payload"]["updated_fields"] == ["concurrency_limit"]


@pytest.mark.parametrize(
    "changes",
    [{}, {"concurrency_limit": 5}, {"base_job_template": {"job_configuration": {}, "variables": {"title": "a"}}}],
)
async def test_nothing_different_is_answered_and_silent(registry: Registry, changes: dict[str, object]) -> None:
    template = {"variables": {"title": "a"}, "job_configuration": {}}
    pool = await registry.pool(concurrency_limit=5, base_job_template=template)
    await registry.forget()

    assert await registry.result(UpdatePool.model_validate({"pool": "etl", "changes": changes})) == pool
    assert await registry.quiet()


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await assert_again_is_silent(registry, UpdatePool(pool="etl", changes=PoolChanges(description="new")))
