"""A worker is told what it holds, at an exact place of its inbox; what it does not know it may disown."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.contracts.runs import IN_FLIGHT, TERMINAL, CancelRuns
from penstock.contracts.workers import DrainWorker
from services.dispatcher import bounds
from services.dispatcher.custody import HeldRun, after_disowning, audit_due_ms, audited
from tests.definitions import define_deployment, define_pool
from tests.dispatching import announce, assigned, in_flight, lose, places, report, state_of, submit, told
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore
    from tests.definitions import DefinedPool

STATES = (*sorted(IN_FLIGHT), *sorted(TERMINAL), "SCHEDULED")
BOOTS = ("boot-1", "boot-0", "")


async def audits(client: Redis, worker: str = "w1") -> list[dict[str, Any]]:
    return [one for one in await read_messages(client, "inbox", f"etl/{worker}") if one["type"] == "audit_runs"]


async def due_ms(client: Redis, pool: DefinedPool, worker: str = "w1") -> int | None:
    score: Any = await client.zscore(keys.key(0, "audits"), f"{pool.id}/{worker}")
    return None if score is None else int(score)


async def test_a_worker_is_told_its_claims_as_they_were_assigned_and_the_state_they_are_in(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=3)
    await submit(store, "etl", count=4)
    begun, stopped, pending = await assigned(client, "etl")
    await report(store, "etl", begun, "RUNNING")
    await store.cancel_runs(0, CancelRuns(runs=[stopped["id"]]))

    assert await store.audit_runs(0, everybody=True) == 1

    (audit,) = await audits(client)
    assert audit["boot_id"] == "boot-1"
    assert sorted(audit["runs"], key=lambda run: run["id"]) == sorted(
        (
            {"id": run["id"], "token": run["token"], "epoch": 1, "state": state}
            for run, state in ((begun, "RUNNING"), (stopped, "CANCELLING"), (pending, "PENDING"))
        ),
        key=lambda run: str(run["id"]),
    )


async def test_every_claim_stands_on_its_side_of_the_audit(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=2)
    (before,) = await submit(store, "etl")
    await store.audit_runs(0, everybody=True)
    (after,) = await submit(store, "etl")
    await store.audit_runs(0, everybody=True)

    known: set[str] = set()
    for message in await read_messages(client, "inbox", "etl/w1"):
        if message["type"] == "assign_runs":
            known |= {run["id"] for run in message["runs"]}
        if message["type"] == "audit_runs":
            assert {run["id"] for run in message["runs"]} == known
    assert known == {before, after}


@pytest.mark.parametrize("seed", range(30))
async def test_the_script_names_what_the_rule_says(client: Redis, store: DispatchStore, seed: int) -> None:
    chance = random.Random(seed)
    pool = await define_pool(client, "etl")
    boot_id = chance.choice(BOOTS)
    await announce(store, pool, boot_id=boot_id)
    held: dict[str, HeldRun | None] = {}
    for number in range(chance.randint(0, 8)):
        run_id = f"0198c0de-0000-7000-8000-00000000{number:04x}"
        run = HeldRun(chance.choice(STATES), chance.choice(BOOTS)) if chance.random() < 0.9 else None
        held[run_id] = run
        await client.sadd(keys.key(0, "slots_in_flight", f"{pool.id}/w1"), run_id)
        if run:
            fields: dict[Any, Any] = {
                "name": "x",
                "state": run.state,
                "boot": run.boot_id,
                "token": f"t{number}",
                "epoch": 1,
            }
            await client.hset(keys.key(0, "run", run_id), mapping=fields)

    await store.audit_runs(0, everybody=True)

    (audit,) = await audits(client)
    assert {run["id"] for run in audit["runs"]} == audited(held, boot_id)


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("everybody", [True, False])
async def test_a_worker_is_due_when_the_rule_says(
    client: Redis, store: DispatchStore, announced: bool, everybody: bool
) -> None:
    pool = await define_pool(client, "etl")
    before = await redis_now_ms(client)
    await announce(store, pool)
    now_ms = await redis_now_ms(client)
    due = await due_ms(client, pool)
    usual = audit_due_ms(0, announced=True, told=True)
    assert due is not None
    assert usual is not None
    assert before + usual <= due <= now_ms + usual
    if not announced:
        await lose(store, pool)
        assert await due_ms(client, pool) is audit_due_ms(now_ms, announced=False, told=True)

    # Redis may have forgotten something, or it is its turn.
    if not everybody:
        await client.zadd(keys.key(0, "audits"), {f"{pool.id}/w1": now_ms})
    told_ = await store.audit_runs(0, everybody=everybody)

    assert told_ == int(audit_due_ms(now_ms, announced=announced, told=False) == now_ms)
    again = await due_ms(client, pool)
    if announced:
        assert again is not None
        assert now_ms + usual <= again <= await redis_now_ms(client) + usual
    elif not everybody:
        assert again is audit_due_ms(now_ms, announced=False, told=False)


async def test_announcing_again_puts_no_audit_off(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await client.zadd(keys.key(0, "audits"), {f"{pool.id}/w1": 1})

    await announce(store, pool, slots=3)

    assert await due_ms(client, pool) == 1
    assert await store.audit_runs(0, everybody=False) == 1


async def test_a_worker_an_older_version_announced_is_found_at_the_first_look(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await client.delete(keys.key(0, "audits"))

    assert await store.audit_runs(0, everybody=True) == 1
    assert await due_ms(client, pool) is not None


async def test_many_workers_are_told_in_several_calls(
    client: Redis, store: DispatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "AUDIT_AT_ONCE", 2)
    pool = await define_pool(client, "etl")
    for number in range(5):
        await announce(store, pool, f"w{number}", slots=30)
    await submit(store, "etl", count=150)

    assert await store.audit_runs(0, everybody=True) == 5
    assert [len(await audits(client, f"w{number}")) for number in range(5)] == [1] * 5


async def test_a_worker_that_does_not_say_that_it_drains_is_told_again(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await store.drain_worker(0, DrainWorker(pool="etl", worker="w1"))
    await client.delete(keys.key(0, "inbox", "etl/w1"))

    await store.audit_runs(0, everybody=True)
    assert [one["type"] for one in await read_messages(client, "inbox", "etl/w1")] == ["audit_runs", "stop_worker"]

    await announce(store, pool, slots=0)
    await client.delete(keys.key(0, "inbox", "etl/w1"))
    await store.audit_runs(0, everybody=True)
    assert [one["type"] for one in await read_messages(client, "inbox", "etl/w1")] == ["audit_runs"]


async def test_the_audits_of_a_deleted_pool_end(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await client.delete(keys.key(0, "pool", pool.id))

    assert await store.audit_runs(0, everybody=True) == 0
    assert await client.exists(keys.key(0, "audits")) == 0


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "CANCELLING"])
@pytest.mark.parametrize("policy", ["crash", "requeue", "keep"])
@pytest.mark.parametrize("max_attempts", [1, 2])
async def test_a_disowned_run_goes_where_the_rule_says_and_holds_nothing(
    client: Redis, store: DispatchStore, state: str, policy: str, max_attempts: int
) -> None:
    pool = await define_pool(client, "etl", on_worker_lost=policy, max_attempts=max_attempts)
    await announce(store, pool, slots=1)
    (run_id,) = await submit(store, "etl")
    (run,) = await assigned(client, "etl")
    if state == "RUNNING":
        await report(store, "etl", run, "RUNNING")
    if state == "CANCELLING":
        await store.cancel_runs(0, CancelRuns(runs=[run_id]))
    # Nobody may take it at once.
    await announce(store, pool, slots=0)

    assert await report(store, "etl", run, "LOST") == "applied"

    fate = after_disowning(state, policy, int(state == "RUNNING"), max_attempts)
    assert await state_of(client, run_id) == {"requeue": "SCHEDULED"}.get(fate, fate)
    assert await in_flight(client, pool) == 0
    assert await places(client, pool) == ([run_id] if fate == "requeue" else [])
    expired = [event for event in await read_events(client) if event["event"] == "penstock.run.claim-expired"]
    assert [event["payload"] for event in expired] == [{"worker": "w1", "epoch": 1, "reason": "unknown to its worker"}]


async def test_a_disowned_run_with_retries_left_awaits_its_retry(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    (run_id,) = await submit(store, "etl", retries=1, retry_delay_seconds=60)
    (run,) = await assigned(client, "etl")
    await report(store, "etl", run, "RUNNING")

    await report(store, "etl", run, "LOST")

    assert (await told(client, run_id))[-1] == "AwaitingRetry"


async def test_disowning_an_old_claim_changes_nothing_and_revokes_nothing(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    (run_id,) = await submit(store, "etl")
    (old,) = await assigned(client, "etl")
    await report(store, "etl", old, "LOST")
    new = (await assigned(client, "etl"))[-1]
    assert (new["id"], new["epoch"]) == (run_id, 2)
    before = await read_events(client)

    assert await report(store, "etl", old, "LOST") == "fenced"
    assert await report(store, "etl", {**new, "token": "another"}, "LOST") == "fenced"

    assert await read_events(client) == before
    assert "revoke_runs" not in {message["type"] for message in await read_messages(client, "inbox", "etl/w1")}
    assert await report(store, "etl", new, "COMPLETED") == "applied"
    assert await report(store, "etl", new, "LOST") == "known"


async def test_a_disowned_run_of_a_deployment_lets_the_next_one_in(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool, slots=2)
    first, second = await submit(store, "etl", count=2, deployment=deployment)
    (run,) = await assigned(client, "etl")
    await report(store, "etl", run, "RUNNING")

    await report(store, "etl", run, "LOST")

    assert await state_of(client, first) == "CRASHED"
    assert await state_of(client, second) == "PENDING"
