"""Which changes of the contracts are additive, and which break somebody."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from penstock.contracts.catalogue import snapshot
from penstock.contracts.compatibility import Comparison, breaking_changes

TEXT: dict[str, Any] = {"type": "string"}
NULL: dict[str, Any] = {"type": "null"}
INTEGER: dict[str, Any] = {"type": "integer"}
LIMIT: dict[str, Any] = {"anyOf": [{"type": "integer", "minimum": 0}, NULL], "default": None}


def record(*required: str, further: Any = True, **fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": further}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (record(a=TEXT, b=TEXT), record(a=TEXT), "b: removed"),
        (record(a=TEXT), record("a", a=TEXT), "a: newly required"),
        (record(a=TEXT), record("b", a=TEXT, b=TEXT), "b: newly required"),
        (record(a=TEXT), record(a=INTEGER), "a: the type string became integer"),
        (record(a={"type": "number"}), record(a=INTEGER), "a: the type number became integer"),
        (record(a={}), record(a=TEXT), "a: the type anything became string"),
        (record(a={"type": ["string", "null"]}), record(a=TEXT), "a: no longer accepts type null"),
        (record(a={"anyOf": [TEXT, NULL]}), record(a=TEXT), "a: no longer accepts type null"),
        (record(a=LIMIT), record(a={**LIMIT, "anyOf": [{**INTEGER, "minimum": 1}, NULL]}), "a: minimum 0 became 1"),
        (record(a={"enum": ["x", "y"]}), record(a={"enum": ["x"]}), "a: the values ['y'] are gone"),
        (record(a={"enum": ["x", "y"]}), record(a={"const": "x"}), "a: the values ['y'] are gone"),
        (record(a=TEXT), record(a={**TEXT, "enum": ["x"]}), "a: only ['x'] are accepted now"),
        (record(a={"const": "x"}), record(a={"const": "z"}), "a: the values ['x'] are gone"),
        (record(a={**TEXT, "maxLength": 9}), record(a={**TEXT, "maxLength": 8}), "a: maxLength 9 became 8"),
        (record(a=TEXT), record(a={**TEXT, "minLength": 1}), "a: minLength None became 1"),
        (record(a=TEXT), record(a={**TEXT, "pattern": "^x"}), "a: pattern None became ^x"),
        (record(a={**TEXT, "pattern": "^x"}), record(a={**TEXT, "pattern": "^y"}), "a: pattern ^x became ^y"),
        (record(a=TEXT), record(a={**TEXT, "format": "uuid"}), "a: format None became uuid"),
        (record(a={**INTEGER, "default": 3}), record(a={**INTEGER, "default": 4}), "a: the default 3 became 4"),
        (record(a={**INTEGER, "default": 3}), record(a=INTEGER), "a: the default 3 became none"),
        (record(a=TEXT), record(a=TEXT, further=False), "refuses unknown fields now"),
        (record(a=TEXT), record(a=TEXT, further=TEXT), "*: the type anything became string"),
        (record(a=TEXT), {**record(a=TEXT), "oneOf": [{}]}, "oneOf has changed"),
        (record(a=record(b=TEXT)), record(a=record()), "a.b: removed"),
        (record(a=record(b=TEXT)), record(a=record("b", b=TEXT)), "a.b: newly required"),
        (
            record(a={"type": "array", "items": TEXT}),
            record(a={"type": "array", "items": INTEGER}),
            "a[]: the type string became integer",
        ),
        (
            record(a={"type": "array"}),
            record(a={"type": "array", "items": TEXT}),
            "a[]: the type anything became string",
        ),
    ],
)
def test_a_change_that_breaks_somebody_is_told_with_its_place(old: Any, new: Any, problem: str) -> None:
    assert Comparison(old, new).problems == [problem]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (record(a=TEXT), record(a=TEXT, b=TEXT)),
        (record("a", a=TEXT), record(a=TEXT)),
        (record(a=TEXT), record(a={"anyOf": [TEXT, NULL]})),
        (record(a=TEXT), record(a={})),
        (record(a=INTEGER), record(a={"type": "number"})),
        (record(a={"enum": ["x"]}), record(a={"enum": ["y", "x"]})),
        (record(a={"const": "x"}), record(a={"enum": ["y", "x"]})),
        (record(a={**TEXT, "enum": ["x"]}), record(a=TEXT)),
        (record(a={**TEXT, "maxLength": 8}), record(a={**TEXT, "maxLength": 9})),
        (record(a={**TEXT, "maxLength": 8, "pattern": "^x", "format": "uuid"}), record(a=TEXT)),
        (record(a=LIMIT), record(a={**LIMIT, "anyOf": [NULL, {**INTEGER, "minimum": -1}]})),
        (record(a=TEXT, further=False), record(a=TEXT)),
        (record(a=TEXT, further=TEXT), record(a=TEXT, further={"anyOf": [TEXT, NULL]})),
        (record(a={"type": "array", "items": TEXT}), record(a={"type": "array"})),
        (record(a=TEXT), {**record(a={**TEXT, "title": "A"}), "description": "What it is", "examples": [{}]}),
    ],
)
def test_an_additive_change_is_none_that_matters(old: Any, new: Any) -> None:
    assert Comparison(old, new).problems == []


def test_one_alternative_less_is_told_as_what_the_other_lacks() -> None:
    old = {"anyOf": [record("x", x=TEXT), record("y", y=TEXT)]}

    assert Comparison(old, record("x", x=TEXT)).problems == ["x: newly required", "y: removed"]
    assert Comparison(old, {"anyOf": [TEXT, INTEGER]}).problems == ["no longer accepts type object"] * 2


def test_what_readers_were_promised_may_not_go_missing() -> None:
    old, new = record("a", a=TEXT), record(a=TEXT)

    assert Comparison(old, new, promised=True).problems == ["a: may be missing now"]


def test_references_are_followed_on_both_sides() -> None:
    old = {"$defs": {"Spec": record(a=TEXT)}, "properties": {"spec": {"$ref": "#/$defs/Spec"}}, "type": "object"}
    moved = {
        "$defs": {"RunSpec": record(a=TEXT)},
        "properties": {"spec": {"$ref": "#/$defs/RunSpec"}},
        "type": "object",
    }
    broken = {"properties": {"spec": record(a=INTEGER)}, "type": "object"}

    assert Comparison(old, moved).problems == []
    assert Comparison(old, broken).problems == ["spec.a: the type string became integer"]


def test_one_definition_used_twice_is_judged_at_both_places() -> None:
    used = {"type": "object", "properties": {"a": {"$ref": "#/$defs/D"}, "b": {"$ref": "#/$defs/D"}}}
    problems = Comparison({**used, "$defs": {"D": TEXT}}, {**used, "$defs": {"D": INTEGER}}).problems

    assert problems == ["a: the type string became integer", "b: the type string became integer"]


def test_a_definition_that_contains_itself_is_compared_once() -> None:
    def tree(leaf: Any) -> Any:
        children = {"type": "array", "items": {"$ref": "#/$defs/Tree"}}
        return {"$ref": "#/$defs/Tree", "$defs": {"Tree": record(leaf=leaf, children=children)}}

    assert Comparison(tree(TEXT), tree(TEXT)).problems == []
    assert Comparison(tree(TEXT), tree(INTEGER)).problems == ["leaf: the type string became integer"]


def whole(**messages: Any) -> dict[str, Any]:
    channel = {"address": "a", "from_outside": True, "messages": sorted(messages)}
    return {"channels": {"commands": channel}, "messages": messages, "results": {}}


def test_a_new_message_on_a_new_channel_is_additive() -> None:
    new = whole(pause=record(), resume=record())
    new["channels"]["more"] = {"address": "b", "from_outside": False, "messages": ["resume"]}

    assert breaking_changes(whole(pause=record()), new) == []


def test_a_message_that_is_gone_is_missed_by_its_name() -> None:
    problems = breaking_changes(whole(pause=record(), resume=record()), whole(pause=record()))

    assert problems == ["channel commands: no longer carries resume", "message resume: removed"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"address": "b"}, "channel commands: the address a became b"),
        ({"from_outside": False}, "channel commands: only services may write there now"),
    ],
)
def test_a_channel_may_not_move_or_close(change: dict[str, Any], problem: str) -> None:
    new = whole(pause=record())
    new["channels"]["commands"] |= change

    assert breaking_changes(whole(pause=record()), new) == [problem]


def test_a_channel_that_is_gone_is_missed() -> None:
    assert breaking_changes(whole(), {**whole(), "channels": {}}) == ["channel commands: removed"]


def test_results_are_promises_and_messages_from_outside_are_not() -> None:
    old, new = whole(pause=record("a", a=TEXT)), whole(pause=record(a=TEXT))
    assert breaking_changes(old, new) == []

    old["channels"]["commands"]["from_outside"] = new["channels"]["commands"]["from_outside"] = False
    assert breaking_changes(old, new) == ["message pause: a: may be missing now"]

    results = {**whole(), "results": {"pause": record("a", a=TEXT)}}
    assert breaking_changes(results, {**whole(), "results": {"pause": record(a=TEXT)}}) == [
        "result of pause: a: may be missing now"
    ]


SNAPSHOT = snapshot()
FIELDS = [
    (name, list(path))
    for name, schema in SNAPSHOT["messages"].items()
    for path in [
        *[("properties", each) for each in schema["properties"]],
        *[
            ("$defs", name, "properties", each)
            for name, part in schema.get("$defs", {}).items()
            for each in part["properties"]
        ],
    ]
]


def test_every_field_of_every_message_is_missed_when_it_is_gone() -> None:
    unnoticed = []
    for name, path in FIELDS:
        old = SNAPSHOT["messages"][name]
        new = copy.deepcopy(old)
        part = new
        for step in path[:-1]:
            part = part[step]
        del part[path[-1]]
        if not any(problem.endswith(f"{path[-1]}: removed") for problem in Comparison(old, new).problems):
            unnoticed.append((name, *path))

    assert len(FIELDS) > 200
    assert unnoticed == []


def test_nothing_changed_breaks_nobody() -> None:
    assert breaking_changes(SNAPSHOT, SNAPSHOT) == []
