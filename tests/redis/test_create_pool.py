from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.contracts.pools import CreatePool, Pool
from penstock.templates import default_template
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


async def test_a_new_pool_has_a_default_queue_of_priority_one_and_is_answered_whole(registry: Registry) -> None:
    template = {"variables": {"properties": {"a": {}, "b": {"enum": [[], {}]}}}, "job_configuration": {"n": 2**64 - 1}}

    created = await registry.pool(
        worker_type="docker",
        description='says "hi"',
        concurrency_limit=5,
        base_job_template=template,
        on_worker_lost="requeue",
        max_attempts=7,
    )

    pool = Pool.model_validate(created)
    assert set(created) == set(Pool.model_fields)
    assert (pool.name, pool.type, pool.description, pool.is_paused) == ("etl", "docker", 'says "hi"', False)
    assert (pool.concurrency_limit, pool.base_job_template) == (5, template)
    assert (pool.on_worker_lost, pool.max_attempts, pool.status) == ("requeue", 7, "NOT_READY")
    assert pool.created == pool.updated
    assert [(queue.id, queue.name, queue.pool, queue.priority) for queue in pool.queues] == [
        (pool.default_queue_id, "default", "etl", 1)
    ]
    assert pool.queues[0].description == "The work pool's default queue."
    assert (pool.queues[0].concurrency_limit, pool.queues[0].status) == (None, "NOT_READY")


async def test_a_new_pool_publishes_its_queue_itself_and_its_status_in_this_order(registry: Registry) -> None:
    pool = await registry.pool()

    queue_created, pool_created, not_ready = await registry.events()
    resource = {
        "prefect.resource.id": f"prefect.work-pool.{pool['id']}",
        "prefect.resource.name": "etl",
        "prefect.work-pool.type": "process",
    }
    with_role = {**resource, "prefect.resource.role": "work-pool"}
    queue_id = f"prefect.work-queue.{pool['default_queue_id']}"
    assert queue_created["event"] == "prefect.work-queue.created"
    assert queue_created["resource"] == {
        "prefect.resource.id": queue_id,
        "prefect.resource.name": "default",
        "prefect.resource.role": "work-queue",
    }
    assert queue_created["related"] == [with_role]
    assert pool_created["event"] == "prefect.work-pool.created"
    assert pool_created["resource"] == with_role
    assert pool_created["related"] == [{"prefect.resource.id": queue_id, "prefect.resource.role": "default-queue"}]
    assert not_ready["event"] == "prefect.work-pool.not-ready"
    assert (not_ready["resource"], not_ready["related"]) == (resource, [])
    assert [event["payload"] for event in (queue_created, pool_created, not_ready)] == [{}, {}, {}]
    assert [event["follows"] for event in (queue_created, pool_created, not_ready)] == [None, None, None]
    assert [event["seq"] for event in (queue_created, pool_created, not_ready)] == [1, 1, 2]
    assert await registry.definitions() == [{"type": "pool.changed", "pool_id": pool["id"], "pool": "etl"}]


async def test_a_pool_created_paused_publishes_paused(registry: Registry) -> None:
    pool = await registry.pool(is_paused=True)

    assert pool["status"] == "PAUSED"
    assert await registry.names() == ["work-queue.created default", "work-pool.created etl", "work-pool.paused etl"]


async def test_definitions_are_kept_as_json_texts_under_their_ids(registry: Registry, client: Redis) -> None:
    pool = await registry.pool("größe-数据", concurrency_limit=0)

    kept: Any = await client.hgetall(keys.key(0, "pool", pool["id"]))
    assert kept[b"name"].decode() == '"größe-数据"'
    assert (kept[b"concurrency_limit"], kept[b"is_paused"], kept[b"description"]) == (b"0", b"false", b"null")
    assert kept[b"default_queue_id"].decode() == f'"{pool["default_queue_id"]}"'
    queue: Any = await client.hgetall(keys.key(0, "queue", pool["default_queue_id"]))
    assert (queue[b"pool_id"].decode(), queue[b"name"]) == (pool["id"], b'"default"')


async def test_a_taken_name_is_a_conflict_and_changes_nothing(registry: Registry) -> None:
    await registry.pool(concurrency_limit=5)
    await registry.forget()
    before = await registry.state()

    code, said = await registry.error(CreatePool(pool="etl", concurrency_limit=9))

    assert code == "conflict"
    assert "'etl'" in said
    assert "choose another name" in said
    assert await registry.state() == before


async def test_if_missing_answers_the_existing_pool_in_silence(registry: Registry) -> None:
    pool = await registry.pool(concurrency_limit=5)
    await registry.forget()

    assert await registry.result(CreatePool(pool="etl", concurrency_limit=9, if_missing=True)) == pool
    assert await registry.quiet()


@pytest.mark.parametrize("option", ["if_missing", "overwrite"])
async def test_an_existing_pool_of_another_type_is_a_conflict(registry: Registry, option: str) -> None:
    pool = await registry.pool(worker_type="docker", concurrency_limit=5)

    code, said = await registry.error(
        CreatePool.model_validate({"pool": "etl", "worker_type": "process", "concurrency_limit": 9, option: True})
    )

    assert code == "conflict"
    assert '"docker"' in said
    assert await registry.result(CreatePool(pool="etl", worker_type="docker", if_missing=True)) == pool


async def test_overwrite_changes_the_existing_pool_as_an_update_does(registry: Registry) -> None:
    pool = await registry.pool(is_paused=True, concurrency_limit=5, description="old")
    await registry.forget()

    after = await registry.result(CreatePool(pool="etl", concurrency_limit=9, description="old", overwrite=True))

    assert (after["id"], after["concurrency_limit"], after["is_paused"]) == (pool["id"], 9, True)
    assert after["queues"] == pool["queues"]
    (event,) = await registry.events()
    assert event["event"] == "prefect.work-pool.updated"
    assert event["payload"] == {
        "updated_fields": ["concurrency_limit"],
        "updates": {"concurrency_limit": {"from": 5, "to": 9}},
    }
    assert len(await registry.definitions()) == 1


async def test_overwrite_pauses_an_existing_pool_and_publishes_paused_after_what_else_changed(
    registry: Registry,
) -> None:
    await registry.pool(concurrency_limit=5)
    await registry.forget()

    after = await registry.result(CreatePool(pool="etl", concurrency_limit=9, is_paused=True, overwrite=True))

    assert (after["is_paused"], after["status"], after["concurrency_limit"]) == (True, "PAUSED", 9)
    assert await registry.names() == ["work-pool.updated etl", "work-pool.paused etl"]
    assert len(await registry.definitions()) == 1


async def test_overwrite_that_only_pauses_is_told_to_the_readers_of_definitions(registry: Registry) -> None:
    await registry.pool(concurrency_limit=5)
    await registry.forget()

    await registry.result(CreatePool(pool="etl", concurrency_limit=5, is_paused=True, overwrite=True))

    assert await registry.names() == ["work-pool.paused etl"]
    assert len(await registry.definitions()) == 1


async def test_overwrite_of_a_paused_pool_leaves_it_paused_in_silence(registry: Registry) -> None:
    pool = await registry.pool(is_paused=True, concurrency_limit=5)
    await registry.forget()

    for is_paused in (True, False):
        again = CreatePool(pool="etl", concurrency_limit=5, is_paused=is_paused, overwrite=True)
        assert await registry.result(again) == pool
    assert await registry.quiet()


async def test_the_default_template_survives_the_script_value_by_value(registry: Registry) -> None:
    template = default_template("process")

    created = await registry.pool(base_job_template=template)
    await registry.forget()

    assert created["base_job_template"] == template
    again = CreatePool(pool="etl", base_job_template=template, overwrite=True)
    assert await registry.result(again) == created
    assert await registry.quiet()


async def test_if_missing_does_not_pause_an_existing_pool(registry: Registry) -> None:
    pool = await registry.pool()

    assert await registry.result(CreatePool(pool="etl", is_paused=True, if_missing=True)) == pool


async def test_overwrite_with_the_same_fields_is_silent(registry: Registry) -> None:
    pool = await registry.pool(concurrency_limit=5)
    await registry.forget()

    assert await registry.result(CreatePool(pool="etl", concurrency_limit=5, overwrite=True)) == pool
    assert await registry.quiet()


async def test_delivered_again_it_creates_no_second_pool_and_answers_the_same(registry: Registry) -> None:
    await assert_again_is_silent(registry, CreatePool(pool="etl"))
