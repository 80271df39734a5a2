"""Whether a base job template can be used, found out before any run meets it.

A template is ``{}`` or has two sections: ``variables``, a JSON Schema of what may be chosen for a run, and
``job_configuration``, what the worker is given, with placeholders ``{{ name }}`` for the chosen values.
"""

from __future__ import annotations

import difflib
import json
from functools import lru_cache
from typing import Any, Final

from penstock.templates.json_values import faults, json_text, kind_of
from penstock.templates.placeholders import MAX_PLACEHOLDERS, has_stray_braces, names_in, texts_in
from penstock.templates.problems import MAX_KEY_SHOWN, Place, Problem, problem, refuse, shortened, shown
from penstock.templates.schemas import schema_problems

JOB_CONFIGURATION: Final = "job_configuration"
VARIABLES: Final = "variables"
SECTIONS: Final = (JOB_CONFIGURATION, VARIABLES)
SUBJECT: Final = "base job template"
HINT: Final = "`penstock template lint FILE` shows every problem"

_MAX_SUGGESTIONS: Final = 20
_MAX_CANDIDATES: Final = 100
_MAX_NAME_COMPARED: Final = 100


def check(template: Any) -> list[Problem]:
    """Look for everything that is wrong with a template.

    Args:
        template: anything; never changed.

    Returns:
        All problems, in the order of the document within each kind. What is no JSON, too large or too deep is told alone, and
        defaults are only looked at when their schemas are in order.
    """
    if not isinstance(template, dict):
        return [
            problem((), "type", f"a template is an object with {' and '.join(SECTIONS)}; this is {kind_of(template)}")
        ]
    return faults(template) or list(_checked(json_text(template)))


def ensure(template: Any) -> None:
    """Refuse a template that has problems; cheap for one that was checked lately.

    Raises:
        Invalid: names the path, the reason and the rule of each.
    """
    refuse(SUBJECT, check(template), HINT)


def properties_of(template: dict[str, Any]) -> dict[str, Any]:
    """Name the variables a checked template declares, each with its schema; empty for the empty template."""
    properties: dict[str, Any] = template.get(VARIABLES, {}).get("properties", {})
    return properties


@lru_cache(maxsize=16)
def _checked(text: str) -> tuple[Problem, ...]:
    template = json.loads(text)
    if not template:
        return ()
    problems = [fault for section in SECTIONS for fault in _section_problems(template, section)]
    problems += [
        problem((name,), "section", f"a template has the sections {' and '.join(SECTIONS)}, no other")
        for name in template
        if name not in SECTIONS
    ]
    variables, configuration = template.get(VARIABLES), template.get(JOB_CONFIGURATION)
    declared = None
    if isinstance(variables, dict):
        problems += schema_problems(variables, (VARIABLES,))
        properties = variables.get("properties", {})
        declared = list(properties) if isinstance(properties, dict) else None
    if isinstance(configuration, dict):
        problems += _placeholder_problems(configuration, declared)
    return tuple(problems)


def _section_problems(template: dict[str, Any], section: str) -> list[Problem]:
    if section not in template:
        return [problem((section,), "required", "the section is missing; a template has both, or is {}")]
    if not isinstance(template[section], dict):
        return [problem((section,), "type", f"a section is an object; this is {kind_of(template[section])}")]
    return []


def _placeholder_problems(configuration: dict[str, Any], declared: list[str] | None) -> list[Problem]:
    problems: list[Problem] = []
    used: list[tuple[Place, str]] = []
    for place, text, is_key in texts_in(configuration, (JOB_CONFIGURATION,)):
        names = names_in(text)
        if is_key and (names or has_stray_braces(text)):
            problems.append(problem(place, "placeholder-in-key", "placeholders are filled in values, not in keys"))
            continue
        if has_stray_braces(text):
            problems.append(
                problem(
                    place,
                    "placeholder",
                    f"{shown(text)}: '{{{{' begins a placeholder, which is {{{{ name }}}}, no expression",
                )
            )
        used += [(place, name) for name in names]
        if len(used) > MAX_PLACEHOLDERS:
            return [*problems, problem(place, "placeholders", f"more than {MAX_PLACEHOLDERS} placeholders")]
    return [*problems, *_undeclared(used, declared)]


def _undeclared(used: list[tuple[Place, str]], declared: list[str] | None) -> list[Problem]:
    if declared is None:
        return []
    known = set(declared)
    problems: list[Problem] = []
    for place, name in dict.fromkeys(used):
        if name not in known:
            meant = _meant(name, declared) if len(problems) < _MAX_SUGGESTIONS else ""
            told = shortened(name, MAX_KEY_SHOWN)
            problems.append(problem(place, "undeclared", f"{{{{ {told} }}}} is no property of {VARIABLES}{meant}"))
    return problems


def _meant(name: str, declared: list[str]) -> str:
    if any(sign in name for sign in ".[]"):
        return "; a placeholder stands for a whole variable, not for a part of one"
    if len(name) > _MAX_NAME_COMPARED:
        return ""
    candidates = [each for each in declared[:_MAX_CANDIDATES] if len(each) <= _MAX_NAME_COMPARED]
    close = difflib.get_close_matches(name, candidates, 1)
    return f"; did you mean {{{{ {close[0]} }}}}?" if close else ""
