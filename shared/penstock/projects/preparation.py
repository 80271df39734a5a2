"""A draft and what was found at its entrypoint, checked and made into a definition; nothing is sent here."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock.client.admin import checked
from penstock.client.parameters import ensure_parameters
from penstock.client.wording import schedule_name
from penstock.contracts.deployments import CreateDeployment
from penstock.contracts.queues import DEFAULT_QUEUE
from penstock.errors import Conflict, Invalid, Refused, refusal
from penstock.projects.drafts import DEFAULT_NAME, Draft, absolute
from penstock.projects.fitting import as_meant
from penstock.projects.inspection import Entrypoint, inspect_entrypoint
from penstock.projects.sources import split_entrypoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from penstock.contracts.deployments import ScheduleSpec


@dataclass(frozen=True, slots=True)
class Prepared:
    """A deployment that can be sent.

    Attributes:
        draft: what it was made of.
        name: ``flow/deployment``.
        definition: what :meth:`~penstock.client.sdk.Penstock.create_deployment` takes besides name, pool and overwrite.
        outline: what is known of its parameters, see :class:`~penstock.projects.inspection.Entrypoint`.
        warnings: what its author should know.
    """

    draft: Draft
    name: str
    definition: dict[str, Any]
    outline: dict[str, Any] | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def pool(self) -> str | None:
        """The pool that was named; None takes the default one."""
        return self.draft.pool

    def ensure_schedules(self, schedules: Sequence[ScheduleSpec], *, paused: bool = True) -> None:
        """Refuse schedules all runs of which would fail.

        Args:
            schedules: all of the deployment.
            paused: look at those that are paused, too.

        Raises:
            Invalid: a required parameter has no value, or a schedule's own parameters do not fit.
        """
        for number, schedule in enumerate(schedules, 1):
            if not (paused or schedule.active):
                continue
            given = {**self.definition["parameters"], **schedule.parameters}
            which = schedule_name(schedule, number)
            missing = [name for name in (self.outline or {}).get("required", ()) if name not in given]
            if missing:
                names = ", ".join(f"'{name}'" for name in missing)
                verb = "have" if len(missing) > 1 else "has"
                raise Invalid(
                    self.draft.told(f"every run of {which} of '{self.name}' would fail: {names} {verb} no value"),
                    f"give it one (--param {missing[0]}=...), or a default in the function",
                )
            self.ensure_parameters(f"parameters of {which} of '{self.name}'", given)

    def ensure_parameters(self, subject: str, parameters: dict[str, Any]) -> None:
        """Refuse parameters that the function does not take; what is missing is not asked.

        Raises:
            Invalid: names each of them.
        """
        ensure_parameters(self.draft.told(subject), self.outline, parameters, partial=True)


def prepare(drafts: Iterable[Draft]) -> list[Prepared]:
    """Look at the code of drafts and check everything that needs no installation.

    Raises:
        Refused: the first thing that is wrong; says where.
    """
    known: dict[tuple[Path, str], Entrypoint] = {}
    prepared: dict[str, Prepared] = {}
    for draft in drafts:
        one = _prepared(draft, known)
        if one.name in prepared:
            other = prepared[one.name].draft.where
            raise Conflict(
                draft.told(f"the deployment '{one.name}' is here twice" + (f", at {other}" if other else "")),
                "give one of them another name",
            )
        prepared[one.name] = one
    return list(prepared.values())


def _prepared(draft: Draft, known: dict[tuple[Path, str], Entrypoint]) -> Prepared:
    label = draft.name or DEFAULT_NAME
    flow, slash, rest = label.rpartition("/")
    found = Entrypoint(flow="")
    entrypoint, working_dir = draft.entrypoint, draft.working_dir
    if working_dir is None and isinstance(draft.job_variables.get("working_dir"), str):
        # The pool's template would be overruled by the deployment's own directory; this is what was meant.
        working_dir = draft.job_variables["working_dir"]
    if entrypoint is not None:
        with _at(draft):
            if (draft.project, entrypoint) not in known:
                known[draft.project, entrypoint] = inspect_entrypoint(entrypoint, draft.project)
        found = known[draft.project, entrypoint]
        entrypoint = relative_entrypoint(entrypoint, draft.project, working_dir)
    flow = draft.flow or flow or found.flow
    if not flow:
        raise Invalid(draft.told("a command has no function to name its flow after"), "name it with --flow (flow_name)")
    outline = found.outline if draft.enforce else None
    definition: dict[str, Any] = {
        "entrypoint": entrypoint,
        "command": draft.command,
        "working_dir": str(absolute(draft.project / (working_dir or "."))),
        "parameters": as_meant(draft.parameters, draft.texts, outline),
        "parameter_schema": found.schema if draft.enforce else None,
        "job_variables": draft.job_variables,
        "tags": draft.tags or [],
        "description": draft.description if draft.description is not None else found.description,
        "version": draft.version,
        "concurrency_limit": draft.concurrency_limit,
        "collision_strategy": draft.collision_strategy or "enqueue",
        "retries": draft.retries or 0,
        "retry_delay_seconds": draft.retry_delay_seconds or 0,
        "schedules": draft.schedules,
        "paused": draft.paused,
        "queue": draft.queue or DEFAULT_QUEUE,
    }
    name = f"{flow}/{rest if slash else label}"
    with _at(draft):
        command = checked(lambda: CreateDeployment(deployment=name, pool=draft.pool or "pool", **definition))
    warnings = [draft.told(warning) for warning in found.warnings]
    one = Prepared(draft, command.deployment, definition, outline, warnings)
    one.ensure_parameters(f"parameters of '{one.name}'", definition["parameters"])
    one.ensure_schedules(draft.schedules or ())
    return one


def relative_entrypoint(entrypoint: str, project: Path, working_dir: str | None) -> str:
    """Spell an entrypoint as a worker will find it from the working directory.

    Args:
        entrypoint: as given, relative to the project.
        project: its directory, absolute.
        working_dir: None means the project. One that does not exist here is another host's: there the project lies in it.

    Returns:
        Relative to the working directory; absolute when the file lies outside of it.
    """
    shown, function = split_entrypoint(entrypoint)
    path = absolute(project / shown)
    base = project if working_dir is None else absolute(project / working_dir)
    for directory in [base] if base.is_dir() else [base, project]:
        if path.is_relative_to(directory):
            return f"{path.relative_to(directory).as_posix()}:{function}"
    return f"{path}:{function}"


@contextmanager
def _at(draft: Draft) -> Iterator[None]:
    try:
        yield
    except Refused as problem:
        raise refusal(problem.code, draft.told(problem.message), problem.hint) from problem
