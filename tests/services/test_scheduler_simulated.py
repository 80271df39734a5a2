"""Two schedulers through five days with a change of the clocks: exactly the libraries' fire times, none twice, none missing."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from dateutil.rrule import rrulestr

from penstock import keys
from penstock.bus.connection import connect
from penstock.errors import NoReply
from tests.definitions import define_deployment, define_pool
from tests.scheduling import Clock, Scheduler, define_schedule, made_runs, scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

DAYS = timedelta(days=5)
WINDOWS = ("2027-03-12", "2027-03-26", "2027-10-29", "2027-11-05")
"""New York changes on the third day of the first and the last of them, Berlin on that of the others."""
ZONES = ("Europe/Berlin", "America/New_York")
CRONS = ("*/20 * * * *", "30 1,2,3 * * *", "0 2 * * *", "15,45 */3 * * *", "* 2 * * SUN", "0 30 2 * * *")
RULE = "FREQ=DAILY;BYHOUR=1,2,3;BYMINUTE=10;BYSECOND=5"


def milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


async def define_schedules(client: Redis, start: datetime) -> tuple[str, dict[str, list[int]]]:
    """One deployment with schedules of every kind in both zones.

    Returns:
        Its id, and for each schedule the libraries' own fire times.
    """
    end = start + DAYS
    await define_pool(client, "etl")
    deployment = await define_deployment(client, revised_ms=milliseconds(start), revision=7)
    expected: dict[str, list[int]] = {}

    async def add(fires: Any, **fields: Any) -> None:
        ident = await define_schedule(client, deployment, **fields)
        moments = {milliseconds(fire) for fire in takewhile(lambda fire: fire <= end, fires)}
        expected[ident] = sorted(moments)

    for name in ZONES:
        local = start.astimezone(ZoneInfo(name))
        for cron in CRONS:
            await add(CronSim(cron, local), cron=cron, timezone=name)
        await add(rrulestr(RULE, dtstart=local).xafter(local), rrule=RULE, anchor=start, timezone=name)
        hours = (start + number * timedelta(minutes=95) for number in range(1, 100))
        await add(hours, interval_seconds=95 * 60, anchor=start, timezone=name)
        days = (local + number * timedelta(days=1) for number in range(1, 10))
        await add(days, interval_seconds=86_400, anchor=start, timezone=name)
    return deployment, expected


@pytest.fixture
async def other_client(client: Redis, redis_url: str) -> AsyncIterator[Redis]:
    _ = client
    other = connect(redis_url)
    yield other
    await other.aclose()


async def made(client: Redis, deployment: str, expected: dict[str, list[int]], end: int) -> dict[str, list[int]]:
    """What was made for each schedule up to the end of the window; a fire time that was made twice stands there twice."""
    found: dict[str, list[int]] = {schedule: [] for schedule in expected}
    for run in await made_runs(client, deployment):
        if run.due_ms <= end:
            found[run.schedule].append(run.due_ms)
    return found


async def simulate(clock: Clock, schedulers: tuple[Scheduler, Scheduler], end: int, chance: random.Random) -> None:
    """Let two schedulers work at once, at moments nobody has planned, to the end of the window."""
    await schedulers[0].planner.follow_all(0)
    while clock.now_ms < end:
        clock.now_ms += chance.randrange(1000, 50 * 60_000)
        await asyncio.gather(*(one.settle() for one in schedulers))


@pytest.mark.parametrize("day", WINDOWS)
async def test_two_schedulers_make_exactly_the_fire_times_of_the_libraries(
    client: Redis, other_client: Redis, day: str
) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    end = milliseconds(start + DAYS)
    deployment, expected = await define_schedules(client, start)
    clock = Clock(milliseconds(start))

    await simulate(clock, (scheduler(client, clock), scheduler(other_client, clock)), end, random.Random(day))

    assert await made(client, deployment, expected, end) == expected
    assert sum(map(len, expected.values())) > 1000


class Chaos:
    """Kills a scheduler at a random point of its work, again and again: what it holds in memory is lost, Redis is not."""

    def __init__(self, victim: Scheduler, chance: random.Random) -> None:
        self._chance = chance
        self.kills = 0
        self._advance = victim.store.advance_plan
        self._submit = victim.dispatch.submit
        victim.store.advance_plan = self.advance_plan  # type: ignore[assignment, method-assign]
        victim.planner._submit = self.submit

    async def advance_plan(self, *arguments: Any) -> Any:
        if self._chance.random() < 0.3:
            self.kills += 1
            raise ConnectionAbortedError("killed after the runs were written, before that was noted")
        return await self._advance(*arguments)

    async def submit(self, *arguments: Any) -> Any:
        if self._chance.random() < 0.1:
            self.kills += 1
            raise NoReply("the submission was lost")
        answer = await self._submit(*arguments)
        if self._chance.random() < 0.1:
            self.kills += 1
            raise NoReply("the answer was lost")
        return answer


async def test_schedulers_that_die_between_writing_and_noting_it_change_nothing(
    client: Redis, other_client: Redis
) -> None:
    start = datetime.fromisoformat(WINDOWS[1]).replace(tzinfo=UTC)
    end = milliseconds(start + DAYS)
    deployment, expected = await define_schedules(client, start)
    clock, chance = Clock(milliseconds(start)), random.Random(4)
    both = (scheduler(client, clock), scheduler(other_client, clock))
    chaos = [Chaos(one, chance) for one in both]
    await both[0].planner.follow_all(0)

    async def live_and_die(one: Scheduler) -> None:
        try:
            for _ in range(3):
                await one.planner.plan_due(0)
        except ConnectionAbortedError:
            return

    while clock.now_ms < end:
        clock.now_ms += chance.randrange(1000, 50 * 60_000)
        await asyncio.gather(*(live_and_die(one) for one in both))
    clock.now_ms += 60_000
    await scheduler(client, clock).settle()

    assert await made(client, deployment, expected, end) == expected
    assert sum(one.kills for one in chaos) > 50
    submitted = sum(one.dispatch.submitted for one in both)
    accepted = await client.zcard(keys.key(0, "deployment_waiting", deployment))
    assert submitted > accepted, "some were submitted twice and made once"
