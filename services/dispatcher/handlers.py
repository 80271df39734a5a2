"""One handler per message: message -> one call of the store, whose script answers -> log."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import structlog

from penstock.bus.delivery import answer
from penstock.contracts.queues import CreateQueue
from penstock.contracts.replies import Reply
from penstock.errors import Refused
from services.dispatcher import arguments

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from penstock.bus.dead_letters import DeadLetter
    from penstock.bus.routing import Delivery
    from penstock.contracts.deployments import DeploymentChanged, DeploymentDeleted
    from penstock.contracts.pools import PoolChanged, PoolDeleted, QueueDeleted
    from penstock.contracts.runs import CancelRuns, ClaimRuns, DeleteRuns, ReportRuns, SubmitRuns
    from penstock.contracts.workers import AnnounceWorker, DrainWorker, LoseWorker
    from services.dispatcher.answers import Claimed, Submitted
    from services.dispatcher.due import DueClock
    from services.dispatcher.store import DispatchStore

log = structlog.get_logger("dispatcher")


class DispatchHandlers:
    """Handlers of ``dispatch`` and ``definitions``.

    Args:
        client: for the one answer that no script gives.
        store: the door to state.
        clock: told when something falls due earlier than it knew.
        create_queue: asks the pool registry for a queue that a submission names and that does not exist yet.
    """

    def __init__(
        self,
        client: Redis,
        store: DispatchStore,
        clock: DueClock,
        create_queue: Callable[[int, CreateQueue], Awaitable[Any]],
    ) -> None:
        self._client = client
        self._store = store
        self._clock = clock
        self._create_queue = create_queue

    async def submit_runs(self, batch: list[Delivery[SubmitRuns]]) -> Sequence[DeadLetter]:
        """Accept runs; create queues that are missing; bury what cannot be accepted."""
        partition = batch[0].partition
        malformed = [arguments.malformed(delivery.bad) for delivery in batch]
        settled, claimed = await self._store.submit_runs(
            partition, [delivery.message for delivery in batch], malformed=malformed, final=False
        )
        self._note(partition, claimed)
        letters: list[DeadLetter] = []
        for delivery, submitted in zip(batch, settled, strict=True):
            last = submitted
            if "unknown_queue" in submitted.words:
                last = await self._with_queues(delivery, submitted.words)
            letters.extend(_buried(delivery, last))
        return letters

    async def _with_queues(self, delivery: Delivery[SubmitRuns], words: str | list[str]) -> Submitted:
        """Create the missing queues, then submit again; runs accepted before are known by now."""
        message, partition = delivery.message, delivery.partition
        missing = {run.queue for run, word in zip(message.runs, words, strict=True) if word == "unknown_queue"}
        for queue in sorted(missing):
            try:
                await self._create_queue(partition, CreateQueue(pool=message.pool, queue=queue, if_missing=True))
            except Refused as refused:
                log.warning("queue not created", pool=message.pool, queue=queue, reason=str(refused))
        settled, claimed = await self._store.submit_runs(
            partition, [message], malformed=[arguments.malformed(delivery.bad)]
        )
        self._note(partition, claimed)
        return settled[0]

    async def cancel_runs(self, batch: list[Delivery[CancelRuns]]) -> None:
        """Cancel runs."""
        for delivery in batch:
            words, claimed = await self._store.cancel_runs(delivery.partition, delivery.message)
            self._note(delivery.partition, claimed)
            log.info("cancel", force=delivery.message.force, **_counts(words))

    async def delete_runs(self, batch: list[Delivery[DeleteRuns]]) -> None:
        """Forget finished runs."""
        for delivery in batch:
            log.info("delete", **_counts(await self._store.delete_runs(delivery.partition, delivery.message)))

    async def report_runs(self, batch: list[Delivery[ReportRuns]]) -> None:
        """Apply what workers say of their runs."""
        partition = batch[0].partition
        answers, claimed = await self._store.report_runs(partition, [delivery.message for delivery in batch])
        self._note(partition, claimed)
        for delivery, words in zip(batch, answers, strict=True):
            for report, word in zip(delivery.message.reports, words, strict=True):
                if word == "fenced":
                    log.warning(
                        "report refused: not this worker's claim any more",
                        run=report.run,
                        worker=delivery.message.worker,
                        pool=delivery.message.pool,
                        state=report.state,
                        epoch=report.epoch,
                    )

    async def announce_worker(self, batch: list[Delivery[AnnounceWorker]]) -> None:
        """Take over what workers are now."""
        for delivery in batch:
            message = delivery.message
            applied, claimed = await self._store.announce_worker(delivery.partition, message)
            self._note(delivery.partition, claimed)
            if applied:
                log.info("worker announced", pool=message.pool, worker=message.worker, slots=message.slots)

    async def drain_worker(self, batch: list[Delivery[DrainWorker]]) -> None:
        """Assign nothing more to workers, and tell them to end."""
        for delivery in batch:
            await self._store.drain_worker(delivery.partition, delivery.message)
            log.info("drain", pool=delivery.message.pool, worker=delivery.message.worker)

    async def lose_worker(self, batch: list[Delivery[LoseWorker]]) -> None:
        """Take back the runs of lost workers."""
        for delivery in batch:
            message = delivery.message
            taken, claimed = await self._store.lose_worker(delivery.partition, message)
            self._note(delivery.partition, claimed)
            if taken >= 0:
                log.info(
                    "worker lost", pool=message.pool, worker=message.worker, reason=message.reason, taken_back=taken
                )

    async def claim_runs(self, batch: list[Delivery[ClaimRuns]]) -> None:
        """Look at pools because somebody asked, and answer when it has been done."""
        for delivery in batch:
            claimed = await self._store.claim_runs(delivery.partition, [delivery.message.pool])
            self._note(delivery.partition, claimed)
            reply = Reply(id=delivery.message.id, ok=True, result={"claimed": sum(claim.runs for claim in claimed)})
            await answer(self._client, delivery.partition, reply)

    async def pool_changed(self, batch: list[Delivery[PoolChanged]]) -> None:
        """A pause, a limit, a priority changed: look at the pool."""
        partition = batch[0].partition
        self._note(partition, await self._store.claim_runs(partition, {delivery.message.pool for delivery in batch}))

    async def pool_deleted(self, batch: list[Delivery[PoolDeleted]]) -> None:
        """Cancel what a deleted pool leaves behind."""
        for delivery in batch:
            cancelled = await self._store.cancel_pool(delivery.partition, delivery.message)
            log.info("pool deleted", pool=delivery.message.pool, cancelled=cancelled)

    async def queue_deleted(self, batch: list[Delivery[QueueDeleted]]) -> None:
        """Cancel what waits in a deleted queue."""
        for delivery in batch:
            message = delivery.message
            cancelled = await self._store.cancel_queue(delivery.partition, message)
            log.info("queue deleted", pool=message.pool, queue=message.queue.name, cancelled=cancelled)

    async def deployment_changed(self, batch: list[Delivery[DeploymentChanged]]) -> None:
        """Remove future runs that its schedules would not make any more; hand out what a higher limit allows."""
        for delivery in batch:
            message = delivery.message
            removed = await self._store.void_runs(
                delivery.partition,
                message.deployment_id,
                f"Schedules of deployment '{message.deployment}' were changed",
            )
            pools = {message.pool, message.former_pool or message.pool}
            moved = await self._store.move_runs(delivery.partition, message.deployment_id) if message.former_pool else 0
            self._note(
                delivery.partition,
                await self._store.unpark_runs(delivery.partition, message.deployment_id, sorted(pools)),
            )
            if removed or moved:
                log.info("deployment changed", deployment=message.deployment, removed=removed, moved=moved)

    async def deployment_deleted(self, batch: list[Delivery[DeploymentDeleted]]) -> None:
        """Cancel what waits of a deleted deployment."""
        for delivery in batch:
            cancelled = await self._store.cancel_deployment(delivery.partition, delivery.message)
            log.info("deployment deleted", deployment=delivery.message.deployment, cancelled=cancelled)

    def _note(self, partition: int, claimed: Sequence[Claimed]) -> None:
        for claim in claimed:
            if claim.runs:
                log.info("claimed", pool=claim.pool, runs=claim.runs)
            if claim.next_due_ms is not None:
                self._clock.expect(partition, claim.next_due_ms)


def _buried(delivery: Delivery[SubmitRuns], submitted: Submitted) -> list[DeadLetter]:
    """Log what became of a submission, and say what of it cannot be accepted."""
    pool, words = delivery.message.pool, submitted.words
    if isinstance(words, str):
        log.info("submission refused", pool=pool, reason=words)
        return [delivery.dead(f"work pool '{pool}' does not exist")] if words == "unknown_pool" else []
    refused = submitted.refused
    log.info("submitted", pool=pool, runs=len(words) - len(refused), refused=len(refused) + len(delivery.bad))
    # Nothing is wrong with a stale one: its schedule was changed a moment ago.
    return [delivery.dead(row["message"])._replace(element=row) for row in refused if row["code"] != "stale"]


def _counts(words: str | list[str]) -> dict[str, int]:
    return dict(Counter([words] if isinstance(words, str) else words))
