"""A worker of one's own learns where it and the dispatcher differ; the test plays the dispatcher."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import pytest

from penstock import keys
from penstock.bus.entries import entry_fields
from penstock.contracts.workers import (
    AcceptWorker,
    AssignRuns,
    AuditedRun,
    AuditRuns,
    Heartbeat,
    RevokedRun,
    RevokeRuns,
    StoppedRun,
    StopRuns,
)
from penstock.worker.custom import CustomWorker
from penstock.worker.identity import Identity
from tests.support import read_messages, wait_until
from tests.worker_rig import claim

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from penstock.contracts.base import Message
    from penstock.contracts.workers import AssignedRun

State = Literal["PENDING", "RUNNING", "CANCELLING"]
WHO = Identity("etl", "w1", "process", 0, boot_id="life-1")


class Desk:
    """The dispatcher's side of one worker."""

    def __init__(self, client: Redis, worker: CustomWorker) -> None:
        self._client, self.worker = client, worker

    async def send(self, message: Message) -> None:
        await self._client.xadd(keys.key(0, "inbox", WHO.inbox), {**entry_fields(message)})

    async def assign(self, *runs: AssignedRun) -> None:
        await self.send(AssignRuns(boot_id=WHO.boot_id, pool="etl", runs=list(runs)))

    async def audit(self, *named: tuple[AssignedRun, State]) -> None:
        runs = [AuditedRun(id=run.id, token=run.token, epoch=run.epoch, state=state) for run, state in named]
        await self.send(AuditRuns(boot_id=WHO.boot_id, runs=runs))

    async def reports(self, run: AssignedRun, count: int) -> list[str]:
        """Wait for so many reports of a claim, and answer their states."""

        async def there() -> list[str] | None:
            messages = await read_messages(self._client, "dispatch")
            found: list[dict[str, Any]] = [report for message in messages for report in message["reports"]]
            states = [report["state"] for report in found if report["token"] == run.token]
            return states if len(states) >= count else None

        return list(await wait_until(there, what=f"{count} reports of {run.name}"))

    async def next(self) -> Message:
        return await asyncio.wait_for(anext(self.worker), 20)


@asynccontextmanager
async def working(client: Redis) -> AsyncIterator[Desk]:
    await client.xadd(keys.key(0, "inbox", WHO.inbox), {**entry_fields(AcceptWorker(boot_id=WHO.boot_id, slots=10))})
    heartbeat = Heartbeat(pool="etl", worker="w1", worker_type="process")
    async with CustomWorker(client, WHO, heartbeat) as worker:
        yield Desk(client, worker)


async def test_what_it_said_is_said_again(client: Redis) -> None:
    async with working(client) as desk:
        begun, ended = claim(), claim()
        await desk.assign(begun, ended)
        assert isinstance(await desk.next(), AssignRuns)
        desk.worker.report(begun, "RUNNING")
        desk.worker.report(ended, "FAILED", "why")

        await desk.audit((begun, "PENDING"), (ended, "PENDING"))

        assert await desk.reports(begun, 2) == ["RUNNING", "RUNNING"]
        # Once more unless it was still on its way.
        await desk.audit((begun, "RUNNING"), (ended, "PENDING"))
        assert set(await desk.reports(ended, 2)) == {"FAILED"}


async def test_what_it_never_heard_of_is_lost(client: Redis) -> None:
    async with working(client) as desk:
        run = claim()
        await desk.audit((run, "PENDING"))
        assert await desk.reports(run, 1) == ["LOST"]


async def test_what_was_to_be_stopped_or_is_void_is_handed_over(client: Redis) -> None:
    async with working(client) as desk:
        stopped, void, kept = claim(), claim(), claim()
        await desk.assign(stopped, void, kept)
        assert isinstance(await desk.next(), AssignRuns)

        await desk.audit((stopped, "CANCELLING"), (kept, "PENDING"))

        assert await desk.next() == StopRuns(runs=[StoppedRun(id=stopped.id, epoch=1)])
        assert await desk.next() == RevokeRuns(runs=[RevokedRun(id=void.id, epoch=1)])
        await desk.audit((void, "RUNNING"), (kept, "PENDING"))
        assert await desk.reports(void, 1) == ["LOST"]


async def test_an_assignment_that_comes_again_is_not_handed_over_again(client: Redis) -> None:
    async with working(client) as desk:
        held, ended, new = claim(), claim(), claim()
        await desk.assign(held, ended)
        assert isinstance(await desk.next(), AssignRuns)
        desk.worker.report(ended, "COMPLETED")
        await desk.reports(ended, 1)

        await desk.assign(held, ended)
        await desk.assign(held, ended, new)

        again = await desk.next()
        assert isinstance(again, AssignRuns)
        assert again.runs == [new]
        assert await desk.reports(ended, 3) == ["COMPLETED"] * 3


async def test_a_void_claim_that_a_new_one_of_the_same_run_replaced_revokes_nothing(client: Redis) -> None:
    async with working(client) as desk:
        old, other = claim(), claim()
        new = old.model_copy(update={"token": "new"})
        for run in (old, new, other):
            await desk.assign(run)
            assert isinstance(await desk.next(), AssignRuns)

        await desk.audit((new, "PENDING"))

        assert await desk.next() == RevokeRuns(runs=[RevokedRun(id=other.id, epoch=1)])


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
async def test_what_was_revoked_is_not_held_any_more(client: Redis, state: State) -> None:
    async with working(client) as desk:
        run = claim()
        await desk.assign(run)
        await desk.send(RevokeRuns(runs=[RevokedRun(id=run.id, epoch=1)]))
        await desk.audit((run, state))
        assert await desk.reports(run, 1) == ["LOST"]
