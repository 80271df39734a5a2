from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock import keys
from services.heartbeat_monitor import store as store_module
from services.heartbeat_monitor.store import MonitorStore

if TYPE_CHECKING:
    import pytest
    from redis.asyncio import Redis

EVENTS = keys.key(0, "events")


async def published(client: Redis, count: int) -> list[bytes]:
    found: list[Any] = [await client.xadd(EVENTS, {"type": "penstock.test"}) for _ in range(count)]
    return found


async def given(client: Redis, group: str, count: int) -> None:
    """A group whose consumer reads and acknowledges nothing."""
    await client.xgroup_create(EVENTS, group, "0")
    await client.xreadgroup(group, "careless", {EVENTS: ">"}, count=count)


async def pending(client: Redis, group: str) -> list[bytes]:
    found: Any = await client.xpending_range(EVENTS, group, "-", "+", 1000)
    return [entry["message_id"] for entry in found]


async def test_what_is_trimmed_is_pending_for_nobody_and_all_else_stays_so(client: Redis) -> None:
    ids = await published(client, 10)
    for group in ("one", "two"):
        await given(client, group, 8)
    await client.xack(EVENTS, "two", *ids[:2], ids[6])
    await client.xtrim(EVENTS, minid=ids[5], approximate=False)

    assert await MonitorStore(client).forget_deliveries(0) == 5 + 3

    assert await pending(client, "one") == ids[5:8]
    assert await pending(client, "two") == [ids[5], ids[7]]
    fresh: Any = await client.xreadgroup("one", "careless", {EVENTS: ">"})
    assert [entry_id for entry_id, _ in fresh[0][1]] == ids[8:], "and it reads on where it was"


async def test_however_much_a_group_has_piled_up_it_is_forgotten_in_small_steps(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await published(client, 25)
    for group in ("one", "two"):
        await given(client, group, 24)
    await client.xtrim(EVENTS, minid=ids[-1], approximate=False)
    monkeypatch.setattr(store_module, "FORGOTTEN_AT_ONCE", 10)
    assert await MonitorStore(client).forget_deliveries(0) == 48
    assert await pending(client, "one") == await pending(client, "two") == []


async def test_where_nothing_is_kept_or_nobody_reads_nothing_is_done(client: Redis) -> None:
    store = MonitorStore(client)
    assert await store.forget_deliveries(0) == 0
    await published(client, 1)
    assert await store.forget_deliveries(0) == 0
    await client.xgroup_create(EVENTS, "idle", "0")
    assert await store.forget_deliveries(0) == 0
