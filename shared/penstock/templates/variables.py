"""Which values a run has: the template's defaults, overlaid by the deployment's, overlaid by the run's own; and whether it may.

``env`` is merged key by key, every other variable is replaced as a whole. A dotted key is a property of a variable:
``env.DEBUG`` is ``DEBUG`` of ``env``; where both forms are given at one level, the nested one wins.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from penstock.templates.check import VARIABLES, ensure, properties_of
from penstock.templates.json_values import MAX_DEPTH, faults, kind_of, plain_copy
from penstock.templates.problems import Problem, problem, refuse, shortened
from penstock.templates.validation import TooMuchWork, bounded_work, broken_rules
from penstock.templates.wording import problem_of

if TYPE_CHECKING:
    from collections.abc import Mapping

ENV: Final = "env"
"""The one variable whose levels are merged key by key. Names of environment variables may have dots of their own."""
SUBJECT: Final = "job variables"
MAX_PROBLEMS: Final = 100
"""Broken rules after which nobody looks for more."""


def defaults(template: Any) -> dict[str, Any]:
    """Collect the defaults of a template's variables; a default of null means that there is none.

    Returns:
        A copy of its own.

    Raises:
        Invalid: the template has problems.
    """
    ensure(template)
    return {
        name: plain_copy(schema["default"])
        for name, schema in properties_of(template).items()
        if isinstance(schema, dict) and schema.get("default") is not None
    }


def nested(values: Any) -> dict[str, Any]:
    """Turn dotted keys into properties: ``{"env.DEBUG": "1"}`` becomes ``{"env": {"DEBUG": "1"}}``.

    Only keys of the outermost level are read so; everything after ``env.`` is one name.

    Args:
        values: of one level; never changed.

    Returns:
        A copy of its own, without dotted keys.

    Raises:
        Invalid: no object, no JSON, too large, a dotted key with an empty part, or one that leads into a value that is no object.
    """
    if not isinstance(values, dict):
        refuse(SUBJECT, [problem((), "type", f"an object of variables is needed; this is {kind_of(values)}")])
    refuse(SUBJECT, faults(values))
    plain = plain_copy(values)
    result: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, parts in sorted(((key, _parts(key)) for key in plain), key=lambda each: len(each[1])):
        fault = _dotted_fault(parts) or _put(result, parts, plain[key])
        if fault:
            problems.append(problem((key,), "dotted", fault))
    refuse(SUBJECT, problems)
    refuse(SUBJECT, faults(result))
    return result


def overlaid(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one level over another, both without dotted keys; neither is changed."""
    result = {**lower, **upper}
    if isinstance(lower.get(ENV), dict) and isinstance(upper.get(ENV), dict):
        result[ENV] = {**lower[ENV], **upper[ENV]}
    return result


def merged(template: Any, deployment: Any = None, run: Any = None) -> dict[str, Any]:
    """Merge the levels: the template's defaults < the deployment's values < the run's.

    Args:
        template: a base job template.
        deployment: its values; None means none.
        run: its values; None means none.

    Raises:
        Invalid: the template has problems, or a level is no object of variables.
    """
    lower = overlaid(defaults(template), nested({} if deployment is None else deployment))
    return overlaid(lower, nested({} if run is None else run))


def check_deployment(template: Any, values: Any) -> list[Problem]:
    """Look for values of a deployment that the template forbids, whatever a run may add: ``required`` is not asked yet.

    Raises:
        Invalid: the template has problems, or the values are no object of variables.
    """
    ensure(template)
    return _broken(template, nested(values), partial=True)


def check_run(template: Any, deployment: Any = None, run: Any = None) -> list[Problem]:
    """Look for everything the template forbids or misses in the values a run would have.

    Raises:
        Invalid: the template has problems, or a level is no object of variables.
    """
    return _broken(template, merged(template, deployment, run), partial=False)


def ensure_deployment(template: Any, values: Any) -> None:
    """Refuse values of a deployment, see :func:`check_deployment`.

    Raises:
        Invalid: names the path, the reason and the rule of each problem.
    """
    refuse(SUBJECT, check_deployment(template, values))


def run_variables(template: Any, deployment: Any = None, run: Any = None) -> dict[str, Any]:
    """Merge the levels and check the result in full.

    Returns:
        A copy of its own: what :func:`penstock.templates.render.render` takes.

    Raises:
        Invalid: names the path, the reason and the rule of each problem.
    """
    values = merged(template, deployment, run)
    refuse(SUBJECT, _broken(template, values, partial=False))
    return values


def _broken(template: dict[str, Any], values: dict[str, Any], *, partial: bool) -> list[Problem]:
    found = faults(values)
    if found:
        return found
    schema = {keyword: rule for keyword, rule in template.get(VARIABLES, {}).items() if keyword != "$schema"}
    try:
        with bounded_work():
            return [
                problem_of(error, ())
                for error in islice(broken_rules(values, schema, schema, partial=partial), MAX_PROBLEMS)
            ]
    except TooMuchWork:
        return [problem((), "work", "checking these values takes more work than is allowed for one check; give fewer")]


def _parts(key: str) -> list[str]:
    return key.split(".", 1 if key.startswith(f"{ENV}.") else MAX_DEPTH)


def _dotted_fault(parts: list[str]) -> str:
    if len(parts) > 1 and not all(parts):
        return "a dotted key has a name before and after each dot"
    return f"more than {MAX_DEPTH} dots" if len(parts) > MAX_DEPTH else ""


def _put(result: dict[str, Any], parts: list[str], value: Any) -> str:
    *above, last = parts
    place = result
    for number, name in enumerate(above):
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            return f"'{shortened('.'.join(above[: number + 1]), 60)}' is {kind_of(place)} and has no properties"
    place.setdefault(last, value)
    return ""
