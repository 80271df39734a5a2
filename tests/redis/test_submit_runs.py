from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.client.run_store import RunStore
from penstock.contracts.deployments import flow_id
from penstock.contracts.runs import REMEMBERED_SECONDS, RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.streams import REPLY_EXPIRE_SECONDS
from services.dispatcher.rules import submission
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import DispatchStore
from tests.definitions import define_deployment, define_pool
from tests.dispatching import announce, answered, assigned, by_schedule, one_run, report, state_of, submit, words
from tests.support import read_events

if TYPE_CHECKING:
    from redis.asyncio import Redis


def one(queue: str = "default", name: str = "größe-数据") -> SubmittedRun:
    return SubmittedRun(id=new_run_id(0), name=name, queue=queue, spec=RunSpec(command=["true"]))


async def test_an_accepted_run_waits_in_its_queue_and_is_told_once(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")

    (run_id,) = await submit(store, "etl")

    assert await state_of(client, run_id) == "SCHEDULED"
    assert await client.zcard(keys.key(0, "waiting", pool.queues["default"])) == 1
    (event,) = await read_events(client)
    assert event["event"] == "prefect.flow-run.Scheduled"
    assert event["seq"] == 1
    assert event["follows"] is None


async def test_the_scheduled_event_has_prefects_labels_related_and_payload(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    run = one()

    await store.submit_runs(0, [SubmitRuns(pool="etl", runs=[run])])

    (event,) = await read_events(client)
    assert list(event) == ["id", "occurred", "event", "resource", "related", "payload", "follows", "seq"]
    assert event["resource"] == {
        "prefect.resource.id": f"prefect.flow-run.{run.id}",
        "prefect.resource.name": "größe-数据",
        "prefect.run-count": "0",
        "prefect.state-message": "",
        "prefect.state-name": "Scheduled",
        "prefect.state-timestamp": event["occurred"].replace("Z", "+00:00"),
        "prefect.state-type": "SCHEDULED",
    }
    assert event["related"] == [
        {
            "prefect.resource.id": f"prefect.work-queue.{pool.queues['default']}",
            "prefect.resource.role": "work-queue",
            "prefect.resource.name": "default",
        },
        {
            "prefect.resource.id": f"prefect.work-pool.{pool.id}",
            "prefect.resource.role": "work-pool",
            "prefect.resource.name": "etl",
            "prefect.work-pool.type": "process",
        },
    ]
    assert event["payload"] == {
        "intended": {"from": None, "to": "SCHEDULED"},
        "initial_state": None,
        "validated_state": {"type": "SCHEDULED", "name": "Scheduled"},
    }


async def test_a_run_sent_twice_is_accepted_once(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    message = SubmitRuns(pool="etl", runs=[one()])
    first, _ = await store.submit_runs(0, [message])

    again, _ = await store.submit_runs(0, [message])

    assert (words(first), words(again)) == ([["accepted"]], [["known"]])
    assert len(await read_events(client)) == 1


async def test_a_run_sent_again_after_it_was_claimed_is_not_run_twice(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    message = SubmitRuns(pool="etl", runs=[one()])
    await store.submit_runs(0, [message])

    await store.submit_runs(0, [message])

    assert len(await assigned(client, "etl")) == 1


async def test_an_unknown_pool_accepts_nothing(client: Redis, store: DispatchStore) -> None:
    answers, _ = await store.submit_runs(0, [SubmitRuns(pool="nowhere", runs=[one()])])

    assert words(answers) == ["unknown_pool"]
    assert await client.keys("*run:*") == []


async def test_an_unknown_queue_refuses_its_run_and_only_that(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")

    answers, _ = await store.submit_runs(0, [SubmitRuns(pool="etl", runs=[one("nowhere"), one()])])

    assert words(answers) == [["unknown_queue", "accepted"]]


async def test_past_its_deadline_a_submission_changes_nothing(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    late = await redis_now_ms(client) - 1

    answers, _ = await store.submit_runs(0, [SubmitRuns(pool="etl", deadline=late, runs=[one()])])

    assert words(answers) == ["expired"]
    assert await read_events(client) == []


async def test_runs_of_one_queue_go_out_by_due_time_then_submission(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    now_ms = await redis_now_ms(client)
    second = await submit(store, "etl", count=20, due_ms=now_ms - 1000)
    first = await submit(store, "etl", count=1, due_ms=now_ms - 2000)
    third = await submit(store, "etl", count=1, due_ms=now_ms - 1000)

    await announce(store, pool, slots=100)

    assert [run["id"] for run in await assigned(client, "etl")] == [*first, *second, *third]


async def test_a_waiting_run_with_300_bytes_of_parameters_takes_at_most_700_bytes(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    spec = RunSpec(entrypoint="flows/etl.py:main", parameters={"text": "x" * 289})
    runs = [SubmittedRun(id=new_run_id(0), name=f"happy-otter-{n}", spec=spec) for n in range(500)]
    await store.submit_runs(0, [SubmitRuns(pool="etl", runs=runs)])

    of_hash: Any = await client.memory_usage(keys.key(0, "run", runs[0].id))
    of_place: Any = await client.memory_usage(keys.key(0, "waiting", pool.queues["default"]), samples=0)

    assert of_hash + of_place / 500 <= 700


async def test_a_run_whose_id_names_another_partition_is_not_accepted_for_nobody_would_find_it(
    client: Redis, store: DispatchStore
) -> None:
    await define_pool(client, "etl")
    foreign = one().model_copy(update={"id": new_run_id(7)})

    answers, _ = await store.submit_runs(0, [SubmitRuns(pool="etl", runs=[foreign, one()])])

    assert words(answers) == [["foreign", "accepted"]]
    assert await client.exists(keys.key(0, "run", foreign.id)) == 0


async def test_the_same_idempotency_key_makes_one_run_and_names_it(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    deployment, other = await define_deployment(client), await define_deployment(client, "hello/other")
    first, again = (one_run(deployment=deployment, idempotency_key="ein Schlüssel") for _ in range(2))
    elsewhere = one_run(deployment=other, idempotency_key="ein Schlüssel")
    nobodys = one_run(idempotency_key="ein Schlüssel")

    answers, _ = await store.submit_runs(0, [SubmitRuns(pool="etl", runs=[first, again, elsewhere, nobodys])])

    assert words(answers) == [["accepted", f"same {first.id}", "accepted", "accepted"]]
    assert await state_of(client, again.id) == ""
    assert len(await read_events(client)) == 3


async def test_a_key_outlives_its_run_by_a_week_so_that_a_late_submission_is_no_second_run(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    run = one_run("default", await redis_now_ms(client) + 86_400_000, idempotency_key="k")
    await store.submit_runs(0, [SubmitRuns(pool="etl", runs=[run])])
    (name,) = await client.keys("*:idempotency:*")
    assert 7.9 * 86_400 < await client.ttl(name) <= 8 * 86_400

    await client.delete(keys.key(0, "run", run.id))

    answers, _ = await store.submit_runs(0, [SubmitRuns(pool="etl", runs=[run])])
    assert words(answers) == [[f"same {run.id}"]]


async def test_a_scheduled_run_of_another_revision_is_refused_as_stale(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    deployment = await define_deployment(client, revision=7)
    runs = [
        one_run(deployment=deployment, scheduled_by=by_schedule(6), idempotency_key="k"),
        one_run(deployment=deployment, scheduled_by=by_schedule(7), idempotency_key="k"),
        one_run(deployment="7d0f5b7e-6c1a-4a55-9c0e-2f1b7f0a9e33", scheduled_by=by_schedule(1)),
    ]

    answers, _ = await store.submit_runs(0, [SubmitRuns(pool="etl", runs=runs)])

    assert words(answers) == [["stale", "accepted", "stale"]]


async def test_events_of_a_deployments_run_are_related_to_flow_deployment_queue_and_pool(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, "grüße/数据")
    await announce(store, pool)
    await submit(store, "etl", deployment=deployment)
    await report(store, "etl", (await assigned(client, "etl"))[0], "COMPLETED")

    for event in await read_events(client):
        assert event["related"][:2] == [
            {
                "prefect.resource.id": f"prefect.flow.{flow_id('grüße')}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": "grüße",
            },
            {
                "prefect.resource.id": f"prefect.deployment.{deployment}",
                "prefect.resource.role": "deployment",
                "prefect.resource.name": "数据",
            },
        ]
        assert [related["prefect.resource.role"] for related in event["related"][2:]] == ["work-queue", "work-pool"]


@pytest.mark.parametrize("facts", list(itertools.product([False, True], repeat=6)))
async def test_the_script_answers_exactly_what_the_rule_says(
    client: Redis, store: DispatchStore, facts: tuple[bool, ...]
) -> None:
    expired, at_home, queue_exists, run_exists, stale, key_taken = facts
    await define_pool(client, "etl")
    deployment = await define_deployment(client, revision=2)
    run = one_run(
        "default" if queue_exists else "nowhere",
        deployment=deployment,
        scheduled_by=by_schedule(1 if stale else 2),
        idempotency_key="k",
    )
    if not at_home:
        run = run.model_copy(update={"id": new_run_id(7)})
    if key_taken:
        await submit(store, "etl", deployment=deployment, idempotency_key="k")
    if run_exists:
        await client.hset(keys.key(0, "run", run.id), "name", "x")

    deadline = await redis_now_ms(client) - 1 if expired else None

    answers, _ = await store.submit_runs(0, [SubmitRuns(pool="etl", deadline=deadline, runs=[run])])

    expected = submission(
        pool_exists=True,
        expired=expired,
        at_home=at_home,
        queue_exists=queue_exists,
        run_exists=run_exists,
        stale=stale,
        key_taken=key_taken,
    )
    (told,) = words(answers)
    assert (told if isinstance(told, str) else told[0].split()[0]) == expected


async def test_a_submission_delivered_again_makes_no_run_anew_whose_record_made_room_for_later_ones(
    client: Redis,
) -> None:
    store = DispatchStore(client, DispatcherSettings(dispatcher_finished_kept=10))
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=20)
    first = SubmitRuns(pool="etl", runs=[one_run()])
    await store.submit_runs(0, [first])
    await report(store, "etl", (await assigned(client, "etl"))[-1], "COMPLETED")
    await submit(store, "etl", count=10)
    for run in (await assigned(client, "etl"))[1:]:
        await report(store, "etl", run, "COMPLETED")
    name = keys.key(0, "run", first.runs[0].id)
    assert await client.hget(name, "name") is None
    events = await client.xlen(keys.key(0, "events"))

    answers, claimed = await store.submit_runs(0, [first])

    assert words(answers) == [["known"]]
    assert sum(claim.runs for claim in claimed) == 0
    assert await client.xlen(keys.key(0, "events")) == events
    assert 0 < await client.ttl(name) <= REMEMBERED_SECONDS
    assert await RunStore(client, 1).read_runs([first.runs[0].id]) == []


async def test_the_answer_is_given_with_the_acceptance_so_that_none_is_there_of_runs_that_are_not(
    client: Redis, store: DispatchStore
) -> None:
    """A dispatcher that dies in between, or whose Redis forgets in between, would otherwise answer later, or never."""
    await define_pool(client, "etl")
    deployment = await define_deployment(client, revision=2)
    runs = [one(), one_run(idempotency_key="k"), one_run(idempotency_key="k")]
    foreign, stale = (
        one().model_copy(update={"id": new_run_id(7)}),
        one_run(deployment=deployment, scheduled_by=by_schedule(1)),
    )
    nowhere = one('größer "als"')
    message = SubmitRuns(id="c1", pool="etl", runs=[*runs, foreign, stale, nowhere])

    await store.submit_runs(0, [message], malformed=[b'{"run":"x","code":"invalid","message":"no run"}'])

    (reply,) = await answered(client, "c1")
    assert reply.ok
    assert reply.result == {
        "accepted": [runs[0].id, runs[1].id],
        "refused": [
            {
                "run": foreign.id,
                "code": "invalid",
                "message": "the id must end in 0000, the partition of its pool in hexadecimal digits",
            },
            {"run": stale.id, "code": "stale", "message": "its deployment has changed since the schedule was read"},
            {"run": nowhere.id, "code": "not_found", "message": "work queue 'größer \"als\"' does not exist"},
            {"run": "x", "code": "invalid", "message": "no run"},
        ],
        "same": {runs[2].id: runs[1].id},
    }
    assert 0 < await client.ttl(keys.key(0, "reply", "c1")) <= REPLY_EXPIRE_SECONDS


async def test_a_submission_delivered_again_is_answered_again_with_the_same(
    client: Redis, store: DispatchStore
) -> None:
    await define_pool(client, "etl")
    message = SubmitRuns(id="c1", pool="etl", runs=[one(), one_run(idempotency_key="k")])

    await store.submit_runs(0, [message])
    await store.submit_runs(0, [message])

    first, second = await answered(client, "c1")
    assert first == second
    assert first.result["accepted"] == [run.id for run in message.runs]


async def test_a_submission_is_not_answered_while_one_of_its_queues_is_to_be_made(
    client: Redis, store: DispatchStore
) -> None:
    await define_pool(client, "etl")
    message = SubmitRuns(id="c1", pool="etl", runs=[one(), one("nowhere")])

    answers, _ = await store.submit_runs(0, [message], final=False)

    assert words(answers) == [["accepted", "unknown_queue"]]
    assert await answered(client, "c1") == []


@pytest.mark.parametrize(("pool", "late", "code"), [("nowhere", 0, "not_found"), ("etl", 1, "expired")])
async def test_a_submission_that_is_refused_as_a_whole_is_told_so(
    client: Redis, store: DispatchStore, pool: str, late: int, code: str
) -> None:
    await define_pool(client, "etl")
    deadline = await redis_now_ms(client) - 1 if late else None

    await store.submit_runs(0, [SubmitRuns(id="c1", pool=pool, deadline=deadline, runs=[one()])])

    (reply,) = await answered(client, "c1")
    assert (reply.ok, reply.error and reply.error.code) == (False, code)
