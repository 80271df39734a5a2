"""forget_consumer: a consumer is deleted only with nothing pending, because deleting it would drop that for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.reclaim import FORGET_CONSUMER

if TYPE_CHECKING:
    from redis.asyncio import Redis

STREAM = keys.key(0, "dispatch")
GROUP = "dispatcher"


@pytest.fixture(autouse=True)
async def group(client: Redis) -> None:
    await client.xadd(STREAM, {"n": 1})
    await client.xgroup_create(STREAM, GROUP, "0")


async def forget(client: Redis, consumer: str) -> Any:
    return await FORGET_CONSUMER(client, 0, stream=STREAM, group=GROUP, consumer=consumer)


async def consumers(client: Redis) -> set[bytes]:
    return {about["name"] for about in await client.xinfo_consumers(STREAM, GROUP)}


async def test_a_consumer_with_nothing_pending_is_deleted(client: Redis) -> None:
    await client.xgroup_createconsumer(STREAM, GROUP, "gone")
    await client.xgroup_createconsumer(STREAM, GROUP, "other")
    assert await forget(client, "gone") == 1
    assert await consumers(client) == {b"other"}


async def test_a_consumer_with_entries_pending_is_kept(client: Redis) -> None:
    await client.xreadgroup(GROUP, "holds", {STREAM: ">"})
    assert await forget(client, "holds") == 0
    assert (await client.xpending(STREAM, GROUP))["pending"] == 1


async def test_a_consumer_that_is_gone_already_is_no_error(client: Redis) -> None:
    assert await forget(client, "nobody") == 0
