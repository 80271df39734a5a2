"""The part of JSON Schema (draft 2020-12) that variables are described in: its keywords, and what one level of a schema holds.

Left out, each with a reason a person can read: everything that refers elsewhere, or that cannot be checked in bounded time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.templates.problems import Place

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
TYPES: Final = ("array", "boolean", "integer", "null", "number", "object", "string")

HOLDS_ONE: Final = frozenset(
    {"additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"}
)
"""Keywords whose value is a schema."""
HOLDS_LIST: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
"""Keywords whose value is a list of schemas."""
HOLDS_NAMED: Final = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
"""Keywords whose value is an object of schemas."""

REFUSED: Final = {
    "$id": "a schema of a template has no address of its own",
    "$anchor": "refer to #/$defs/NAME instead",
    "$dynamicAnchor": "refer to #/$defs/NAME instead",
    "$dynamicRef": "refer to #/$defs/NAME instead",
    "$recursiveAnchor": "schemas must not be recursive",
    "$recursiveRef": "schemas must not be recursive",
    "$vocabulary": "the vocabulary is that of draft 2020-12",
    "additionalItems": "say `items`, after `prefixItems`",
    "dependencies": "say `dependentRequired` or `dependentSchemas`",
    "unevaluatedItems": "say `items`",
    "unevaluatedProperties": "say `additionalProperties`",
}
"""Keyword -> what to do instead. Draft 2020-12 itself ignores some of them; ignoring them silently would help nobody."""

_COUNT: Final = {"type": "integer", "minimum": 0}
_NUMBER: Final = {"type": "number"}
_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_OBJECT: Final = {"type": "object"}
_SCHEMAS: Final = {"type": "array", "minItems": 1}
_NAMES: Final = {"type": "array", "items": _TEXT, "uniqueItems": True}

LEVEL: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "type": {
            "anyOf": [
                {"enum": list(TYPES)},
                {"type": "array", "items": {"enum": list(TYPES)}, "minItems": 1, "uniqueItems": True},
            ]
        },
        "enum": {"type": "array"},
        "examples": {"type": "array"},
        "multipleOf": {"type": "number", "exclusiveMinimum": 0},
        "required": _NAMES,
        "dependentRequired": {"type": "object", "additionalProperties": _NAMES},
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _NUMBER),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _COUNT),
        **dict.fromkeys(("minContains", "maxContains"), _COUNT),
        **dict.fromkeys(("title", "description", "format", "pattern", "$ref", "$comment"), _TEXT),
        **dict.fromkeys(("contentEncoding", "contentMediaType"), _TEXT),
        **dict.fromkeys(("uniqueItems", "deprecated", "readOnly", "writeOnly"), _FLAG),
        **dict.fromkeys(sorted(HOLDS_LIST), _SCHEMAS),
        **dict.fromkeys(sorted(HOLDS_NAMED), _OBJECT),
    },
}
"""What one level of a schema must look like, as a schema; the levels below are visited by :func:`levels`.

The standard's own meta-schema describes all levels at once: following it into a deep schema exhausts the interpreter's stack.
A test holds the two to the same verdicts.
"""


def levels(schema: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Walk a schema and all schemas inside it, outermost first.

    Yields:
        The place and what stands where a schema should stand.
    """
    stack = [(place, schema)]
    while stack:
        here, level = stack.pop()
        yield here, level
        if isinstance(level, dict):
            stack += reversed(list(_below(level, here)))


def _below(level: dict[str, Any], place: Place) -> Iterator[tuple[Place, Any]]:
    for keyword, rule in level.items():
        if keyword in HOLDS_ONE:
            yield (*place, keyword), rule
        elif keyword in HOLDS_LIST and isinstance(rule, list):
            yield from (((*place, keyword, index), item) for index, item in enumerate(rule))
        elif keyword in HOLDS_NAMED and isinstance(rule, dict):
            yield from (((*place, keyword, name), item) for name, item in rule.items())
