from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.contracts.runs import CancelRuns, new_run_id
from services.dispatcher.rules import cancelled
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import CANCEL_RUNS
from tests.definitions import define_deployment, define_pool
from tests.dispatching import announce, answered, assigned, in_flight, lose, places, report, state_of, submit, told
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore

STATES = ["SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]


async def cancel(store: DispatchStore, *run_ids: str, force: bool = False, message: str = "") -> list[str]:
    words, _ = await store.cancel_runs(0, CancelRuns(runs=list(run_ids), force=force, message=message))
    assert isinstance(words, list)
    return words


async def brought_to(client: Redis, store: DispatchStore, state: str) -> str:
    """A run in a state, the only one of its worker."""
    (run_id,) = await submit(store, "etl")
    if state == "SCHEDULED":
        return run_id
    pool = await client.hget(keys.key(0, "pools"), "etl")
    assert pool
    (run,) = await assigned(client, "etl")
    if state not in ("PENDING", "CANCELLING"):
        await report(store, "etl", run, state, started_ms=1)
    if state == "CANCELLING":
        await cancel(store, run_id)
    return run_id


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("before", STATES)
async def test_cancelling_moves_a_run_exactly_as_the_rule_says(
    client: Redis, store: DispatchStore, before: str, force: bool
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=0 if before == "SCHEDULED" else 1)
    run_id = await brought_to(client, store, before)
    events_before = len(await read_events(client))

    (word,) = await cancel(store, run_id, force=force, message="no longer needed")

    after = cancelled(before, force=force)
    assert await state_of(client, run_id) == after
    assert word == {"CANCELLED": "cancelled", "CANCELLING": "cancelling"}.get(after, after)
    events = (await read_events(client))[events_before:]
    assert [event["resource"]["prefect.state-type"] for event in events] == ([] if after == before else [after])
    assert all(event["resource"]["prefect.state-message"] == "no longer needed" for event in events)
    assert await in_flight(client, pool) == int(after == "CANCELLING")


async def test_a_waiting_run_is_gone_from_its_queue_and_never_handed_out(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    first, second = await submit(store, "etl", count=2)

    await cancel(store, first)
    await announce(store, pool)

    assert [run["id"] for run in await assigned(client, "etl")] == [second]
    assert await told(client, first) == ["Scheduled", "Cancelled"]


async def test_a_cancelled_run_remembers_when_it_was_due(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    due_ms = await redis_now_ms(client) + 60_000
    (run_id,) = await submit(store, "etl", due_ms=due_ms)

    await cancel(store, run_id)

    assert await client.hget(keys.key(0, "run", run_id), "due") == str(due_ms).encode()


async def test_a_parked_run_is_cancelled_too(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    _, waits = await submit(store, "etl", count=2, deployment=deployment)
    await announce(store, pool)
    assert await places(client, pool, deployment=deployment) == [waits]

    assert await cancel(store, waits) == ["cancelled"]

    assert await places(client, pool, deployment=deployment) == []
    assert await client.zcard(keys.key(0, "deployment_waiting", deployment)) == 0


async def test_the_worker_is_told_to_stop_the_run_and_its_slot_stays_held_until_it_has(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    first, second = await submit(store, "etl", count=2)
    (run,) = await assigned(client, "etl")
    await report(store, "etl", run, "RUNNING")
    patience_ms = DispatcherSettings().dispatcher_cancel_deadline_seconds * 1000
    before = await redis_now_ms(client)

    assert await cancel(store, first) == ["cancelling"]

    until: Any = await client.zscore(keys.key(0, "cancelling"), first)
    assert before + patience_ms <= until <= await redis_now_ms(client) + patience_ms
    told_last = (await read_messages(client, "inbox", "etl/w1"))[-1]
    assert told_last == {"type": "stop_runs", "runs": [{"id": first, "epoch": 1}]}
    assert await state_of(client, second) == "SCHEDULED"
    assert await report(store, "etl", run, "CANCELLED", message="ended after SIGTERM") == "applied"
    assert await state_of(client, second) == "PENDING"
    assert await told(client, first) == ["Scheduled", "Pending", "Running", "Cancelling", "Cancelled"]
    assert await client.zcard(keys.key(0, "cancelling")) == 0


async def test_asked_again_the_worker_is_told_again_and_nothing_else_happens(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")
    await cancel(store, run_id)
    events = await read_events(client)
    deadline = await client.zscore(keys.key(0, "cancelling"), run_id)

    assert await cancel(store, run_id) == ["cancelling"]

    kinds = [message["type"] for message in await read_messages(client, "inbox", "etl/w1")]
    assert kinds == ["accept_worker", "assign_runs", "stop_runs", "stop_runs"]
    assert await read_events(client) == events
    assert await client.zscore(keys.key(0, "cancelling"), run_id) == deadline


async def test_force_takes_the_claim_away_and_the_slot_is_used_in_the_same_step(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    first, second = await submit(store, "etl", count=2)
    (run,) = await assigned(client, "etl")

    assert await cancel(store, first, force=True) == ["cancelled"]

    assert await state_of(client, second) == "PENDING"
    revoked = [m for m in await read_messages(client, "inbox", "etl/w1") if m["type"] == "revoke_runs"]
    assert revoked == [{"type": "revoke_runs", "runs": [{"id": first, "epoch": 1}]}]
    assert await report(store, "etl", run, "COMPLETED", started_ms=1) == "fenced"
    assert await state_of(client, first) == "CANCELLED"


async def test_many_runs_in_any_state_are_cancelled_in_one_message(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    run_ids = await submit(store, "etl", count=500)
    unknown = new_run_id(0)

    words = await cancel(store, *run_ids, unknown)

    assert words == ["cancelling", *["cancelled"] * 499, "unknown"]
    assert await places(client, pool) == []


async def test_a_run_that_finished_before_it_could_be_stopped_is_completed(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")
    (run,) = await assigned(client, "etl")
    await cancel(store, run_id)

    await report(store, "etl", run, "COMPLETED", started_ms=1)

    assert await state_of(client, run_id) == "COMPLETED"
    assert await told(client, run_id) == ["Scheduled", "Pending", "Cancelling", "Completed"]


async def test_a_run_that_is_being_cancelled_when_its_worker_is_lost_is_cancelled(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", on_worker_lost="requeue")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl", retries=3)
    await cancel(store, run_id)

    await lose(store, pool)

    assert await state_of(client, run_id) == "CANCELLED"


async def test_a_worker_that_is_lost_gets_no_inbox_that_nobody_reads(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", on_worker_lost="keep")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")
    (run,) = await assigned(client, "etl")
    await report(store, "etl", run, "RUNNING")
    await lose(store, pool)

    assert await cancel(store, run_id) == ["cancelling"]

    ttl: Any = await client.ttl(keys.key(0, "inbox", "etl/w1"))
    assert 0 < ttl <= 3600


async def test_if_its_dispatcher_dies_right_after_a_forced_cancel_the_due_clock_of_another_uses_the_slot(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    first, _ = await submit(store, "etl", count=2)

    command: dict[str, Any] = {"command_id": "", "deadline": None, "message": "", "force": True, "patience": 1}
    await CANCEL_RUNS(client, 0, retention=60, kept=10, rest=[first], **command)

    assert (await store.due_pools(0))[0] == ["etl"]


async def test_what_waits_in_a_queue_that_was_deleted_is_cancelled_with_the_queue(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    (run_id,) = await submit(store, "etl")
    await client.delete(keys.key(0, "queue", pool.queues["default"]))

    assert await cancel(store, run_id) == ["cancelling"]

    assert await told(client, run_id) == ["Scheduled"]
    assert await places(client, pool) == [run_id]


async def test_a_run_in_flight_of_a_pool_that_was_deleted_is_taken_away_and_no_pool_is_looked_at(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")
    await client.delete(keys.key(0, "pool", pool.id))

    assert await cancel(store, run_id, force=True) == ["cancelled"]

    assert await client.zcard(keys.key(0, "due")) == 0


async def test_a_parked_run_that_is_cancelled_remembers_when_it_was_due(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=0)
    await announce(store, pool)
    due_ms = await redis_now_ms(client) - 60_000
    (run_id,) = await submit(store, "etl", due_ms=due_ms, deployment=deployment)
    assert await places(client, pool, deployment=deployment) == [run_id]

    await cancel(store, run_id)

    assert await client.hget(keys.key(0, "run", run_id), "due") == str(due_ms).encode()


async def test_a_worker_that_is_forgotten_gets_no_inbox_at_all(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", on_worker_lost="keep")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl")
    await report(store, "etl", (await assigned(client, "etl"))[0], "RUNNING")
    await lose(store, pool)
    await client.delete(keys.key(0, "slots", f"{pool.id}/w1"))

    assert await cancel(store, run_id) == ["cancelling"]

    assert await client.exists(keys.key(0, "inbox", "etl/w1")) == 0


async def test_the_answer_is_given_with_the_cancellation(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    ended = await brought_to(client, store, "FAILED")
    (held, waiting), unknown = await submit(store, "etl", count=2), new_run_id(0)

    await store.cancel_runs(0, CancelRuns(id="c1", runs=[waiting, held, ended, unknown]))

    (reply,) = await answered(client, "c1")
    assert (reply.ok, reply.result) == (
        True,
        {
            "cancelled": [waiting],
            "cancelling": [held],
            "ended": [{"run": ended, "state": "FAILED"}],
            "unknown": [unknown],
        },
    )


async def test_past_its_deadline_a_cancellation_changes_nothing(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    (waiting,) = await submit(store, "etl")
    late = await redis_now_ms(client) - 1

    words, _ = await store.cancel_runs(0, CancelRuns(id="c1", deadline=late, runs=[waiting]))

    assert words == "expired"
    assert await state_of(client, waiting) == "SCHEDULED"
    (reply,) = await answered(client, "c1")
    assert (reply.ok, reply.error and reply.error.code) == (False, "expired")
