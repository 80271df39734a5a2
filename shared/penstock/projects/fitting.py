"""Schemas that can be checked in bounded time, and texts that were typed for parameters; pure."""

from __future__ import annotations

import re
from typing import Any, Final

from penstock.client.parameters import ensure_parameters
from penstock.errors import Invalid
from penstock.templates.json_values import faults
from penstock.templates.schemas import schema_problems

_REF: Final = re.compile(r"#/\$defs/(.+)")
_KEPT: Final = ("title", "description", "default")


def usable(schema: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Loosen what nobody may check: types that contain themselves, patterns that take exponential time, defaults of another type.

    Args:
        schema: of all parameters as one object.

    Returns:
        A schema that can be checked, and the parameters that allow anything now, each with the reason.
    """
    if not _fault(schema):
        return schema, []
    definitions = schema.get("$defs", {})
    properties: dict[str, Any] = {}
    loosened = []
    for name, described in schema["properties"].items():
        fault = _fault({"properties": {name: described}, "$defs": _reached(described, definitions)})
        properties[name] = {key: described[key] for key in _KEPT if key in described} if fault else described
        if fault and "default" in described and faults(described["default"]):
            del properties[name]["default"]
        if fault:
            loosened.append((name, fault))
    rest = {key: value for key, value in schema.items() if key not in {"properties", "$defs"}}
    reached = _reached(properties, definitions)
    result = rest | {"properties": properties} | ({"$defs": reached} if reached else {})
    if fault := _fault(result):
        # Each is small enough, all of them are not.
        names = list(properties)
        return rest | {"properties": {name: {} for name in names}}, [(name, fault) for name in names]
    return result, loosened


def as_meant(parameters: dict[str, Any], texts: dict[str, str], schema: dict[str, Any] | None) -> dict[str, Any]:
    """Take typed values as texts where only a text fits: ``5`` for a parameter that is annotated ``str``.

    Args:
        parameters: as read from what was typed.
        texts: what was typed, of some of them.
        schema: of the parameters; None changes nothing.
    """
    meant = dict(parameters)
    for name, text in texts.items():
        if schema is None or name not in schema.get("properties", {}) or parameters.get(name) == text:
            continue
        if not _fits(schema, {name: parameters.get(name)}) and _fits(schema, {name: text}):
            meant[name] = text
    return meant


def _fits(schema: dict[str, Any], parameters: dict[str, Any]) -> bool:
    try:
        ensure_parameters("", schema, parameters, partial=True)
    except Invalid:
        return False
    return True


def _fault(schema: dict[str, Any]) -> str:
    """Say why a schema cannot be checked; '' when it can."""
    found = faults(schema) or schema_problems(schema, ())
    return found[0].message if found else ""


def _reached(schema: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    """Definitions a schema refers to, directly or not."""
    reached: dict[str, Any] = {}
    left = [schema]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            found = _REF.fullmatch(str(node.get("$ref", "")))
            if found and found.group(1) in definitions and found.group(1) not in reached:
                reached[found.group(1)] = definitions[found.group(1)]
                left.append(definitions[found.group(1)])
            left.extend(node.values())
        elif isinstance(node, list):
            left.extend(node)
    return reached
