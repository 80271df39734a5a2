"""What a deployment must fit besides the form of its command: its schema, the template of its pool, the calendar. Pure."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock import templates
from penstock.errors import Invalid
from penstock.templates.json_values import faults
from penstock.templates.problems import MAX_TOLD, Problem, problem, refuse
from penstock.templates.schemas import schema_problems
from penstock.templates.validation import TooMuchWork, bounded_work, broken_rules
from penstock.templates.wording import problem_of
from services.pool_registry import rules

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from penstock.contracts.deployments import ScheduleSpec


class Known(NamedTuple):
    """What the checks of a command about a deployment look at.

    Attributes:
        settled: this command was executed before, or a newer one about its deployment was; its script will say so.
        now: Redis TIME.
        deployment: its fields as values, its schedules in no order; None when there is none.
        template: the base job template of the pool it is, or is to be, in; None when there is no such pool.
    """

    settled: bool
    now: datetime
    deployment: dict[str, Any] | None
    template: dict[str, Any] | None


def check_parameters(
    schema: dict[str, Any] | None, parameters: dict[str, Any], schedules: Sequence[ScheduleSpec] = ()
) -> None:
    """Refuse parameters of a deployment that its schema forbids whatever a run may add, and a schema that is none.

    Args:
        schema: of all parameters of a run; None and ``{}`` allow everything.
        parameters: of the deployment.
        schedules: theirs win over the deployment's, key by key.

    Raises:
        Invalid: says whose parameters, and names the path, the reason and the rule of each problem.
    """
    levels = {"parameters": parameters}
    for number, schedule in enumerate(schedules, 1):
        refuse(f"parameters of {_named(schedule, number)}", faults(schedule.parameters))
        if schedule.parameters:
            levels[f"parameters of {_named(schedule, number)}"] = {**parameters, **schedule.parameters}
    refuse("parameters", faults(parameters))
    if not schema:
        return
    refuse("parameter schema", faults(schema) or schema_problems(schema, ()))
    with bounded_work():
        for subject, values in levels.items():
            refuse(subject, _forbidden(schema, values))


def _forbidden(schema: dict[str, Any], values: dict[str, Any]) -> list[Problem]:
    # Inside the check `$schema` would choose the library's own validator, which has no bounds.
    bare = {keyword: rule for keyword, rule in schema.items() if keyword != "$schema"}
    properties = bare.get("properties", {})
    # Who writes `limit: int = None` means that null may be given.
    asked = {
        name: value for name, value in values.items() if value is not None or not _is_null_default(properties.get(name))
    }
    try:
        return [problem_of(error, ()) for error in islice(broken_rules(asked, bare, bare, partial=True), 10 * MAX_TOLD)]
    except TooMuchWork:
        return [problem((), "work", "checking these values takes more work than is allowed for one check; give fewer")]


def _is_null_default(described: Any) -> bool:
    return isinstance(described, dict) and described.get("default", ...) is None


def check_size(schedules: Sequence[ScheduleSpec]) -> None:
    """Refuse schedules of one deployment whose parameters are too large together: every answer and event carries them all.

    Raises:
        Invalid: says how large they are.
    """
    refuse("parameters of all schedules", faults([schedule.parameters for schedule in schedules]))


def check_job_variables(template: dict[str, Any] | None, job_variables: dict[str, Any]) -> None:
    """Refuse job variables of a deployment that the template of its pool forbids whatever a run may add.

    Args:
        template: None when there is no such pool.
        job_variables: of the deployment.

    Raises:
        Invalid: names the path, the reason and the rule of each problem.
    """
    templates.ensure_deployment({} if template is None else template, job_variables)


def check_schedules(schedules: Sequence[ScheduleSpec], now: datetime) -> None:
    """Refuse schedules that never fire, or that nobody can read.

    Raises:
        Invalid: says which one, and why.
    """
    from penstock import schedules as calendar  # noqa: PLC0415 - most commands need no calendar

    for number, schedule in enumerate(schedules, 1):
        try:
            rules.anchor_text(schedule.anchor)
            calendar.check(schedule, now)
        except Invalid as fault:
            raise Invalid(f"{_named(schedule, number)}: {fault.message}", fault.hint) from fault


def _named(schedule: ScheduleSpec, number: int) -> str:
    return f"schedule '{schedule.slug}'" if schedule.slug else f"schedule {number}"
