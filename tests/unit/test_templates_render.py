from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.errors import Invalid
from penstock.templates import check, job_configuration, render
from penstock.templates.render import MAX_RENDERED
from tests.unit.test_templates_check import JSON, PYTHON, template

EVERY_TYPE: dict[str, Any] = {
    "text": "größe ☂",
    "whole": 7,
    "large": 2**63,
    "real": 0.5,
    "yes": True,
    "no": False,
    "null": None,
    "list": [1, "two", [3.0, None], {"four": False}],
    "object": {"a": {"b": [1, {"c": "d"}]}, "e": ""},
    "empty_text": "",
    "empty_list": [],
    "empty_object": {},
}
SCHEMAS = {
    "text": {"type": "string", "minLength": 1},
    "whole": {"type": "integer", "minimum": 1, "maximum": 7},
    "large": {"type": "integer"},
    "real": {"type": "number", "multipleOf": 0.1},
    "yes": {"type": "boolean"},
    "no": {"const": False},
    "null": {"type": "null"},
    "list": {"type": "array", "prefixItems": [{"type": "integer"}, {"enum": ["two"]}], "uniqueItems": True},
    "object": {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/inner"}, "e": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "empty_text": {"type": "string", "maxLength": 0},
    "empty_list": {"type": "array", "items": {"type": "string"}},
    "empty_object": {"type": "object"},
    "missing": {"type": ["string", "null"]},
}
VARIABLES = {
    "type": "object",
    "properties": SCHEMAS,
    "$defs": {"inner": {"type": "object", "properties": {"b": {"type": "array", "contains": {"type": "object"}}}}},
}

CONFIGURATIONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 3)
    | st.sampled_from(["", "{{ a }}", "x{{a}}{{ b }}y", "{{ c }}", "{{b}}", "}}", "{"]),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["env", "x", "y z"]), below, max_size=3)
    ),
    max_leaves=10,
)
LETTERS: dict[str, Any] = {"properties": {"a": {}, "b": {}, "c": {}}}


@pytest.mark.parametrize("name", EVERY_TYPE)
def test_a_sole_placeholder_becomes_the_value_of_its_own_type(name: str) -> None:
    rendered = job_configuration(template(VARIABLES, it=f"{{{{ {name} }}}}"), {}, {**EVERY_TYPE})["it"]

    assert (type(rendered), rendered) == (type(EVERY_TYPE[name]), EVERY_TYPE[name])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("text", "größe ☂"),
        ("whole", "7"),
        ("large", "9223372036854775808"),
        ("real", "0.5"),
        ("yes", "true"),
        ("no", "false"),
        ("null", ""),
        ("list", '[1,"two",[3.0,null],{"four":false}]'),
        ("object", '{"a":{"b":[1,{"c":"d"}]},"e":""}'),
        ("empty_text", ""),
        ("empty_list", "[]"),
        ("empty_object", "{}"),
        ("missing", ""),
    ],
)
def test_an_embedded_placeholder_becomes_text(name: str, text: str) -> None:
    assert render(template(VARIABLES, it=f"<{{{{ {name} }}}}>"), EVERY_TYPE) == {"it": f"<{text}>"}


def test_a_whole_job_renders_as_specified() -> None:
    configuration = {
        "image": "registry/{{ text }}:{{whole}}",
        "replicas": "{{ whole }}",
        "fixed": {"number": 1, "flag": True, "nothing": None, "list": [0, "", {}]},
        "containers": [
            {"name": "main", "args": ["--n", "{{ whole }}", "{{ missing }}", "--x={{ missing }}", "{{ list }}"]},
            "{{ object }}",
            "{{ missing }}",
            ["{{ missing }}", ["{{ yes }}", "{{ null }}"]],
        ],
        "labels": "{{ missing }}",
        "inner": {"labels": "{{missing}}", "deep": {"er": "{{ empty_list }}"}},
    }
    before = copy.deepcopy(configuration)

    rendered = job_configuration(template(VARIABLES, **configuration), None, EVERY_TYPE)

    assert rendered == {
        "image": "registry/größe ☂:7",
        "replicas": 7,
        "fixed": {"number": 1, "flag": True, "nothing": None, "list": [0, "", {}]},
        "containers": [
            {"name": "main", "args": ["--n", 7, "--x=", EVERY_TYPE["list"]]},
            EVERY_TYPE["object"],
            [[True, None]],
        ],
        "inner": {"deep": {"er": []}},
    }
    assert configuration == before


def test_blanks_beside_a_placeholder_make_it_an_embedded_one() -> None:
    assert render(template(VARIABLES, it=" {{ whole }}", two="{{whole}}{{whole}}"), EVERY_TYPE) == {
        "it": " 7",
        "two": "77",
    }


def test_blanks_inside_a_placeholder_mean_nothing() -> None:
    it = ["{{whole}}", "{{ whole }}", "{{\twhole\n}}", "{{  whole}}"]

    assert render(template(VARIABLES, it=it), EVERY_TYPE) == {"it": [7, 7, 7, 7]}


def test_what_was_filled_in_is_not_read_again() -> None:
    values = {"a": "{{ b }}", "b": {"x": "{{ a }}"}, "c": "{{"}

    assert render(template(LETTERS, sole="{{ a }}", both="{{ a }}{{ c }} b }}", tree="{{ b }}"), values) == {
        "sole": "{{ b }}",
        "both": "{{ b }}{{ b }}",
        "tree": {"x": "{{ a }}"},
    }


def test_an_env_of_the_template_is_overlaid_by_the_declared_variable() -> None:
    job = template(
        {"properties": {"env": {"default": {"B": "default", "C": "default"}}, "level": {}}},
        env={"A": "fixed", "B": "fixed", "LEVEL": "{{ level }}", "NONE": "{{ level }}"},
    )

    assert job_configuration(
        job, {"env.C": "deployment", "env.D": "deployment"}, {"env": {"D": "run"}, "level": 3}
    ) == {"env": {"A": "fixed", "B": "default", "C": "deployment", "D": "run", "LEVEL": 3, "NONE": 3}}


def test_an_env_of_the_template_stays_as_it_is_where_env_is_no_variable() -> None:
    assert job_configuration(template({}, env={"A": "fixed"}), None, {"env": {"A": "run", "B": "run"}}) == {
        "env": {"A": "fixed"}
    }


def test_an_env_that_is_no_object_overlays_nothing() -> None:
    assert render(template({"properties": {"env": {}}}, env={"A": "fixed"}), {"env": None}) == {"env": {"A": "fixed"}}
    assert render(template({"properties": {"env": {}}}, env="{{ env }}"), {"env": {"A": "1"}}) == {"env": {"A": "1"}}
    assert render(template({"properties": {"env": {}}}, env="fixed"), {"env": {"A": "1"}}) == {"env": "fixed"}


def test_the_empty_template_renders_nothing() -> None:
    assert job_configuration({}, {"a": 1}, {"b": 2}) == {}


def test_a_result_shares_nothing_with_what_it_was_made_of() -> None:
    job, values = template(LETTERS, x="{{ a }}", y="{{ a }}", z={"kept": []}), {"a": {"list": [1]}}
    before = copy.deepcopy((job, values))

    rendered = render(job, values)
    rendered["x"]["list"].append(2)
    rendered["z"]["kept"].append(3)

    assert rendered["y"] == {"list": [1]}
    assert (job, values) == before


def test_a_rendering_that_grows_too_large_is_refused_with_its_path() -> None:
    job = template(LETTERS, x=["{{ a }}"] * 1000)

    with pytest.raises(
        Invalid, match=rf"^job variables: \$\.job_configuration\.x\[5\]: .* more than {MAX_RENDERED} characters"
    ):
        render(job, {"a": "x" * 200_000})


@pytest.mark.parametrize(
    ("job", "values", "told"),
    [
        ([], {}, "base job template: $: a template is an object"),
        (template({}, a="{{ b }}"), {}, "$.job_configuration.a: {{ b }} is no property of variables"),
        (template(), [], "job variables: $: an object of variables is needed; this is a list"),
        (template(), {"a": {1, 2}}, "job variables: $.a: a Python set is no JSON value"),
        (template({"properties": {"a": {"type": "null"}}}), None, "job variables: $: an object of variables is needed"),
    ],
)
def test_what_cannot_be_rendered_is_refused_with_path_and_reason(job: Any, values: Any, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        render(job, values)

    assert told in refused.value.message


def test_values_that_break_the_schema_are_refused_before_anything_is_rendered() -> None:
    with pytest.raises(Invalid, match=r'^job variables: \$\.a: 1 is not of type "string" \(type\)$'):
        job_configuration(template({"properties": {"a": {"type": "string"}}}, x="{{ a }}"), None, {"a": 1})


def plain(node: Any, values: dict[str, Any]) -> Any:
    """The rule of rendering for values that are texts, written naively."""
    if isinstance(node, str):
        if node in {f"{{{{ {name} }}}}" for name in "abc"} | {f"{{{{{name}}}}}" for name in "abc"}:
            return values.get(node.strip("{} "), ...)
        pieces = {"x{{a}}{{ b }}y": lambda: f"x{values.get('a', '')}{values.get('b', '')}y"}
        return pieces.get(node, lambda: node)()
    if isinstance(node, list):
        return [item for item in (plain(item, values) for item in node) if item is not ...]
    if isinstance(node, dict):
        return {
            key: item for key, item in ((key, plain(item, values)) for key, item in node.items()) if item is not ...
        }
    return node


@given(
    st.dictionaries(st.sampled_from("xyz"), CONFIGURATIONS),
    st.dictionaries(st.sampled_from("abc"), st.text(max_size=3) | st.sampled_from(["{{ a }}", "{{"])),
)
def test_rendering_is_one_pass_over_the_template(configuration: dict[str, Any], values: dict[str, Any]) -> None:
    job = template(LETTERS, **configuration)
    assert check(job) == []

    assert render(job, values) == plain(configuration, values)


@given(st.dictionaries(st.sampled_from("xyz"), JSON.filter(lambda value: "{{" not in str(value))), JSON)
def test_a_template_without_placeholders_renders_to_itself(configuration: dict[str, Any], value: Any) -> None:
    assert render(template(LETTERS, **configuration), {"a": value}) == configuration


@given(JSON)
def test_a_sole_placeholder_hands_any_value_through(value: Any) -> None:
    assert render(template(LETTERS, x={"y": ["{{ a }}"]}), {"a": value}) == {"x": {"y": [value]}}


@given(PYTHON, PYTHON, PYTHON)
def test_nothing_but_invalid_comes_of_anything(job: Any, deployment: Any, run: Any) -> None:
    good = template(LETTERS, x="{{ a }} {{ b }}")
    told: list[str] = []
    for rendering in (
        partial(render, job, run),
        partial(job_configuration, job, deployment, run),
        partial(job_configuration, good, deployment, run),
        partial(render, good, {"a": deployment, "b": run}),
    ):
        try:
            rendering()
        except Invalid as refused:
            told.append(refused.message)
    assert all(text.isprintable() for text in told)
