"""Whether the ``variables`` section is a schema we take: its keywords, its references, its patterns, its defaults."""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any, Final

from penstock.templates.json_values import MAX_DEPTH, kind_of
from penstock.templates.problems import Place, Problem, printable, problem, shortened
from penstock.templates.schema_language import DIALECT, LEVEL, REFUSED, levels
from penstock.templates.validation import MAX_PATTERNS, TooMuchWork, bounded_work, broken_rules, pattern_fault
from penstock.templates.wording import problem_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_SCHEMAS: Final = 1000
"""Schemas inside one ``variables`` section, itself included."""
TOO_MUCH_WORK: Final = "checking it takes more work than is allowed for one check; simplify the schema"

_LOCAL_REF: Final = re.compile(r"#/(\$defs|definitions)/([A-Za-z0-9._-]{1,200})")
_ROOT: Final = ""

Levels = list[tuple[Place, Any]]


def schema_problems(schema: dict[str, Any], place: Place) -> list[Problem]:
    """Check the ``variables`` section.

    Args:
        schema: plain JSON within the bounds of :mod:`penstock.templates.json_values`.
        place: where it stands.

    Returns:
        All that is wrong with it as a schema; only when nothing is, also all defaults that break their own schema.
    """
    found: Levels = []
    for each in levels(schema):
        found.append(each)
        if len(found) > MAX_SCHEMAS:
            return [
                problem(place, "schemas", f"more than {MAX_SCHEMAS} schemas inside each other and beside each other")
            ]
    problems = [
        *_about_the_whole(schema),
        *(fault for where, level in found for fault in _level_problems(level, where)),
        *_pattern_problems(found),
        *_reference_problems(schema, found),
    ]
    if not problems:
        problems = _default_problems(schema, found)
    return [_moved(each, place) for each in problems]


def _moved(each: Problem, place: Place) -> Problem:
    return Problem(problem(place, "", "").path + each.path.removeprefix("$"), each.rule, each.message)


def _about_the_whole(schema: dict[str, Any]) -> Iterator[Problem]:
    if "type" in schema and schema["type"] != "object":
        yield problem(("type",), "type", 'variables are the properties of an object: the type is "object"')
    if schema.get("$schema", DIALECT) not in (DIALECT, DIALECT + "#"):
        yield problem(("$schema",), "$schema", f"the dialect is {DIALECT}")
    properties = schema.get("properties")
    for name in properties if isinstance(properties, dict) else ():
        if "." in name:
            yield problem(
                ("properties", name),
                "name",
                "a variable's name has no dots: a dotted key means a property of a variable",
            )


def _level_problems(level: Any, place: Place) -> Iterator[Problem]:
    if isinstance(level, bool):
        return
    if not isinstance(level, dict):
        yield problem(place, "type", f"a schema is an object, true or false; this is {kind_of(level)}")
        return
    for keyword in level:
        if keyword in REFUSED:
            yield problem((*place, keyword), "keyword", f"`{keyword}` is not supported: {REFUSED[keyword]}")
    if "$schema" in level and place:
        yield problem((*place, "$schema"), "keyword", "`$schema` stands at the top of a schema only")
    try:
        with bounded_work():
            found = [problem_of(error, place) for error in broken_rules(level, LEVEL, LEVEL)]
    except TooMuchWork:
        found = [problem(place, "work", TOO_MUCH_WORK)]
    yield from found


def _pattern_problems(found: Levels) -> list[Problem]:
    patterns: list[tuple[Place, str]] = []
    for place, level in found:
        if not isinstance(level, dict):
            continue
        if isinstance(level.get("pattern"), str):
            patterns.append(((*place, "pattern"), level["pattern"]))
        if isinstance(level.get("patternProperties"), dict):
            patterns += [((*place, "patternProperties", each), each) for each in level["patternProperties"]]
    if len(patterns) > MAX_PATTERNS:
        return [
            problem(
                patterns[MAX_PATTERNS][0], "patterns", f"{len(patterns)} patterns; at most {MAX_PATTERNS} are taken"
            )
        ]
    faults = ((place, pattern_fault(pattern)) for place, pattern in patterns)
    return [problem(place, "pattern", fault) for place, fault in faults if fault]


def _reference_problems(schema: dict[str, Any], found: Levels) -> list[Problem]:
    problems: list[Problem] = []
    targets: dict[str, dict[str, Place]] = {_ROOT: {}}
    depths: dict[str, list[tuple[int, str]]] = {}
    for place, level in found:
        owner, inside = _owner(place)
        targets.setdefault(owner, {})
        depths.setdefault(owner, []).append((inside, ""))
        ref = level.get("$ref") if isinstance(level, dict) else None
        if not isinstance(ref, str):
            continue
        where = (*place, "$ref")
        if fault := _reference_fault(ref, schema):
            problems.append(problem(where, "$ref", fault))
            continue
        targets[owner].setdefault(ref, where)
        depths[owner].append((inside + 1, ref))
    return [*problems, *_recursion_problems(targets), *([] if problems else _depth_problems(targets, depths))]


def _owner(place: Place) -> tuple[str, int]:
    """Say which named schema a place belongs to (or the root), and how deep it lies in it."""
    if len(place) > 1 and place[0] in {"$defs", "definitions"}:
        return f"#/{place[0]}/{place[1]}", len(place) - 2
    return _ROOT, len(place)


def _reference_fault(ref: str, schema: dict[str, Any]) -> str:
    told = printable(shortened(ref, 80))
    local = _LOCAL_REF.fullmatch(ref)
    if local is None:
        return f"'{told}' is not taken: only #/$defs/NAME and #/definitions/NAME are, NAME of letters, digits, '.', '_', '-'"
    named = schema.get(local.group(1))
    if not isinstance(named, dict) or local.group(2) not in named:
        return f"'{told}' does not exist"
    return ""


def _recursion_problems(targets: dict[str, dict[str, Place]]) -> list[Problem]:
    """Name every cycle once, and open it in ``targets``."""
    problems = []
    while True:
        try:
            TopologicalSorter(targets).prepare()
        except CycleError as found:
            circle: Sequence[str] = found.args[1][::-1]
            where = targets[circle[-2]].pop(circle[-1])
            told = shortened(" -> ".join(circle), 200)
            problems.append(problem(where, "recursion", f"a schema must not refer to itself: {told}"))
        else:
            return problems


def _depth_problems(targets: dict[str, dict[str, Place]], depths: dict[str, list[tuple[int, str]]]) -> list[Problem]:
    deepest: dict[str, int] = {}
    for owner in TopologicalSorter(targets).static_order():
        deepest[owner] = max((inside + deepest.get(ref, 0) for inside, ref in depths.get(owner, [])), default=0)
        if deepest[owner] > MAX_DEPTH:
            place = tuple(owner.removeprefix("#/").split("/", 1)) if owner else ()
            return [problem(place, "depth", f"with its references it is nested deeper than {MAX_DEPTH} levels")]
    return []


def _default_problems(schema: dict[str, Any], found: Levels) -> list[Problem]:
    root = {keyword: rule for keyword, rule in schema.items() if keyword != "$schema"}
    problems: list[Problem] = []
    where: Place = ()
    try:
        with bounded_work():
            for place, level in found:
                # A default of null means that there is none.
                if isinstance(level, dict) and level.get("default") is not None:
                    where = (*place, "default")
                    below = root if not place else level
                    problems += [problem_of(error, where) for error in broken_rules(level["default"], root, below)]
    except TooMuchWork:
        problems.append(problem(where, "work", TOO_MUCH_WORK))
    return problems
