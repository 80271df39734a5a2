"""Pause and limits are barriers: once the command has answered, no claim ignores it, however many dispatchers claim meanwhile.

Each round lets eight dispatchers, each on a connection of its own, claim one run at a time while the registry executes a command.
When the command has answered, a marker goes onto the event stream: Redis' own order then says what was handed out before and
what after it.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.contracts.pools import PausePool, PoolChanges, ResumePool, UpdatePool
from penstock.contracts.queues import PauseQueue, QueueChanges, ResumeQueue, UpdateQueue
from penstock.contracts.runs import ReportRuns, RunReport
from penstock.contracts.workers import MAX_SLOTS
from services.dispatcher import bounds
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import DispatchStore
from services.pool_registry.rules import Place
from services.pool_registry.store import RegistryStore
from tests.definitions import DefinedPool, define_pool
from tests.dispatching import announce, assigned, submit
from tests.support import read_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from redis.asyncio import Redis

    from penstock.contracts.replies import Reply

DISPATCHERS = 8
RUNS = 16
"""Waiting when a round begins: two for each dispatcher."""
ANSWERED, LIFTED = "answered", "lifted"


class Rival(NamedTuple):
    """One registry against eight dispatchers, on one pool whose worker has slots enough."""

    client: Redis
    registry: RegistryStore
    dispatchers: list[DispatchStore]
    pool: DefinedPool

    async def mark(self, word: str, **about: Any) -> None:
        fields: Any = {"type": word, "__data__": orjson.dumps({"event": word, **about})}
        await self.client.xadd(keys.key(0, "events"), fields)

    async def claim_until(self, answered: asyncio.Event, dispatcher: DispatchStore) -> None:
        while not answered.is_set():
            await dispatcher.claim_runs(0, [self.pool.name])
        await dispatcher.claim_runs(0, [self.pool.name])

    async def race(self, command: Callable[[], Awaitable[Reply]], turns: int, **about: Any) -> None:
        """Let everybody claim while the command is executed, and once more after it has answered.

        Args:
            command: sends it and waits for the answer.
            turns: of the event loop before it is sent.
            about: what the marker is to say.
        """
        answered = asyncio.Event()
        claims = [asyncio.create_task(self.claim_until(answered, dispatcher)) for dispatcher in self.dispatchers]
        for _ in range(turns):
            await asyncio.sleep(0)
        reply = await command()
        await self.mark(ANSWERED, **about)
        answered.set()
        await asyncio.gather(*claims)
        assert reply.ok, reply.error


@pytest.fixture
async def rival(client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rival]:
    monkeypatch.setattr(bounds, "CLAIM_AT_ONCE", 1)
    pool = await define_pool(client, "etl", queues={"fast": {"priority": 1}, "slow": {"priority": 2}})
    async with AsyncExitStack() as opened:
        own = [connect(redis_url) for _ in range(DISPATCHERS + 1)]
        for each in own:
            opened.push_async_callback(each.aclose)
        dispatchers = [DispatchStore(each, DispatcherSettings()) for each in own[1:]]
        await announce(dispatchers[0], pool, slots=MAX_SLOTS)
        yield Rival(client, RegistryStore(own[0]), dispatchers, pool)


def pending(event: dict[str, Any]) -> bool:
    return bool(event["event"] == "prefect.flow-run.Pending")


def rounds_of(events: list[dict[str, Any]]) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """What happened before the answer and after it, round by round."""
    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    for event in events:
        if event["event"] == ANSWERED:
            after = [event]
        elif event["event"] == LIFTED:
            yield before, after
            before, after = [], []
        else:
            (after or before).append(event)


async def waiting(rival: Rival, queue: str = "default") -> int:
    return int(await rival.client.zcard(keys.key(0, "waiting", rival.pool.queues[queue])))


async def fill(rival: Rival, queue: str = "default") -> None:
    """Have as many runs wait as a round begins with; nothing is handed out meanwhile."""
    if missing := RUNS - await waiting(rival, queue):
        await submit(rival.dispatchers[0], "etl", queue, missing)


async def finish_all(rival: Rival) -> None:
    """The worker ends everything it holds."""
    inbox = keys.key(0, "inbox", "etl/w1")
    runs = await assigned(rival.client, "etl")
    await rival.client.delete(inbox)
    reports = [RunReport(run=run["id"], token=run["token"], epoch=run["epoch"], state="COMPLETED") for run in runs]
    if reports:
        await rival.dispatchers[0].report_runs(0, [ReportRuns(pool="etl", worker="w1", reports=reports)])


def decided_late(left: list[int]) -> int:
    """Count the rounds in which the command came while runs were being handed out: some had been, some were left."""
    return sum(0 < waited < RUNS for waited in left)


async def test_nothing_is_handed_out_after_the_pause_of_a_pool_has_answered(client: Redis, rival: Rival) -> None:
    turns, left = random.Random(4), []
    pause, resume = PausePool(pool="etl"), ResumePool(pool="etl")
    await rival.registry.pause_pool(Place(0), pause)
    for _ in range(1000):
        await finish_all(rival)
        await fill(rival)
        await rival.mark(LIFTED)
        await rival.registry.resume_pool(Place(0), resume)

        await rival.race(lambda: rival.registry.pause_pool(Place(0), pause), turns.randrange(40))

        left.append(await waiting(rival))
    await rival.mark(LIFTED)
    _, *rounds = rounds_of(await read_events(client))

    assert len(rounds) == 1000
    assert [event for _, after in rounds for event in after if pending(event)] == []
    # The pause's own event is the barrier itself: it is there before its answer is.
    names = [[event["event"] for event in before] for before, _ in rounds]
    assert [each for each in names if each[-1] != "prefect.work-pool.paused"] == []
    assert decided_late(left) > 100


async def test_nothing_of_a_queue_is_handed_out_after_its_pause_has_answered_while_others_go_on(
    client: Redis, rival: Rival
) -> None:
    turns, left = random.Random(5), []
    pause, resume = PauseQueue(pool="etl", queue="fast"), ResumeQueue(pool="etl", queue="fast")
    fast = f"prefect.work-queue.{rival.pool.queues['fast']}"
    await rival.registry.pause_queue(Place(0), pause)
    for _ in range(200):
        await fill(rival, "fast")
        await rival.mark(LIFTED)
        await rival.registry.resume_queue(Place(0), resume)

        await rival.race(lambda: rival.registry.pause_queue(Place(0), pause), turns.randrange(40))

        left.append(await waiting(rival, "fast"))
        await submit(rival.dispatchers[0], "etl", "slow")
    await rival.mark(LIFTED)
    _, *rounds = rounds_of(await read_events(client))

    after_answers = [event for _, after in rounds for event in after if pending(event)]
    assert [event for event in after_answers if event["related"][0]["prefect.resource.id"] == fast] == []
    assert len(after_answers) == 200
    assert decided_late(left) > 20


@pytest.mark.parametrize("of", ["pool", "queue"])
async def test_no_claim_passes_a_lower_limit_once_it_has_answered(client: Redis, rival: Rival, of: str) -> None:
    turns, left = random.Random(6), []

    async def limit(number: int | None) -> Reply:
        if of == "pool":
            return await rival.registry.update_pool(
                Place(0), UpdatePool(pool="etl", changes=PoolChanges(concurrency_limit=number))
            )
        changes = QueueChanges(concurrency_limit=number)
        return await rival.registry.update_queue(Place(0), UpdateQueue(pool="etl", queue="default", changes=changes))

    await limit(0)
    for _ in range(200):
        await fill(rival)
        await rival.mark(LIFTED)
        await limit(None)
        lower = turns.randrange(RUNS)

        await rival.race(lambda lower=lower: limit(lower), turns.randrange(40), limit=lower)  # type: ignore[misc]

        left.append(await waiting(rival))
        await limit(0)
        await rival.mark(ANSWERED, limit=0)
        await finish_all(rival)

    assert passed_limits(await read_events(client)) == []
    assert decided_late(left) > 20


def passed_limits(events: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """List what was handed out above the limit that had answered last: how many were held then, and the limit."""
    held, limit, passed = 0, RUNS, []
    for event in events:
        if event["event"] == "prefect.flow-run.Completed":
            held -= 1
        elif event["event"] == ANSWERED:
            limit = event["limit"]
        elif event["event"] == LIFTED:
            limit = RUNS
        elif pending(event):
            held += 1
            if held > limit:
                passed.append((held, limit))
    return passed
