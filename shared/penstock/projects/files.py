"""Project files: ``penstock.yaml`` and ``prefect.yaml`` are read alike, and what is not done is said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args

from penstock.client.wording import did_you_mean
from penstock.contracts.deployments import CollisionStrategy
from penstock.errors import Invalid, NotFound, Refused
from penstock.projects.documents import MAX_BYTES, read_document
from penstock.projects.drafts import DEFAULT_NAME, FILES, Draft, absolute
from penstock.projects.placeholders import filled
from penstock.projects.sections import Findings, Section, together
from penstock.projects.timing import KINDS, schedules_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

SHOWN: Final = 20
"""Deployments an error lists at most."""
STRATEGIES: Final = get_args(CollisionStrategy)

_TOP: Final = ("deployments", "name", "prefect-version", "definitions", "pull")
_TOP_UNSUPPORTED: Final = ("build", "push", "required_inputs", "project", "docker", "variables")
_DEPLOYMENT: Final = (
    *("name", "entrypoint", "command", "flow_name", "working_dir", "work_pool", "schedules", "schedule", "parameters"),
    *("tags", "description", "version", "concurrency_limit", "enforce_parameter_schema", "paused", "pull"),
    *("retries", "retry_delay_seconds"),
)
_DEPLOYMENT_UNSUPPORTED: Final = (
    *("build", "push", "triggers", "sla", "version_type", "path", "storage", "infrastructure", "infra_overrides"),
    *("docker_image", "image", "is_schedule_active", "parameter_openapi_schema", "flow_id", "branch", "labels"),
)
_WORK_POOL: Final = "work_pool: {name: ...}"
_WORK_QUEUE: Final = "work_pool: {name: ..., work_queue_name: ...}"
_MEANT: Final = {
    **{kind: f"schedules: [{{{kind}: ...}}]" for kind in KINDS},
    **{key: f"schedules: [{{cron: ..., {key}: ...}}]" for key in ("timezone", "catch_up", "anchor_date", "slug")},
    **dict.fromkeys(("pool", "work_pool_name"), _WORK_POOL),
    **dict.fromkeys(("queue", "work_queue", "work_queue_name"), _WORK_QUEUE),
    **dict.fromkeys(("job_variables", "env"), "work_pool: {name: ..., job_variables: ...}"),
    "flow": "flow_name: ...",
    "collision_strategy": "concurrency_limit: {limit: ..., collision_strategy: ...}",
}
"""What somebody wanted who wrote this key of a deployment."""
_MEANT_AT_TOP: Final = {"deployment": "deployments: with a list below it"}
_MEANT_IN_POOL: Final = {"queue": "work_queue_name: ...", "env": "job_variables: {env: ...}"}
_POOL: Final = ("name", "work_queue_name", "job_variables")
_LIMIT: Final = ("limit", "collision_strategy")
_LIMIT_UNSUPPORTED: Final = ("grace_period_seconds",)
_STEPS: Final = "prefect.deployments.steps."
_SET_DIRECTORY: Final = f"{_STEPS}set_working_directory"


@dataclass(slots=True)
class Project:
    """What a project file says.

    Attributes:
        file: its name.
        drafts: its deployments, in its order.
        warnings: of each deployment, and of the file itself (key -1).
        problems: what is wrong with a deployment, which does not keep anybody from deploying another one; or with the
            file itself (key -1), which does.
    """

    file: str
    drafts: list[Draft] = field(default_factory=list)
    warnings: dict[int, list[str]] = field(default_factory=dict)
    problems: dict[int, Refused] = field(default_factory=dict)

    def select(self, name: str | None, *, everything: bool) -> list[tuple[int, Draft]]:
        """Choose deployments, each with its number.

        Args:
            name: ``demo``, or ``hello/demo`` where the file names the flow; None means the only one.
            everything: all of them.

        Raises:
            NotFound: none, or none of that name.
            Invalid: there are several; the message lists them. Or one that is chosen is wrong; names file and line.
        """
        chosen = self._chosen(name, everything=everything)
        faults = [
            self.problems[number] for number in (-1, *(number for number, _ in chosen)) if number in self.problems
        ]
        if faults:
            raise together(faults)
        return chosen

    def _chosen(self, name: str | None, *, everything: bool) -> list[tuple[int, Draft]]:
        numbered = list(enumerate(self.drafts))
        names = [draft.name or DEFAULT_NAME for draft in self.drafts]
        listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        if not numbered:
            raise NotFound(
                f"{self.file} lists no deployments", "add one below 'deployments:', or give path.py:function"
            )
        if everything or (name is None and len(numbered) == 1):
            return numbered
        if name is None:
            raise Invalid(f"{self.file} has {len(numbered)} deployments: {listed}", "give one with --name, or --all")
        flow, _, label = name.rpartition("/")
        found = [
            (number, draft)
            for number, draft in numbered
            if names[number] == name or (names[number] == label and (not flow or draft.flow in (None, flow)))
        ]
        if not found:
            hint = did_you_mean(label, names) or f"it has {listed}"
            raise NotFound(f"{self.file} has no deployment '{name}'", hint)
        if len(found) > 1:
            lines = ", ".join(draft.where for _, draft in found)
            raise Invalid(f"{self.file} has {len(found)} deployments called '{name}': {lines}", "rename one, or --all")
        return found


def find_file(directory: Path) -> Path | None:
    """Find the project file of a directory."""
    return next((directory / name for name in FILES if (directory / name).is_file()), None)


def read_project(path: Path, environment: Mapping[str, str], now: datetime) -> Project:
    """Read a project file.

    Args:
        path: the file; its directory is the project.
        environment: for ``{{ $NAME }}``.
        now: what schedules are judged by.

    Raises:
        NotFound: it cannot be read.
        Invalid: it is no YAML of the right shape; names file and line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as problem:
        raise NotFound(f"cannot read {path}: {problem.strerror}") from problem
    document = read_document(path.name, data)
    top = Section(document, (), {} if document.value is None else document.value)
    project = Project(path.name)
    # Prefect reads more than anybody can list here; a file of Penstock's own with a key it does not know has a typing error.
    strict = not path.name.startswith("prefect")
    own = Findings(strict)
    top.review(own, _TOP, _TOP_UNSUPPORTED, _MEANT_AT_TOP)
    project.warnings[-1] = own.warnings
    directory, base = _pull(top, own.warnings), absolute(path.parent)
    if own.faults:
        project.problems[-1] = together(own.faults)
    for number, section in enumerate(top.sections("deployments") or ()):
        findings = Findings(strict)
        section.review(findings, _DEPLOYMENT, _DEPLOYMENT_UNSUPPORTED, _MEANT)
        project.warnings[number] = findings.warnings
        wanted = {key: value for key, value in section.values.items() if key in _DEPLOYMENT}
        try:
            values = filled(document, wanted, section.place, environment, findings.warnings)
            draft = _draft(Section(document, section.place, values), base, directory, now, findings)
        except Refused as problem:
            findings.faults.append(problem)
            name, flow = _plain(section, "name"), _plain(section, "flow_name")
            draft = Draft(project=base, where=section.at(), name=name, flow=flow)
        if findings.faults:
            project.problems[number] = together(findings.faults)
        project.drafts.append(draft)
    return project


def _plain(section: Section, key: str) -> str | None:
    """A text of a deployment that may turn out to be wrong."""
    value = section.values.get(key)
    return value if isinstance(value, str) else None


def _draft(section: Section, project: Path, directory: str | None, now: datetime, findings: Findings) -> Draft:
    pool = _work_pool(section)
    pool.review(findings, _POOL, meanings=_MEANT_IN_POOL)
    limit, strategy = _limit(section, findings)
    if "pull" in section.values:
        directory = _pull(section, findings.warnings)
    enforce, delay = section.boolean("enforce_parameter_schema"), section.number("retry_delay_seconds")
    entrypoint, command = section.text("entrypoint"), _command(section)
    if (entrypoint is None) == (command is None):
        raise section.wrong("give exactly one of 'entrypoint' (path/to/file.py:function) and 'command'")
    return Draft(
        project=project,
        where=section.at(),
        name=section.text("name"),
        flow=section.text("flow_name"),
        entrypoint=entrypoint,
        command=command,
        working_dir=section.text("working_dir") or directory,
        pool=pool.text("name"),
        queue=pool.text("work_queue_name"),
        job_variables=pool.mapping("job_variables") or {},
        parameters=section.mapping("parameters") or {},
        schedules=schedules_of(section, now, findings),
        tags=section.texts("tags"),
        description=section.text("description"),
        version=section.text("version"),
        concurrency_limit=limit,
        collision_strategy=strategy,
        retries=section.integer("retries"),
        retry_delay_seconds=delay,
        paused=section.boolean("paused"),
        enforce=enforce is not False,
    )


def _work_pool(section: Section) -> Section:
    try:
        return section.section("work_pool")
    except Invalid as problem:
        name = _plain(section, "work_pool")
        raise Invalid(problem.message, "" if name is None else f"write work_pool: {{name: {name}}}") from problem


def _command(section: Section) -> list[str] | str | None:
    if isinstance(section.values.get("command"), list):
        return section.texts("command")
    return section.text("command")


def _limit(section: Section, findings: Findings) -> tuple[int | None, Any]:
    if not isinstance(section.values.get("concurrency_limit"), dict):
        return section.integer("concurrency_limit"), None
    inside = section.section("concurrency_limit")
    inside.review(findings, _LIMIT, _LIMIT_UNSUPPORTED)
    strategy = inside.text("collision_strategy")
    if strategy is not None and strategy.lower() not in STRATEGIES:
        known = ", ".join(each.upper() for each in STRATEGIES)
        raise inside.wrong(f"collision_strategy {strategy!r} is unknown; one of {known}", "collision_strategy")
    return inside.integer("limit"), strategy.lower() if strategy else None


def _pull(section: Section, warnings: list[str]) -> str | None:
    """Read what a run does before it begins; all that is done of it is to work in a directory."""
    directory = None
    for step in section.sections("pull") or ():
        for name, inputs in step.values.items():
            # A step as Prefect writes it, or with the module's short name.
            if name in {_SET_DIRECTORY, "set_working_directory"} and isinstance(inputs, dict) and len(step.values) == 1:
                directory = step.section(name).text("directory")
                if directory is None:
                    raise step.wrong("this step needs a 'directory'", name)
                continue
            warnings.append(
                f"{step.at(name)}: '{step.spelled(name)}' is Prefect's; Penstock does not support it: code is not "
                "fetched, a worker runs what it finds in the working directory"
            )
    return directory
