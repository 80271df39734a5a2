"""Make a submission: from what a caller wants to run to messages of a bounded size; pure except for names and ids."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import PrivateAttr, ValidationError

from penstock.client.wording import why
from penstock.contracts.base import MAX_DEPTH
from penstock.contracts.queues import DEFAULT_QUEUE
from penstock.contracts.runs import RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.errors import Invalid
from penstock.streams import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from penstock.contracts.runs import ScheduledBy

CHUNK: Final = 500
"""Runs per message: half of what one may carry, so that a submission never stalls the dispatcher for long."""
KEPT_SPELLED: Final = 20 * CHUNK
"""Beyond that memory counts more than time: runs are spelled once to measure them, and once more when they are sent."""
CHUNK_BYTES: Final = MAX_MESSAGE_BYTES - 65_536
"""Bytes of runs per message; the rest is for the envelope."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """One run to submit; exactly one of ``entrypoint`` and ``command``.

    Attributes:
        entrypoint: ``path/to/file.py:function``.
        command: an argument list, or one text that is split as a shell would.
        parameters: keyword arguments of the function.
        queue: where it waits; created when missing.
        name: for people; None makes one up.
        scheduled_time: not before this moment, with a time zone; None means now.
        env: variables for the process; None removes one.
        working_dir: None means a temporary directory of its own.
        stream_output: the worker shows what the process prints, unless the pool's template says that it does not.
        job_variables: for the pool's template, which makes more of ``env``, ``labels``, ``working_dir`` and ``stream_output``
            of them; what is given here itself wins.
        tags, labels: carried along.
        deployment: id of the deployment it is a run of; its limit counts. ``run_deployment`` sets it, and everything else that a
            deployment says.
        scheduled_by: the schedule that made it.
        idempotency_key: another run with the same key, of the same deployment (without one: of the same pool), is not made
            twice; the answer names the one there is.
        retries: how often it is started again when it FAILED or CRASHED, each time after ``retry_delay_seconds``.
    """

    entrypoint: str | None = None
    command: str | list[str] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    queue: str = DEFAULT_QUEUE
    name: str | None = None
    scheduled_time: datetime | None = None
    env: dict[str, str | None] = field(default_factory=dict)
    working_dir: str | None = None
    stream_output: bool = True
    tags: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    job_variables: dict[str, Any] = field(default_factory=dict)
    deployment: str | None = None
    scheduled_by: ScheduledBy | None = None
    idempotency_key: str | None = None
    retries: int = 0
    retry_delay_seconds: float = 0


class Submitted(NamedTuple):
    """What became of a run that was submitted: its id, and whether it is new; one with a known idempotency key is not."""

    id: str
    created: bool


class Part(NamedTuple):
    """What one message carries of a submission: the runs, and how each is spelled, if that is kept."""

    runs: list[SubmittedRun]
    texts: list[str]


def make_name() -> str:
    """Make up a name for a run: two words, as ``brave-heron``."""
    from coolname import generate_slug  # noqa: PLC0415 - its word lists are loaded only where a name is needed

    return str(generate_slug(2))


def prepare(runs: Iterable[NewRun], partition: int) -> list[SubmittedRun]:
    """Give each run its id and its name, and check it.

    Raises:
        Invalid: one breaks a rule; the message says which and why, and nothing has been sent.
    """
    prepared = []
    checked: set[int] = set()
    given = list(runs)
    for index, run in enumerate(given):
        which = f"run {index + 1}: " if index else ""
        for what, values in (("parameters", run.parameters), ("job_variables", run.job_variables)):
            # Many runs often share one mapping, which is looked at once; none is freed meanwhile, so ids are its own.
            if id(values) not in checked:
                check_numbers(values, which + what)
                checked.add(id(values))
        try:
            prepared.append(
                SubmittedRun(
                    id=new_run_id(partition),
                    name=run.name if run.name is not None else make_name(),
                    queue=run.queue,
                    scheduled_time=run.scheduled_time,
                    deployment=run.deployment,
                    scheduled_by=run.scheduled_by,
                    idempotency_key=run.idempotency_key,
                    retries=run.retries,
                    retry_delay_seconds=run.retry_delay_seconds,
                    spec=RunSpec(
                        entrypoint=run.entrypoint,
                        command=run.command,
                        parameters=run.parameters,
                        env=run.env,
                        working_dir=run.working_dir,
                        stream_output=run.stream_output,
                        job_variables=run.job_variables,
                        labels=run.labels,
                        tags=run.tags,
                    ),
                )
            )
        except ValidationError as problem:
            raise Invalid(which + why(problem)) from problem
    return prepared


def check_numbers(values: Any, where: str, depth: int = 0) -> None:
    """Refuse numbers JSON cannot spell: they would arrive as null.

    Args:
        values: what will be JSON.
        where: names it in the message.
        depth: how deep it lies in what is checked.

    Raises:
        Invalid: names the place.
    """
    if isinstance(values, float) and not math.isfinite(values):
        raise Invalid(f"{where} is {values}; JSON has no such number", 'give it as text ("NaN"), or null')
    if depth > MAX_DEPTH:
        raise Invalid(f"{where} is nested more than {MAX_DEPTH} levels deep, or contains itself")
    if isinstance(values, dict):
        for name, value in values.items():
            check_numbers(value, f"{where}.{name}", depth + 1)
    elif isinstance(values, (list, tuple)):
        for index, value in enumerate(values):
            check_numbers(value, f"{where}[{index}]", depth + 1)


class SpelledSubmission(SubmitRuns):
    """A message whose runs have been spelled before, to see how large they are."""

    _texts: list[str] = PrivateAttr(default_factory=list)

    @classmethod
    def of(cls, pool: str, part: Part) -> SpelledSubmission:
        """Make one.

        Raises:
            pydantic.ValidationError: the pool's name breaks a rule.
        """
        made = cls(pool=pool, runs=part.runs)
        made._texts = part.texts
        return made

    def wire(self) -> bytes:
        """Serialise, with the runs as they are spelled already, if they are."""
        if len(self._texts) != len(self.runs):
            return super().wire()
        rest = self.model_dump_json(exclude={"runs"})
        return f'{rest[:-1]},"runs":[{",".join(self._texts)}]}}'.encode()


def chunks(runs: Sequence[SubmittedRun]) -> Iterator[Part]:
    """Cut a submission into messages of at most :data:`CHUNK` runs and :data:`CHUNK_BYTES`, keeping the order.

    How runs are spelled is kept up to :data:`KEPT_SPELLED` of them.

    Raises:
        Invalid: one run alone is larger than a message.
    """
    chunk = Part([], [])
    size = 0
    for run in runs:
        text = run.model_dump_json()
        length = len(text.encode()) + 1
        if length > CHUNK_BYTES:
            raise Invalid(
                f"run {run.name!r} has {length} bytes; one has at most {CHUNK_BYTES}",
                "put large parameters into a file and pass its path",
            )
        if chunk.runs and (len(chunk.runs) == CHUNK or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = Part([], []), 0
        chunk.runs.append(run)
        if len(runs) <= KEPT_SPELLED:
            chunk.texts.append(text)
        size += length
    if chunk.runs:
        yield chunk
