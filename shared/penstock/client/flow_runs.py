"""Submit runs, read them, cancel, delete and retry them."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel

from penstock import keys
from penstock.bus.requests import request_all
from penstock.client.admin import checked
from penstock.client.deployments import Deployments
from penstock.client.job_variables import JobVariables
from penstock.client.run_filter import RunFilter, check_states
from penstock.client.runs import NewRun, SpelledSubmission, Submitted, chunks, prepare
from penstock.contracts.results import Cancellation, Deletion, Ended
from penstock.contracts.runs import MAX_RUNS_PER_MESSAGE, TERMINAL, CancelRuns, DeleteRuns
from penstock.errors import Conflict, Expired, Invalid, NoReply, NotFound, PenstockError, Refused, refusal
from penstock.streams import DISPATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from penstock.contracts.base import Command
    from penstock.contracts.pools import Pool
    from penstock.contracts.runs import Run, SubmittedRun

DEFAULT_LIMIT: Final = 200
AT_ONCE: Final = 64
"""Messages that are under way at the same time: with more, they alone would fill the buffers of Redis."""
SECONDS_PER_MESSAGE: Final = 0.5
"""What the deadline of many messages grows by; a dispatcher takes a tenth of it for each."""
RETRY_OF: Final = "penstock.retry-of"
"""Label of a run that repeats another: the other's id."""
A = TypeVar("A", bound=BaseModel)


class FlowRuns(Deployments):
    """The part of :class:`~penstock.client.sdk.Penstock` that is about runs."""

    async def submit_runs(
        self, pool: str, runs: Sequence[NewRun], *, progress: Callable[[int, int], None] | None = None
    ) -> list[str]:
        """Put runs into queues of a pool. Missing queues are created.

        Args:
            pool: where.
            runs: any number, in this order; ten thousand take one round trip.
            progress: called with how many runs have been answered and how many there are.

        Returns:
            Their ids, in the order given; for a known idempotency key the id of the run there is.

        Raises:
            Invalid: a run breaks a rule, or its job variables one of the pool's template; nothing has been sent.
            Refused: the dispatcher turned some down; the message says how many of how many, and why.
            NoReply: some were not answered; the message says how many of how many there are. The others will not be later.
        """
        return [one.id for one in await self._submit(pool, runs, progress)]

    async def _submit(
        self, pool: str, runs: Sequence[NewRun], progress: Callable[[int, int], None] | None = None
    ) -> list[Submitted]:
        pool = unicodedata.normalize("NFC", pool)
        partition = keys.partition_of_pool(pool, self._partitions)
        prepared = prepare(runs, partition)
        await self._job_variables.check(pool, prepared)
        parts = list(chunks(prepared))
        done = 0

        def answered(index: int) -> None:
            nonlocal done
            done += len(parts[index].runs)
            if progress:
                progress(done, len(prepared))

        messages = [checked(partial(SpelledSubmission.of, pool, part)) for part in parts]
        answers = await self._ask_all(partition, messages, answered)
        await self._raise_for(pool, prepared, [part.runs for part in parts], answers)
        told = [answer for answer in answers if isinstance(answer, dict)]
        same = {sent: known for answer in told for sent, known in answer.get("same", {}).items()}
        return [Submitted(same.get(run.id, run.id), created=run.id not in same) for run in prepared]

    async def read_run(self, run_id: str) -> Run:
        """One run."""
        return (await self._existing([run_id]))[0]

    async def read_runs(
        self,
        pool: str | None = None,
        *,
        queue: str | None = None,
        deployment: str | None = None,
        states: Collection[str] | None = None,
        name: str | None = None,
        limit: int = DEFAULT_LIMIT,
        offset: int = 0,
    ) -> list[Run]:
        """List runs: in flight, waiting and due (or to be tried again), finished with the latest first, planned for later.

        Args:
            pool: None means all pools.
            queue: only of queues of this name.
            deployment: only of this one.
            states: only in one of these, also ``LATE`` and ``AWAITINGRETRY``, which SCHEDULED includes; None means all.
            name: only those whose name matches this glob.
            limit: how many at most.
            offset: how many are passed over; with the same conditions, pages show every run once as long as none moves on
                or becomes due.
        """
        where, wanted = await self._wanted(pool, queue, deployment, name, check_states(states or ()))
        return await self._runs.list_runs(where, wanted, limit, offset)

    async def count_planned(
        self,
        pool: str | None = None,
        *,
        queue: str | None = None,
        deployment: str | None = None,
        name: str | None = None,
    ) -> int | None:
        """Count the waiting runs that are due later than now; arguments as of :meth:`read_runs`.

        Returns:
            How many; None where only reading all of them would tell, as with a name.
        """
        where, wanted = await self._wanted(pool, queue, deployment, name, frozenset({"SCHEDULED"}))
        return await self._runs.count_planned(where, wanted)

    async def cancel_runs(self, run_ids: Sequence[str], *, force: bool = False, message: str = "") -> Cancellation:
        """Cancel runs: what waits is CANCELLED at once, what a worker holds CANCELLING until the worker has ended it.

        Args:
            run_ids: any number.
            force: call a run CANCELLED at once, whatever its process does.
            message: why, for people.

        Returns:
            What became of them: ``cancelled``, ``cancelling``, ``ended`` before (and how), ``unknown``.

        Raises:
            NoReply: the dispatcher did not answer for some; the message says for how many of how many.
        """

        def command(part: list[str]) -> Command:
            return checked(lambda: CancelRuns(runs=part, force=force, message=message))

        # The dispatcher, which may be told the same twice, does not tell these from those that it cancels now.
        mine = [run_id for run_id in run_ids if _partition_in(run_id) < self._partitions]
        before = await self._runs.in_state(mine, "CANCELLED")
        nothing = Cancellation(cancelled=[], cancelling=[], ended=[], unknown=[])
        done = await self._for_each(run_ids, command, nothing, "cancelled")
        ended = [Ended(run=run_id, state="CANCELLED") for run_id in done.cancelled if run_id in before]
        return done.model_copy(
            update={
                "cancelled": [run_id for run_id in done.cancelled if run_id not in before],
                "ended": [*done.ended, *ended],
            }
        )

    async def delete_runs(self, run_ids: Sequence[str]) -> Deletion:
        """Forget finished runs and their output.

        Returns:
            What became of them: ``deleted``, ``unfinished`` (nothing was done), ``unknown``.

        Raises:
            NoReply: the dispatcher did not answer for some; the message says for how many of how many.
        """

        def command(part: list[str]) -> Command:
            return checked(lambda: DeleteRuns(runs=part))

        return await self._for_each(run_ids, command, Deletion(deleted=[], unfinished=[], unknown=[]), "deleted")

    async def retry_run(self, run_id: str) -> str:
        """Submit a run again that has ended: a new one, of the same specification, labelled with the id of the old one.

        The run of a deployment is one of it again, with the retries it has now.

        Returns:
            The id of the new run.

        Raises:
            Conflict: it has not ended yet.
            NotFound: it does not exist any more, or its work pool does not.
        """
        run = await self.read_run(run_id)
        if run.state not in TERMINAL:
            hint = f"`penstock flow-run explain {run_id}` says what it waits for"
            if run.state in ("RUNNING", "CANCELLING"):
                hint = f"`penstock flow-run watch {run_id}` follows it, `penstock flow-run cancel {run_id}` ends it"
            raise Conflict(f"run '{run_id}' is {run.state}; only a run that has ended is retried", hint)
        if run.pool not in await self._store.pool_names():
            raise NotFound(
                f"the work pool '{run.pool}' of run '{run_id}' was deleted", "`penstock flow-run submit` takes another"
            )
        again = NewRun(**run.spec | {"labels": {**run.spec.get("labels", {}), RETRY_OF: run_id}}, queue=run.queue)
        if run.deployment is not None:
            deployment = await self.read_deployment(run.deployment)
            # Where its deployment has moved to another partition, nothing holds its limit for this pool any more.
            if self._partition(deployment.pool) == self._partition(run.pool):
                again = replace(
                    again,
                    deployment=deployment.id,
                    retries=deployment.retries,
                    retry_delay_seconds=deployment.retry_delay_seconds,
                )
        return (await self.submit_runs(run.pool, [again]))[0]

    # Inside

    async def _wanted(
        self, pool: str | None, queue: str | None, deployment: str | None, name: str | None, states: frozenset[str]
    ) -> tuple[list[Pool], RunFilter]:
        """Find the pools and what the names mean there."""
        if pool is not None and queue is not None:
            await self.read_queue(pool, queue)
        where = [await self.read_pool(pool)] if pool is not None else await self.read_pools()
        return where, RunFilter(
            pool=None if pool is None else where[0].name,
            queue=queue,
            deployment=None if deployment is None else (await self.read_deployment(deployment)).id,
            states=states,
            name=name,
        )

    @cached_property
    def _job_variables(self) -> JobVariables:
        return JobVariables(self._store)

    async def _ask_all(
        self, partition: int, commands: Sequence[Command], answered: Callable[[int], None] | None = None
    ) -> list[Any]:
        """Send commands to the dispatcher, :data:`AT_ONCE` at a time; the answer or the error of each."""
        answers: list[Any] = []
        for start in range(0, len(commands), AT_ONCE):
            part = commands[start : start + AT_ONCE]

            def on_answer(index: int, start: int = start) -> None:
                if answered:
                    answered(start + index)

            timeout = self._timeout + (len(part) - 1) * SECONDS_PER_MESSAGE
            answers += await request_all(self._client, DISPATCH, partition, part, timeout, on_answer=on_answer)
        return answers

    async def _raise_for(
        self,
        pool: str,
        prepared: Sequence[SubmittedRun],
        parts: Sequence[Sequence[SubmittedRun]],
        answers: Sequence[Any],
    ) -> None:
        """Raise what became of a submission of which not every run was accepted."""
        silent = [problem for problem in answers if isinstance(problem, (NoReply, Expired))]
        whole = [problem for problem in answers if isinstance(problem, Refused) and not isinstance(problem, Expired)]
        if any(isinstance(problem, NotFound) for problem in whole) and pool not in await self._store.pool_names():
            raise await self._no_pool(pool)
        total = len(prepared)
        if len(parts) == 1 and (silent or whole):
            raise (silent or whole)[0]
        if silent:
            # The deadline has passed: what is not there now will not come later.
            unheard = [run.id for part, one in zip(parts, answers, strict=True) if one in silent for run in part]
            missing = len(unheard) - len(await self._runs.existing(unheard))
            if missing or whole:
                told = f"{missing} of {total} runs were not submitted and will not be later"
                raise NoReply(f"{told}: {silent[0]}")
        rows = [row for answer in answers if isinstance(answer, dict) for row in answer["refused"]]
        refused = len(rows) + sum(len(part) for part, one in zip(parts, answers, strict=True) if one in whole)
        if refused:
            code, why = (rows[0]["code"], rows[0]["message"]) if rows else (whole[0].code, whole[0].message)
            raise refusal(code, f"{refused} of {total} runs were refused: {why}")

    async def _for_each(
        self, run_ids: Sequence[str], command: Callable[[list[str]], Command], nothing: A, verb: str
    ) -> A:
        """Send a command about runs to the partitions they are in, in parts, and put the answers together."""
        found: dict[str, list[Any]] = {name: [] for name in type(nothing).model_fields}
        parts: dict[int, list[str]] = {}
        for run_id in dict.fromkeys(run_ids):
            partition = _partition_in(run_id)
            if partition < self._partitions:
                parts.setdefault(partition, []).append(run_id)
            else:
                found["unknown"].append(run_id)
        problems: list[PenstockError] = []
        told = 0
        for partition, ids in parts.items():
            commands = [
                command(ids[start : start + MAX_RUNS_PER_MESSAGE]) for start in range(0, len(ids), MAX_RUNS_PER_MESSAGE)
            ]
            for answer in await self._ask_all(partition, commands):
                if isinstance(answer, PenstockError):
                    problems.append(answer)
                    continue
                for name, values in answer.items():
                    found[name] += values
                    told += len(values)
        if problems:
            if told:
                total = len(set(run_ids)) - len(found["unknown"])
                raise NoReply(f"only {told} of {total} runs were {verb} or answered for: {problems[0]}")
            raise problems[0]
        return type(nothing).model_validate(found)

    async def _existing(self, run_ids: Sequence[str]) -> list[Run]:
        for run_id in run_ids:
            self._partition_of_run(run_id)
        found = {run.id: run for run in await self._runs.read_runs(run_ids)}
        missing = [run_id for run_id in run_ids if run_id not in found]
        if missing:
            raise NotFound(f"there is no run '{missing[0]}'", "finished runs are kept for a while only")
        return [found[run_id] for run_id in run_ids]

    def _partition_of_run(self, run_id: str) -> int:
        partition = _partition_in(run_id)
        if partition >= self._partitions:
            raise NotFound(
                f"there is no run '{run_id}'", "its id names a partition that this installation does not have"
            )
        return partition


def _partition_in(run_id: str) -> int:
    try:
        return keys.partition_of_run(run_id)
    except ValueError as problem:
        raise Invalid(str(problem), "`penstock flow-run ls` lists ids") from problem
