from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from penstock.errors import Invalid
from penstock.templates import check, check_deployment, check_run, defaults, ensure_deployment, merged, run_variables
from penstock.templates.json_values import MAX_BYTES
from penstock.templates.schema_language import HOLDS_LIST, HOLDS_ONE, TYPES
from penstock.templates.variables import MAX_PROBLEMS, nested, overlaid
from tests.unit.test_templates_check import JSON, PYTHON, variable

NAMES = st.sampled_from(["env", "image", "cpu", "labels"])
ENVS = st.dictionaries(st.sampled_from("ABC"), st.text(max_size=2), max_size=3)
VALUES = st.recursive(
    st.sampled_from([None, True, False, 0, 1, 1.0, 2, 1.5, "", "a", "ab"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=6,
)
COUNTS = st.integers(0, 3)
SOME_NAMES = st.lists(st.sampled_from("abc"), max_size=2, unique=True)
RULES = st.recursive(
    st.booleans() | st.just({"$ref": "#/$defs/a"}),
    lambda below: st.fixed_dictionaries(
        {},
        optional={
            "type": st.lists(st.sampled_from(TYPES), min_size=1, unique=True) | st.sampled_from(TYPES),
            "enum": st.lists(VALUES, max_size=3),
            "const": VALUES,
            "required": SOME_NAMES,
            "dependentRequired": st.dictionaries(st.sampled_from("abc"), SOME_NAMES, max_size=2),
            "uniqueItems": st.booleans(),
            **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), st.floats(0, 2)),
            **dict.fromkeys(
                ("minLength", "minItems", "minProperties", "maxLength", "maxItems", "maxProperties"), COUNTS
            ),
            **dict.fromkeys(("minContains", "maxContains"), COUNTS),
            **dict.fromkeys(sorted(HOLDS_ONE), below),
            **dict.fromkeys(sorted(HOLDS_LIST), st.lists(below, min_size=1, max_size=2)),
            **dict.fromkeys(
                ("properties", "dependentSchemas"), st.dictionaries(st.sampled_from("abc"), below, max_size=2)
            ),
        },
    ),
    max_leaves=40,
)
"""Schemas without problems, of everything in which we and the library do not differ on purpose."""
LEVELS = st.dictionaries(NAMES.filter(lambda name: name != "env"), JSON, max_size=3).flatmap(
    lambda level: st.just(level) | ENVS.map(lambda env: {**level, "env": env})
)
"""Values of one level whose ``env``, if any, is an object."""

JOB = {
    "job_configuration": {},
    "variables": {
        "type": "object",
        "properties": {
            "image": {"type": "string", "default": "slim"},
            "cpu": {"type": "number", "minimum": 0.1, "maximum": 8},
            "env": {"type": "object", "default": {"A": "1", "B": "2"}, "additionalProperties": {"type": "string"}},
            "command": {"type": "string", "default": None},
            "labels": {"type": "object", "default": {"team": "etl"}},
        },
        "required": ["cpu"],
    },
}


def test_defaults_are_collected_and_null_means_none() -> None:
    assert defaults(JOB) == {"image": "slim", "env": {"A": "1", "B": "2"}, "labels": {"team": "etl"}}
    assert defaults({}) == {}


def test_the_deployment_overlays_the_defaults_and_the_run_overlays_both() -> None:
    values = merged(JOB, {"image": "fat", "cpu": 2}, {"cpu": 4})

    assert (values["image"], values["cpu"]) == ("fat", 4)


def test_env_is_merged_by_key_and_every_other_object_is_replaced() -> None:
    values = merged(JOB, {"env": {"B": "d", "C": "d"}, "labels": {"a": "1"}}, {"env": {"C": "r"}})

    assert values["env"] == {"A": "1", "B": "d", "C": "r"}
    assert values["labels"] == {"a": "1"}


def test_a_null_of_a_level_is_a_value_and_not_a_missing_one() -> None:
    assert merged(JOB, {"image": None})["image"] is None


def test_an_env_of_another_type_replaces_and_is_then_refused() -> None:
    assert merged(JOB, None, {"env": "x"})["env"] == "x"
    assert [str(problem) for problem in check_run(JOB, {"cpu": 1}, {"env": "x"})] == [
        '$.env: "x" is not of type "object" (type)'
    ]


@pytest.mark.parametrize(
    ("given_values", "result"),
    [
        ({"env.DEBUG": "1"}, {"env": {"DEBUG": "1"}}),
        ({"env.DEBUG": "1", "env": {"A": "2"}}, {"env": {"A": "2", "DEBUG": "1"}}),
        ({"env": {"A": "2"}, "env.DEBUG": "1", "env.B": "3"}, {"env": {"A": "2", "DEBUG": "1", "B": "3"}}),
        ({"env.DEBUG": "dotted", "env": {"DEBUG": "nested"}}, {"env": {"DEBUG": "nested"}}),
        ({"env": {"DEBUG": "nested"}, "env.DEBUG": "dotted"}, {"env": {"DEBUG": "nested"}}),
        ({"env": {"a.b": "kept"}}, {"env": {"a.b": "kept"}}),
        ({"env.log.level": "x"}, {"env": {"log.level": "x"}}),
        ({"resources.limits.cpu": 1, "resources.limits.mem": 2}, {"resources": {"limits": {"cpu": 1, "mem": 2}}}),
        ({"a.b.c": "dotted", "a.b": {"c": "nested"}}, {"a": {"b": {"c": "nested"}}}),
        ({"plain": {"x.y": 1}}, {"plain": {"x.y": 1}}),
        ({}, {}),
    ],
)
def test_dotted_keys_become_properties_and_the_nested_form_wins(
    given_values: dict[str, Any], result: dict[str, Any]
) -> None:
    assert nested(given_values) == result


def test_a_dotted_key_of_the_run_beats_the_nested_form_of_the_deployment() -> None:
    assert merged(JOB, {"env": {"A": "deployment"}}, {"env.A": "run"})["env"] == {"A": "run", "B": "2"}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({".": 1}, "$['.']: a dotted key has a name before and after each dot (dotted)"),
        ({"a.": 1}, "$['a.']: a dotted key has a name"),
        ({"env.": 1}, "$['env.']: a dotted key has a name"),
        ({"a..b": 1}, "$['a..b']: a dotted key has a name"),
        ({"a": 5, "a.b": 1}, "$['a.b']: 'a' is a number and has no properties (dotted)"),
        ({"a.b": [], "a.b.c": 1}, "$['a.b.c']: 'a.b' is a list and has no properties"),
        ({".".join("a" * 70): 1}, "more than 64 dots"),
        ({"a." * 63 + "a": [[1]]}, "nested deeper than 64"),
        ([], "$: an object of variables is needed; this is a list (type)"),
        ("x", "this is a text"),
        (5, "this is a number"),
        ({"a": {1: 2}}, "$.a: a key that is a number"),
        ({"a": float("nan")}, "$.a: JSON knows no infinite number"),
        ({"a": "x" * MAX_BYTES}, f"at most {MAX_BYTES} bytes"),
    ],
)
def test_values_that_are_no_variables_are_refused_with_path_and_reason(values: Any, told: str) -> None:
    for refusing in (lambda: nested(values), lambda: merged(JOB, values), lambda: check_run(JOB, None, values)):
        with pytest.raises(Invalid) as refused:
            refusing()
        assert refused.value.message.startswith("job variables: $")
        assert told in refused.value.message


@pytest.mark.parametrize(
    ("schema", "value", "told"),
    [
        ({"type": "string"}, 5, '$.a: 5 is not of type "string" (type)'),
        ({"type": ["string", "null"]}, 5, '$.a: 5 is not of type "string", "null" (type)'),
        ({"minimum": 1}, 0, "$.a: 0 is less than 1 (minimum)"),
        ({"maximum": 1}, 2, "$.a: 2 is greater than 1 (maximum)"),
        ({"exclusiveMinimum": 1}, 1, "$.a: 1 is not greater than 1 (exclusiveMinimum)"),
        ({"exclusiveMaximum": 1}, 1, "$.a: 1 is not less than 1 (exclusiveMaximum)"),
        ({"multipleOf": 0.1}, 0.35, "$.a: 0.35 is no multiple of 0.1 (multipleOf)"),
        ({"enum": ["x", 2]}, "z", '$.a: "z" is none of "x", 2 (enum)'),
        ({"const": None}, 0, "$.a: 0 is not null (const)"),
        ({"minLength": 2}, "x", '$.a: "x" has fewer than 2 characters (minLength)'),
        ({"maxLength": 2}, "xyz", '$.a: "xyz" has more than 2 characters (maxLength)'),
        ({"pattern": "^[a-z]+$"}, "A", '$.a: "A" does not match "^[a-z]+$" (pattern)'),
        ({"format": "path"}, "a\0b", '$.a: "a\\u0000b" does not have the format "path" (format)'),
        ({"minItems": 1}, [], "$.a: [] has fewer than 1 items (minItems)"),
        ({"maxItems": 1}, [1, 2], "$.a: [1, 2] has more than 1 items (maxItems)"),
        ({"uniqueItems": True}, [1, {"b": 1}, 1.0], '$.a: [1, {"b": 1}, 1.0] has equal items (uniqueItems)'),
        ({"items": {"type": "integer"}}, [1, "2"], '$.a[1]: "2" is not of type "integer" (type)'),
        ({"prefixItems": [{}], "items": False}, [1, 2], "$.a: [1, 2] has more items than are described (items)"),
        (
            {"contains": {"const": 1}},
            [2],
            "$.a: [2] holds the wrong number of items that `contains` asks for (contains)",
        ),
        ({"contains": {"const": 1}, "maxContains": 1}, [1, 1], "$.a: [1, 1] holds more than 1 of the items"),
        ({"minProperties": 1}, {}, "$.a: {} has fewer than 1 properties (minProperties)"),
        ({"maxProperties": 0}, {"b": 1}, '$.a: {"b": 1} has more than 0 properties (maxProperties)'),
        ({"required": ["b"]}, {}, "$.a.b: is required and missing (required)"),
        (
            {"dependentRequired": {"b": ["c"]}},
            {"b": 1},
            '$.a: {"b": 1} has a property without one that must go with it',
        ),
        (
            {"additionalProperties": False},
            {"b": 1},
            "$.a.b: is not a property this object may have (additionalProperties)",
        ),
        ({"patternProperties": {"^x": False}}, {"xy": 1}, "$.a.xy: 1 is not allowed here (false)"),
        ({"propertyNames": {"maxLength": 1}}, {"bb": 1}, '$.a: "bb" has more than 1 characters (maxLength)'),
        ({"dependentSchemas": {"b": {"maxProperties": 1}}}, {"b": 1, "c": 2}, "has more than 1 properties"),
        ({"properties": {"b c": {"type": "null"}}}, {"b c": 1}, "$.a['b c']: 1 is not of type"),
        ({"not": {"type": "null"}}, None, "$.a: null is what `not` forbids (not)"),
        ({"if": {"type": "integer"}, "then": {"minimum": 3}}, 2, "$.a: 2 is less than 3 (minimum)"),
        ({"allOf": [{}, {"type": "null"}]}, 1, '$.a: 1 is not of type "null" (type)'),
        (
            {"anyOf": [{"type": "null"}, {"items": {"type": "null"}}]},
            [0],
            '$.a: [0] fits none of the alternatives ([0] is not of type "null"; [0] 0 is not',
        ),
        ({"oneOf": [{"type": "null"}]}, 1, "$.a: 1 fits none of the alternatives"),
        (False, 1, "$.a: 1 is not allowed here (false)"),
    ],
)
def test_each_rule_of_json_schema_refuses_with_path_and_reason(schema: Any, value: Any, told: str) -> None:
    problems = check_run(variable(schema), None, {"a": value})

    assert len(problems) == 1
    assert told in str(problems[0])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer"},
        {"enum": ["a"]},
        {"const": "a"},
        {"pattern": "^a"},
        {"maxLength": 1},
        {"format": "date"},
        {"not": {}},
        {"anyOf": [{"type": "null"}, {"maxLength": 1}]},
        {"oneOf": [{}, {"minLength": 1}]},
        False,
    ],
)
def test_what_everybody_reads_of_a_broken_rule_does_not_tell_the_value(schema: Any) -> None:
    (problem,) = check_run(variable(schema), None, {"a": "hunter2"})
    assert "hunter2" in str(problem)

    with pytest.raises(Invalid) as caught:
        run_variables(variable(schema), None, {"a": "hunter2"})

    assert "hunter2" in caught.value.message
    assert caught.value.discreet.startswith("job variables: $.a: the value ")
    assert "hunter2" not in caught.value.discreet


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", ["2030-01-31"], ["2030-02-30", "2030-1-1", "20300101"]),
        ("time", ["12:00:00Z", "12:00:00z", "12:00:00.123456789+02:00"], ["12:00", "25:00:00Z", "12:00:00"]),
        (
            "date-time",
            ["2030-01-31T12:00:00Z", "2030-01-31t12:00:00.5-01:30", "2030-01-31 12:00:00z"],
            ["2030-01-31", "2030-02-31T12:00:00Z"],
        ),
        ("email", ["a@b"], ["a", "@b", "a b@c"]),
        ("hostname", ["a", "a.b-c.d"], ["", "-a", "a..b", "a" * 64]),
        ("ipv4", ["10.0.0.1"], ["10.0.0.256", "10.0.0"]),
        ("ipv6", ["::1"], ["::g", "10.0.0.1"]),
        ("path", ["/x", "a b", "."], ["", "a\0"]),
        ("uri", ["https://example.com/?a=b#c", "urn:x"], ["example.com", "https://a b"]),
        ("uuid", ["7f3c1c1e-0000-4000-8000-000000000000"], ["7f3c1c1e", "7f3c1c1e00004000800000000000zzzz"]),
        ("password", ["anything"], []),
    ],
)
def test_formats_are_checked_on_texts_only(name: str, good: list[str], bad: list[str]) -> None:
    for value in [*good, 5, None, ["x"]]:
        assert check_run(variable({"format": name}), None, {"a": value}) == []
    for value in bad:
        assert [problem.rule for problem in check_run(variable({"format": name}), None, {"a": value})] == ["format"]


@pytest.mark.parametrize(
    ("value", "step"), [(0.3, 0.1), (1e300, 0.1), (19.99, 0.01), (2**63, 2), (-3, 1.5), (0, 7), (True, 2), ("x", 2)]
)
def test_multiples_are_judged_by_the_numbers_as_written(value: Any, step: float) -> None:
    assert check_run(variable({"multipleOf": step}), None, {"a": value}) == []


def test_a_deployment_may_leave_to_the_run_what_is_required() -> None:
    assert check_deployment(JOB, {"image": "fat"}) == []
    assert [str(problem) for problem in check_run(JOB, {"image": "fat"})] == [
        "$.cpu: is required and missing (required)"
    ]
    assert check_run(JOB, {"image": "fat"}, {"cpu": 1}) == []


@pytest.mark.parametrize(
    "rule",
    [
        {"required": ["b"]},
        {"minProperties": 2},
        {"dependentRequired": {"a": ["b"]}},
        {"not": {"maxProperties": 1}},
        {"if": {"required": ["b"]}, "then": {}, "else": False},
        {"anyOf": [{"required": ["b"]}, {"required": ["c"]}]},
        {"oneOf": [{"required": ["b"]}, {"required": ["c"]}]},
    ],
    ids=lambda rule: next(iter(rule)),
)
def test_a_deployment_is_not_refused_for_what_a_run_can_still_make_good(rule: dict[str, Any]) -> None:
    template = variable({"type": "integer"}, **rule)

    assert check_deployment(template, {"a": 1}) == []
    assert check_run(template, {"a": 1}) != []
    assert check_run(template, {"a": 1}, {"b": 2}) == []


def test_a_deployment_is_not_refused_for_items_that_only_seem_to_be_contained() -> None:
    template = variable({"contains": {"required": ["b"]}, "maxContains": 1})

    assert check_run(template, {"a": [{"b": 1}, {}]}) == []
    assert check_deployment(template, {"a": [{"b": 1}, {}]}) == []


def test_a_deployment_is_refused_for_what_no_run_can_make_good() -> None:
    ensure_deployment(JOB, {"cpu": 1, "env.DEBUG": "1"})

    with pytest.raises(Invalid) as refused:
        ensure_deployment(JOB, {"cpu": 9, "env.DEBUG": 1})

    assert str(refused.value) == (
        'job variables: $.cpu: 9 is greater than 8 (maximum); $.env.DEBUG: 1 is not of type "string" (type)'
    )


def test_unknown_variables_pass_unless_the_schema_forbids_them() -> None:
    assert check_run(JOB, {"cpu": 1}, {"badvar": 1}) == []
    closed = {**JOB, "variables": {**JOB["variables"], "additionalProperties": False}}
    assert [str(problem) for problem in check_deployment(closed, {"badvar": 1})] == [
        "$.badvar: is not a property this object may have (additionalProperties)"
    ]


def test_a_run_gets_its_merged_values_only_when_they_are_valid() -> None:
    assert run_variables(JOB, {"cpu": 1}, {"env.B": "x"}) == {
        "image": "slim",
        "cpu": 1,
        "env": {"A": "1", "B": "x"},
        "labels": {"team": "etl"},
    }
    with pytest.raises(Invalid, match=r"^job variables: \$\.cpu: is required and missing \(required\)$"):
        run_variables(JOB)


def test_values_are_not_looked_at_with_a_template_that_has_problems() -> None:
    for asking in (defaults, merged, check_run, lambda template: check_deployment(template, {})):
        with pytest.raises(Invalid, match=r"^base job template: \$\.variables: the section is missing"):
            asking({"job_configuration": {}})


def test_the_empty_template_takes_any_values() -> None:
    assert run_variables({}, {"a": 1}, {"b.c": 2}) == {"a": 1, "b": {"c": 2}}


def test_not_more_than_a_hundred_problems_are_told() -> None:
    many = check_run(variable({"items": {"type": "null"}}), None, {"a": [1] * 1000})

    assert len(many) == MAX_PROBLEMS


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"enum": list(range(1000, 11_000))}}, [1] * 10_000),
        ({"items": {"allOf": [{"type": "integer"}] * 500}}, [1] * 10_000),
        ({"allOf": [{"items": {"title": "any"}}] * 400}, [1] * 10_000),
        ({"anyOf": [{"type": "null"}] * 900}, "x" * 200_000),
        ({"patternProperties": {f"{n}$": {} for n in range(20)}}, {f"k{n}": n for n in range(16_000)}),
    ],
)
def test_values_that_take_too_much_work_are_given_up_with_a_reason(schema: Any, value: Any) -> None:
    assert [problem.rule for problem in check_run(variable(schema), None, {"a": value})] == ["work"]


def test_large_honest_values_are_checked() -> None:
    template = variable(
        {"type": "object", "additionalProperties": {"type": "string", "maxLength": 20, "pattern": "^v"}}
    )

    assert check_run(template, None, {"a": {f"name-{number}": f"v{number}" for number in range(8000)}}) == []


def test_ten_thousand_unique_items_take_no_square_of_that() -> None:
    items = [{"a": number} for number in range(10_000)]

    assert check_run(variable({"uniqueItems": True}), None, {"a": items}) == []
    assert len(check_run(variable({"uniqueItems": True}), None, {"a": [*items, {"a": 9.0}]})) == 1


def test_one_and_true_are_different_items() -> None:
    assert check_run(variable({"uniqueItems": True}), None, {"a": [1, True, "1", [1], {"1": 1}]}) == []


def test_merging_and_checking_change_nothing() -> None:
    template, deployment, run = copy.deepcopy(JOB), {"env": {"A": "d"}, "cpu": 1}, {"env.B": "r", "env": {"C": "c"}}
    before = copy.deepcopy((template, deployment, run))

    values = run_variables(template, deployment, run)
    values["env"].clear()
    values["labels"].clear()
    defaults(template)["labels"].clear()

    assert (template, deployment, run) == before


@given(RULES, VALUES)
def test_values_are_judged_as_the_library_itself_judges_them(schema: Any, value: Any) -> None:
    template = variable(schema, **{"$defs": {"a": {"type": ["integer", "object"]}}})
    theirs = Draft202012Validator(template["variables"])

    assert check(template) == []

    assert (check_run(template, None, {"a": value}) == []) == theirs.is_valid({"a": value})


@given(RULES, VALUES)
def test_what_a_run_may_have_a_deployment_may_have(schema: Any, value: Any) -> None:
    template = variable(schema, **{"$defs": {"a": {"required": ["b"]}}})

    if check_run(template, None, {"a": value}) == []:
        assert check_deployment(template, {"a": value}) == []


@given(LEVELS)
def test_an_empty_level_changes_nothing(level: dict[str, Any]) -> None:
    assert overlaid(level, {}) == overlaid({}, level) == overlaid(level, level) == level


@given(LEVELS, LEVELS, LEVELS)
def test_levels_may_be_merged_in_any_grouping(one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]) -> None:
    assert overlaid(overlaid(one, two), three) == overlaid(one, overlaid(two, three))


@given(LEVELS, LEVELS)
def test_the_upper_level_wins_and_the_lower_one_shows_through(lower: dict[str, Any], upper: dict[str, Any]) -> None:
    result = overlaid(lower, upper)

    assert set(result) == {*lower, *upper}
    for name in result:
        if name != "env":
            assert result[name] == (upper if name in upper else lower)[name]
    for name, value in result.get("env", {}).items():
        assert value == {**lower.get("env", {}), **upper.get("env", {})}[name]


@given(LEVELS, LEVELS)
def test_a_run_that_has_everything_the_deployment_has_hides_it(deployment: dict[str, Any], run: dict[str, Any]) -> None:
    everything = overlaid(deployment, run)

    assert merged({}, deployment, everything) == merged({}, None, everything)


@given(st.dictionaries(st.sampled_from("abcd"), st.text(max_size=2), max_size=4), st.sampled_from("xy"))
def test_dotted_and_nested_forms_mean_the_same(values: dict[str, str], name: str) -> None:
    dotted = {f"{name}.{key}": value for key, value in values.items()}

    assert nested(dotted) == ({name: values} if values else {})
    assert nested(nested(dotted)) == nested(dotted)


@given(JSON | PYTHON, JSON | PYTHON)
def test_nothing_but_invalid_comes_of_any_values(deployment: Any, run: Any) -> None:
    told: list[str] = []
    for refusing in (partial(check_deployment, JOB, deployment), partial(check_run, JOB, deployment, run)):
        try:
            told += map(str, refusing())
        except Invalid as refused:
            told.append(refused.message)
    assert all(text.isprintable() for text in told)
