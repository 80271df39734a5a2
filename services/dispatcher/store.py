"""The dispatcher's only door to Redis: one method per transition, several of them in one round trip."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter

from penstock import keys, lua
from penstock.bus.connection import redis_now_ms
from services.dispatcher import arguments, bounds
from services.dispatcher.answers import claimed_of, submitted_of, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio import Redis

    from penstock.contracts.deployments import DeploymentDeleted
    from penstock.contracts.pools import PoolDeleted, QueueDeleted, QueueGone
    from penstock.contracts.runs import CancelRuns, DeleteRuns, ReportRuns, SubmitRuns
    from penstock.contracts.workers import AnnounceWorker, DrainWorker, LoseWorker
    from services.dispatcher.answers import Claimed, Submitted
    from services.dispatcher.settings import DispatcherSettings

SUBMIT_RUNS = lua.load("services.dispatcher", "submit_runs")
CLAIM_RUNS = lua.load("services.dispatcher", "claim_runs")
REPORT_RUNS = lua.load("services.dispatcher", "report_runs")
ANNOUNCE_WORKER = lua.load("services.dispatcher", "announce_worker")
DRAIN_WORKER = lua.load("services.dispatcher", "drain_worker")
LOSE_WORKER = lua.load("services.dispatcher", "lose_worker")
CANCEL_WAITING = lua.load("services.dispatcher", "cancel_waiting")
CANCEL_IN_FLIGHT = lua.load("services.dispatcher", "cancel_in_flight")
CANCEL_RUNS = lua.load("services.dispatcher", "cancel_runs")
CANCEL_DEPLOYMENT = lua.load("services.dispatcher", "cancel_deployment")
EXPIRE_CANCELLING = lua.load("services.dispatcher", "expire_cancelling")
DELETE_RUNS = lua.load("services.dispatcher", "delete_runs")
VOID_RUNS = lua.load("services.dispatcher", "void_runs")
RECALL_RUNS = lua.load("services.dispatcher", "recall_runs")
MOVE_RUNS = lua.load("services.dispatcher", "move_runs")
AUDIT_RUNS = lua.load("services.dispatcher", "audit_runs")
UNPARK_RUNS = lua.load("services.dispatcher", "unpark_runs")

CLAIMED = Counter("penstock_claims_total", "Runs handed out")
FENCED = Counter("penstock_fenced_reports_total", "Reports refused because the claim was no longer the worker's")


class DispatchStore:
    """Runs, claims and slots in Redis.

    Args:
        client: of the service.
        settings: what is kept of finished runs.
    """

    def __init__(self, client: Redis, settings: DispatcherSettings) -> None:
        self._client = client
        # What every script needs that may finish runs.
        self._history: dict[str, Any] = {
            "retention": settings.dispatcher_run_retention_seconds,
            "kept": settings.dispatcher_finished_kept,
        }
        self._patience_ms = settings.dispatcher_cancel_deadline_seconds * 1000

    async def submit_runs(
        self,
        partition: int,
        messages: Sequence[SubmitRuns],
        *,
        malformed: Sequence[bytes] = (),
        final: bool = True,
    ) -> tuple[list[Submitted], list[Claimed]]:
        """Put runs into their queues, answer, and hand out what can start at once, in one round trip.

        Args:
            partition: of the pools.
            messages: each is carried out and answered as one.
            malformed: for each message what its answer says besides (arguments.malformed).
            final: refuse runs whose queue does not exist; without it a message with such a run is not answered yet.

        Returns:
            For each message what became of it: 'unknown_pool', 'expired' or a word for each run (rules.submission; 'same <id>'
            names the run that has the idempotency key); and what was claimed.
        """
        calls = [
            SUBMIT_RUNS.bind(
                partition,
                pool=message.pool,
                final=final,
                malformed=rows,
                home=partition,
                rest=arguments.submitted(message),
                **arguments.command(message),
            )
            for message, rows in zip(messages, malformed or [b""] * len(messages), strict=True)
        ]
        answers, claimed = await self._then_claim(partition, calls, {message.pool for message in messages})
        return [submitted_of(answer) for answer in answers], claimed

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
                rest=arguments.reported(message),
                **self._history,
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
            slots_now=message.slots,
            prefetch_ms=message.prefetch_ms,
            rest=message.queues,
            **arguments.life(message),
            **self._history,
        )
        answers, claimed = await self._then_claim(partition, [call], {message.pool})
        return bool(answers[0]), claimed

    async def drain_worker(self, partition: int, message: DrainWorker) -> None:
        """Assign nothing more to a worker and tell it to end; the script answers the command."""
        seconds = message.deadline_seconds
        await DRAIN_WORKER(
            self._client,
            partition,
            pool=message.pool,
            worker=message.worker,
            patience=None if seconds is None else round(seconds * 1000),
            **arguments.command(message),
        )

    async def lose_worker(self, partition: int, message: LoseWorker) -> tuple[int, list[Claimed]]:
        """Take back what a lost worker holds, and give it to others at once."""
        call = LOSE_WORKER.bind(partition, reason=message.reason, **arguments.life(message), **self._history)
        answers, claimed = await self._then_claim(partition, [call], {message.pool})
        return int(answers[0]), claimed

    async def claim_runs(self, partition: int, pools: Iterable[str]) -> list[Claimed]:
        """Hand out what can start in these pools."""
        return (await self._then_claim(partition, [], set(pools)))[1]

    async def due_pools(self, partition: int) -> tuple[list[str], int | None, int]:
        """Read which pools have something due by now, when the next one has, and Redis TIME (both ms)."""
        now_ms = await redis_now_ms(self._client)
        rows: Any = await self._client.zrange(keys.key(partition, "due"), 0, bounds.DUE_AT_ONCE - 1, withscores=True)
        due = [name.decode() for name, at in rows if at <= now_ms]
        return due, min((int(at) for _, at in rows if at > now_ms), default=None), now_ms

    async def cancel_runs(self, partition: int, message: CancelRuns) -> tuple[str | list[str], list[Claimed]]:
        """Cancel runs, answer, and give the slots to others that are free at once.

        Returns:
            'expired', or for each run 'cancelled', 'cancelling', 'unknown' or the state in which it had ended; and what was
            claimed.
        """
        answer = await CANCEL_RUNS(
            self._client,
            partition,
            message=message.message or "Cancelled on request",
            force=message.force,
            patience=self._patience_ms,
            rest=message.runs,
            **arguments.command(message),
            **self._history,
        )
        words, pools = (answer, []) if isinstance(answer, bytes) else answer
        return words_of(words), await self.claim_runs(partition, (name.decode() for name in pools))

    async def expire_cancelling(self, partition: int) -> list[Claimed]:
        """Call CANCELLED what no worker has ended in time."""
        reason = f"Cancelled: its worker did not end it within {self._patience_ms // 1000} s"
        pools = await EXPIRE_CANCELLING(
            self._client, partition, message=reason, max_runs=bounds.CANCEL_AT_ONCE, **self._history
        )
        return await self.claim_runs(partition, (name.decode() for name in pools)) if pools else []

    async def audit_runs(self, partition: int, *, everybody: bool) -> int:
        """Tell workers what they hold whose turn it is, or everybody; answers how many."""
        told, more = 0, 1
        while more:
            count, more = await AUDIT_RUNS(self._client, partition, everybody=everybody, bound=bounds.AUDIT_AT_ONCE)
            told, everybody = told + int(count), False
        return told

    async def delete_runs(self, partition: int, message: DeleteRuns) -> str | list[str]:
        """Forget finished runs and answer: 'answered' (before), 'expired', or 'deleted', 'unfinished' or 'unknown' for each."""
        answer = await DELETE_RUNS(self._client, partition, rest=message.runs, **arguments.command(message))
        return words_of(answer)

    async def void_runs(self, partition: int, deployment_id: str, reason: str) -> int:
        """Remove future runs that a deployment's schedules would not make any more, handed out ahead of their time or not."""
        skipped = 0
        removed = await self.recall_runs(partition, deployment_id, reason)
        while True:
            gone, left = await VOID_RUNS(
                self._client,
                partition,
                deployment_id=deployment_id,
                message=reason,
                skip=skipped,
                max_runs=bounds.CANCEL_AT_ONCE,
            )
            removed, skipped = removed + int(gone), skipped + int(left)
            if gone + left == 0:
                return removed

    async def recall_runs(self, partition: int, deployment_id: str, reason: str) -> int:
        """The part of :meth:`void_runs` that takes runs back from their workers."""
        recalled = await RECALL_RUNS(
            self._client,
            partition,
            deployment_id=deployment_id,
            message=reason,
            margin=bounds.RECALL_MARGIN_MS,
            max_runs=bounds.RECALL_AT_MOST,
        )
        return int(recalled)

    async def move_runs(self, partition: int, deployment_id: str) -> int:
        """Let what waits of a deployment wait in the pool and queue it names now."""
        moved = skipped = 0
        while True:
            gone, left = await MOVE_RUNS(
                self._client, partition, deployment_id=deployment_id, skip=skipped, max_runs=bounds.CANCEL_AT_ONCE
            )
            moved, skipped = moved + int(gone), skipped + int(left)
            if gone + left == 0:
                return moved

    async def unpark_runs(self, partition: int, deployment_id: str, pools: Iterable[str]) -> list[Claimed]:
        """Try again what waits for a deployment's limit, because it may have been raised."""
        while True:
            moved = int(
                await UNPARK_RUNS(self._client, partition, deployment_id=deployment_id, max_runs=bounds.ASIDE_AT_ONCE)
            )
            claimed = await self.claim_runs(partition, pools)
            if moved < bounds.ASIDE_AT_ONCE:
                return claimed

    async def cancel_deployment(self, partition: int, message: DeploymentDeleted) -> int:
        """Cancel what waits of a deleted deployment; of one that moved away only what its schedules would make there again."""
        if message.moved_to is not None:
            voided = await self.void_runs(partition, message.deployment_id, f"Moved to work pool '{message.moved_to}'")
            await self.unpark_runs(partition, message.deployment_id, [])
            return voided
        return await self._until_none(
            CANCEL_DEPLOYMENT,
            partition,
            deployment_id=message.deployment_id,
            message=f"Deployment '{message.deployment}' was deleted",
            max_runs=bounds.CANCEL_AT_ONCE,
            **self._history,
        )

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
        return cancelled + await self._until_none(
            CANCEL_IN_FLIGHT,
            partition,
            pool=message.pool,
            pool_id=message.pool_id,
            message=reason,
            max_runs=bounds.CANCEL_AT_ONCE,
            **self._history,
        )

    async def _cancel_waiting(
        self, partition: int, pool_id: str, pool: str, worker_type: str, queue: QueueGone, reason: str
    ) -> int:
        related = arguments.related(pool_id, pool, worker_type, queue)
        return await self._until_none(
            CANCEL_WAITING,
            partition,
            pool_id=pool_id,
            queue_id=queue.id,
            related=related,
            message=reason,
            max_runs=bounds.CANCEL_AT_ONCE,
            **self._history,
        )

    async def _until_none(self, script: lua.Script, partition: int, **arguments: Any) -> int:
        """Call a script that does a bounded part of its work until nothing is left; answers how much that was."""
        total = 0
        while count := int(await script(self._client, partition, **arguments)):
            total += count
        return total

    async def _then_claim(
        self, partition: int, calls: list[lua.Call], pools: set[str]
    ) -> tuple[list[Any], list[Claimed]]:
        """Run scripts, then claim in the pools they touched, in the same round trip; go on while a claim was cut short."""
        names = sorted(pools)
        answers = await lua.run_all(self._client, [*calls, *(self._claim(partition, name) for name in names)])
        results = answers[: len(calls)]
        claims = [claimed_of(name, answer) for name, answer in zip(names, answers[len(calls) :], strict=True)]
        last = claims
        while again := [claim.pool for claim in last if claim.more]:
            answers = await lua.run_all(self._client, [self._claim(partition, name) for name in again])
            last = [claimed_of(name, answer) for name, answer in zip(again, answers, strict=True)]
            claims = [*claims, *last]
        CLAIMED.inc(sum(claim.runs for claim in claims))
        return results, claims

    def _claim(self, partition: int, pool: str) -> lua.Call:
        return CLAIM_RUNS.bind(
            partition,
            pool=pool,
            max_runs=bounds.CLAIM_AT_ONCE,
            max_bytes=bounds.CLAIM_BYTES,
            max_set_aside=bounds.ASIDE_AT_ONCE,
            nonce=secrets.token_hex(16),
            **self._history,
        )
