"""The dispatcher's only door to Redis: one method per transition, several of them in one round trip."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from prometheus_client import Counter

from penstock import keys, lua
from penstock.bus.connection import redis_now_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from penstock.contracts.pools import PoolDeleted, QueueDeleted, QueueGone
    from penstock.contracts.runs import ReportRuns, SubmitRuns
    from penstock.contracts.workers import AnnounceWorker, LoseWorker
    from services.dispatcher.settings import DispatcherSettings

SUBMIT_RUNS = lua.load("services.dispatcher", "submit_runs")
CLAIM_RUNS = lua.load("services.dispatcher", "claim_runs")
REPORT_RUNS = lua.load("services.dispatcher", "report_runs")
ANNOUNCE_WORKER = lua.load("services.dispatcher", "announce_worker")
LOSE_WORKER = lua.load("services.dispatcher", "lose_worker")
CANCEL_WAITING = lua.load("services.dispatcher", "cancel_waiting")
CANCEL_IN_FLIGHT = lua.load("services.dispatcher", "cancel_in_flight")

CLAIM_AT_ONCE: Final = 100
"""Runs handed out by one script call: enough to make a call cheap per run, short enough not to hold up Redis (about 3 ms)."""
CLAIM_BYTES: Final = 500_000
"""About what one assignment may carry; runs with large parameters are handed out in several."""
CANCEL_AT_ONCE: Final = 200
DUE_AT_ONCE: Final = 100
"""Pools looked at in one round of the due clock."""

CLAIMED = Counter("penstock_claims_total", "Runs handed out")
FENCED = Counter("penstock_fenced_reports_total", "Reports refused because the claim was no longer the worker's")


class Claimed(NamedTuple):
    """What one claim did."""

    pool: str
    runs: int
    next_due_ms: int | None
    more: bool


class DispatchStore:
    """Runs, claims and slots in Redis.

    Args:
        client: of the service.
        settings: what is kept of finished runs.
    """

    def __init__(self, client: Redis, settings: DispatcherSettings) -> None:
        self._client = client
        self._retention = settings.dispatcher_run_retention_seconds
        self._kept = settings.dispatcher_finished_kept

    async def submit_runs(
        self, partition: int, messages: Sequence[SubmitRuns]
    ) -> tuple[list[str | list[str]], list[Claimed]]:
        """Put runs into their queues and hand out what can start at once, in one round trip.

        Returns:
            For each message 'unknown_pool', 'expired' or one answer per run; and what was claimed.
        """
        calls = [
            SUBMIT_RUNS.bind(
                partition,
                pool=message.pool,
                deadline=message.deadline,
                home=partition,
                rest=_submitted(message),
            )
            for message in messages
        ]
        answers, claimed = await self._then_claim(partition, calls, {message.pool for message in messages})
        return [_text(answer) for answer in answers], claimed

    async def report_runs(
        self, partition: int, messages: Sequence[ReportRuns]
    ) -> tuple[list[list[str]], list[Claimed]]:
        """Apply reports and refill the slots they free, in one round trip.

        Returns:
            For each message one of 'applied', 'known', 'fenced' per report; and what was claimed.
        """
        calls = [
            REPORT_RUNS.bind(
                partition,
                pool=message.pool,
                worker=message.worker,
                rest=_reported(message),
                retention=self._retention,
                kept=self._kept,
            )
            for message in messages
        ]
        answers, claimed = await self._then_claim(partition, calls, {message.pool for message in messages})
        texts = [[word.decode() for word in answer] for answer in answers]
        FENCED.inc(sum(words.count("fenced") for words in texts))
        return texts, claimed

    async def announce_worker(self, partition: int, message: AnnounceWorker) -> tuple[bool, list[Claimed]]:
        """Take over what a worker is, and give it work at once."""
        call = ANNOUNCE_WORKER.bind(
            partition,
            pool=message.pool,
            pool_id=message.pool_id,
            worker=message.worker,
            boot_id=message.boot_id,
            seq=message.seq,
            slots_now=message.slots,
            prefetch_ms=message.prefetch_ms,
            rest=message.queues,
            retention=self._retention,
            kept=self._kept,
        )
        answers, claimed = await self._then_claim(partition, [call], {message.pool})
        return bool(answers[0]), claimed

    async def lose_worker(self, partition: int, message: LoseWorker) -> tuple[int, list[Claimed]]:
        """Take back what a lost worker holds, and give it to others at once."""
        call = LOSE_WORKER.bind(
            partition,
            pool=message.pool,
            pool_id=message.pool_id,
            worker=message.worker,
            boot_id=message.boot_id,
            seq=message.seq,
            reason=message.reason,
            retention=self._retention,
            kept=self._kept,
        )
        answers, claimed = await self._then_claim(partition, [call], {message.pool})
        return int(answers[0]), claimed

    async def claim_runs(self, partition: int, pools: Iterable[str]) -> list[Claimed]:
        """Hand out what can start in these pools."""
        return (await self._then_claim(partition, [], set(pools)))[1]

    async def due_pools(self, partition: int) -> tuple[list[str], int | None, int]:
        """Read which pools have something due by now, when the next one has, and Redis TIME (both ms)."""
        now_ms = await redis_now_ms(self._client)
        rows: Any = await self._client.zrange(keys.key(partition, "due"), 0, DUE_AT_ONCE - 1, withscores=True)
        due = [name.decode() for name, at in rows if at <= now_ms]
        later = [int(at) for _, at in rows if at > now_ms]
        return due, min(later, default=None), now_ms

    async def cancel_queue(self, partition: int, message: QueueDeleted) -> int:
        """Cancel what waits in a deleted queue."""
        return await self._cancel_waiting(
            partition,
            message.pool_id,
            message.pool,
            message.worker_type,
            message.queue,
            f"Work queue '{message.queue.name}' was deleted",
        )

    async def cancel_pool(self, partition: int, message: PoolDeleted) -> int:
        """Cancel what waits and what is in flight in a deleted pool."""
        reason = f"Work pool '{message.pool}' was deleted"
        cancelled = 0
        for queue in message.queues:
            cancelled += await self._cancel_waiting(
                partition, message.pool_id, message.pool, message.worker_type, queue, reason
            )
        while count := int(
            await CANCEL_IN_FLIGHT(
                self._client,
                partition,
                pool=message.pool,
                pool_id=message.pool_id,
                message=reason,
                max_runs=CANCEL_AT_ONCE,
                retention=self._retention,
                kept=self._kept,
            )
        ):
            cancelled += count
        return cancelled

    async def _cancel_waiting(
        self, partition: int, pool_id: str, pool: str, worker_type: str, queue: QueueGone, reason: str
    ) -> int:
        related = orjson.dumps(
            [
                {
                    "prefect.resource.id": f"prefect.work-queue.{queue.id}",
                    "prefect.resource.role": "work-queue",
                    "prefect.resource.name": queue.name,
                },
                {
                    "prefect.resource.id": f"prefect.work-pool.{pool_id}",
                    "prefect.resource.role": "work-pool",
                    "prefect.resource.name": pool,
                    "prefect.work-pool.type": worker_type,
                },
            ]
        )
        cancelled = 0
        while count := int(
            await CANCEL_WAITING(
                self._client,
                partition,
                pool_id=pool_id,
                queue_id=queue.id,
                related=related,
                message=reason,
                max_runs=CANCEL_AT_ONCE,
                retention=self._retention,
                kept=self._kept,
            )
        ):
            cancelled += count
        return cancelled

    async def _then_claim(
        self, partition: int, calls: list[lua.Call], pools: set[str]
    ) -> tuple[list[Any], list[Claimed]]:
        """Run scripts, then claim in the pools they touched, in the same round trip; go on while a claim was cut short."""
        names = sorted(pools)
        answers = await lua.run_all(self._client, [*calls, *(self._claim(partition, name) for name in names)])
        results = answers[: len(calls)]
        claims = [_claimed(name, answer) for name, answer in zip(names, answers[len(calls) :], strict=True)]
        last = claims
        while again := [claim.pool for claim in last if claim.more]:
            answers = await lua.run_all(self._client, [self._claim(partition, name) for name in again])
            last = [_claimed(name, answer) for name, answer in zip(again, answers, strict=True)]
            claims = [*claims, *last]
        CLAIMED.inc(sum(claim.runs for claim in claims))
        return results, claims

    def _claim(self, partition: int, pool: str) -> lua.Call:
        return CLAIM_RUNS.bind(
            partition, pool=pool, max_runs=CLAIM_AT_ONCE, max_bytes=CLAIM_BYTES, nonce=secrets.token_hex(16)
        )


def _submitted(message: SubmitRuns) -> Iterable[lua.Value]:
    for run in message.runs:
        due = "" if run.scheduled_time is None else round(run.scheduled_time.timestamp() * 1000)
        yield from (run.id, run.name, run.queue, due, run.spec.model_dump_json(exclude_defaults=True))


def _reported(message: ReportRuns) -> Iterable[lua.Value]:
    for report in message.reports:
        yield from (
            report.run,
            report.token,
            report.epoch,
            report.state,
            report.message,
            report.started_ms,
            report.ended_ms,
        )


def _text(answer: Any) -> str | list[str]:
    return answer.decode() if isinstance(answer, bytes) else [word.decode() for word in answer]


def _claimed(pool: str, answer: Any) -> Claimed:
    runs, next_due_ms, more = answer
    return Claimed(pool, int(runs), int(next_due_ms) if next_due_ms else None, bool(more))
