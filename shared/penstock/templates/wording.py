"""What jsonschema found, in our words: the value as JSON, the rule, and never the whole of either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from penstock.templates.problems import Place, Problem, problem, shortened, shown, spelled

if TYPE_CHECKING:
    from jsonschema import ValidationError

MAX_ALTERNATIVES_TOLD: Final = 4
MAX_CHOICES_TOLD: Final = 12
FORBIDDEN: Final = "false"
"""The rule of a schema that is nothing but ``false``."""

_ABOUT_THE_PLACE: Final = frozenset({"required", "additionalProperties"})
_TEXTS: Final = {
    "const": "is not {}",
    "contains": "holds the wrong number of items that `contains` asks for",
    "dependentRequired": "has a property without one that must go with it: {}",
    "enum": "is none of {}",
    "exclusiveMaximum": "is not less than {}",
    "exclusiveMinimum": "is not greater than {}",
    "format": "does not have the format {}",
    "items": "has more items than are described",
    "maxContains": "holds more than {} of the items that `contains` asks for",
    "maxItems": "has more than {} items",
    "maxLength": "has more than {} characters",
    "maxProperties": "has more than {} properties",
    "maximum": "is greater than {}",
    "minContains": "holds fewer than {} of the items that `contains` asks for",
    "minItems": "has fewer than {} items",
    "minLength": "has fewer than {} characters",
    "minProperties": "has fewer than {} properties",
    "minimum": "is less than {}",
    "multipleOf": "is no multiple of {}",
    "not": "is what `not` forbids",
    "pattern": "does not match {}",
    "type": "is not of type {}",
    "uniqueItems": "has equal items",
}
"""Keyword -> what a value that breaks it is said to be; the braces take the keyword's own value."""


def problem_of(error: ValidationError, place: Place) -> Problem:
    """Tell a broken rule of a schema.

    Args:
        error: as jsonschema found it.
        place: of the value that was checked.
    """
    discreet = _reason(error, "the value", with_alternatives=False)
    message = _reason(error, shown(error.instance), with_alternatives=True)
    return problem((*place, *error.absolute_path), str(error.validator or FORBIDDEN), message, discreet)


def _reason(error: ValidationError, value: str, *, with_alternatives: bool) -> str:
    rule = error.validator
    if rule in _ABOUT_THE_PLACE:
        return str(error.message)
    if rule in {None, FORBIDDEN}:
        return f"{value} is not allowed here"
    if rule in {"anyOf", "oneOf"}:
        if not error.context:
            return f"{value} fits more than one of the alternatives, of which exactly one may fit"
        reasons = f" ({_alternatives(error.context)})" if with_alternatives else ""
        return f"{value} fits none of the alternatives{reasons}"
    text = _TEXTS.get(str(rule))
    if text is None:
        return str(error.message) if with_alternatives else f"{value} breaks the rule"
    return f"{value} {text.format(_rule_shown(error.validator_value))}"


def _alternatives(context: list[ValidationError]) -> str:
    told = list(dict.fromkeys(_alternative(error) for error in context[:MAX_ALTERNATIVES_TOLD]))
    return "; ".join(told if len(context) <= MAX_ALTERNATIVES_TOLD else [*told, "..."])


def _alternative(error: ValidationError) -> str:
    inside = spelled(error.relative_path).removeprefix("$").removeprefix(".")
    reason = _reason(error, shown(error.instance), with_alternatives=False)
    return f"{shortened(inside, 100)} {reason}" if inside else reason


def _rule_shown(rule: Any) -> str:
    if not isinstance(rule, list):
        return shown(rule)
    told = [shown(each) for each in rule[:MAX_CHOICES_TOLD]]
    return ", ".join(told if len(rule) == len(told) else [*told, "..."])
