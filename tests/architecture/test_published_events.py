"""Every event name the scripts can publish is in the catalogue, with the service that publishes it, and no other."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, get_args

import pytest

from penstock.contracts.event_catalogue import EVENTS
from penstock.contracts.runs import ReportedState
from tests.architecture.source import SERVICES, includes, named, scripts

if TYPE_CHECKING:
    from pathlib import Path

PUBLISHERS = {
    "store_event": 0,
    "append_event": 2,
    "publish_event": 1,
    "publish_status": 1,
    "publish_worker": 1,
    "publish_pool": 1,
    "publish_queue": 2,
    "publish_deployment": 1,
}
"""Function -> which of its arguments says the event's name, or its verb."""
PREFIXES = {
    "publish_pool": "prefect.work-pool.",
    "publish_queue": "prefect.work-queue.",
    "publish_deployment": "prefect.deployment.",
}
LABELS = {"AwaitingRetry"}
"""Names of states that are not those of their type."""
PASSED_ON = {"name", "event", "verb"}
"""Parameters of the publishers themselves: their callers are looked at instead."""
MOVERS = {"move_run": 2, "finish_run": 1}
"""Function -> which of its arguments is the state a run comes to."""
STATES: dict[str, set[str]] = {
    "to": set(),
    "state": set(get_args(ReportedState)) - {"SCHEDULED", "RUNNING", "LOST"},
    "fate": {"CRASHED", "CANCELLED"},
}
"""Where that is a variable, what it may be: passed on by finish_run, what a worker reports at the end, what after_loss says."""


@cache
def code(path: Path) -> str:
    return re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))


def split(text: str) -> list[str]:
    """Arguments of a call, from the text after its opening parenthesis."""
    depth, quoted, parts = 0, "", [""]
    for character in text:
        if quoted:
            quoted = "" if character == quoted else quoted
        elif character in "'\"":
            quoted = character
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            if depth == 0:
                break
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return [" ".join(part.split()) for part in parts]


def calls(path: Path, function: str) -> list[list[str]]:
    found = re.finditer(rf"(?<!function )\b{function}\(", code(path))
    return [split(code(path)[each.end() :]) for each in found]


def table(name: str) -> dict[str, str]:
    """A Lua table of texts, wherever it is."""
    for path in includes():
        if found := re.search(rf"local {name} = {{(.*?)}}", code(path), re.DOTALL):
            return dict(re.findall(r"(\w+) = '([^']*)'", found.group(1)))
    pytest.fail(f"there is no table {name}")


def states(path: Path) -> set[str]:
    """States a file's calls bring runs to."""
    found: set[str] = set()
    for function, place in MOVERS.items():
        for arguments in calls(path, function):
            word = arguments[place]
            found |= {word.strip("'")} if word.startswith("'") else STATES[word]
    return found


def values(expression: str, path: Path) -> set[str]:
    """Every text an expression for a name may stand for."""
    literal, _, rest = expression.partition(" .. ")
    if rest:
        return {literal.strip("'") + ending for ending in values(rest, path)}
    if re.fullmatch(r"'[^']*'", expression):
        return {expression.strip("'")}
    if either := re.fullmatch(r"\(.* and ('[^']*') or ('[^']*')\)", expression):
        return {word.strip("'") for word in either.groups()}
    if looked_up := re.fullmatch(r"STATUS_VERBS\[.*\]", expression):
        return set(table(looked_up.group(0).partition("[")[0]).values())
    if expression == "(label or TITLES[to])":
        titles = table("TITLES")
        everywhere = (*scripts(), *includes())
        return {titles[state] for script in everywhere for state in states(script)} | LABELS
    pytest.fail(f"{named(path)}: cannot tell which event {expression} names")


def published(path: Path) -> set[str]:
    """Names a file publishes."""
    found: set[str] = set()
    for function, place in PUBLISHERS.items():
        for arguments in calls(path, function):
            expression = arguments[place]
            if expression in PASSED_ON or expression.endswith(" .. verb"):
                continue
            found |= {PREFIXES.get(function, "") + name for name in values(expression, path)}
    return found


def included(script: Path) -> list[Path]:
    words = re.findall(r"^-- INCLUDES +(.*)$", script.read_text(encoding="utf-8"), re.MULTILINE)
    wanted = {name for line in words for name in line.split()}
    return [path for path in includes() if path.stem in wanted]


def publishers() -> dict[str, set[str]]:
    """Event name -> services whose scripts publish it."""
    found: dict[str, set[str]] = {}
    for script in scripts():
        if script.is_relative_to(SERVICES):
            for path in (script, *included(script)):
                for name in published(path):
                    found.setdefault(name, set()).add(script.relative_to(SERVICES).parts[0])
    return found


def test_the_scripts_publish_exactly_the_events_of_the_catalogue() -> None:
    assert set(publishers()) == set(EVENTS)


def test_the_catalogue_knows_who_publishes_an_event() -> None:
    assert {name: sorted(kind.services) for name, kind in EVENTS.items()} == {
        name: sorted(services) for name, services in publishers().items()
    }


def test_every_file_that_appends_events_is_understood() -> None:
    """An event that is published around these functions would escape the catalogue."""
    wrong = [
        named(path)
        for path in (*scripts(), *includes())
        if path.stem != "events" and re.search(r"'XADD',\s*key_events\(", code(path))
    ]
    assert wrong == []


def test_every_event_says_in_one_line_what_has_happened() -> None:
    assert [kind.name for kind in EVENTS.values() if "\n" in kind.says or not kind.says.endswith(".")] == []
