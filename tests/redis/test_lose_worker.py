from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.contracts.runs import CancelRuns
from services.dispatcher.custody import after_loss
from tests.definitions import define_pool
from tests.dispatching import announce, assigned, in_flight, lose, report, state_of, submit
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore


async def test_a_lost_workers_unstarted_run_goes_to_another_worker_at_once(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, "w1", slots=1)
    (run_id,) = await submit(store, "etl")
    (old,) = await assigned(client, "etl", "w1")
    await announce(store, pool, "w2", slots=1)

    assert await lose(store, pool, "w1") == 1

    (new,) = await assigned(client, "etl", "w2")
    assert (new["id"], new["epoch"]) == (run_id, 2)
    assert await report(store, "etl", old, "COMPLETED", worker="w1") == "fenced"
    assert await report(store, "etl", new, "COMPLETED", worker="w2") == "applied"


async def test_given_back_runs_return_to_the_head_in_their_old_order(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=3)
    run_ids = await submit(store, "etl", count=6)

    await lose(store, pool)

    waiting: Any = await client.zrange(keys.key(0, "waiting", pool.queues["default"]), 0, -1)
    assert [member.decode() for member in waiting] == run_ids


async def test_the_events_tell_the_expired_claim_and_the_runs_return(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")

    await lose(store, pool)

    expired, returned = (await read_events(client))[-2:]
    assert expired["event"] == "penstock.run.claim-expired"
    assert expired["resource"]["prefect.resource.id"] == f"penstock.claim.{run_id}.1"
    assert expired["seq"] == 1
    assert [related["prefect.resource.role"] for related in expired["related"]] == [
        "flow-run",
        "work-queue",
        "work-pool",
    ]
    assert expired["payload"] == {"worker": "w1", "epoch": 1, "reason": "heartbeat-lost"}
    assert returned["event"] == "prefect.flow-run.Scheduled"
    assert returned["payload"]["intended"] == {"from": "PENDING", "to": "SCHEDULED"}
    assert "w1" in returned["resource"]["prefect.state-message"]
    assert returned["seq"] == 3


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELLING"])
@pytest.mark.parametrize("policy", ["crash", "requeue", "keep"])
@pytest.mark.parametrize("max_attempts", [1, 2])
async def test_the_script_does_with_a_run_what_the_rule_says(
    client: Redis, store: DispatchStore, state: str, policy: str, max_attempts: int
) -> None:
    pool = await define_pool(client, "etl", on_worker_lost=policy, max_attempts=max_attempts)
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")
    (run,) = await assigned(client, "etl")
    if state == "RUNNING":
        await report(store, "etl", run, "RUNNING")
    if state == "CANCELLING":
        await store.cancel_runs(0, CancelRuns(runs=[run_id]))

    await lose(store, pool)

    fate = after_loss(state, policy, int(state == "RUNNING"), max_attempts)
    expected = {"requeue": "SCHEDULED", "keep": state}.get(fate, fate)
    assert await state_of(client, run_id) == expected
    holds = int(fate == "keep")
    assert (await in_flight(client, pool), await in_flight(client, pool, "default")) == (holds, holds)


async def test_a_requeued_run_stops_after_max_attempts(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", on_worker_lost="requeue", max_attempts=3)
    (run_id,) = await submit(store, "etl")
    for attempt in (1, 2, 3):
        await announce(store, pool, boot_id=f"life-{attempt}")
        run = (await assigned(client, "etl"))[-1]
        assert run["epoch"] == attempt
        await report(store, "etl", run, "RUNNING")
        await lose(store, pool, boot_id=f"life-{attempt}")

    assert await state_of(client, run_id) == "CRASHED"


async def test_an_older_loss_after_the_workers_return_takes_nothing(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, seq=2_000_001)
    await submit(store, "etl")
    await announce(store, pool, seq=2_000_003)

    assert await lose(store, pool, seq=2_000_002) == -1

    assert await in_flight(client, pool) == 1


async def test_an_older_announcement_does_not_bring_a_lost_worker_back(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await lose(store, pool, seq=3_000_002)

    assert not await announce(store, pool, seq=3_000_001)

    await submit(store, "etl")
    assert await assigned(client, "etl") == []


async def test_what_a_lost_worker_never_read_is_gone_from_its_inbox(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await submit(store, "etl", count=3)

    await lose(store, pool)

    assert await client.exists(keys.key(0, "inbox", "etl/w1")) == 0


async def test_losing_a_worker_twice_takes_nothing_the_second_time(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await submit(store, "etl")
    await lose(store, pool)
    before = await read_events(client)

    assert await lose(store, pool) == 0

    assert await read_events(client) == before


async def test_a_worker_that_comes_back_is_told_to_stop_what_crashed_in_its_absence(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    await submit(store, "etl")
    (run,) = await assigned(client, "etl")
    await report(store, "etl", run, "RUNNING")
    await lose(store, pool)
    await announce(store, pool, slots=1)

    assert await report(store, "etl", run, "COMPLETED") == "fenced"

    revoked = (await read_messages(client, "inbox", "etl/w1"))[-1]
    assert revoked == {"type": "revoke_runs", "runs": [{"id": run["id"], "epoch": 1}]}


async def test_a_worker_that_comes_back_under_its_old_life_gets_work_again(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    await submit(store, "etl")
    await lose(store, pool)

    await announce(store, pool, slots=1)

    (run,) = await assigned(client, "etl")
    assert run["epoch"] == 2
    assert await client.ttl(keys.key(0, "slots", f"{pool.id}/w1")) == -1


async def test_a_loss_that_comes_again_is_an_old_one(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    assert await lose(store, pool, seq=5_000_001) == 0

    assert await lose(store, pool, seq=5_000_001) == -1


async def test_the_loss_of_a_worker_of_a_deleted_pool_leaves_nothing_behind(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await client.delete(keys.key(0, "pool", pool.id))
    await client.hdel(keys.key(0, "pools"), "etl")

    assert await lose(store, pool) == -1

    assert await client.keys("*slots*") == []


async def test_what_is_remembered_of_a_lost_worker_expires(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)

    await lose(store, pool)

    assert 0 < await client.ttl(keys.key(0, "slots", f"{pool.id}/w1")) <= 3600


async def test_a_lost_worker_that_named_queues_gets_nothing_of_them(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, queues=["default"])
    await lose(store, pool)

    await submit(store, "etl")

    assert await assigned(client, "etl") == []


async def test_a_lost_life_without_a_name_gives_back_what_it_held(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, boot_id="")
    (run_id,) = await submit(store, "etl")

    assert await lose(store, pool, boot_id="") == 1

    assert await state_of(client, run_id) == "SCHEDULED"


async def test_what_a_lost_worker_held_and_nobody_knows_any_more_is_forgotten(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    held = keys.key(0, "slots_in_flight", f"{pool.id}/w1")
    await client.sadd(held, "nobody-knows-it")

    assert await lose(store, pool) == 0

    assert await client.exists(held) == 0
