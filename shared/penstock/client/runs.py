"""Make a submission: from what a caller wants to run to messages of a bounded size; pure except for names and ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from penstock.client.wording import why
from penstock.contracts.queues import DEFAULT_QUEUE
from penstock.contracts.runs import RunSpec, SubmittedRun, new_run_id
from penstock.errors import Invalid
from penstock.streams import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

CHUNK: Final = 500
"""Runs per message: half of what one may carry, so that a submission never stalls the dispatcher for long."""
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
    for index, run in enumerate(runs):
        try:
            prepared.append(
                SubmittedRun(
                    id=new_run_id(partition),
                    name=run.name if run.name is not None else make_name(),
                    queue=run.queue,
                    scheduled_time=run.scheduled_time,
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
            which = f"run {index + 1}: " if index else ""
            raise Invalid(which + why(problem)) from problem
    return prepared


def chunks(runs: Sequence[SubmittedRun]) -> Iterator[list[SubmittedRun]]:
    """Cut a submission into messages of at most :data:`CHUNK` runs and :data:`CHUNK_BYTES`, keeping the order.

    Raises:
        Invalid: one run alone is larger than a message.
    """
    chunk: list[SubmittedRun] = []
    size = 0
    for run in runs:
        length = len(run.model_dump_json().encode()) + 1
        if length > CHUNK_BYTES:
            raise Invalid(
                f"run {run.name!r} has {length} bytes; one has at most {CHUNK_BYTES}",
                "put large parameters into a file and pass its path",
            )
        if chunk and (len(chunk) == CHUNK or size + length > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(run)
        size += length
    if chunk:
        yield chunk
