"""The scheduler with the real dispatcher behind it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import redis_now_ms
from penstock.bus.delivery import deliver
from penstock.bus.entries import Entry
from penstock.contracts.deployments import DeploymentChanged, DeploymentDeleted
from penstock.contracts.pools import PoolDeleted, QueueDeleted, QueueGone
from penstock.errors import BadSettings, NoReply
from services.scheduler import planner as planning
from services.scheduler.app import subscription
from services.scheduler.settings import SchedulerSettings
from tests.definitions import define_deployment, define_pool, define_queue
from tests.scheduling import Clock, Scheduler, define_schedule, due_ms, made_runs, scheduler
from tests.support import read_messages, wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.contracts.base import Message
    from tests.definitions import DefinedPool

SECOND, MINUTE, HOUR, DAY = 1000, 60_000, 3_600_000, 86_400_000
START = 1_900_000_000_000 - 1_900_000_000_000 % DAY
"""A midnight far enough ahead that the dispatcher, which lives by Redis TIME, sees every run as one of the future."""


@pytest.fixture
async def pool(client: Redis) -> DefinedPool:
    return await define_pool(client, "etl")


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def one(client: Redis, clock: Clock, pool: DefinedPool) -> Scheduler:
    _ = pool
    return scheduler(client, clock)


async def deployed(client: Redis, name: str = "hello/demo", queue: str = "default", **schedule: Any) -> str:
    deployment = await define_deployment(client, name, revised_ms=START, queue=queue)
    await define_schedule(
        client, deployment, **(schedule or {"interval_seconds": 3600, "anchor": "2020-01-01T00:00:00Z"})
    )
    return deployment


async def send(client: Redis, one: Scheduler, message: Message) -> None:
    """Deliver a message as the bus would."""
    entry = Entry(0, "definitions", "1-0", {b"__data__": message.wire()})
    await deliver(client, subscription(one.handlers), [entry])


def changed(deployment: str, revision: int = 1, name: str = "hello/demo") -> DeploymentChanged:
    return DeploymentChanged(deployment_id=deployment, deployment=name, pool="etl", revision=revision)


def pool_deleted(pool: DefinedPool) -> PoolDeleted:
    gone = [QueueGone(id=ident, name=name) for name, ident in pool.queues.items()]
    return PoolDeleted(pool_id=pool.id, pool=pool.name, worker_type=pool.type, queues=gone)


async def test_a_new_deployment_is_planned_at_once_not_when_the_clock_comes_round(
    client: Redis, pool: DefinedPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = pool
    monkeypatch.setattr(planning, "LOOK_AGAIN_SECONDS", 3600.0)
    one = scheduler(client)
    running = asyncio.create_task(one.planner.run())
    await asyncio.sleep(0.05)
    now_ms = await redis_now_ms(client)
    deployment = await define_deployment(client, revised_ms=now_ms)
    await define_schedule(client, deployment, cron="@daily")

    await send(client, one, changed(deployment))

    await wait_until(lambda: due_ms(client, deployment), what="its runs", timeout=3)
    running.cancel()
    assert len(await due_ms(client, deployment)) == 3


async def test_it_wakes_by_itself_when_something_is_due(client: Redis, pool: DefinedPool) -> None:
    _ = pool
    one = scheduler(client)
    now_ms = await redis_now_ms(client)
    deployment = await define_deployment(client, revised_ms=now_ms)
    ident = await define_schedule(client, deployment, cron="@daily")
    await one.store.follow_schedules(0, now_ms + 300, [f"{deployment}/{ident}"])
    running = asyncio.create_task(one.planner.run())
    await wait_until(lambda: due_ms(client, deployment), what="its runs", timeout=1.5)
    running.cancel()


async def test_a_run_of_a_schedule_is_a_run_of_its_deployment(client: Redis, one: Scheduler) -> None:
    deployment = await define_deployment(
        client,
        revised_ms=START,
        revision=5,
        parameters={"a": 1, "b": 2},
        job_variables={"env": {"X": "1"}},
        tags=["nightly"],
        working_dir="/srv",
        retries=2,
        retry_delay_seconds=1.5,
    )
    schedule = await define_schedule(client, deployment, cron="0 6 * * *", parameters={"b": 3}, catch_up="latest")
    await one.planner.follow_all(0)
    await one.settle()

    run = (await made_runs(client, deployment))[0]
    assert (run.due_ms, run.schedule, run.revision) == (START + 6 * HOUR, schedule, 5)
    assert run.spec == {
        "entrypoint": "hello.py:hello",
        "parameters": {"a": 1, "b": 3},
        "working_dir": "/srv",
        "job_variables": {"env": {"X": "1"}},
        "tags": ["nightly"],
    }
    (run_id, *_) = await client.zrange(keys.key(0, "deployment_waiting", deployment), 0, 0)
    fields = await client.hgetall(keys.key(0, "run", run_id.decode()))  # type: ignore[union-attr]
    assert fields[b"auto"] == f"{schedule} 5 latest".encode()
    assert fields[b"retry"] == b"2 1500"
    assert b"key" in fields


async def test_a_schedule_by_the_second_stays_planned(client: Redis, one: Scheduler, clock: Clock) -> None:
    deployment = await deployed(client, interval_seconds=1, anchor="2020-01-01T00:00:00Z")
    await one.planner.follow_all(0)
    rounds = 0
    while clock.now_ms < START + 10 * MINUTE:
        await one.settle()
        rounds += 1
        ahead = [due for due in await due_ms(client, deployment) if due > clock.now_ms]
        assert 50 < len(ahead) <= 100
        clock.now_ms = await one.store.next_due_ms(0) or 0
    made = await due_ms(client, deployment)
    assert made == [START + number * SECOND for number in range(1, len(made) + 1)]
    assert rounds == 12, "not every second makes work"


CATCH_UP = {
    "all": [number * HOUR for number in range(1, 14)],
    "latest": [10 * HOUR, 11 * HOUR, 12 * HOUR, 13 * HOUR],
    "none": [11 * HOUR, 12 * HOUR, 13 * HOUR],
}


@pytest.mark.parametrize("catch_up", CATCH_UP)
async def test_what_was_missed_is_made_up_for_as_the_schedule_says(
    client: Redis, one: Scheduler, clock: Clock, catch_up: str
) -> None:
    deployment = await deployed(client, cron="@hourly", catch_up=catch_up)
    await one.planner.follow_all(0)
    clock.now_ms = START + 10 * HOUR + 5 * MINUTE
    await one.settle()
    assert await due_ms(client, deployment) == [START + due for due in CATCH_UP[catch_up]]


async def test_a_long_outage_is_made_up_for_in_rounds_the_oldest_first(
    client: Redis, one: Scheduler, clock: Clock
) -> None:
    deployment = await deployed(client, interval_seconds=60, anchor="2020-01-01T00:00:00Z")
    await one.planner.follow_all(0)
    clock.now_ms = START + 1200 * MINUTE
    assert await one.planner.plan_due(0) == 0
    assert await due_ms(client, deployment) == [START + number * MINUTE for number in range(1, 501)]
    await one.settle()
    assert await due_ms(client, deployment) == [START + number * MINUTE for number in range(1, 1291)]


@pytest.mark.parametrize("first", ["scheduler", "dispatcher"])
async def test_a_changed_schedule_has_its_new_runs_only_whoever_hears_of_it_first(
    client: Redis, one: Scheduler, clock: Clock, first: str
) -> None:
    """Half of the new fire times are old ones too; their runs must be new ones, with the new parameters."""
    deployment = await deployed(client, interval_seconds=3600, anchor="2020-01-01T00:00:00Z")
    (schedule,) = [ident.partition("/")[2] for ident in await one.store.defined_idents(0, [deployment])]
    await one.planner.follow_all(0)
    await one.settle()
    assert await due_ms(client, deployment) == [START + number * HOUR for number in (1, 2, 3)]

    await define_deployment(client, revision=2, revised_ms=START + 10 * MINUTE, parameters={"new": True})
    fields: dict[str, Any] = {"interval_seconds": 1800, "anchor": "2020-01-01T00:00:00Z"}
    await define_schedule(client, deployment, schedule_id=schedule, **fields)
    clock.now_ms = START + 10 * MINUTE + 5
    order = ["scheduler", "dispatcher"] if first == "scheduler" else ["dispatcher", "scheduler"]
    for hears in order:
        if hears == "scheduler":
            await send(client, one, changed(deployment, 2))
        else:
            await one.dispatch.tell(changed(deployment, 2), stream="definitions")
        for _ in range(3):
            await one.planner.plan_due(0)
    clock.now_ms += 2 * SECOND
    await one.settle()

    runs = await made_runs(client, deployment)
    assert [run.due_ms for run in runs] == [START + number * 30 * MINUTE for number in (1, 2, 3)]
    assert {run.revision for run in runs} == {2}
    assert all(run.spec["parameters"] == {"new": True} for run in runs)


@pytest.mark.parametrize("how", ["pause", "deactivate", "delete schedule", "delete deployment"])
async def test_a_schedule_that_is_paused_or_gone_loses_its_future_runs_and_gets_no_more(
    client: Redis, one: Scheduler, clock: Clock, how: str
) -> None:
    deployment = await deployed(client, cron="@hourly")
    (ident,) = await one.store.defined_idents(0, [deployment])
    await one.planner.follow_all(0)
    await one.settle()
    assert len(await due_ms(client, deployment)) == 3

    message: Message = changed(deployment, 2)
    if how == "pause":
        await define_deployment(client, revision=2, revised_ms=START, paused=True)
    elif how == "delete deployment":
        await client.delete(keys.key(0, "deployment", deployment), keys.key(0, "schedules", deployment))
        await client.hdel(keys.key(0, "deployments"), "hello/demo")
        message = DeploymentDeleted(deployment_id=deployment, deployment="hello/demo", pool="etl")
    else:
        await define_deployment(client, revision=2, revised_ms=START)
        if how == "deactivate":
            schedule = ident.partition("/")[2]
            await define_schedule(client, deployment, schedule_id=schedule, cron="@hourly", active=False)
        else:
            await client.delete(keys.key(0, "schedules", deployment))
    await send(client, one, message)
    await one.dispatch.tell(message, stream="definitions")
    for hours in range(12):
        clock.now_ms = START + hours * HOUR
        await one.settle()

    assert await due_ms(client, deployment) == []
    assert await client.exists(keys.key(0, "schedule_plans"), keys.key(0, "schedule_due")) == 0


async def test_a_resumed_deployment_goes_on_from_then(client: Redis, one: Scheduler, clock: Clock) -> None:
    deployment = await deployed(client, cron="@hourly")
    await define_deployment(client, revision=2, revised_ms=START, paused=True)
    await one.planner.follow_all(0)
    clock.now_ms = START + 5 * HOUR + 1
    await define_deployment(client, revision=3, revised_ms=clock.now_ms)
    await send(client, one, changed(deployment, 3))
    await one.settle()
    assert await due_ms(client, deployment) == [START + number * HOUR for number in (6, 7, 8)]


async def test_pausing_a_pool_does_not_pause_schedules(client: Redis, one: Scheduler, clock: Clock) -> None:
    await define_pool(client, "paused", paused=True)
    deployment = await define_deployment(client, "hello/paused", pool="paused", revised_ms=START)
    await define_schedule(client, deployment, cron="@hourly")
    await one.planner.follow_all(0)
    await one.settle()
    clock.now_ms = START + HOUR
    await one.settle()
    assert await due_ms(client, deployment) == [START + number * HOUR for number in (1, 2, 3, 4)]


async def test_a_pool_that_is_gone_is_waited_for_and_not_flooded_when_it_is_back(
    client: Redis, one: Scheduler, clock: Clock, pool: DefinedPool
) -> None:
    deployment = await deployed(client, interval_seconds=60, anchor="2020-01-01T00:00:00Z")
    await one.planner.follow_all(0)
    await one.settle()
    await client.delete(keys.key(0, "pools"), keys.key(0, "pool", pool.id))
    await one.dispatch.tell(pool_deleted(pool), stream="definitions")
    await send(client, one, pool_deleted(pool))
    assert await due_ms(client, deployment) == []
    submitted = one.dispatch.submitted

    while clock.now_ms < START + 5 * HOUR:
        clock.now_ms += 10 * SECOND
        assert await one.planner.plan_due(0) > 0
    assert one.dispatch.submitted == submitted, "nobody is asked to refuse them"
    assert await read_messages(client, "dead") == []

    await define_pool(client, "etl")
    back = clock.now_ms
    clock.now_ms += 2 * MINUTE
    await one.settle()
    made = await due_ms(client, deployment)
    assert made[0] > back - MINUTE
    assert made == [made[0] + number * MINUTE for number in range(len(made))]
    assert len(made) >= 90


async def test_the_runs_that_went_with_a_queue_are_made_again_and_create_it_anew(
    client: Redis, one: Scheduler, clock: Clock, pool: DefinedPool
) -> None:
    queue_id = await define_queue(client, pool, "fast")
    deployment = await deployed(client, cron="@daily", queue="fast")
    other = await deployed(client, "hello/other", cron="@daily")
    await one.planner.follow_all(0)
    await one.settle()
    before, of_other = await due_ms(client, deployment), await made_runs(client, other)
    await client.delete(keys.key(0, "queue", queue_id))
    await client.zrem(keys.key(0, "pool_queues", pool.id), queue_id)
    await client.hdel(keys.key(0, "pool_queue_names", pool.id), "fast")
    message = QueueDeleted(
        pool_id=pool.id, pool="etl", worker_type="process", queue=QueueGone(id=queue_id, name="fast")
    )
    await one.dispatch.tell(message, stream="definitions")
    assert await due_ms(client, deployment) == []

    await send(client, one, message)
    await define_queue(client, pool, "fast")
    clock.now_ms += 10 * SECOND
    await one.settle()

    assert await due_ms(client, deployment) == before
    assert await made_runs(client, other) == of_other


async def test_without_the_dispatcher_it_tries_again_and_loses_nothing(
    client: Redis, one: Scheduler, clock: Clock
) -> None:
    deployment = await deployed(client, cron="@hourly")
    await one.planner.follow_all(0)
    one.dispatch.away = NoReply("nobody answered submit_runs within 5 s")
    await one.planner.plan_due(0)
    clock.now_ms += 500
    await one.planner.plan_due(0)
    one.dispatch.away = None
    clock.now_ms += 600
    await one.settle()
    assert await due_ms(client, deployment) == [START + number * HOUR for number in (1, 2, 3)]


async def test_a_dispatcher_that_is_away_is_asked_once_a_round_not_once_a_pool(
    client: Redis, one: Scheduler, clock: Clock
) -> None:
    for number in range(5):
        await define_pool(client, f"pool-{number}")
        deployment = await define_deployment(client, f"hello/{number}", pool=f"pool-{number}", revised_ms=START)
        await define_schedule(client, deployment, cron="@hourly")
    asked = 0

    async def silent(*_: Any) -> Any:
        nonlocal asked
        asked += 1
        raise NoReply("nobody answered")

    one.planner._submit = silent
    await one.planner.follow_all(0)
    await one.planner.plan_due(0)
    assert asked == 1
    one.planner._submit = one.dispatch.submit
    clock.now_ms += 2 * SECOND
    await one.settle()
    assert one.dispatch.submitted == 15


async def test_an_answer_that_was_lost_doubles_nothing(client: Redis, one: Scheduler, clock: Clock) -> None:
    deployment = await deployed(client, cron="@hourly")
    await one.planner.follow_all(0)
    one.dispatch.failing = NoReply("the answer was lost")
    await one.planner.plan_due(0)
    one.dispatch.failing = None
    clock.now_ms += 2 * SECOND
    await one.settle()
    assert await due_ms(client, deployment) == [START + number * HOUR for number in (1, 2, 3)]
    assert one.dispatch.submitted == 6


async def test_a_definition_that_changes_between_reading_and_submitting_is_read_again(
    client: Redis, one: Scheduler, clock: Clock
) -> None:
    deployment = await deployed(client, cron="@hourly")
    await one.planner.follow_all(0)
    submit = one.dispatch.submit

    async def change_first(*arguments: Any) -> Any:
        one.planner._submit = submit
        await define_deployment(client, revision=2, revised_ms=START, parameters={"new": True})
        return await submit(*arguments)

    one.planner._submit = change_first
    await one.settle()
    assert await due_ms(client, deployment) == []
    clock.now_ms += 2 * SECOND
    await one.settle()
    runs = await made_runs(client, deployment)
    assert [run.due_ms for run in runs] == [START + number * HOUR for number in (1, 2, 3)]
    assert {run.revision for run in runs} == {2}


@pytest.mark.parametrize("wrong", [{"cron": "* * *"}, {"cron": "@hourly", "parameters": {"text": "x" * 1_100_000}}])
async def test_a_schedule_nothing_can_be_made_of_holds_up_no_other(
    client: Redis, one: Scheduler, clock: Clock, wrong: dict[str, Any]
) -> None:
    bad = await deployed(client, "hello/bad", **wrong)
    good = await deployed(client, "hello/good", cron="@hourly")
    await one.planner.follow_all(0)
    for _ in range(10):
        clock.now_ms += SECOND
        await one.planner.plan_due(0)
    assert await due_ms(client, bad) == []
    assert len(await due_ms(client, good)) == 3
    assert one.dispatch.submitted == 3


async def test_a_deployment_that_is_not_understood_holds_up_no_other(client: Redis, one: Scheduler) -> None:
    newer = await deployed(client, "hello/newer", cron="@hourly")
    await client.hset(keys.key(0, "deployment", newer), "collision_strategy", '"replace_oldest"')
    elsewhere = await deployed(client, "hello/elsewhere", cron="@hourly")
    for schedule, text in (await client.hgetall(keys.key(0, "schedules", elsewhere))).items():
        await client.hset(keys.key(0, "schedules", elsewhere), schedule, text.replace(b"UTC", b"Europe/Atlantis"))  # type: ignore[arg-type]
    good = await deployed(client, "hello/good", cron="@hourly")
    await one.planner.follow_all(0)
    await one.settle()
    assert await due_ms(client, newer) == await due_ms(client, elsewhere) == []
    assert len(await due_ms(client, good)) == 3
    assert len(await one.store.planned_idents(0)) == 3, "they are tried again"


async def test_a_change_nobody_was_told_of_is_found_by_the_reconciliation(client: Redis, one: Scheduler) -> None:
    deployment = await deployed(client, cron="@hourly")
    await client.hset(keys.key(0, "schedule_plans"), "gone/gone", f"1 {START}")
    await client.zadd(keys.key(0, "schedule_due"), {"gone/gone": START + DAY})
    assert await one.planner.follow_all(0) == 1
    assert await one.planner.follow_all(0) == 0
    await one.settle()
    assert len(await due_ms(client, deployment)) == 3
    assert await one.store.planned_idents(0) == await one.store.defined_idents(0, [deployment])


async def test_a_thousand_deployments_are_planned_in_few_messages(client: Redis, one: Scheduler) -> None:
    for number in range(1000):
        await deployed(client, f"hello/{number}", cron=f"{number % 60} {number % 24} * * *")
    asked = 0
    submit = one.dispatch.submit

    async def count(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return await submit(*arguments)

    one.planner._submit = count
    await one.planner.follow_all(0)
    await one.settle()
    assert one.dispatch.submitted == 3000
    assert asked == 10, "a hundred schedules share a message"


async def test_every_partition_is_planned(client: Redis, clock: Clock) -> None:
    one = scheduler(client, clock, partitions=2)
    deployment = await define_deployment(client, pool="etl", partition=1, revised_ms=START)
    await define_pool(client, "etl", partition=1)
    await define_schedule(client, deployment, cron="@hourly", partition=1)
    await one.planner.follow_all(1)
    await one.settle(1)
    assert len(await made_runs(client, deployment, partition=1)) == 3


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"PENSTOCK_SCHEDULER_MIN_RUNS": "60"}, "at least twice"),
        ({"PENSTOCK_SCHEDULER_MAX_AHEAD_SECONDS": "60"}, "must not be less"),
        ({"PENSTOCK_SCHEDULER_MAX_RUNS": "many"}, "PENSTOCK_SCHEDULER_MAX_RUNS"),
    ],
)
def test_settings_that_contradict_each_other_are_said(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], reason: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=reason):
        SchedulerSettings.read()
