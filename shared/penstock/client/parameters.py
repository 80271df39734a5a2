"""Whether the parameters of a run fit its deployment, told by their names; pure."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_jsonable_python

from penstock.client.wording import did_you_mean
from penstock.errors import Invalid
from penstock.templates.json_values import faults
from penstock.templates.problems import MAX_KEY_SHOWN, MAX_TOLD, printable, shortened
from penstock.templates.schemas import schema_problems
from penstock.templates.validation import TooMuchWork, bounded_work, broken_rules
from penstock.templates.wording import problem_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jsonschema import ValidationError

MAX_NAMES_SHOWN: Final = 20
"""Parameters that a hint lists at most."""
_TOO_MUCH_WORK: Final = "checking them takes more work than is allowed for one check; give less"


def ensure_parameters(
    subject: str, schema: dict[str, Any] | None, parameters: Mapping[str, Any], *, partial: bool
) -> None:
    """Refuse parameters that a schema forbids.

    Args:
        subject: whose parameters these are; begins the message.
        schema: JSON Schema of the parameters as one object; None and ``{}`` allow anything.
        parameters: what was given, merged.
        partial: more may be added later: what is missing is not asked yet.

    Raises:
        Invalid: names each parameter that is unknown, missing or wrong; the hint lists those there are.
    """
    if not schema:
        return
    told = _schema_told(_text(schema))
    if told:
        raise Invalid(f"{subject}: the parameter schema cannot be used: {told}", "deploy it again")
    problems = _problems(schema, _plain(subject, parameters), partial=partial)
    if problems:
        rest = f"; and {len(problems) - MAX_TOLD} more" if len(problems) > MAX_TOLD else ""
        raise Invalid(f"{subject}: {'; '.join(problems[:MAX_TOLD])}{rest}", _hint(schema))


def _plain(subject: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters as they will arrive: a date is a text in JSON."""
    try:
        plain: dict[str, Any] = to_jsonable_python(dict(parameters))
    except ValueError as problem:
        raise Invalid(f"{subject}: {problem}") from problem
    found = faults(plain)
    if found:
        raise Invalid(f"{subject}: {found[0]}")
    return plain


def _problems(schema: dict[str, Any], values: dict[str, Any], *, partial: bool) -> list[str]:
    # Inside the check `$schema` would choose the library's own validator, which has no bounds.
    rules = {keyword: rule for keyword, rule in schema.items() if keyword != "$schema"}
    try:
        with bounded_work():
            errors = list(islice(broken_rules(values, rules, rules, partial=partial), 10 * MAX_TOLD))
    except TooMuchWork:
        return [_TOO_MUCH_WORK]
    properties = rules.get("properties", {})
    return [_told(error, properties) for error in errors if not _is_own_default(error, properties, values)]


def _is_own_default(error: ValidationError, properties: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Say whether somebody gave null for a parameter whose default it is, whatever its type: the function takes it."""
    if not error.absolute_path:
        return False
    name = error.absolute_path[0]
    described = properties.get(name)
    return (
        name in values
        and values[name] is None
        and isinstance(described, dict)
        and "default" in described
        and described["default"] is None
    )


def _told(error: ValidationError, properties: Mapping[str, Any]) -> str:
    name = printable(shortened(str(error.absolute_path[0]), MAX_KEY_SHOWN)) if error.absolute_path else ""
    if len(error.absolute_path) == 1 and error.validator == "required":
        return f"'{name}' is missing"
    if len(error.absolute_path) == 1 and error.validator == "additionalProperties":
        meant = did_you_mean(name, properties)
        return f"there is no parameter '{name}'" + (f", {meant}" if meant else "")
    return f"'{name}' does not fit: {problem_of(error, ())}" if name else str(problem_of(error, ()))


def _hint(schema: dict[str, Any]) -> str:
    required, described = schema.get("required", ()), schema.get("properties", {})
    # What is stored has no order of its own; some schemas say one.
    ordered = sorted(described, key=lambda name: (_position(described[name]), name not in required))
    names = [_listed(name, described[name], required=name in required) for name in ordered]
    if not names:
        return "it takes no parameters"
    more = ", ..." if len(names) > MAX_NAMES_SHOWN else ""
    return f"its parameters: {', '.join(names[:MAX_NAMES_SHOWN])}{more}"


def _listed(name: str, described: Any, *, required: bool) -> str:
    more = [_kinds(described), "required" if required else ""]
    told = ", ".join(one for one in more if one)
    return f"{name} ({told})" if told else name


def _kinds(described: Any) -> str:
    """Spell what a parameter may be as its schema calls it; '' when the schema leaves it open or refers elsewhere."""
    if not isinstance(described, dict):
        return ""
    choices = described.get("anyOf")
    if isinstance(choices, list):
        found = [_kinds(each) for each in choices]
        return " or ".join(dict.fromkeys(found)) if all(found) else ""
    kind = described.get("type")
    kinds: list[Any] = kind if isinstance(kind, list) else [kind]
    return " or ".join(kinds) if all(isinstance(each, str) for each in kinds) else ""


def _position(described: Any) -> float:
    position = described.get("position") if isinstance(described, dict) else None
    return position if isinstance(position, int) else math.inf


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True)


@lru_cache(maxsize=64)
def _schema_told(text: str) -> str:
    schema = json.loads(text)
    found = faults(schema) or schema_problems(schema, ())
    return "; ".join(str(each) for each in found[:MAX_TOLD])
