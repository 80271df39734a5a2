"""Values against a schema, with the jsonschema library, in bounded time.

Whoever writes a template decides which work validation does, and whoever submits a run decides on which values; neither may
stop a service. So work is counted, and patterns are matched by an engine that never backtracks (the one pydantic has).
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from jsonschema import Draft202012Validator, ValidationError, validators
from pydantic_core import SchemaError, SchemaValidator, core_schema
from referencing import Registry

from penstock.templates.formats import FORMATS
from penstock.templates.wording import FORBIDDEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError]]

MAX_STEPS: Final = 300_000
"""Units of work of one check: keywords looked at, elements compared; about two seconds at worst."""
MAX_PATTERNS: Final = 20
"""Regular expressions in one schema. Compiling one takes up to a tenth of a second and 10 MB, and so many are kept."""
MAX_PATTERN_LENGTH: Final = 500
"""Characters of a regular expression; see :func:`pattern_fault`."""
_MESSAGE_CHARACTERS_A_STEP: Final = 64
_MATCHED_CHARACTERS_A_STEP: Final = 16
_KEPT_OF_A_MESSAGE: Final = 300

_WALKING: Final = frozenset(
    {"additionalProperties", "contains", "items", "patternProperties", "propertyNames", "uniqueItems"}
)
"""Keywords that look at every element of a value, whatever the rule."""

_steps_left: ContextVar[int] = ContextVar("steps_left")


class TooMuchWork(Exception):
    """The check was given up; nothing is known about the value."""


@contextmanager
def bounded_work(steps: int = MAX_STEPS) -> Iterator[None]:
    """Allow the checks inside so much work altogether.

    Raises:
        TooMuchWork: they needed more.
    """
    token = _steps_left.set(steps)
    try:
        yield
    finally:
        _steps_left.reset(token)


def broken_rules(value: Any, root: dict[str, Any], schema: Any, *, partial: bool = False) -> Iterator[ValidationError]:
    """Find what a value breaks; only inside :func:`bounded_work`, and only with a schema that has been checked.

    Args:
        value: plain JSON.
        root: the schema that ``$ref`` refers into, without ``$schema``: the library would take its own validator for that
            dialect, which has no bounds.
        schema: the schema the value must satisfy: the root, or a part of it.
        partial: more values may be added later, so leave out what they can still make good: required names, least numbers
            of properties, what decides by whether something is broken (``not``, ``if``, ``contains``), and the "only one" of
            ``oneOf``.
    """
    kind = _PARTIAL if partial else _WHOLE
    yield from kind(root, registry=Registry()).evolve(schema=schema).iter_errors(value)


def pattern_fault(pattern: str) -> str:
    """Say why a regular expression is not taken; '' when it is.

    Its matching takes time proportional to the text, whatever the expression: look-around and back-references, which would
    need backtracking, do not exist. Its length and its compiled size (10 MB) are bounded.
    """
    if len(pattern) > MAX_PATTERN_LENGTH:
        return f"{len(pattern)} characters; a pattern has at most {MAX_PATTERN_LENGTH}"
    try:
        _compiled(pattern)
    except SchemaError as problem:
        last = str(problem).strip().splitlines()[-1].strip()
        return f"no regular expression that can be matched in bounded time: {last.removeprefix('error: ')}"
    return ""


@lru_cache(maxsize=MAX_PATTERNS)
def _compiled(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern))


def _matches(pattern: str, text: str) -> bool:
    _spend(1 + len(text) // _MATCHED_CHARACTERS_A_STEP)
    return _compiled(pattern).isinstance_python(text)


def _spend(steps: int) -> None:
    left = _steps_left.get() - steps
    if left < 0:
        raise TooMuchWork
    _steps_left.set(left)


def _bounded(name: str, keyword: Keyword) -> Keyword:
    walks = name in _WALKING

    def check(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
        _spend(1 + _size(rule) + (_size(value) if walks else 0))
        for error in keyword(validator, rule, value, schema) or ():
            _spend(len(error.message) // _MESSAGE_CHARACTERS_A_STEP)
            error.message = error.message[:_KEPT_OF_A_MESSAGE]
            yield error

    return check


def _size(value: Any) -> int:
    return len(value) if isinstance(value, (dict, list)) else 0


def _additional_properties(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        if name in schema.get("properties", ()) or any(
            _matches(each, name) for each in schema.get("patternProperties", ())
        ):
            continue
        if rule is False:
            yield ValidationError("is not a property this object may have", path=(name,))
        else:
            yield from _below(validator, item, rule, name)


def _pattern_properties(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    if not isinstance(value, dict):
        return
    for pattern, below in rule.items():
        for name, item in value.items():
            if _matches(pattern, name):
                yield from _below(validator, item, below, name)


def _properties(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    if isinstance(value, dict):
        for name, below in rule.items():
            if name in value:
                yield from _below(validator, value[name], below, name)


def _prefix_items(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    if isinstance(value, list):
        for index, (item, below) in enumerate(zip(value, rule, strict=False)):
            yield from _below(validator, item, below, index)


def _below(validator: Any, value: Any, schema: Any, step: str | int) -> Iterator[ValidationError]:
    """Check a part of a value; where nothing is allowed, the library itself would forget which part it was."""
    if schema is False:
        yield ValidationError("is not allowed", validator=FORBIDDEN, path=(step,), instance=value)
    else:
        yield from validator.descend(value, schema, path=step)


def _pattern(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    if isinstance(value, str) and not _matches(rule, value):
        yield ValidationError(f"does not match {rule!r}")


def _required(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    if isinstance(value, dict):
        yield from (ValidationError("is required and missing", path=(name,)) for name in rule if name not in value)


def _unique_items(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    if not (rule and isinstance(value, list)):
        return
    texts = {json.dumps(_comparable(item), sort_keys=True) for item in value}
    if len(texts) < len(value):
        yield ValidationError("has equal items")


def _comparable(value: Any) -> Any:
    _spend(1)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    return value


def _multiple_of(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    # 0.3 is a multiple of 0.1 as people write them, though not as processors divide them.
    if (Fraction(repr(value)) / Fraction(repr(rule))).denominator != 1:
        yield ValidationError(f"is no multiple of {rule}")


def _format(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    if isinstance(value, str) and rule in FORMATS and not FORMATS[rule](value):
        yield ValidationError(f"does not have the format {rule!r}")


def _nothing(validator: Any, rule: Any, value: Any, schema: Any) -> Iterator[ValidationError]:  # noqa: ARG001
    return iter(())


_KEYWORDS: Final[dict[str, Keyword]] = {
    **Draft202012Validator.VALIDATORS,
    "additionalProperties": _additional_properties,
    "format": _format,
    "multipleOf": _multiple_of,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "prefixItems": _prefix_items,
    "properties": _properties,
    "required": _required,
    "uniqueItems": _unique_items,
}
_LATER: Final[dict[str, Keyword]] = {
    **dict.fromkeys(("required", "dependentRequired", "minProperties", "contains", "not", "if"), _nothing),
    "oneOf": _KEYWORDS["anyOf"],
}


def _validator(keywords: dict[str, Keyword]) -> Any:
    return validators.extend(
        Draft202012Validator, {name: _bounded(name, keyword) for name, keyword in keywords.items()}
    )


_WHOLE: Final = _validator(_KEYWORDS)
_PARTIAL: Final = _validator(_KEYWORDS | _LATER)
