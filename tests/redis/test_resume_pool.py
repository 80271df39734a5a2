from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.contracts.pools import PausePool, ResumePool
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


@pytest.mark.parametrize(("online", "status", "event"), [(True, "READY", "ready"), (False, "NOT_READY", "not-ready")])
async def test_resuming_publishes_the_status_that_the_workers_make(
    registry: Registry, *, online: bool, status: str, event: str
) -> None:
    pool = await registry.pool()
    await registry.result(PausePool(pool="etl"))
    paused = (await registry.events())[-1]
    await registry.forget()
    if online:
        await registry.come_online(pool["id"], queue_id=pool["default_queue_id"])

    resumed = await registry.result(ResumePool(pool="etl"))

    (published,) = await registry.events()
    assert (resumed["is_paused"], resumed["status"]) == (False, status)
    assert published["event"] == f"prefect.work-pool.{event}"
    assert (published["follows"], published["seq"]) == (paused["id"], 4)
    assert len(await registry.definitions()) == 1


async def test_resuming_what_is_not_paused_is_answered_and_silent(registry: Registry) -> None:
    pool = await registry.pool()
    await registry.forget()

    assert await registry.result(ResumePool(pool="etl")) == pool
    assert await registry.quiet()


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool(is_paused=True)
    await assert_again_is_silent(registry, ResumePool(pool="etl"))
