from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from penstock.contracts.queues import PauseQueue, ResumeQueue
from tests.registering import Registry, assert_again_is_silent

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
def registry(client: Redis) -> Registry:
    return Registry(client)


@pytest.mark.parametrize("served", ["by all", "by name", "not"])
async def test_resuming_publishes_the_status_that_the_workers_make(registry: Registry, served: str) -> None:
    pool = await registry.pool()
    queue = await registry.queue("fast", is_paused=True)
    await registry.forget()
    if served != "not":
        await registry.come_online(pool["id"], queue_id=queue["id"] if served == "by name" else None)

    resumed = await registry.result(ResumeQueue(pool="etl", queue="fast"))

    (event,) = await registry.events()
    assert resumed["is_paused"] is False
    assert (resumed["status"], event["event"]) == (
        ("NOT_READY", "prefect.work-queue.not-ready") if served == "not" else ("READY", "prefect.work-queue.ready")
    )
    assert event["follows"] is None
    assert len(await registry.definitions()) == 1


async def test_resuming_what_is_not_paused_is_answered_and_silent(registry: Registry) -> None:
    await registry.pool()
    queue = await registry.queue("fast")
    await registry.forget()

    assert await registry.result(ResumeQueue(pool="etl", queue="fast")) == queue
    assert await registry.quiet()


async def test_delivered_again_it_is_silent(registry: Registry) -> None:
    await registry.pool()
    await registry.result(PauseQueue(pool="etl", queue="default"))
    await assert_again_is_silent(registry, ResumeQueue(pool="etl", queue="default"))
