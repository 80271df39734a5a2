from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.contracts.events import event_id
from penstock.contracts.runs import CancelRuns, ReportRuns, RunReport
from services.dispatcher.rules import next_state
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import DispatchStore
from tests.definitions import define_deployment, define_pool
from tests.dispatching import announce, assigned, in_flight, lose, places, report, state_of, submit, told
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from typing import Any

    from redis.asyncio import Redis

    from tests.definitions import DefinedPool

REPORTED = ("SCHEDULED", "RUNNING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@pytest.fixture
async def pool(client: Redis, store: DispatchStore) -> DefinedPool:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    return pool


async def claimed(client: Redis, store: DispatchStore) -> dict[str, Any]:
    await submit(store, "etl")
    return (await assigned(client, "etl"))[-1]


async def names(client: Redis) -> list[str]:
    return [event["event"].rpartition(".")[2] for event in await read_events(client)]


@pytest.mark.usefixtures("pool")
class TestReports:
    async def test_a_run_goes_from_pending_over_running_to_its_end(self, client: Redis, store: DispatchStore) -> None:
        run = await claimed(client, store)

        assert await report(store, "etl", run, "RUNNING", started_ms=1) == "applied"
        assert await report(store, "etl", run, "COMPLETED", started_ms=1, ended_ms=2) == "applied"

        assert await names(client) == ["Scheduled", "Pending", "Running", "Completed"]
        assert await state_of(client, run["id"]) == "COMPLETED"

    async def test_events_of_a_run_are_chained_and_numbered_without_gaps(
        self, client: Redis, store: DispatchStore
    ) -> None:
        run = await claimed(client, store)
        await report(store, "etl", run, "RUNNING")
        await report(store, "etl", run, "FAILED", message="Flow run encountered an exception: ValueError: x")

        events = await read_events(client)
        resource = f"prefect.flow-run.{run['id']}"
        assert [event["seq"] for event in events] == [1, 2, 3, 4]
        assert [event["id"] for event in events] == [event_id(resource, seq) for seq in (1, 2, 3, 4)]
        assert [event["follows"] for event in events] == [None, *(event["id"] for event in events[:-1])]
        assert events[-1]["payload"] == {
            "intended": {"from": "RUNNING", "to": "FAILED"},
            "initial_state": {"type": "RUNNING", "name": "Running"},
            "validated_state": {
                "type": "FAILED",
                "name": "Failed",
                "message": "Flow run encountered an exception: ValueError: x",
            },
        }
        assert events[-1]["resource"]["prefect.run-count"] == "1"
        assert events[-1]["resource"]["prefect.state-message"].endswith("ValueError: x")

    @pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"])
    async def test_the_end_frees_the_slot_and_the_next_run_takes_it_in_the_same_step(
        self, client: Redis, store: DispatchStore, pool: DefinedPool, state: str
    ) -> None:
        run = await claimed(client, store)
        (waiting,) = await submit(store, "etl")
        assert await state_of(client, waiting) == "SCHEDULED"

        await report(store, "etl", run, state, started_ms=1)

        assert await state_of(client, waiting) == "PENDING"
        assert await in_flight(client, pool) == 1

    async def test_a_report_applied_twice_changes_nothing(
        self, client: Redis, store: DispatchStore, pool: DefinedPool
    ) -> None:
        run = await claimed(client, store)
        await report(store, "etl", run, "COMPLETED", started_ms=1)
        before = await read_events(client)

        assert await report(store, "etl", run, "COMPLETED", started_ms=1) == "known"

        assert await read_events(client) == before
        assert await in_flight(client, pool) == 0

    async def test_an_end_that_overtakes_running_loses_no_event(self, client: Redis, store: DispatchStore) -> None:
        run = await claimed(client, store)

        assert await report(store, "etl", run, "COMPLETED", started_ms=1, ended_ms=2) == "applied"
        assert await report(store, "etl", run, "RUNNING", started_ms=1) == "known"

        assert await names(client) == ["Scheduled", "Pending", "Running", "Completed"]

    async def test_a_run_that_never_started_crashes_without_having_run(
        self, client: Redis, store: DispatchStore
    ) -> None:
        run = await claimed(client, store)

        await report(store, "etl", run, "CRASHED", message="no such file")

        assert await names(client) == ["Scheduled", "Pending", "Crashed"]

    @pytest.mark.parametrize("change", [{"token": "0" * 32}, {"epoch": 2}])
    async def test_a_report_with_another_claim_is_fenced(
        self, client: Redis, store: DispatchStore, change: Any
    ) -> None:
        run = await claimed(client, store)

        assert await report(store, "etl", {**run, **change}, "COMPLETED") == "fenced"

        assert await state_of(client, run["id"]) == "PENDING"

    async def test_another_worker_cannot_report_with_a_stolen_token(self, client: Redis, store: DispatchStore) -> None:
        run = await claimed(client, store)

        assert await report(store, "etl", run, "COMPLETED", worker="w2") == "fenced"

        assert await state_of(client, run["id"]) == "PENDING"

    async def test_a_fenced_worker_is_told_to_stop_the_run(self, client: Redis, store: DispatchStore) -> None:
        run = await claimed(client, store)
        await report(store, "etl", run, "SCHEDULED")

        await report(store, "etl", run, "RUNNING")

        revoked = (await read_messages(client, "inbox", "etl/w1"))[-1]
        assert revoked == {"type": "revoke_runs", "runs": [{"id": run["id"], "epoch": 1}]}

    @pytest.mark.parametrize("change", [{"token": "stolen"}, {"epoch": 7}])
    async def test_a_valid_claim_is_never_revoked_whatever_is_reported_of_it(
        self, client: Redis, store: DispatchStore, change: Any
    ) -> None:
        run = await claimed(client, store)

        await report(store, "etl", {**run, **change}, "RUNNING")

        assert [message["type"] for message in await read_messages(client, "inbox", "etl/w1")] == [
            "accept_worker",
            "assign_runs",
        ]

    async def test_a_stranger_who_reports_gets_no_inbox(self, client: Redis, store: DispatchStore) -> None:
        run = await claimed(client, store)

        await report(store, "etl", run, "RUNNING", worker="stranger")

        assert await client.exists(keys.key(0, "inbox", "etl/stranger")) == 0

    async def test_an_unstarted_run_handed_back_returns_to_the_head_and_is_handed_out_again(
        self, client: Redis, store: DispatchStore, pool: DefinedPool
    ) -> None:
        run = await claimed(client, store)
        await submit(store, "etl", count=3)
        await client.hset(keys.key(0, "pool", pool.id), "is_paused", "true")

        assert await report(store, "etl", run, "SCHEDULED", message="Worker is draining") == "applied"

        assert await client.zrange(keys.key(0, "waiting", pool.queues["default"]), 0, 0) == [run["id"].encode()]
        await client.hset(keys.key(0, "pool", pool.id), "is_paused", "false")
        await store.claim_runs(0, ["etl"])
        again = (await assigned(client, "etl"))[-1]
        assert (again["id"], again["epoch"]) == (run["id"], 2)
        assert again["token"] != run["token"]
        assert await report(store, "etl", run, "RUNNING") == "fenced"

    async def test_a_running_run_cannot_be_handed_back(self, client: Redis, store: DispatchStore) -> None:
        run = await claimed(client, store)
        await report(store, "etl", run, "RUNNING")

        assert await report(store, "etl", run, "SCHEDULED") == "known"

    async def test_one_fenced_report_does_not_fail_the_others_of_its_message(
        self, client: Redis, store: DispatchStore
    ) -> None:
        run = await claimed(client, store)
        good = RunReport(run=run["id"], token=run["token"], epoch=1, state="RUNNING")
        bad = RunReport(run=run["id"], token="wrong", epoch=1, state="FAILED")

        answers, _ = await store.report_runs(0, [ReportRuns(pool="etl", worker="w1", reports=[bad, good])])

        assert answers == [["fenced", "applied"]]

    async def test_messages_with_quotes_newlines_and_umlauts_arrive_intact(
        self, client: Redis, store: DispatchStore
    ) -> None:
        run = await claimed(client, store)
        said = 'Ein "Fehler"\n\\ in Köln \u0001 数据'

        await report(store, "etl", run, "FAILED", message=said)

        assert (await read_events(client))[-1]["resource"]["prefect.state-message"] == said

    async def test_a_finished_run_expires_and_holds_no_related(self, client: Redis, store: DispatchStore) -> None:
        run = await claimed(client, store)
        await report(store, "etl", run, "COMPLETED")

        assert 0 < await client.ttl(keys.key(0, "run", run["id"])) <= 86_400
        assert await client.hget(keys.key(0, "run", run["id"]), "related") is None


async def test_a_pool_keeps_a_bounded_number_of_finished_runs(client: Redis) -> None:
    store = DispatchStore(client, DispatcherSettings(dispatcher_finished_kept=10))
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=100)
    run_ids = await submit(store, "etl", count=30)
    for run in await assigned(client, "etl"):
        await report(store, "etl", run, "COMPLETED")

    assert await client.zcard(keys.key(0, "pool_finished", pool.id)) == 10
    assert [await state_of(client, run_id) for run_id in run_ids] == [""] * 20 + ["COMPLETED"] * 10


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("reported", REPORTED)
@pytest.mark.parametrize("before", ["PENDING", "RUNNING", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"])
async def test_the_script_moves_a_run_exactly_as_the_rule_says(
    client: Redis, store: DispatchStore, before: str, reported: str, started: bool, retries: int
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl", retries=retries)
    (run,) = await assigned(client, "etl")
    if before == "CANCELLING":
        await store.cancel_runs(0, CancelRuns(runs=[run_id]))
    elif before != "PENDING":
        # It has no retry left, so that it stays where it is brought to.
        await client.hdel(keys.key(0, "run", run_id), "retry")
        await report(store, "etl", run, before, started_ms=1)
        await client.hset(keys.key(0, "run", run_id), "retry", f"{retries} 0")
    events_before = len(await read_events(client))
    # Paused, so that a run handed back is not claimed again in the same step.
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "true")

    answer = await report(store, "etl", run, reported, started_ms=1 if started else None)

    moves = next_state(before, reported, started=started, retries=retries)
    after = moves[-1] if moves else before
    assert answer == ("applied" if moves else "known")
    assert await state_of(client, run_id) == ("SCHEDULED" if after == "AwaitingRetry" else after)
    events = (await read_events(client))[events_before:]
    assert [event["event"].rpartition(".")[2].upper() for event in events] == [move.upper() for move in moves]
    holds = after in ("PENDING", "RUNNING", "CANCELLING")
    assert await in_flight(client, pool) == int(holds)
    assert await in_flight(client, pool, "default") == int(holds)
    assert await client.scard(keys.key(0, "slots_in_flight", f"{pool.id}/w1")) == int(holds)


@pytest.mark.usefixtures("pool")
class TestRetries:
    async def test_a_run_that_fails_is_started_again_until_it_has_no_retries_left(
        self, client: Redis, store: DispatchStore
    ) -> None:
        (run_id,) = await submit(store, "etl", retries=2)
        for number in range(3):
            run = (await assigned(client, "etl"))[-1]
            assert run["epoch"] == number + 1
            await report(store, "etl", run, "RUNNING")
            await report(store, "etl", run, "FAILED", message=f"no {number}")

        attempt = ["Pending", "Running", "AwaitingRetry"]
        assert await told(client, run_id) == ["Scheduled", *attempt, *attempt, "Pending", "Running", "Failed"]
        counts = [event["resource"]["prefect.run-count"] for event in await read_events(client)]
        assert counts == ["0", "0", "1", "1", "1", "2", "2", "2", "3", "3"]

    async def test_it_waits_for_the_delay_and_says_why_it_waits(
        self, client: Redis, store: DispatchStore, pool: DefinedPool
    ) -> None:
        (run_id,) = await submit(store, "etl", retries=1, retry_delay_seconds=60)
        run = (await assigned(client, "etl"))[-1]

        before = await redis_now_ms(client)
        await report(store, "etl", run, "CRASHED", message="Process exited with status 3")

        (event,) = (await read_events(client))[-1:]
        assert event["event"] == "prefect.flow-run.AwaitingRetry"
        assert event["payload"]["validated_state"] == {
            "type": "SCHEDULED",
            "name": "AwaitingRetry",
            "message": "Process exited with status 3",
        }
        assert await in_flight(client, pool) == 0
        rows: Any = await client.zrange(keys.key(0, "due"), 0, -1, withscores=True)
        assert before + 60_000 <= rows[0][1] <= before + 70_000
        assert await client.hget(keys.key(0, "run", run_id), "label") == b"AwaitingRetry"

    async def test_an_old_claim_cannot_report_after_the_retry_was_decided(
        self, client: Redis, store: DispatchStore
    ) -> None:
        await submit(store, "etl", retries=1)
        (run,) = await assigned(client, "etl")
        await report(store, "etl", run, "FAILED", started_ms=1)

        assert await report(store, "etl", run, "COMPLETED", started_ms=1) == "fenced"

    async def test_the_history_of_a_run_says_everything_it_went_through(
        self, client: Redis, store: DispatchStore
    ) -> None:
        (run_id,) = await submit(store, "etl", retries=1)
        for state in ("FAILED", "COMPLETED"):
            run = (await assigned(client, "etl"))[-1]
            await report(
                store, "etl", run, state, started_ms=1, message='odd "],["X" 数据' if state == "FAILED" else ""
            )

        history: Any = await client.hget(keys.key(0, "run", run_id), "history")
        entries = orjson.loads(b"[" + history[1:] + b"]")
        assert [entry[0] for entry in entries] == [
            *("PENDING", "RUNNING", "SCHEDULED"),
            *("PENDING", "RUNNING", "COMPLETED"),
        ]
        assert entries[2][2:] == ['odd "],["X" 数据', "AwaitingRetry"]
        assert await client.hget(keys.key(0, "run", run_id), "label") is None

    async def test_a_very_long_history_keeps_its_latest_part_readable(
        self, client: Redis, store: DispatchStore
    ) -> None:
        (run_id,) = await submit(store, "etl", retries=60)
        for _ in range(60):
            run = (await assigned(client, "etl"))[-1]
            await report(store, "etl", run, "FAILED", message="ü]" * 150)

        history: Any = await client.hget(keys.key(0, "run", run_id), "history")
        assert 3000 < len(history) <= 4000
        entries = orjson.loads(b"[" + history[1:] + b"]")
        assert entries[-1][0] == "PENDING"
        assert entries[-2][0] == "SCHEDULED"

    async def test_a_lost_worker_uses_a_retry_where_the_run_would_have_crashed(
        self, client: Redis, store: DispatchStore, pool: DefinedPool
    ) -> None:
        (run_id,) = await submit(store, "etl", retries=1)
        (run,) = await assigned(client, "etl")
        await report(store, "etl", run, "RUNNING")

        await lose(store, pool)

        assert (await told(client, run_id))[-1] == "AwaitingRetry"
        assert await state_of(client, run_id) == "SCHEDULED"


async def revoked(client: Redis, worker: str = "w1") -> list[dict[str, Any]]:
    messages = await read_messages(client, "inbox", f"etl/{worker}")
    return [run for message in messages if message["type"] == "revoke_runs" for run in message["runs"]]


@pytest.mark.usefixtures("pool")
class TestWhatIsNotTheirs:
    async def test_a_run_that_does_not_exist_is_fenced_and_the_worker_told_to_drop_it(
        self, client: Redis, store: DispatchStore
    ) -> None:
        run = await claimed(client, store)
        await client.delete(keys.key(0, "run", run["id"]))

        assert await report(store, "etl", run, "RUNNING") == "fenced"

        assert await revoked(client) == [{"id": run["id"], "epoch": 1}]

    async def test_a_worker_that_speaks_of_anothers_claim_is_told_to_drop_it(
        self, client: Redis, store: DispatchStore, pool: DefinedPool
    ) -> None:
        run = await claimed(client, store)
        await announce(store, pool, "w2", slots=0)

        assert await report(store, "etl", run, "RUNNING", worker="w2") == "fenced"

        assert await revoked(client, "w2") == [{"id": run["id"], "epoch": 1}]
        assert await revoked(client) == []

    async def test_of_several_claims_of_its_own_only_those_up_to_the_one_it_speaks_of_are_dropped(
        self, client: Redis, store: DispatchStore
    ) -> None:
        first = await claimed(client, store)
        await report(store, "etl", first, "SCHEDULED")
        await report(store, "etl", (await assigned(client, "etl"))[-1], "SCHEDULED")
        assert (await assigned(client, "etl"))[-1]["epoch"] == 3

        await report(store, "etl", first, "RUNNING")

        assert await revoked(client) == [{"id": first["id"], "epoch": 1}]

    async def test_a_report_of_a_deleted_pools_worker_is_fenced(self, client: Redis, store: DispatchStore) -> None:
        run = await claimed(client, store)
        await client.hdel(keys.key(0, "pools"), "etl")
        await client.delete(keys.key(0, "run", run["id"]))

        assert await report(store, "etl", run, "RUNNING") == "fenced"

        assert await revoked(client) == []

    async def test_a_lost_worker_that_is_told_to_drop_a_run_gets_an_inbox_that_expires(
        self, client: Redis, store: DispatchStore, pool: DefinedPool
    ) -> None:
        run = await claimed(client, store)
        await lose(store, pool)

        await report(store, "etl", run, "RUNNING")

        assert await revoked(client) == [{"id": run["id"], "epoch": 1}]
        assert 0 < await client.ttl(keys.key(0, "inbox", "etl/w1")) <= 3600

    async def test_the_inbox_of_a_worker_that_lives_does_not_expire(self, client: Redis, store: DispatchStore) -> None:
        run = await claimed(client, store)
        await report(store, "etl", run, "SCHEDULED")

        await report(store, "etl", run, "RUNNING")

        assert await client.ttl(keys.key(0, "inbox", "etl/w1")) == -1


@pytest.mark.usefixtures("pool")
async def test_the_times_a_worker_names_are_kept(client: Redis, store: DispatchStore) -> None:
    run = await claimed(client, store)

    await report(store, "etl", run, "RUNNING", started_ms=111)
    await report(store, "etl", run, "COMPLETED", started_ms=111, ended_ms=222)

    assert await client.hmget(keys.key(0, "run", run["id"]), ["started", "ended"]) == [b"111", b"222"]


async def test_the_end_of_a_run_whose_worker_is_forgotten_is_applied(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", on_worker_lost="keep")
    await announce(store, pool)
    run = await claimed(client, store)
    await report(store, "etl", run, "RUNNING")
    await lose(store, pool)
    await client.delete(keys.key(0, "slots", f"{pool.id}/w1"))

    assert await report(store, "etl", run, "COMPLETED") == "applied"

    assert await client.zcard(keys.key(0, "pool_free", pool.id)) == 0


async def test_a_run_handed_back_waits_for_its_deployment_again(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    await announce(store, pool)
    (run_id,) = await submit(store, "etl", deployment=deployment)
    (run,) = await assigned(client, "etl")
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "true")

    await report(store, "etl", run, "SCHEDULED")

    assert await client.zscore(keys.key(0, "deployment_waiting", deployment), run_id) is not None
    claim = ["token", "worker", "boot", "claimed", "started"]
    assert await client.hmget(keys.key(0, "run", run_id), claim) == [None] * 5


@pytest.mark.parametrize(("reported", "ended"), [("SCHEDULED", "CANCELLED"), ("FAILED", "FAILED")])
async def test_a_run_does_not_wait_again_in_a_queue_that_is_gone(
    client: Redis, store: DispatchStore, reported: str, ended: str
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    (run_id,) = await submit(store, "etl", retries=1)
    (run,) = await assigned(client, "etl")
    await client.delete(keys.key(0, "queue", pool.queues["default"]))

    await report(store, "etl", run, reported)

    assert await state_of(client, run_id) == ended
    assert await places(client, pool) == []
    assert await report(store, "etl", run, "RUNNING") == ("fenced" if ended == "CANCELLED" else "known")


@pytest.mark.usefixtures("pool")
async def test_the_output_of_a_run_that_has_ended_expires_with_it(client: Redis, store: DispatchStore) -> None:
    run = await claimed(client, store)
    await client.xadd(keys.key(0, "logs", run["id"]), {"text": "line"})

    await report(store, "etl", run, "COMPLETED")

    assert 0 < await client.ttl(keys.key(0, "logs", run["id"])) <= 86_400


@pytest.mark.usefixtures("pool")
async def test_a_run_that_is_cancelled_awaits_no_retry_any_more(client: Redis, store: DispatchStore) -> None:
    (run_id,) = await submit(store, "etl", retries=1, retry_delay_seconds=60)
    await report(store, "etl", (await assigned(client, "etl"))[0], "FAILED", started_ms=1)

    await store.cancel_runs(0, CancelRuns(runs=[run_id]))

    assert await client.hget(keys.key(0, "run", run_id), "label") is None


async def test_a_history_far_beyond_its_bound_is_shortened_a_thousand_runs_a_call_and_expires(client: Redis) -> None:
    store = DispatchStore(client, DispatcherSettings(dispatcher_finished_kept=10))
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    finished = keys.key(0, "pool_finished", pool.id)
    await client.zadd(finished, {f"run-{number}": number for number in range(1500)})
    await client.xadd(keys.key(0, "logs", "run-0"), {"text": "line"})

    await report(store, "etl", await claimed(client, store), "COMPLETED")

    assert await client.zcard(finished) == 501
    assert await client.exists(keys.key(0, "logs", "run-0")) == 0
    assert 0 < await client.ttl(finished) <= 86_400


async def test_a_run_of_a_deleted_pool_that_its_worker_does_not_know_is_left_to_the_deletion(
    client: Redis, store: DispatchStore, pool: DefinedPool
) -> None:
    run = await claimed(client, store)
    await client.delete(keys.key(0, "pool", pool.id))

    assert await report(store, "etl", run, "LOST") == "known"

    assert await in_flight(client, pool) == 1
