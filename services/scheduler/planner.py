"""The planner: takes the plans that are due, submits the runs they lack, notes how far they are."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog
from prometheus_client import Counter

from penstock.client.deployed import deployed_run
from penstock.client.runs import chunks, prepare
from penstock.contracts.runs import ScheduledBy, SubmitRuns
from penstock.errors import Expired, Refused, Unavailable
from penstock.schedules import fire_times
from services.scheduler import rules
from services.scheduler.rules import Limits, Planned
from services.scheduler.store import Advance

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from penstock.bus.health import Health
    from penstock.contracts.deployments import Deployment, Schedule
    from penstock.contracts.results import Submission
    from penstock.contracts.runs import SubmittedRun
    from services.scheduler.settings import SchedulerSettings
    from services.scheduler.store import Plan, SchedulerStore

log = structlog.get_logger("scheduler")

PLANS_AT_ONCE: Final = 100
LEASE_MS: Final = 10_000
"""For so long a plan is a scheduler's own; above what one round takes. Only work is saved by it, no promise rests on it."""
LOOK_AGAIN_SECONDS: Final = 2.0
"""Plans another scheduler began are seen after so long at the latest."""
SOON_MS: Final = 1_000
"""When to try again what somebody else is about to settle: the dispatcher is away, or has not yet voided an old run."""
POOL_GONE_MS: Final = 10_000
"""When to try again for a pool that does not exist, or a definition no run can be made of."""
RECONCILE_SECONDS: Final = 300.0
"""How often all definitions are compared with the plans, for messages that were lost with a stream."""
SILENCE_SECONDS: Final = 60.0
"""Far above what a round takes."""

SUBMITTED = Counter("penstock_scheduled_runs_total", "Runs submitted for schedules")


class Work(NamedTuple):
    """One plan with what it takes to carry it out."""

    plan: Plan
    planned: Planned
    runs: list[SubmittedRun]


class Planner:
    """Keeps every schedule planned.

    Args:
        store: the door to state.
        settings: how far ahead, how many partitions.
        health: told of every round.
        submit: hands runs to the dispatcher and waits for its answer.
        clock: milliseconds since 1970; None takes Redis TIME.
    """

    def __init__(
        self,
        store: SchedulerStore,
        settings: SchedulerSettings,
        health: Health,
        submit: Callable[[int, SubmitRuns], Awaitable[Submission]],
        clock: Callable[[], Awaitable[int]] | None = None,
    ) -> None:
        self._store = store
        self._partitions = settings.partitions
        self._health = health
        self._submit = submit
        self.now_ms = clock or store.now_ms
        self._limits = Limits(
            settings.scheduler_min_runs,
            settings.scheduler_min_ahead_seconds * 1000,
            settings.scheduler_max_runs,
            settings.scheduler_max_ahead_seconds * 1000,
        )
        self._sooner = asyncio.Event()

    def wake(self) -> None:
        """Look at what is due now."""
        self._sooner.set()

    async def run(self) -> None:
        """Plan what is due, for ever."""
        while True:
            self._sooner.clear()
            pause = LOOK_AGAIN_SECONDS
            for partition in range(self._partitions):
                pause = min(pause, await self.plan_due(partition))
                self._health.beat("planner", SILENCE_SECONDS)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._sooner.wait(), pause)

    async def reconcile(self) -> None:
        """Compare all definitions with the plans, for ever, at the start first."""
        while True:
            for partition in range(self._partitions):
                begun = await self.follow_all(partition)
                if begun:
                    log.info("plans begun that nobody had asked for", partition=partition, plans=begun)
            self._health.beat("reconcile", 2 * RECONCILE_SECONDS)
            self.wake()
            await asyncio.sleep(RECONCILE_SECONDS)

    async def follow_all(self, partition: int) -> int:
        """Bring every plan of a partition in line with the definitions.

        Returns:
            How many begin.
        """
        defined = await self._store.defined_idents(partition, await self._store.all_deployments(partition))
        idents = list(dict.fromkeys([*defined, *await self._store.planned_idents(partition)]))
        return await self._store.follow_schedules(partition, await self.now_ms(), idents)

    async def postpone_pool(self, partition: int, pool: str) -> int:
        """Let the schedules of a pool that is gone begin again from now, when it is back.

        Returns:
            How many there are.
        """
        now_ms = await self.now_ms()
        idents = await self._store.defined_idents(partition, await self._store.deployments_of_pool(partition, pool))
        return await self._store.restart_plans(partition, now_ms, now_ms + POOL_GONE_MS, idents)

    async def restart_queue(self, partition: int, pool: str, queue: str) -> int:
        """Let the schedules whose runs waited in a queue that was deleted begin again: their next runs create it anew.

        Returns:
            How many there are.
        """
        now_ms = await self.now_ms()
        deployments = await self._store.deployments_of_pool(partition, pool, queue)
        idents = await self._store.defined_idents(partition, deployments)
        return await self._store.restart_plans(partition, now_ms, now_ms + SOON_MS, idents)

    async def plan_due(self, partition: int) -> float:
        """Carry out the plans of one partition that are due.

        Returns:
            Seconds until the next one is.
        """
        now_ms = await self.now_ms()
        plans = await self._store.take_plans(partition, now_ms, LEASE_MS, PLANS_AT_ONCE)
        if plans:
            await self._carry_out(partition, now_ms, plans)
            now_ms = await self.now_ms()
        due_ms = await self._store.next_due_ms(partition)
        return LOOK_AGAIN_SECONDS if due_ms is None else min(LOOK_AGAIN_SECONDS, max(0.0, (due_ms - now_ms) / 1000))

    async def _carry_out(self, partition: int, now_ms: int, plans: Sequence[Plan]) -> None:
        deployments = await self._store.read_deployments(partition, (plan.deployment for plan in plans))
        pools = await self._store.existing_pools(partition, (one.pool for one in deployments.values() if one))
        by_pool: dict[str, list[Work]] = {}
        advances: list[Advance] = []
        outdated: list[str] = []
        for plan in plans:
            deployment = deployments.get(plan.deployment)
            schedule = _schedule(deployment, plan)
            if deployment is None and plan.deployment in deployments:
                advances.append(_postponed(plan, now_ms))
            elif deployment is None or schedule is None or deployment.revision != plan.revision:
                outdated.append(plan.ident)
            elif deployment.pool not in pools:
                # Not even asked for: the dispatcher would bury each submission.
                advances.append(_postponed(plan, now_ms))
            else:
                try:
                    work = self._work(partition, now_ms, plan, deployment, schedule)
                except Refused as problem:
                    log.error("cannot be planned", deployment=deployment.name, schedule=schedule.id, error=str(problem))  # noqa: TRY400 - the message says it all
                    advances.append(_postponed(plan, now_ms))
                else:
                    by_pool.setdefault(deployment.pool, []).append(work)
            await asyncio.sleep(0)  # a rule of many years is slow; heartbeats of this process are not
        await self._store.follow_schedules(partition, now_ms, outdated)
        advances += await self._submit_all(partition, now_ms, by_pool)
        await self._store.advance_plan(partition, advances, now_ms + SOON_MS)

    def _work(self, partition: int, now_ms: int, plan: Plan, deployment: Deployment, schedule: Schedule) -> Work:
        def fires(after: datetime) -> Iterator[datetime]:
            return fire_times(schedule, after)

        planned = rules.plan(fires, now_ms, plan.until_ms, schedule.catch_up, self._limits)
        by = ScheduledBy(schedule=schedule.id, revision=plan.revision, catch_up=schedule.catch_up)
        new = [
            deployed_run(
                deployment,
                parameters=schedule.parameters,
                scheduled_time=rules.moment(fire),
                scheduled_by=by,
                idempotency_key=f"{schedule.id}:{fire}",
            )
            for fire in planned.fires
        ]
        runs = prepare(new, partition)
        list(chunks(runs))  # refuses one that is too large before others are sent with it
        return Work(plan, planned, runs)

    async def _submit_all(self, partition: int, now_ms: int, by_pool: dict[str, list[Work]]) -> list[Advance]:
        """Submit the runs of several plans in as few messages as possible, then say how far each plan is."""
        advances: list[Advance] = []
        words: dict[str, str] = {}
        there: dict[str, str] = {}
        away = False
        for pool, works in by_pool.items():
            try:
                for chunk in chunks([run for work in works for run in work.runs]) if not away else ():
                    words |= await self._ask(partition, pool, chunk.runs, there)
            except (Unavailable, Expired) as problem:
                away = True  # nor would it answer for the other pools
                log.warning("runs not submitted, trying again", pool=pool, error=str(problem))
            except Refused as problem:
                log.warning("runs refused", pool=pool, error=str(problem))
                advances += [_postponed(work.plan, now_ms) for work in works]
                continue
            advances += [_advance(now_ms, work, words, there) for work in works]
        SUBMITTED.inc(sum(word == "accepted" for word in words.values()))
        return advances

    async def _ask(self, partition: int, pool: str, runs: list[SubmittedRun], there: dict[str, str]) -> dict[str, str]:
        """Submit runs of one pool.

        Args:
            partition: of the pool.
            pool: its name.
            runs: to be submitted.
            there: gets for each that exists now, itself or by its idempotency key, the id of the one there is.

        Returns:
            For each 'accepted', 'stale', 'refused', or 'void': its fire time still belongs to a run that is about to be removed.
        """
        words, gone = await self._ask_once(partition, pool, runs, there)
        if gone:
            # Removed between the answer and the look at it, with its key; or long finished, then the answer stays the same.
            again, _ = await self._ask_once(partition, pool, [run for run in runs if run.id in gone], there)
            words |= again
        return words

    async def _ask_once(
        self, partition: int, pool: str, runs: list[SubmittedRun], there: dict[str, str]
    ) -> tuple[dict[str, str], set[str]]:
        answer = await self._submit(partition, SubmitRuns(pool=pool, runs=runs))
        words = dict.fromkeys(answer.accepted, "accepted")
        there.update(zip(answer.accepted, answer.accepted, strict=True))
        words |= {row.run: "stale" if row.code == "stale" else "refused" for row in answer.refused}
        same = list(answer.same.items())
        makers = await self._store.read_makers(partition, [first for _, first in same])
        revisions = {run.id: run.scheduled_by.revision for run in runs if run.scheduled_by}
        gone = set()
        for (sent, first), maker in zip(same, makers, strict=True):
            words[sent] = "accepted"
            if maker is None:
                gone.add(sent)
                continue
            there[sent] = first
            if maker[0] == "SCHEDULED" and 0 < maker[1] < revisions.get(sent, 0):
                # It waits, and an older revision made it: the dispatcher removes it as soon as it hears of the change.
                words[sent] = "void"
        return words, gone


def _advance(now_ms: int, work: Work, words: dict[str, str], there: dict[str, str]) -> Advance:
    """Say how far a plan is: up to the first fire time that has no run yet."""
    plan, planned, runs = work
    made = tuple(there[run.id] for run in runs if run.id in there)
    for fire, run in zip(planned.fires, runs, strict=True):
        word = words.get(run.id, "unanswered")
        if word == "refused":
            log.warning("run refused", schedule=plan.schedule, fire_ms=fire)
            return _postponed(plan, now_ms)
        if word != "accepted":
            # Everything before has its run. If it was stale, the plan is another revision's by now.
            return Advance(plan, max(plan.until_ms, fire - 1), now_ms + SOON_MS, made)
    return Advance(plan, max(plan.until_ms, planned.until_ms), planned.next_ms, made)


def _schedule(deployment: Deployment | None, plan: Plan) -> Schedule | None:
    """Find the schedule of a plan; one that was paused since is another revision's."""
    schedules: Iterable[Schedule] = deployment.schedules if deployment else ()
    return next((one for one in schedules if one.id == plan.schedule), None)


def _postponed(plan: Plan, now_ms: int) -> Advance:
    """Leave a plan for a while; what fires meanwhile is not made up for, so that nothing floods the pool when it is back."""
    return Advance(plan, max(plan.until_ms, now_ms), now_ms + POOL_GONE_MS)
