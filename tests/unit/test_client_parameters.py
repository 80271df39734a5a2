from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.client.parameters import ensure_parameters
from penstock.errors import Invalid

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Parameters",
    "type": "object",
    "properties": {
        "name": {"type": "string", "position": 0},
        "day": {"type": "integer", "default": 1, "position": 1},
        "when": {"type": "string", "format": "date-time", "default": None},
        "files": {"type": "array", "items": {"type": "string"}, "default": []},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def refused(parameters: dict[str, Any], schema: dict[str, Any] | None = None, *, partial: bool = False) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        ensure_parameters("parameters of 'hello/demo'", schema or SCHEMA, parameters, partial=partial)
    return refusal.value


@pytest.mark.parametrize(
    "parameters",
    [
        {"name": "Ford"},
        {"name": "Ford", "day": 2, "files": ["a"]},
        {"name": "Ford", "when": None},
        {"name": "Ford", "when": datetime(2030, 1, 1, tzinfo=UTC)},
        {"name": "Ford", "files": ("a", "b")},
    ],
)
def test_parameters_that_fit_pass(parameters: dict[str, Any]) -> None:
    ensure_parameters("", SCHEMA, parameters, partial=False)


@pytest.mark.parametrize("schema", [None, {}])
def test_without_a_schema_anything_fits(schema: dict[str, Any] | None) -> None:
    ensure_parameters("", schema, {"anything": object()}, partial=False)


def test_an_unknown_parameter_is_named_with_what_was_meant_and_what_there_is() -> None:
    refusal = refused({"name": "Ford", "dya": 2})

    assert refusal.message == "parameters of 'hello/demo': there is no parameter 'dya', did you mean 'day'?"
    assert refusal.hint == "its parameters: name (string, required), day (integer), when (string), files (array)"


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "x (integer or null)"),
        ({"type": ["string", "null"]}, "x (string or null)"),
        ({"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/A"}]}, "x"),
        ({"$ref": "#/$defs/A"}, "x"),
        ({"enum": [1, 2]}, "x"),
        ({}, "x"),
        (True, "x"),
    ],
)
def test_the_kinds_of_a_parameter_are_told_where_the_schema_says_them(described: Any, told: str) -> None:
    schema = {"type": "object", "properties": {"x": described}, "$defs": {"A": {}}, "additionalProperties": False}

    assert refused({"y": 1}, schema).hint == f"its parameters: {told}"


def test_a_missing_parameter_is_named() -> None:
    assert refused({"day": 2}).message == "parameters of 'hello/demo': 'name' is missing"


def test_what_is_missing_is_not_asked_while_more_may_come() -> None:
    ensure_parameters("", SCHEMA, {"day": 2}, partial=True)

    assert "'day' does not fit" in refused({"day": "x"}, partial=True).message


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"name": "Ford", "day": "two"}, '\'day\' does not fit: $.day: "two" is not of type "integer" (type)'),
        ({"name": 7}, "'name' does not fit: $.name: 7 is not of type \"string\" (type)"),
        ({"name": "Ford", "files": ["a", 2]}, "'files' does not fit: $.files[1]: 2 is not of type \"string\" (type)"),
        ({"name": None}, "'name' does not fit: $.name: null is not of type \"string\" (type)"),
        ({"name": "Ford", "when": "soon"}, "'when' does not fit: $.when: \"soon\" does not have the format"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_place_and_the_rule(parameters: dict[str, Any], told: str) -> None:
    assert told in refused(parameters).message


def test_every_problem_is_told_at_once_up_to_ten() -> None:
    told = refused({f"x{number:02}": 0 for number in range(12)}).message

    assert told.count("there is no parameter") + told.count("is missing") == 10
    assert told.endswith("; and 3 more")


def test_who_takes_no_parameters_says_so() -> None:
    assert refused({"x": 1}, {"type": "object", "additionalProperties": False}).hint == "it takes no parameters"


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"name": float("nan")}, "name"),
        ({"name": object()}, "object"),
        ({"name": "half a pair \ud800"}, "name"),
    ],
)
def test_what_is_no_json_is_refused(parameters: dict[str, Any], told: str) -> None:
    assert told in refused(parameters).message


def test_endless_parameters_are_refused() -> None:
    endless: dict[str, Any] = {}
    endless["name"] = endless

    assert "parameters of 'hello/demo'" in refused(endless).message


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "strnig"}}},
        {"type": "object", "properties": {"a": {"$ref": "https://example.com/schema"}}},
        {"type": "object", "properties": {"a": {"pattern": "(?=a)"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    ],
)
def test_a_schema_that_cannot_be_used_is_told_before_it_does_harm(schema: dict[str, Any]) -> None:
    refusal = refused({"a": "x"}, schema)

    assert "the parameter schema cannot be used" in refusal.message
    assert refusal.hint == "deploy it again"


def test_a_check_that_would_take_for_ever_is_given_up() -> None:
    schema = {"properties": {"a": {"allOf": [{"uniqueItems": True}] * 10}}}

    assert "more work than is allowed" in refused({"a": [[1] * 200] * 400}, schema).message
