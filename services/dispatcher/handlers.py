"""One handler per message: message -> one call of the store -> log and reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from penstock.bus.delivery import answer
from penstock.contracts.queues import CreateQueue
from penstock.contracts.replies import Reply, ReplyError
from penstock.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from penstock.bus.dead_letters import DeadLetter
    from penstock.bus.routing import Delivery
    from penstock.contracts.deployments import DeploymentChanged, DeploymentDeleted
    from penstock.contracts.pools import PoolChanged, PoolDeleted, QueueDeleted
    from penstock.contracts.runs import CancelRuns, ClaimRuns, DeleteRuns, ReportRuns, SubmitRuns
    from penstock.contracts.workers import AnnounceWorker, DrainWorker, LoseWorker
    from services.dispatcher.answers import Claimed
    from services.dispatcher.due import DueClock
    from services.dispatcher.store import DispatchStore

log = structlog.get_logger("dispatcher")


class DispatchHandlers:
    """Handlers of ``dispatch`` and ``definitions``.

    Args:
        client: for replies.
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
        """Accept runs; create queues that are missing; answer each submission; bury what cannot be accepted."""
        partition = batch[0].partition
        answers, claimed = await self._store.submit_runs(partition, [delivery.message for delivery in batch])
        self._note(partition, claimed)
        letters: list[DeadLetter] = []
        for delivery, words in zip(batch, answers, strict=True):
            settled = words
            if "unknown_queue" in words:
                missing = {
                    run.queue for run, word in zip(delivery.message.runs, words, strict=True) if word == "unknown_queue"
                }
                settled = await self._with_queues(partition, delivery.message, missing)
            letters.extend(await self._answer_submission(delivery, settled))
        return letters

    async def _with_queues(self, partition: int, message: SubmitRuns, missing: set[str]) -> str | list[str]:
        """Create the missing queues, then submit again; runs accepted before are known by now."""
        for queue in sorted(missing):
            try:
                await self._create_queue(partition, CreateQueue(pool=message.pool, queue=queue, if_missing=True))
            except Refused as refused:
                log.warning("queue not created", pool=message.pool, queue=queue, reason=str(refused))
        answers, claimed = await self._store.submit_runs(partition, [message])
        self._note(partition, claimed)
        return answers[0]

    async def _answer_submission(self, delivery: Delivery[SubmitRuns], words: str | list[str]) -> Sequence[DeadLetter]:
        message = delivery.message
        if words == "unknown_pool":
            reason = f"work pool '{message.pool}' does not exist"
            await self._refuse(delivery, "not_found", reason, f"penstock work-pool create '{message.pool}'")
            return [delivery.dead(reason)]
        if words == "expired":
            await self._refuse(delivery, "expired", "the submission's deadline had passed before it was read", "")
            return []
        answered = list(zip(message.runs, words, strict=True))
        same = {run.id: word.split()[1] for run, word in answered if word.startswith("same ")}
        accepted = [run.id for run, word in answered if word in ("accepted", "known") or same.get(run.id) == run.id]
        refused = [
            {"run": run.id, **_refusal(run.queue, word, delivery.partition)}
            for run, word in answered
            if word in ("unknown_queue", "foreign", "stale")
        ]
        malformed = [_malformed(letter) for letter in delivery.bad]
        log.info("submitted", pool=message.pool, accepted=len(accepted), refused=len(refused) + len(malformed))
        result = {
            "accepted": accepted,
            "refused": [*refused, *malformed],
            "same": {sent: first for sent, first in same.items() if sent != first},
        }
        await answer(self._client, delivery.partition, Reply(id=message.id, ok=True, result=result))
        # Nothing is wrong with a stale one: its schedule was changed a moment ago.
        return [delivery.dead(row["message"])._replace(element=row) for row in refused if row["code"] != "stale"]

    async def cancel_runs(self, batch: list[Delivery[CancelRuns]]) -> None:
        """Cancel runs, and say what became of each."""
        for delivery in batch:
            message = delivery.message
            words, claimed = await self._store.cancel_runs(delivery.partition, message)
            self._note(delivery.partition, claimed)
            answered = list(zip(message.runs, words, strict=True))
            result: dict[str, list[Any]] = {
                word: [run for run, answer_ in answered if answer_ == word]
                for word in ("cancelled", "cancelling", "unknown")
            }
            result["ended"] = [{"run": run, "state": word} for run, word in answered if word not in result]
            log.info("cancel", force=message.force, **{word: len(runs) for word, runs in result.items()})
            await answer(self._client, delivery.partition, Reply(id=message.id, ok=True, result=result))

    async def delete_runs(self, batch: list[Delivery[DeleteRuns]]) -> None:
        """Forget finished runs, and say what became of each."""
        for delivery in batch:
            message = delivery.message
            words = await self._store.delete_runs(delivery.partition, message)
            result = {
                word: [run for run, answer_ in zip(message.runs, words, strict=True) if answer_ == word]
                for word in ("deleted", "unfinished", "unknown")
            }
            log.info("delete", **{word: len(runs) for word, runs in result.items()})
            await answer(self._client, delivery.partition, Reply(id=message.id, ok=True, result=result))

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

    async def _refuse(self, delivery: Delivery[SubmitRuns], code: str, message: str, hint: str) -> None:
        error = ReplyError(code=code, message=message, hint=hint)
        await answer(self._client, delivery.partition, Reply(id=delivery.message.id, ok=False, error=error))


def _refusal(queue: str, word: str, partition: int) -> dict[str, str]:
    """Say why one run of a submission was not accepted."""
    if word == "unknown_queue":
        return {"code": "not_found", "message": f"work queue '{queue}' does not exist"}
    if word == "stale":
        return {"code": "stale", "message": "its deployment has changed since the schedule was read"}
    return {
        "code": "invalid",
        "message": f"the id must end in {partition:04x}, the partition of its pool in hexadecimal digits",
    }


def _malformed(letter: DeadLetter) -> dict[str, str]:
    """Spell an element of a submission that was no run."""
    run = letter.element.get("id") if isinstance(letter.element, dict) else None
    return {"run": str(run or ""), "code": "invalid", "message": letter.reason}
