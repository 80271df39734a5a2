"""Whether a value is JSON within bounds; everything else in this package relies on it having been asked first."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from penstock.templates.problems import Place, Problem, problem

MAX_BYTES: Final = 262_144
"""Of a template, and of the values of one level, spelled as compact JSON in UTF-8."""
MAX_DEPTH: Final = 64
"""Objects and lists inside each other."""
MAX_FAULTS: Final = 100
"""Faults after which nobody looks for more."""
MIN_INTEGER: Final = -(2**63)
MAX_INTEGER: Final = 2**64 - 1
"""What the JSON library of this project spells; larger ones would come back as other numbers."""

KINDS: Final = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def kind_of(value: Any) -> str:
    """Name what a value is, in JSON's words."""
    return next((name for kind, name in KINDS.items() if isinstance(value, kind)), f"a Python {type(value).__name__}")


def json_text(value: Any) -> str:
    """Spell a value that :func:`faults` has passed, compactly."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def plain_copy(value: Any) -> Any:
    """Copy a value that :func:`faults` has passed; kinds of our own that are also texts or numbers become plain ones."""
    return json.loads(json_text(value))


def faults(value: Any) -> list[Problem]:
    """Look for what no JSON can spell, and for what is too large or too deep. Terminates for endless structures, too.

    Returns:
        At most a hundred problems, in the order of the document; none means the value can be spelled, compared, copied
        and walked safely.
    """
    found: list[Problem] = []
    nodes = 0
    stack: list[tuple[Any, Place]] = [(value, ())]
    while stack and len(found) < MAX_FAULTS:
        node, place = stack.pop()
        nodes += 1 + (len(node) if isinstance(node, (dict, list)) else 0)
        if nodes > 2 * MAX_BYTES:
            return [*found, _too_large("more values than would fit")]
        if isinstance(node, (dict, list)) and len(place) >= MAX_DEPTH:
            found.append(problem(place, "depth", f"nested deeper than {MAX_DEPTH} objects and lists"))
            continue
        found += _own_faults(node, place)
        stack += reversed(_children(node, place))
    if not found and (size := len(json_text(value).encode())) > MAX_BYTES:
        found.append(_too_large(f"{size} bytes as JSON"))
    return found


def _children(node: Any, place: Place) -> list[tuple[Any, Place]]:
    if isinstance(node, dict):
        return [(child, (*place, key)) for key, child in node.items() if isinstance(key, str)]
    if isinstance(node, list):
        return [(child, (*place, index)) for index, child in enumerate(node)]
    return []


def _own_faults(node: Any, place: Place) -> list[Problem]:
    if isinstance(node, dict):
        return [fault for key in node for fault in _key_faults(key, place)]
    if isinstance(node, str):
        return (
            [] if _encodes(node) else [problem(place, "text", "a text that UTF-8 cannot spell (half a surrogate pair)")]
        )
    if isinstance(node, float) and not math.isfinite(node):
        return [problem(place, "number", "JSON knows no infinite number and no number that is none")]
    if isinstance(node, int) and not MIN_INTEGER <= node <= MAX_INTEGER:
        return [problem(place, "number", "a whole number that does not fit 64 bits")]
    if isinstance(node, tuple(KINDS)):
        return []
    return [problem(place, "json", f"{kind_of(node)} is no JSON value")]


def _key_faults(key: Any, place: Place) -> list[Problem]:
    if not isinstance(key, str):
        return [problem(place, "json", f"a key that is {kind_of(key)}; JSON's keys are texts")]
    return [] if _encodes(key) else [problem((*place, key), "text", "a key that UTF-8 cannot spell")]


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_large(how: str) -> Problem:
    return problem((), "size", f"{how}; at most {MAX_BYTES} bytes are taken")
