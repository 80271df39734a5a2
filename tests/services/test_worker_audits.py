"""A worker compares what it holds with what the dispatcher says that it holds: the test plays the dispatcher."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

from penstock import keys
from penstock.bus.entries import entry_fields
from penstock.contracts.workers import AcceptWorker, AssignRuns, AuditedRun, AuditRuns, RevokedRun, RevokeRuns
from tests.support import wait_until
from tests.worker_rig import INBOX, claim, working

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.contracts.workers import AssignedRun
    from tests.worker_rig import Rig

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
State = Literal["PENDING", "RUNNING", "CANCELLING"]


async def audit(rig: Rig, *named: tuple[AssignedRun, State], boot_id: str | None = None) -> None:
    """Tell the worker what it holds, and wait until it has read that."""
    runs = [AuditedRun(id=run.id, token=run.token, epoch=run.epoch, state=state) for run, state in named]
    await rig.send(AuditRuns(boot_id=boot_id or rig.identity.boot_id, runs=runs))
    await wait_until(rig.inbox_empty, what="the audit is read")


async def test_how_a_run_ended_is_said_again(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command=["sh", "-c", "exit 3"])
        await rig.assign(run)
        first = await rig.report(run)
        assert first["state"] == "CRASHED"
        await client.flushall()

        await audit(rig, (run, "RUNNING"))

        assert await rig.report(run) == first
        await audit(rig, (run, "PENDING"))

        async def once_more() -> bool:
            return await rig.reports(run) == [first, first]

        await wait_until(once_more, what="it is said as often as it is asked")


async def test_a_handed_back_run_is_handed_back_again(client: Redis) -> None:
    async with working(client, limit=1) as rig:
        first, second = claim(command=SLEEP), claim(command=SLEEP)
        await rig.assign(first, second)
        await rig.report(first, "RUNNING")
        rig.worker.drain()
        said = await rig.report(second, "SCHEDULED")
        await client.flushall()

        await audit(rig, (first, "RUNNING"), (second, "PENDING"))

        assert await rig.report(second, "SCHEDULED") == said


async def test_what_it_never_heard_of_is_lost(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command=SLEEP)

        await audit(rig, (run, "PENDING"))

        report = await rig.report(run, "LOST")
        assert (report["token"], report["epoch"]) == (run.token, run.epoch)


async def test_what_it_was_told_to_drop_is_lost_if_the_dispatcher_still_counts_it(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command=SLEEP)
        await rig.assign(run)
        await rig.report(run, "RUNNING")
        await rig.revoke(run)

        await audit(rig, (run, "RUNNING"))

        await rig.report(run, "LOST")


async def test_what_runs_is_said_to_run(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command=SLEEP)
        await rig.assign(run)
        first = await rig.report(run, "RUNNING")
        await client.flushall()

        await audit(rig, (run, "PENDING"))

        assert await rig.report(run, "RUNNING") == first


async def test_what_should_have_been_stopped_is_stopped(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command=SLEEP)
        await rig.assign(run)
        await rig.report(run, "RUNNING")

        await audit(rig, (run, "CANCELLING"))

        assert (await rig.report(run))["state"] == "CANCELLED"


async def test_what_is_not_named_ends_without_a_word(client: Redis) -> None:
    async with working(client, limit=1) as rig:
        begun, waiting, kept = (claim(command=SLEEP) for _ in range(3))
        await rig.assign(begun, waiting, kept)
        await rig.report(begun, "RUNNING")

        await audit(rig, (kept, "PENDING"))

        await rig.report(kept, "RUNNING")
        assert {report["run"] for report in await rig.reports()} == {begun.id, kept.id}
        assert await rig.states(begun) == ["RUNNING"]
        assert await rig.holds(1)


async def test_the_claim_counts_and_not_its_number(client: Redis) -> None:
    """After Redis forgot a claim it hands the run out again, under the same epoch."""
    async with working(client) as rig:
        old = claim(command=SLEEP)
        new = old.model_copy(update={"token": "new"})
        await rig.assign(old)
        await rig.report(old, "RUNNING")

        await audit(rig, (new, "RUNNING"))

        assert (await rig.report(new, "LOST"))["token"] == new.token
        await wait_until(lambda: rig.holds(0), what="the old claim is dropped")


async def test_where_both_agree_nothing_is_said(client: Redis) -> None:
    async with working(client, limit=1) as rig:
        begun, waiting = claim(command=SLEEP), claim(command=SLEEP)
        await rig.assign(begun, waiting)
        await rig.report(begun, "RUNNING")

        await audit(rig, (begun, "RUNNING"), (waiting, "PENDING"))

        last = claim(command="true")
        await audit(rig, (begun, "RUNNING"), (waiting, "PENDING"), (last, "PENDING"))
        await rig.report(last, "LOST")
        assert [report["state"] for report in await rig.reports()] == ["RUNNING", "LOST"]
        assert await rig.holds(2)


async def test_an_audit_of_another_life_is_none_of_ours(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command=SLEEP)
        await rig.assign(run)
        await rig.report(run, "RUNNING")
        foreign = AuditRuns(boot_id="another", runs=[])
        await rig.send(foreign)

        last = claim(command="true")
        await rig.assign(last)
        await rig.completed(last)
        assert await rig.holds(1)


async def test_an_assignment_that_comes_back_after_its_end_is_not_carried_out_again(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command=["sh", "-c", "echo once"])
        await rig.assign(run)
        await rig.completed(run)

        await rig.assign(run)

        async def again() -> bool:
            return await rig.states(run) == ["RUNNING", "COMPLETED", "COMPLETED"]

        await wait_until(again, what="its end is said again")
        assert await rig.output(run) == [("stdout", "once")]


async def put_back(rig: Rig, entries: dict[str, AuditRuns | AssignRuns | RevokeRuns]) -> None:
    """Let Redis have forgotten that entries were deleted, and the worker's connections be lost."""
    inbox = keys.key(0, "inbox", INBOX)
    await rig.client.delete(inbox)
    for entry_id, message in entries.items():
        await rig.client.xadd(inbox, {**entry_fields(message)}, id=entry_id)
    beats = len(await rig.heartbeats())
    await rig.client.client_kill_filter(_type="normal", skipme=True)

    async def one_more() -> bool:
        return len(await rig.heartbeats()) > beats

    await wait_until(one_more, what="it says at once that it lives")
    await wait_until(rig.inbox_empty, what="all is read again")


async def test_entries_that_come_back_do_no_harm_to_what_came_after_them(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command=SLEEP)
        entries: dict[str, AuditRuns | AssignRuns | RevokeRuns] = {}
        for message in (
            AuditRuns(boot_id=rig.identity.boot_id, runs=[]),
            # The same epoch as that of the claim: Redis has handed it out before, and forgotten that.
            RevokeRuns(runs=[RevokedRun(id=run.id, epoch=run.epoch)]),
            AssignRuns(boot_id=rig.identity.boot_id, pool="etl", runs=[run]),
        ):
            entry_id: Any = await client.xadd(keys.key(0, "inbox", INBOX), {**entry_fields(message)})
            entries[entry_id.decode()] = message
        await rig.report(run, "RUNNING")
        await wait_until(rig.inbox_empty, what="all is read")

        await put_back(rig, entries)

        last = claim(command="true")
        await rig.assign(last)
        await rig.completed(last)
        assert await rig.states(run) == ["RUNNING"]
        assert await rig.holds(1)


async def test_an_assignment_with_an_older_id_is_read_after_a_lost_connection(client: Redis) -> None:
    """A replica whose clock is slow has taken over."""
    async with working(client) as rig:
        await audit(rig)
        run = claim(command="true")
        await put_back(rig, {"1-1": AssignRuns(boot_id=rig.identity.boot_id, pool="etl", runs=[run])})
        await rig.completed(run)


async def test_a_life_that_redis_had_forgotten_is_ours_again_when_it_is_accepted(client: Redis) -> None:
    async with working(client) as rig:
        # Meant for an earlier life, whose end Redis has forgotten.
        await rig.assign(claim(command="true"), boot_id="earlier")
        run = claim(command=SLEEP)
        await rig.assign(run)
        await rig.report(run, "RUNNING")
        await client.delete(keys.key(0, "inbox", INBOX))
        await rig.send(AcceptWorker(boot_id=rig.identity.boot_id, slots=4))

        await rig.revoke(run)

        await wait_until(rig.inbox_empty, what="the inbox is ours, and emptied by us")
        await wait_until(lambda: rig.holds(0), what="the run is dropped")
