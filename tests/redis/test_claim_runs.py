from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock import keys
from penstock.bus.connection import connect, redis_now_ms
from penstock.contracts.runs import LATEST_LOOKED_AT, RunSpec, ScheduledBy, SubmitRuns, SubmittedRun, new_run_id
from services.dispatcher.rules import (
    DeploymentState,
    PoolState,
    QueueState,
    Scheduled,
    WaitingRun,
    WorkerState,
    is_missed,
    next_due,
    plan_claims,
)
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import CLAIM_RUNS, DispatchStore
from tests.definitions import define_deployment, define_pool, define_queue
from tests.dispatching import announce, assigned, in_flight, one_run, places, queue_of, report, state_of, submit, words
from tests.support import read_events, read_messages

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.contracts.runs import CatchUp
    from services.dispatcher.rules import Plan

SEEDS = {"critical": {"priority": 1, "limit": 1}, "high": {"priority": 5, "limit": 3}, "low": {"priority": 10}}


async def queues_of(client: Redis, pool: str) -> list[str]:
    return [run["queue"] for run in await assigned(client, pool)]


async def test_limit_5_with_3_in_flight_hands_out_exactly_2_more(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", limit=5)
    await announce(store, pool, slots=100)
    await submit(store, "etl", count=3)
    assert await in_flight(client, pool) == 3

    await submit(store, "etl", count=50)

    assert len(await assigned(client, "etl")) == 5
    assert await in_flight(client, pool) == 5


async def test_the_seeds_waterfall_every_critical_before_any_high_before_any_low(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", queues=SEEDS, limit=5)
    for queue in ("low", "high", "critical"):
        await submit(store, "etl", queue, 6)
    await announce(store, pool, slots=100)
    done = 0
    while done < 18:
        runs = await assigned(client, "etl")
        assert await in_flight(client, pool) <= 5
        assert await in_flight(client, pool, "critical") <= 1
        assert await in_flight(client, pool, "high") <= 3
        await report(store, "etl", runs[done], "COMPLETED")
        done += 1

    order = await queues_of(client, "etl")
    # Limits let lower queues fill what higher ones may not: 1 critical, 3 high, 1 low at the start.
    assert order[:5] == ["critical", "high", "high", "high", "low"]
    assert order[5:10] == ["critical"] * 5 or order.index("critical", 1) == 5
    assert sorted(order) == sorted(["critical", "high", "low"] * 6)


async def test_without_queue_limits_a_higher_queue_is_emptied_before_a_lower_one_begins(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", queues={"critical": {"priority": 1}, "low": {"priority": 10}}, limit=2)
    await submit(store, "etl", "low", 3)
    await submit(store, "etl", "critical", 3)
    await announce(store, pool)
    await report(store, "etl", (await assigned(client, "etl"))[0], "COMPLETED")
    await submit(store, "etl", "critical", 1)
    for index in range(1, 6):
        await report(store, "etl", (await assigned(client, "etl"))[index], "COMPLETED")

    assert await queues_of(client, "etl") == ["critical"] * 4 + ["low"] * 3


async def test_a_paused_pool_hands_out_nothing(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", paused=True)
    await announce(store, pool)

    await submit(store, "etl", count=3)

    assert await assigned(client, "etl") == []


async def test_a_paused_queue_is_passed_over_and_keeps_the_slots_its_runs_hold(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", queues={"a": {"priority": 1}, "b": {"priority": 2}}, limit=1)
    await announce(store, pool)
    await submit(store, "etl", "a", 2)
    await client.hset(keys.key(0, "queue", pool.queues["a"]), "is_paused", "true")
    await submit(store, "etl", "b", 1)
    assert await queues_of(client, "etl") == ["a"]

    await report(store, "etl", (await assigned(client, "etl"))[0], "COMPLETED")

    assert await queues_of(client, "etl") == ["a", "b"]


@pytest.mark.parametrize("limit", [0, 1, 7])
async def test_a_worker_never_gets_more_than_its_slots(client: Redis, store: DispatchStore, limit: int) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=limit)

    await submit(store, "etl", count=10)

    assert len(await assigned(client, "etl")) == limit


async def test_a_blocked_run_hides_no_unblocked_one(client: Redis, store: DispatchStore) -> None:
    queues = {"limited": {"priority": 1, "limit": 0}, "free": {"priority": 2}}
    pool = await define_pool(client, "etl", queues=queues)
    await submit(store, "etl", "limited", 300)
    await submit(store, "etl", "free", 1)

    await announce(store, pool)

    assert await queues_of(client, "etl") == ["free"]


async def test_a_worker_that_names_queues_gets_only_theirs(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", queues={"a": {"priority": 1}, "b": {"priority": 2}})
    await announce(store, pool, "only-b", queues=["b"])

    await submit(store, "etl", "a", 2)
    await submit(store, "etl", "b", 1)

    assert [run["queue"] for run in await assigned(client, "etl", "only-b")] == ["b"]


async def test_a_worker_of_the_queue_is_used_before_one_that_serves_every_queue(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", queues={"a": {"priority": 1}})
    await announce(store, pool, "general", slots=100)
    await announce(store, pool, "special", slots=2, queues=["a"])

    await submit(store, "etl", "a", 3)

    assert len(await assigned(client, "etl", "special")) == 2
    assert len(await assigned(client, "etl", "general")) == 1


async def test_runs_are_spread_over_the_workers_with_most_free_slots(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, "small", slots=2)
    await announce(store, pool, "large", slots=4)

    await submit(store, "etl", count=4)

    assert (len(await assigned(client, "etl", "large")), len(await assigned(client, "etl", "small"))) == (3, 1)


async def test_a_run_due_later_waits_and_names_the_moment(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    due_ms = await redis_now_ms(client) + 60_000

    await submit(store, "etl", due_ms=due_ms)

    assert await assigned(client, "etl") == []
    assert await client.zscore(keys.key(0, "due"), "etl") == due_ms


async def test_a_worker_with_prefetch_gets_a_run_of_the_near_future_another_does_not(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, "eager", slots=1, prefetch_ms=10_000)
    await announce(store, pool, "plain", slots=50)
    now_ms = await redis_now_ms(client)

    await submit(store, "etl", count=3, due_ms=now_ms + 5_000)

    assert len(await assigned(client, "etl", "eager")) == 1
    assert await assigned(client, "etl", "plain") == []


async def test_the_worker_that_may_start_early_is_found_behind_one_with_more_free_slots(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, "eager", slots=1, prefetch_ms=10_000)
    await announce(store, pool, "plain", slots=50)

    await submit(store, "etl", due_ms=await redis_now_ms(client) + 5_000)

    assert len(await assigned(client, "etl", "eager")) == 1


async def test_the_pool_is_woken_a_prefetch_before_its_next_run_is_due(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, prefetch_ms=10_000)
    due_ms = await redis_now_ms(client) + 60_000

    await submit(store, "etl", due_ms=due_ms)

    assert await client.zscore(keys.key(0, "due"), "etl") == due_ms - 10_000


async def test_nobody_is_woken_for_a_run_that_nobody_is_free_for_until_somebody_is(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool, slots=1)
    await submit(store, "etl")
    due_ms = await redis_now_ms(client) + 60_000
    await submit(store, "etl", due_ms=due_ms)
    assert await client.zscore(keys.key(0, "due"), "etl") is None

    await report(store, "etl", (await assigned(client, "etl"))[0], "COMPLETED")

    assert await client.zscore(keys.key(0, "due"), "etl") == due_ms


async def test_within_prefetch_priority_trumps_lateness(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", queues={"high": {"priority": 1}, "low": {"priority": 2}})
    now_ms = await redis_now_ms(client)
    await submit(store, "etl", "low", 1, due_ms=now_ms - 86_400_000)
    await submit(store, "etl", "high", 1, due_ms=now_ms + 5_000)

    await announce(store, pool, slots=1, prefetch_ms=10_000)

    assert await queues_of(client, "etl") == ["high"]


async def test_an_assignment_carries_all_a_worker_needs(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "größe")
    await announce(store, pool, "w-数", boot_id="life-1")
    spec = RunSpec(entrypoint="flows/etl.py:main", parameters={"städte": ["Köln"], "n": 1, "empty": {}, "none": None})
    run = SubmittedRun(id=new_run_id(0), name="näme", spec=spec)

    await store.submit_runs(0, [SubmitRuns(pool="größe", runs=[run])])

    message = (await read_messages(client, "inbox", "größe/w-数"))[-1]
    (told,) = message["runs"]
    assert (message["type"], message["boot_id"], message["pool"]) == ("assign_runs", "life-1", "größe")
    assert (told["id"], told["name"], told["queue"], told["epoch"]) == (run.id, "näme", "default", 1)
    assert len(told["token"]) == 32
    assert told["spec"]["parameters"] == {"städte": ["Köln"], "n": 1, "empty": {}, "none": None}


async def test_tokens_of_two_claims_differ(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await announce(store, pool)
    await submit(store, "etl", count=2)
    one, two = await assigned(client, "etl")

    assert one["token"] != two["token"]


async def test_one_call_is_bounded_and_goes_on_until_all_is_handed_out(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    await submit(store, "etl", count=450)

    await announce(store, pool, slots=420)

    assert len(await assigned(client, "etl")) == 420


async def test_a_waiting_place_without_its_run_is_dropped_and_blocks_nobody(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    lost, kept = await submit(store, "etl", count=2)
    await client.delete(keys.key(0, "run", lost))

    await announce(store, pool)

    assert [run["id"] for run in await assigned(client, "etl")] == [kept]
    assert await in_flight(client, pool) == 1
    assert await places(client, pool) == []


async def test_claims_racing_on_eight_connections_never_pass_a_limit_and_hand_out_each_run_once(
    client: Redis, redis_url: str
) -> None:
    queues = {"a": {"priority": 1, "limit": 3}, "b": {"priority": 2}}
    pool = await define_pool(client, "etl", queues=queues, limit=7)
    clients = [connect(redis_url) for _ in range(8)]
    stores = [DispatchStore(each, DispatcherSettings()) for each in clients]
    await announce(stores[0], pool, "w1", slots=6)
    await announce(stores[0], pool, "w2", slots=6)
    await submit(stores[0], "etl", "a", 40)
    await submit(stores[0], "etl", "b", 40)
    finished: set[str] = set()
    while len(finished) < 80:
        runs = [(run, worker) for worker in ("w1", "w2") for run in await assigned(client, "etl", worker)]
        assert len({run["id"] for run, _ in runs}) == len(runs)
        open_runs = [(run, worker) for run, worker in runs if run["id"] not in finished]
        assert 0 < len(open_runs) <= 7
        assert sum(run["queue"] == "a" for run, _ in open_runs) <= 3
        await asyncio.gather(
            *(
                report(stores[number % 8], "etl", run, "COMPLETED", worker=worker)
                for number, (run, worker) in enumerate(open_runs)
            ),
            *(each.claim_runs(0, ["etl"]) for each in stores),
        )
        finished |= {run["id"] for run, _ in open_runs}
    for each in clients:
        await each.aclose()

    events = [event for event in await read_events(client) if event["event"] == "prefect.flow-run.Pending"]
    assert len(events) == 80


@settings(
    max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(seed=st.integers(0, 2**32))
async def test_the_script_hands_out_exactly_what_the_rule_says(redis_url: str, seed: int) -> None:
    """States are drawn rich, not small: an oracle is as good as its generator."""
    draw = random.Random(seed)
    limits = [None, None, 0, 1, 2, 3, 5]
    queues = [
        {
            "paused": draw.random() < 0.15,
            "limit": draw.choice(limits),
            "runs": [draw.choice(OFFSETS_MS) for _ in range(draw.randint(0, 6))],
            "held": draw.choice([0, 0, 1, 2]),
        }
        for _ in range(draw.randint(1, 3))
    ]
    workers = [
        {
            "slots": draw.randint(0, 4),
            "prefetch_ms": draw.choice([0, 0, 4_000_000, 8_000_000]),
            "queues": draw.choice([(), (), ("q0",), ("q1", "q2"), ("q0", "q2")]),
        }
        for _ in range(draw.randint(0, 4))
    ]
    pool_limit, max_runs = draw.choice([None, None, 1, 3, 6, 9]), draw.choice([1, 3, 100, 100])
    client = connect(redis_url)
    try:
        await client.flushall()
        await _compare(client, draw, draw.random() < 0.1, pool_limit, queues, workers, max_runs)
    finally:
        await client.aclose()


OFFSETS_MS = [-70_000, -5_000, -5_000, -1_000, -1, 3_600_000, 7_200_000, 90_000_000]
SCHEDULES = [str(uuid.UUID(int=number)) for number in range(2)]
POLICIES: list[CatchUp] = ["all", "latest", "none"]


async def _define_deployments(client: Redis, draw: random.Random, now_ms: int) -> dict[str, DeploymentState]:
    """Deployments as the registry would define them, with slots held by runs of elsewhere."""
    states = {}
    for _ in range(draw.randint(0, 3)):
        ident = str(uuid.UUID(int=draw.getrandbits(128)))
        state = DeploymentState(
            limit=draw.choice([None, 0, 1, 1, 2, 4]),
            in_flight=draw.choice([0, 0, 1, 2]),
            strategy=draw.choice(["enqueue", "cancel_new"]),
            revision=draw.choice([1, 2, 2]),
            revised_ms=now_ms + draw.choice([-80_000, -5_000, -500]),
        )
        mapping: Any = {
            "concurrency_limit": _json(state.limit),
            "collision_strategy": f'"{state.strategy}"',
            "revision": 2,
            "revised_ms": state.revised_ms,
        }
        await client.hset(keys.key(0, "deployment", ident), mapping=mapping)
        for number in range(state.in_flight):
            await client.zadd(keys.key(0, "deployment_in_flight", ident), {f"elsewhere-{number}": now_ms})
        states[ident] = replace(state, revision=2)
    return states


def _scheduled(draw: random.Random, deployment: str | None) -> Scheduled | None:
    if deployment is None or draw.random() < 0.3:
        return None
    return Scheduled(draw.choice(SCHEDULES), 2, draw.choice(POLICIES))


async def _wait(
    client: Redis, store: DispatchStore, draw: random.Random, queue: str, due_ms: int, deployments: list[str]
) -> WaitingRun:
    """Submit one run, somebody's or a schedule's, made before or after the last change of its deployment."""
    deployment = draw.choice([None, *deployments, *deployments])
    by = _scheduled(draw, deployment)
    run = one_run(
        queue,
        due_ms,
        deployment=deployment,
        scheduled_by=by and ScheduledBy(schedule=by.schedule, revision=by.revision, catch_up=by.catch_up),
    )
    answers, _ = await store.submit_runs(0, [SubmitRuns(pool="p", runs=[run])])
    assert words(answers) == [["accepted"]]
    if by and draw.random() < 0.3:
        by = replace(by, revision=1)
        await client.hset(keys.key(0, "run", run.id), "auto", f"{by.schedule} 1 {by.catch_up}")
    if deployment and due_ms <= await redis_now_ms(client) and draw.random() < 0.3:
        await _park(client, run.id, deployment)
    begun = draw.random() < 0.15
    if begun:
        # It waits again: it was handed out before.
        await client.hset(keys.key(0, "run", run.id), "epoch", "1")
    return WaitingRun(run.id, due_ms, deployment, by, begun)


async def _park(client: Redis, run_id: str, deployment: str) -> None:
    """Set a run aside as an earlier claim may have, whether its deployment has room by now or not."""
    if await client.hget(keys.key(0, "deployment", deployment), "collision_strategy") != b'"enqueue"':
        return
    queue = await queue_of(client, run_id)
    due: Any = await client.zscore(keys.key(0, "waiting", queue), run_id)
    await client.zrem(keys.key(0, "waiting", queue), run_id)
    await client.zadd(keys.key(0, "parked", f"{queue}/{deployment}"), {run_id: due})
    await client.sadd(keys.key(0, "queue_parked", queue), deployment)
    await client.sadd(keys.key(0, "deployment_parked", deployment), queue)


async def _compare(
    client: Redis,
    draw: random.Random,
    pool_paused: bool,
    pool_limit: int | None,
    queues: list[dict[str, Any]],
    workers: list[dict[str, Any]],
    max_runs: int,
) -> None:
    store = DispatchStore(client, DispatcherSettings())
    pool = await define_pool(client, "p")
    for number in range(len(queues)):
        await define_queue(client, pool, f"q{number}", priority=10 * (3 - number))
    # Some runs are in flight already, held by a worker of their own.
    await announce(store, pool, "holder", slots=100, queues=[f"q{number}" for number in range(len(queues))])
    for number, queue in enumerate(queues):
        if queue["held"]:
            await submit(store, "p", f"q{number}", queue["held"])
    held = {f"q{number}": await in_flight(client, pool, f"q{number}") for number in range(len(queues))}
    await announce(store, pool, "holder", slots=0)
    names = [f"q{number}" for number in range(len(queues))]
    for number, queue in enumerate(queues):
        mapping: Any = {"is_paused": "true" if queue["paused"] else "false", "concurrency_limit": _json(queue["limit"])}
        await client.hset(keys.key(0, "queue", pool.queues[f"q{number}"]), mapping=mapping)
    mapping = {"is_paused": "true", "concurrency_limit": _json(pool_limit)}
    await client.hset(keys.key(0, "pool", pool.id), mapping=mapping)
    now_ms = await redis_now_ms(client)
    deployments = await _define_deployments(client, draw, now_ms)
    waiting = {
        name: [await _wait(client, store, draw, name, now_ms + offset, list(deployments)) for offset in queue["runs"]]
        for name, queue in zip(names, queues, strict=True)
    }
    everything = [run for runs in waiting.values() for run in runs]
    deployments = {
        ident: replace(about, waiting=tuple(run for run in everything if run.deployment == ident))
        for ident, about in deployments.items()
    }
    for number, worker in enumerate(workers):
        known = [name for name in worker["queues"] if name in names]
        await announce(
            store, pool, f"w{number}", worker["slots"], queues=worker["queues"], prefetch_ms=worker["prefetch_ms"]
        )
        worker["served"] = frozenset(known) if worker["queues"] else None
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "true" if pool_paused else "false")
    state = PoolState(paused=pool_paused, limit=pool_limit, in_flight=sum(held.values()))
    queue_states_now = [
        QueueState(name, 10 * (3 - number), queue["paused"], queue["limit"], held[name], tuple(waiting[name]))
        for number, (name, queue) in enumerate(zip(names, queues, strict=True))
    ]
    worker_states_now = [
        WorkerState(f"w{number}", worker["slots"], worker["prefetch_ms"], worker["served"])
        for number, worker in enumerate(workers)
    ]
    aside = {run.id for run in everything if await _became(client, run) == "parked"}
    plan = plan_claims(now_ms, state, queue_states_now, worker_states_now, max_runs, deployments)
    expected = plan.claims

    answer = await CLAIM_RUNS(
        client,
        0,
        pool="p",
        max_runs=max_runs,
        max_bytes=1_000_000,
        max_set_aside=1000,
        nonce="nonce",
        retention=1000,
        kept=1000,
    )

    told = {
        worker.name: [run["id"] for run in await assigned(client, "p", worker.name)] for worker in worker_states_now
    }
    assert told == {worker.name: [run for run, to in expected if to == worker.name] for worker in worker_states_now}
    assert answer[0] == len(expected)
    for run_id, _ in expected:
        assert await state_of(client, run_id) == "PENDING"
    for run in everything:
        expected_state = BECOMES[plan.aside.get(run.id, "go" if run.id in dict(expected) else "stay")]
        became = await _became(client, run)
        # Where one waits that nobody has looked at is the script's own business; one set aside earlier is looked at when it may go.
        unseen = {became, expected_state} == {"waiting", "parked"} or (became == "parked" and run.id in aside)
        assert became == expected_state or unseen, run
    for ident, about in deployments.items():
        claimed = sum(1 for run in everything if run.deployment == ident and run.id in dict(expected))
        assert await client.zcard(keys.key(0, "deployment_in_flight", ident)) == about.in_flight + claimed
    blocked = pool_paused or (pool_limit is not None and pool_limit <= sum(held.values()))
    left = [
        QueueState(
            queue.id,
            queue.priority,
            queue.paused,
            queue.limit,
            0,
            tuple(
                run
                for run in queue.waiting
                if run.id not in dict(expected) and plan.aside.get(run.id, "stay") == "stay"
            ),
        )
        for queue in queue_states_now
        if _still_looked_at(queue, state, plan, queue_states_now, worker_states_now, max_runs)
    ]
    assert (int(answer[1]) if answer[1] else None) == (None if blocked else next_due(now_ms, left, worker_states_now))


BECOMES = {
    "go": "PENDING",
    "void": "gone",
    "missed": "CANCELLED",
    "cancel": "CANCELLED",
    "park": "parked",
    "stay": "waiting",
}


async def _became(client: Redis, run: WaitingRun) -> str:
    """What a run is, by the keys that say so."""
    queue_id = await queue_of(client, run.id)
    if not queue_id:
        assert await client.zscore(keys.key(0, "deployment_waiting", run.deployment or "-"), run.id) is None
        return "gone"
    waits = await client.zscore(keys.key(0, "waiting", queue_id), run.id) is not None
    parked = keys.key(0, "parked", f"{queue_id}/{run.deployment}")
    is_parked = await client.zscore(parked, run.id) is not None
    state = await state_of(client, run.id)
    assert (waits or is_parked) == (state == "SCHEDULED")
    if run.deployment:
        listed = await client.zscore(keys.key(0, "deployment_waiting", run.deployment), run.id)
        assert (listed is not None) == (state == "SCHEDULED")
    return "parked" if is_parked else "waiting" if waits else state


def _still_looked_at(
    queue: QueueState,
    pool: PoolState,
    plan: Plan,
    queues: list[QueueState],
    workers: list[WorkerState],
    max_runs: int,
) -> bool:
    """A queue that is full when its turn comes, or that nobody is free for, is woken by a release, not by a due time."""
    room = max_runs if pool.limit is None else min(max_runs, pool.limit - pool.in_flight)
    earlier = {run.id for other in queues if other.priority < queue.priority for run in other.waiting}
    before = [worker for run, worker in plan.claims if run in earlier]
    left = room - len(before)
    if queue.limit is not None:
        left = min(left, queue.limit - queue.in_flight)
    is_served = any(
        worker.free > before.count(worker.name) and (worker.queues is None or queue.id in worker.queues)
        for worker in workers
    )
    return left > 0 and is_served


def _json(value: int | None) -> str:
    return "null" if value is None else str(value)


async def test_runs_with_large_parameters_are_handed_out_in_several_messages_of_bounded_size(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    spec = RunSpec(command=["true"], parameters={"text": "x" * 100_000})
    runs = [SubmittedRun(id=new_run_id(0), name="large", spec=spec) for _ in range(12)]
    await store.submit_runs(0, [SubmitRuns(pool="etl", runs=runs)])

    await announce(store, pool, slots=100)

    messages = [message for message in await read_messages(client, "inbox", "etl/w1") if "runs" in message]
    assert [run["id"] for message in messages for run in message["runs"]] == [run.id for run in runs]
    assert max(len(message["runs"]) for message in messages) == 5


@pytest.mark.parametrize("between", [LATEST_LOOKED_AT - 1, LATEST_LOOKED_AT])
async def test_whether_a_run_is_the_latest_of_its_schedule_is_asked_of_as_many_as_the_rule_says(
    client: Redis, store: DispatchStore, between: int
) -> None:
    pool = await define_pool(client, "etl", paused=True)
    deployment = await define_deployment(client)
    now_ms = await redis_now_ms(client)
    by = ScheduledBy(schedule=SCHEDULES[0], revision=1, catch_up="latest")
    runs = [one_run("default", now_ms - 9_000 + 1_000 * n, deployment=deployment, scheduled_by=by) for n in range(2)]
    runs += [one_run("default", now_ms - 5_000 + n, deployment=deployment) for n in range(between)]
    for first in range(0, len(runs), 1000):
        await store.submit_runs(0, [SubmitRuns(pool="etl", runs=runs[first : first + 1000])])
    waiting = tuple(
        WaitingRun(
            run.id,
            round(run.scheduled_time.timestamp() * 1000) if run.scheduled_time else now_ms,
            deployment,
            Scheduled(SCHEDULES[0], 1, "latest") if run.scheduled_by else None,
        )
        for run in runs
    )
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "false")

    await announce(store, pool, slots=1)

    expected = {True: "CANCELLED", False: "PENDING"}[is_missed(waiting[0], now_ms, waiting)]
    assert await state_of(client, runs[0].id) == expected
    assert await in_flight(client, pool) == 1


async def claim(client: Redis, *, set_aside: int = 1000) -> list[Any]:
    """One call of the script."""
    bounds: dict[str, Any] = {"max_runs": 100, "max_bytes": 1_000_000, "max_set_aside": set_aside}
    answer = await CLAIM_RUNS(client, 0, pool="etl", nonce="nonce", retention=1000, kept=1000, **bounds)
    return list(answer)


async def test_one_call_sets_aside_a_bounded_number_and_says_that_somebody_has_to_go_on(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", paused=True)
    deployment = await define_deployment(client, limit=0)
    await announce(store, pool)
    run_ids = await submit(store, "etl", count=3, deployment=deployment)
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "false")

    assert (await claim(client, set_aside=2))[2] == 1

    assert await places(client, pool, deployment=deployment) == run_ids[:2]
    assert (await store.due_pools(0))[0] == ["etl"]


async def test_what_is_handed_out_is_not_set_aside(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", paused=True)
    await announce(store, pool)
    await submit(store, "etl", count=3)
    await client.hset(keys.key(0, "pool", pool.id), "is_paused", "false")

    assert await claim(client, set_aside=2) == [3, b"", 0]


@pytest.mark.parametrize("about", [{"paused": True}, {"limit": 0}, {}])
async def test_where_nothing_falls_due_nobody_looks_again(
    client: Redis, store: DispatchStore, about: dict[str, Any]
) -> None:
    await define_pool(client, "etl", **about)
    await client.zadd(keys.key(0, "due"), {"etl": 1})

    await store.claim_runs(0, ["etl"])

    assert await client.zcard(keys.key(0, "due")) == 0


async def test_a_run_of_a_schedule_whose_deployment_is_gone_is_handed_out(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client)
    by = ScheduledBy(schedule=SCHEDULES[0], revision=1, catch_up="all")
    (run_id,) = await submit(store, "etl", deployment=deployment, scheduled_by=by)
    await client.delete(keys.key(0, "deployment", deployment))

    await announce(store, pool)

    assert await state_of(client, run_id) == "PENDING"


async def test_when_the_latest_of_a_schedule_has_been_handed_out_the_latest_of_the_rest_is_caught_up(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl", queues={"high": {"priority": 1}, "low": {"priority": 2}})
    deployment = await define_deployment(client)
    now_ms = await redis_now_ms(client)
    by = ScheduledBy(schedule=SCHEDULES[0], revision=1, catch_up="latest")
    made: dict[str, list[str]] = {}
    for queue, offsets in {"high": (-9_000, -1_000), "low": (-8_000, -5_000)}.items():
        made[queue] = [
            (await submit(store, "etl", queue, due_ms=now_ms + offset, deployment=deployment, scheduled_by=by))[0]
            for offset in offsets
        ]

    await announce(store, pool)

    states = {queue: [await state_of(client, run_id) for run_id in run_ids] for queue, run_ids in made.items()}
    assert states == {"high": ["CANCELLED", "PENDING"], "low": ["CANCELLED", "PENDING"]}


async def test_where_there_is_no_pool_nothing_is_handed_out(client: Redis, store: DispatchStore) -> None:
    (claimed,) = await store.claim_runs(0, ["nowhere"])

    assert (claimed.runs, claimed.next_due_ms) == (0, None)
    assert await client.keys("*") == []


async def test_a_run_that_is_removed_is_the_latest_of_its_schedule_no_more(client: Redis, store: DispatchStore) -> None:
    pool = await define_pool(client, "etl", queues={"high": {"priority": 1}, "low": {"priority": 2}})
    deployment = await define_deployment(client)
    now_ms = await redis_now_ms(client)
    old = ScheduledBy(schedule=SCHEDULES[0], revision=1, catch_up="latest")
    new = ScheduledBy(schedule=SCHEDULES[0], revision=2, catch_up="latest")
    (removed,) = await submit(store, "etl", "high", due_ms=now_ms - 1_000, deployment=deployment, scheduled_by=old)
    await define_deployment(client, revision=2, revised_ms=now_ms - 3_000)
    (missed,) = await submit(store, "etl", "high", due_ms=now_ms - 9_000, deployment=deployment, scheduled_by=new)
    (latest,) = await submit(store, "etl", "low", due_ms=now_ms - 5_000, deployment=deployment, scheduled_by=new)

    await announce(store, pool)

    states = [await state_of(client, run_id) for run_id in (missed, removed, latest)]
    assert states == ["CANCELLED", "", "PENDING"]


async def test_a_run_that_was_missed_says_so_even_where_it_would_also_have_collided(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=0, strategy="cancel_new")
    by = ScheduledBy(schedule=SCHEDULES[0], revision=1, catch_up="none")
    long_ago = await redis_now_ms(client) - 100_000
    (run_id,) = await submit(store, "etl", due_ms=long_ago, deployment=deployment, scheduled_by=by)

    await announce(store, pool)

    assert await client.hget(keys.key(0, "run", run_id), "message") == b"Missed: its schedule does not catch up"


async def test_a_worker_gets_no_more_than_its_slots_when_a_claim_looks_at_a_queue_again(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    by = ScheduledBy(schedule=SCHEDULES[0], revision=1, catch_up="none")
    now_ms = await redis_now_ms(client)
    # Of two that were set aside there is room for one, which was missed; when it is dropped, the other may: the claim looks again.
    (missed,) = await submit(store, "etl", due_ms=now_ms - 70_000, deployment=deployment, scheduled_by=by)
    plain = await submit(store, "etl", count=2, due_ms=now_ms - 5_000)
    (aside,) = await submit(store, "etl", due_ms=now_ms - 1_000, deployment=deployment)
    for run_id in (missed, aside):
        await _park(client, run_id, deployment)

    await announce(store, pool, "w", slots=1)

    assert [run["id"] for run in await assigned(client, "etl", "w")] == plain[:1]
    assert [await state_of(client, run_id) for run_id in (missed, plain[1], aside)] == [
        "CANCELLED",
        "SCHEDULED",
        "SCHEDULED",
    ]
