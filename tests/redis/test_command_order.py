"""Commands about one pool, or one deployment, take effect in the order of their entries or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock import keys, streams
from penstock.contracts.deployments import (
    CreateDeployment,
    CreateSchedule,
    DeleteDeployment,
    DeleteSchedule,
    DeploymentChanges,
    PauseDeployment,
    ResumeDeployment,
    ScheduleSpec,
    UpdateDeployment,
    UpdateSchedule,
)
from penstock.contracts.pools import CreatePool, DeletePool, PausePool, PoolChanges, ResumePool, UpdatePool
from penstock.contracts.queues import (
    CreateQueue,
    DeleteQueue,
    PauseQueue,
    QueueChanges,
    ResumeQueue,
    UpdateQueue,
)
from services.pool_registry import rules
from tests.registering import Registry
from tests.scripts import evaluate

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.contracts.base import Command

POOL, DEPLOYMENT = "pool/etl", "deployment/hello/demo"
HOURLY = ScheduleSpec(interval_seconds=3600, slug="hourly")
SPARE = {"pool": "etl", "queue": "spare"}
NAMED = {"deployment": "hello/demo"}
ABOUT: list[tuple[str, Command]] = [
    (POOL, CreatePool(pool="etl", overwrite=True, description="new")),
    (POOL, UpdatePool(pool="etl", changes=PoolChanges(description="new"))),
    (POOL, PausePool(pool="etl")),
    (POOL, ResumePool(pool="etl")),
    (POOL, DeletePool(pool="etl")),
    (POOL, CreateQueue(pool="etl", queue="new")),
    (POOL, UpdateQueue(**SPARE, changes=QueueChanges(priority=9))),
    (POOL, PauseQueue(**SPARE)),
    (POOL, ResumeQueue(**SPARE)),
    (POOL, DeleteQueue(**SPARE)),
    (DEPLOYMENT, CreateDeployment(**NAMED, pool="etl", command="false", overwrite=True)),
    (DEPLOYMENT, UpdateDeployment(**NAMED, changes=DeploymentChanges(description="new"))),
    (DEPLOYMENT, PauseDeployment(**NAMED)),
    (DEPLOYMENT, ResumeDeployment(**NAMED)),
    (DEPLOYMENT, CreateSchedule(**NAMED, schedule=ScheduleSpec(interval_seconds=60, slug="new"))),
    (DEPLOYMENT, UpdateSchedule(**NAMED, schedule_id="hourly", active=False)),
    (DEPLOYMENT, DeleteSchedule(**NAMED, schedule_id="hourly")),
    (DEPLOYMENT, DeleteDeployment(**NAMED)),
]


@pytest.fixture
async def registry(client: Redis) -> Registry:
    registry = Registry(client)
    await registry.pool()
    await registry.queue("spare")
    await registry.deployment()
    await registry.schedule(interval_seconds=3600, slug="hourly")
    return registry


def test_every_command_that_changes_something_is_here() -> None:
    changing = {name for name in dir(Registry(None).store) if name.partition("_")[0] in VERBS}  # type: ignore[arg-type]
    assert {command.model_dump()["type"] for _, command in ABOUT} == changing


VERBS = ("create", "update", "pause", "resume", "delete")


@pytest.mark.parametrize(("of", "command"), ABOUT)
async def test_an_older_one_that_comes_again_changes_nothing_and_is_told_by_what_it_was_overtaken(
    registry: Registry, client: Redis, of: str, command: Command
) -> None:
    await client.set(keys.key(0, "last_applied", of), "1000-7")
    before = await registry.state()

    reply = await registry.answer(command.model_copy(update={"id": "c1"}), "1000-6", again=True)

    kind, _, name = of.partition("/")
    assert reply.error is not None
    assert reply.error.code == "overtaken"
    assert f"{kind} '{name}'" in reply.error.message
    assert await registry.state() == before, "not even its answer is remembered: it may come again"


@pytest.mark.parametrize(("of", "command"), ABOUT)
async def test_one_that_was_carried_out_is_the_newest_for_a_week(
    registry: Registry, client: Redis, of: str, command: Command
) -> None:
    for family in (POOL, DEPLOYMENT):
        await client.set(keys.key(0, "last_applied", family), "1000-7")

    reply = await registry.answer(command, "1000-8")

    assert reply.ok, reply.error
    other = DEPLOYMENT if of == POOL else POOL
    assert await client.get(keys.key(0, "last_applied", of)) == b"1000-8"
    assert await client.get(keys.key(0, "last_applied", other)) == b"1000-7"
    left = await client.ttl(keys.key(0, "last_applied", of))
    assert streams.LAST_APPLIED_EXPIRE_SECONDS - 60 < left <= streams.LAST_APPLIED_EXPIRE_SECONDS


@pytest.mark.parametrize(("of", "command"), ABOUT)
async def test_delivered_again_one_finds_its_answer_whatever_came_after_it(
    registry: Registry, client: Redis, of: str, command: Command
) -> None:
    named = command.model_copy(update={"id": "c1"})
    first = await registry.answer(named, "1000-8")
    await client.set(keys.key(0, "last_applied", of), "1000-9")

    assert first.ok
    assert await registry.answer(named, "1000-8", again=True) == first


async def test_without_an_entry_the_order_does_not_count(registry: Registry, client: Redis) -> None:
    await client.set(keys.key(0, "last_applied", POOL), "1000-7")

    assert (await registry.answer(PausePool(pool="etl"), again=True)).ok
    assert await client.get(keys.key(0, "last_applied", POOL)) == b"1000-7"


async def test_other_pools_have_an_order_of_their_own(registry: Registry) -> None:
    await registry.pool("other")
    assert (await registry.answer(PausePool(pool="etl"), "1000-7")).ok
    assert (await registry.answer(PausePool(pool="other"), "1000-6", again=True)).ok


@pytest.mark.parametrize(("of", "command"), ABOUT)
async def test_a_first_turn_counts_however_late(registry: Registry, client: Redis, of: str, command: Command) -> None:
    """Several registries read in turns: without any fault one is ahead of the other."""
    await client.set(keys.key(0, "last_applied", of), "1000-7")

    assert (await registry.answer(command, "1000-6")).ok
    assert await client.get(keys.key(0, "last_applied", of)) == b"1000-7"


async def test_one_that_was_refused_overtakes_nobody(registry: Registry) -> None:
    reply = await registry.answer(PauseQueue(pool="etl", queue="nosuch"), "1000-7")
    assert reply.error is not None
    assert reply.error.code == "not_found"

    assert (await registry.answer(PausePool(pool="etl"), "1000-6", again=True)).ok


async def test_it_may_come_again_while_it_is_itself_the_newest(registry: Registry) -> None:
    """Its answer expires earlier than its place."""
    assert (await registry.answer(PausePool(pool="etl"), "1000-7")).ok
    assert (await registry.answer(PausePool(pool="etl"), "1000-7", again=True)).ok


numbers = st.one_of(st.integers(0, 12), st.integers(0, 2**53 - 1))
ids = st.builds("{}-{}".format, numbers, st.one_of(st.integers(0, 12), st.integers(0, 2**40)))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(ids, ids), min_size=1, max_size=20))
async def test_script_and_rule_agree_on_which_entry_is_older(client: Redis, pairs: list[tuple[str, str]]) -> None:
    body = """
        local found = {}
        for index = 1, #ARGV - pairs_from + 1, 2 do
          local entry, newest = ARGV[pairs_from + index - 1], ARGV[pairs_from + index]
          redis.call('SET', key_last_applied('pool/x'), newest)
          found[#found + 1] = settled('', '', entry, '1', 'pool/x') and 1 or 0
        end
        return found
        """
    header = "-- ARGV ...pairs\n-- INCLUDES clock events replies definitions changes\n-- USES last_applied"
    flat: list[Any] = [ident for pair in pairs for ident in pair]

    found = await evaluate(client, header, body, *flat)

    assert found == [int(rules.is_overtaken(entry, newest)) for entry, newest in pairs]
