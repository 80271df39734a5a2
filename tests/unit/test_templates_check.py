from __future__ import annotations

import copy
import inspect
import json
import math
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from penstock.errors import Invalid
from penstock.templates import Problem, check, default_template, ensure
from penstock.templates.json_values import MAX_BYTES, MAX_DEPTH
from penstock.templates.placeholders import MAX_PLACEHOLDERS
from penstock.templates.problems import MAX_TOLD
from penstock.templates.schema_language import LEVEL
from penstock.templates.schemas import MAX_SCHEMAS
from penstock.templates.validation import MAX_PATTERN_LENGTH, MAX_PATTERNS, bounded_work, broken_rules

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=20,
)
KEYWORDS = [
    *LEVEL["properties"],
    *(
        "items",
        "not",
        "if",
        "then",
        "additionalProperties",
        "$defs",
        "default",
        "const",
        "$schema",
        "$id",
        "dependencies",
    ),
]
WORDS = st.sampled_from(
    ["string", "object", "integer", "a", "b", "#/$defs/a", "#/$defs/b", "[", "{{ a }}", "{{", "date"]
)
SCHEMAS = st.recursive(
    st.booleans() | st.integers(-2, 3) | st.floats(0, 2) | WORDS,
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.sampled_from(KEYWORDS), below, max_size=4)
        | st.dictionaries(st.sampled_from("ab"), below, max_size=2)
    ),
    max_leaves=25,
)
"""Schemas that are nearly right."""
PYTHON = st.recursive(
    JSON
    | st.binary()
    | st.just(math.nan)
    | st.just(math.inf)
    | st.just(10**4000)
    | st.just("\ud800")
    | st.just(object()),
    lambda below: (
        st.tuples(below)
        | st.lists(below, max_size=3)
        | st.dictionaries(st.integers() | st.text(max_size=3), below, max_size=3)
    ),
    max_leaves=10,
)


def template(variables: Any = None, **configuration: Any) -> dict[str, Any]:
    return {"job_configuration": configuration, "variables": {} if variables is None else variables}


def variable(schema: Any, **more: Any) -> dict[str, Any]:
    """A template with one variable ``a``."""
    return template({"properties": {"a": schema}, **more})


def nested_lists(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def nested_schemas(depth: int) -> Any:
    schema: Any = {"type": "string"}
    for _ in range(depth):
        schema = {"allOf": [schema]}
    return schema


def endless() -> dict[str, Any]:
    value = template()
    value["job_configuration"]["again"] = value
    return value


def chain(length: int) -> dict[str, Any]:
    """A schema that refers to the next, and so on."""
    links = {f"s{number}": {"allOf": [{"$ref": f"#/$defs/s{number + 1}"}]} for number in range(length)}
    return {"properties": {"a": {"$ref": "#/$defs/s0"}}, "$defs": {**links, f"s{length}": {"type": "string"}}}


GOOD = {
    "the empty template": {},
    "two empty sections": template(),
    "the default of type process": default_template("process"),
    "no properties at all": template({"type": "object"}, image="fixed"),
    "a dialect": template({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}),
    "a default of null": variable({"type": "string", "default": None}),
    "a default by reference": variable(
        {"$ref": "#/$defs/size", "default": "small"}, **{"$defs": {"size": {"enum": ["small", "large"]}}}
    ),
    "a reference of the older kind": variable(
        {"$ref": "#/definitions/size"}, definitions={"size": {"type": "integer"}}
    ),
    "two references to one schema": template(
        {"properties": {"a": {"$ref": "#/$defs/x"}, "b": {"$ref": "#/$defs/x"}}, "$defs": {"x": {"type": "integer"}}}
    ),
    "a reference and more beside it": variable({"$ref": "#/$defs/x", "title": "A"}, **{"$defs": {"x": True}}),
    "what looks like a reference but is a value": variable(
        {"default": {"$ref": "#/$defs/ghost"}, "enum": [{"$ref": "#/$defs/ghost"}]}
    ),
    "keywords nobody knows": variable({"x-position": 3, "type": "string"}),
    "formats nobody knows": variable({"format": "password", "default": "x"}),
    "a schema that is true": template({"properties": {"a": True}}, a="{{ a }}"),
    "closing braces alone": template({}, command='echo \'{"a": {"b": 1}}\''),
    "a placeholder between braces": template({"properties": {"a": {}}}, command="{{{ a }}}"),
    "placeholders of any alphabet": template(
        {"properties": {"größe": {}, "a-b": {}, "$x": {}}}, a="{{größe}}{{a-b}} {{ $x }}"
    ),
    "a list in the configuration": template({"properties": {"a": {}}}, args=["--x", "{{ a }}", {"y": ["{{ a }}"]}]),
    "many levels": template({}, deep=nested_lists(MAX_DEPTH - 2)),
    "many levels of schemas": variable(nested_schemas(29)),
    "many references in a row": template(chain(20)),
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
def test_a_good_template_has_no_problems(good: Any) -> None:
    assert check(good) == []


A = "$.variables.properties.a"
C = "$.job_configuration"
BAD: list[tuple[str, Any, str, str, str]] = [
    # what is wrong, the template, the path, the rule, words of the reason
    ("a list", [], "$", "type", "this is a list"),
    ("a number", 5, "$", "type", "this is a number"),
    ("a text", "{}", "$", "type", "this is a text"),
    ("null", None, "$", "type", "this is null"),
    ("a truth value", True, "$", "type", "this is true or false"),
    ("no JSON at all", object(), "$", "type", "a Python object"),
    ("no variables", {"job_configuration": {}}, "$.variables", "required", "the section is missing"),
    ("no job configuration", {"variables": {}}, "$.job_configuration", "required", "the section is missing"),
    ("variables as a list", template([]), "$.variables", "type", "a section is an object; this is a list"),
    ("variables as null", {"job_configuration": {}, "variables": None}, "$.variables", "type", "this is null"),
    (
        "configuration as a text",
        {"job_configuration": "x", "variables": {}},
        "$.job_configuration",
        "type",
        "this is a text",
    ),
    ("one section too many", {**template(), "varaibles": {}}, "$.varaibles", "section", "no other"),
    ("too large", template({}, a="x" * MAX_BYTES), "$", "size", f"at most {MAX_BYTES} bytes"),
    ("5 MB", template({}, a=["x"] * 1_300_000), "$", "size", f"at most {MAX_BYTES} bytes"),
    ("too deep", template({}, a=nested_lists(MAX_DEPTH - 1)), C + ".a" + "[0]" * 62, "depth", "nested deeper than 64"),
    ("endless", endless(), "$" + ".job_configuration.again" * 32, "depth", "nested deeper than 64"),
    ("a number that is none", template({}, a=math.nan), C + ".a", "number", "no number that is none"),
    ("an infinite number", template({}, a=[-math.inf]), C + ".a[0]", "number", "no infinite number"),
    ("a number of 65 bits", template({}, a=2**64), C + ".a", "number", "does not fit 64 bits"),
    ("a number of 4000 digits", template({}, a=10**4000), C + ".a", "number", "does not fit 64 bits"),
    ("half a character", template({}, a="\ud800"), C + ".a", "text", "UTF-8 cannot spell"),
    ("half a character in a key", template({}, **{"\ud800": 1}), C + "['\\ud800']", "text", "UTF-8 cannot"),
    ("a tuple", template({}, a=(1,)), C + ".a", "json", "a Python tuple is no JSON value"),
    ("bytes", template({}, a=b"x"), C + ".a", "json", "a Python bytes is no JSON value"),
    ("a key that is a number", {**template(), "variables": {1: 2}}, "$.variables", "json", "a key that is a number"),
    ("an undeclared placeholder", template({}, a="{{ b }}"), C + ".a", "undeclared", "{{ b }} is no property"),
    ("one deep inside", template({}, a=[{"b": "x {{ c }}"}]), C + ".a[0].b", "undeclared", "{{ c }} is no"),
    (
        "a mistyped one",
        template({"properties": {"image": {}}}, a="{{ imgae }}"),
        C + ".a",
        "undeclared",
        "did you mean {{ image }}?",
    ),
    (
        "a part of a variable",
        template({"properties": {"a": {}}}, x="{{ a.b }}"),
        C + ".x",
        "undeclared",
        "not for a part",
    ),
    (
        "an item of a variable",
        template({"properties": {"a": {}}}, x="{{ a[0] }}"),
        C + ".x",
        "undeclared",
        "not for a part",
    ),
    ("a dunder", template({}, x="{{ a.__class__.__mro__ }}"), C + ".x", "undeclared", "not for a part"),
    ("an expression", template({"properties": {"a": {}}}, x="{{ a + 1 }}"), C + ".x", "placeholder", "no expression"),
    ("a filter", template({"properties": {"a": {}}}, x="{{ a|upper }}"), C + ".x", "placeholder", "no expression"),
    ("a call", template({}, x="{{ open('x') }}"), C + ".x", "placeholder", "no expression"),
    ("an empty placeholder", template({}, x="{{ }}"), C + ".x", "placeholder", "no expression"),
    (
        "one that is not closed",
        template({"properties": {"a": {}}}, x="{{ a }"),
        C + ".x",
        "placeholder",
        "no expression",
    ),
    (
        "one in a key",
        template({"properties": {"a": {}}}, **{"{{ a }}": 1}),
        C + "['{{ a }}']",
        "placeholder-in-key",
        "not in keys",
    ),
    (
        "too many",
        template({"properties": {"a": {}}}, x=["{{ a }}"] * (MAX_PLACEHOLDERS + 1)),
        C + ".x[1000]",
        "placeholders",
        "more than 1000",
    ),
    (
        "variables of another type",
        template({"type": "array"}),
        "$.variables.type",
        "type",
        "the properties of an object",
    ),
    ("an unknown type", variable({"type": "strin"}), A + ".type", "anyOf", '"strin" is none of "array"'),
    ("a type that is a number", variable({"type": 5}), A + ".type", "anyOf", "5 is none of"),
    ("a schema that is a number", variable(5), A, "type", "a schema is an object, true or false; this is a number"),
    (
        "properties as a list",
        template({"properties": ["a"]}),
        "$.variables.properties",
        "type",
        '["a"] is not of type "object"',
    ),
    ("items as a list", variable({"items": [{}, {}]}), A + ".items", "type", "this is a list"),
    ("a negative length", variable({"minLength": -1}), A + ".minLength", "minimum", "-1 is less than 0"),
    ("a bound that is a text", variable({"maximum": "5"}), A + ".maximum", "type", '"5" is not of type "number"'),
    (
        "a bound of an older draft",
        variable({"exclusiveMinimum": True}),
        A + ".exclusiveMinimum",
        "type",
        "true is not of type",
    ),
    (
        "a multiple of nothing",
        variable({"multipleOf": 0}),
        A + ".multipleOf",
        "exclusiveMinimum",
        "0 is not greater than 0",
    ),
    ("an enum that is no list", variable({"enum": "ab"}), A + ".enum", "type", '"ab" is not of type "array"'),
    ("required as a text", template({"required": "a"}), "$.variables.required", "type", '"a" is not of type "array"'),
    ("required twice", template({"required": ["a", "a"]}), "$.variables.required", "uniqueItems", "has equal items"),
    ("required as truth", variable({"required": True}), A + ".required", "type", "true is not of type"),
    ("no alternative", variable({"anyOf": []}), A + ".anyOf", "minItems", "[] has fewer than 1 items"),
    ("a title that is a number", variable({"title": 1}), A + ".title", "type", '1 is not of type "string"'),
    ("a dotted name", template({"properties": {"a.b": {}}}), "$.variables.properties['a.b']", "name", "has no dots"),
    ("a remote reference", variable({"$ref": "https://example.com/x.json"}), A + ".$ref", "$ref", "only #/$defs/NAME"),
    ("a file", variable({"$ref": "file:///etc/passwd"}), A + ".$ref", "$ref", "only #/$defs/NAME"),
    ("a reference to the whole", variable({"$ref": "#"}), A + ".$ref", "$ref", "only #/$defs/NAME"),
    ("a reference to a property", variable({"$ref": "#/properties/a"}), A + ".$ref", "$ref", "only #/$defs/NAME"),
    ("a reference to nothing", variable({"$ref": "#/$defs/ghost"}), A + ".$ref", "$ref", "does not exist"),
    (
        "a misspelt reference",
        variable({"$ref": "#/$defs/y"}, **{"$defs": {"x": {}}}),
        A + ".$ref",
        "$ref",
        "does not exist",
    ),
    (
        "a part of a named schema",
        variable({"$ref": "#/$defs/x/y"}, **{"$defs": {"x": {}}}),
        A + ".$ref",
        "$ref",
        "only #/",
    ),
    (
        "one that ends like ours",
        variable({"$ref": "x#/$defs/x"}, **{"$defs": {"x": {}}}),
        A + ".$ref",
        "$ref",
        "only #/",
    ),
    ("a reference that is a number", variable({"$ref": 1}), A + ".$ref", "type", "1 is not of type"),
    (
        "a recursive reference",
        variable({"$ref": "#/$defs/x"}, **{"$defs": {"x": {"items": {"$ref": "#/$defs/x"}}}}),
        "$.variables.$defs.x.items.$ref",
        "recursion",
        "#/$defs/x -> #/$defs/x",
    ),
    (
        "a recursion of two",
        template({"$defs": {"x": {"$ref": "#/definitions/y"}}, "definitions": {"y": {"not": {"$ref": "#/$defs/x"}}}}),
        "",
        "recursion",
        "#/$defs/x -> #/definitions/y",
    ),
    (
        "too many references in a row",
        template(chain(40)),
        "$.variables.$defs.s",
        "depth",
        "with its references it is nested deeper than 64",
    ),
    ("an address", variable({"$id": "https://example.com/"}), A + ".$id", "keyword", "no address of its own"),
    ("an anchor", variable({"$anchor": "x"}), A + ".$anchor", "keyword", "refer to #/$defs/NAME"),
    ("a dynamic reference", variable({"$dynamicRef": "#x"}), A + ".$dynamicRef", "keyword", "refer to #/$defs/NAME"),
    (
        "another dialect",
        template({"$schema": "http://json-schema.org/draft-07/schema#"}),
        "$.variables.$schema",
        "$schema",
        "the dialect is",
    ),
    (
        "a dialect inside",
        variable({"$schema": "https://json-schema.org/draft/2020-12/schema"}),
        A + ".$schema",
        "keyword",
        "at the top",
    ),
    (
        "what cannot be bounded",
        variable({"unevaluatedProperties": False}),
        A + ".unevaluatedProperties",
        "keyword",
        "say `additionalProperties`",
    ),
    (
        "a keyword of an older draft",
        variable({"dependencies": {}}),
        A + ".dependencies",
        "keyword",
        "say `dependentRequired`",
    ),
    ("a broken pattern", variable({"pattern": "("}), A + ".pattern", "pattern", "unclosed group"),
    ("a pattern that looks around", variable({"pattern": "(?=a)"}), A + ".pattern", "pattern", "look-around"),
    (
        "a pattern that looks back",
        variable({"pattern": r"(a)\1"}),
        A + ".pattern",
        "pattern",
        "backreferences are not supported",
    ),
    ("a huge pattern", variable({"pattern": "((a{999}){999}){99}"}), A + ".pattern", "pattern", "exceeds size limit"),
    ("a long pattern", variable({"pattern": "a" * (MAX_PATTERN_LENGTH + 1)}), A + ".pattern", "pattern", "at most 500"),
    (
        "a broken pattern as a key",
        variable({"patternProperties": {"[": {}}}),
        A + ".patternProperties['[']",
        "pattern",
        "unclosed character class",
    ),
    (
        "too many patterns",
        template({"properties": {f"p{n}": {"pattern": "x"} for n in range(MAX_PATTERNS + 1)}}),
        "$.variables.properties.p20.pattern",
        "patterns",
        "at most 20",
    ),
    (
        "too many schemas",
        template({"properties": {f"p{n}": {} for n in range(MAX_SCHEMAS)}}),
        "$.variables",
        "schemas",
        "more than 1000",
    ),
    (
        "a default of the wrong type",
        variable({"type": "integer", "default": "5"}),
        A + ".default",
        "type",
        '"5" is not of type "integer"',
    ),
    (
        "truth as a number",
        variable({"type": "integer", "default": True}),
        A + ".default",
        "type",
        "true is not of type",
    ),
    (
        "a default out of bounds",
        variable({"maximum": 3, "default": 4}),
        A + ".default",
        "maximum",
        "4 is greater than 3",
    ),
    (
        "a default that is no choice",
        variable({"enum": ["x", "y"], "default": "z"}),
        A + ".default",
        "enum",
        '"z" is none of "x", "y"',
    ),
    (
        "a default without its format",
        variable({"format": "date", "default": "2030-02-30"}),
        A + ".default",
        "format",
        'the format "date"',
    ),
    (
        "a part of a default",
        variable({"additionalProperties": {"type": "string"}, "default": {"X": 1}}),
        A + ".default.X",
        "type",
        "1 is not of type",
    ),
    (
        "a default inside",
        variable({"properties": {"b": {"type": "string", "default": []}}}),
        A + ".properties.b.default",
        "type",
        "[] is not of type",
    ),
    (
        "a default by reference",
        variable({"$ref": "#/$defs/x", "default": 1}, **{"$defs": {"x": {"type": "string"}}}),
        A + ".default",
        "type",
        "1 is not of type",
    ),
    (
        "a default nothing fits",
        variable({"anyOf": [{"type": "string"}, {"minimum": 2}], "default": 1}),
        A + ".default",
        "anyOf",
        '1 is not of type "string"; 1 is less than 2',
    ),
    (
        "a default two fit",
        variable({"oneOf": [{"type": "integer"}, {"minimum": 1}], "default": 1}),
        A + ".default",
        "oneOf",
        "more than one of the alternatives",
    ),
    (
        "a default nothing may have",
        template({"properties": {"a": {"not": {}, "default": 1}}}),
        A + ".default",
        "not",
        "what `not` forbids",
    ),
    (
        "a default that misses something",
        variable({"required": ["b"], "default": {}}),
        A + ".default.b",
        "required",
        "required and missing",
    ),
    (
        "a default of all variables",
        template({"properties": {"a": {"type": "string"}}, "default": {"a": 1}}),
        "$.variables.default.a",
        "type",
        "1 is not of type",
    ),
]


@pytest.mark.parametrize(("bad", "path", "rule", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_wrong_template_is_told_with_path_rule_and_reason(bad: Any, path: str, rule: str, reason: str) -> None:
    problems = check(bad)

    assert [
        problem
        for problem in problems
        if problem.path.startswith(path) and problem.rule == rule and reason in problem.message
    ]
    assert all(str(problem).isprintable() for problem in problems)
    with pytest.raises(Invalid, match=r"^base job template: \$") as refused:
        ensure(bad)
    assert refused.value.hint


def test_a_wrong_template_has_no_more_problems_than_it_has() -> None:
    few = {"a recursion of two", "too large", "5 MB", "no variables", "an unknown type"}
    assert {case[0]: len(check(case[1])) for case in BAD if case[0] in few} == dict.fromkeys(few, 1)


def test_every_problem_is_told_at_once() -> None:
    bad = {
        "job_configuration": {"image": "{{ imgae }}", "args": ["{{ x }}", "{{ 1 + 1 }}"]},
        "variables": {"properties": {"image": {"type": "strin", "minLength": -1}}, "required": "image"},
        "extra": 1,
    }

    assert [(problem.path, problem.rule) for problem in check(bad)] == [
        ("$.extra", "section"),
        ("$.variables.required", "type"),
        ("$.variables.properties.image.type", "anyOf"),
        ("$.variables.properties.image.minLength", "minimum"),
        ("$.job_configuration.args[1]", "placeholder"),
        ("$.job_configuration.image", "undeclared"),
        ("$.job_configuration.args[0]", "undeclared"),
    ]


def test_a_refusal_names_the_first_problems_and_counts_the_rest() -> None:
    bad = template({}, **{f"k{number}": "{{ x }}" for number in range(MAX_TOLD + 3)})

    with pytest.raises(Invalid) as refused:
        ensure(bad)

    assert (
        "$.job_configuration.k0: {{ x }} is no property of variables (undeclared); $.job_conf" in refused.value.message
    )
    assert refused.value.message.endswith("; and 3 more")


def test_a_cycle_is_told_once_and_so_is_every_other() -> None:
    loops = {
        "a": {"$ref": "#/$defs/a"},
        "b": {"$ref": "#/$defs/c"},
        "c": {"$ref": "#/$defs/b"},
        "d": {"$ref": "#/$defs/b"},
    }

    problems = check(template({"$defs": loops}))

    assert [problem.rule for problem in problems] == ["recursion", "recursion"]
    assert problems[0].path == "$.variables.$defs.a.$ref"


def test_schemas_that_multiply_by_reference_end_in_bounded_work() -> None:
    laughs: dict[str, Any] = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 9} for n in range(9)}
    bad = variable({"$ref": "#/$defs/s0", "default": 1}, **{"$defs": {**laughs, "s9": {"type": "integer"}}})

    assert [(problem.path, problem.rule) for problem in check(bad)] == [(A + ".default", "work")]


def test_a_structure_that_multiplies_by_sharing_is_too_large() -> None:
    shared: list[Any] = []
    for _ in range(60):
        shared = [shared, shared]

    assert [(problem.path, problem.rule) for problem in check(template({}, a=shared))] == [("$", "size")]


def test_defaults_wait_until_the_schemas_are_in_order() -> None:
    assert [problem.rule for problem in check(variable({"type": "strin", "default": 5}))] == ["anyOf"]


@pytest.mark.parametrize(
    "keyword",
    [
        *(
            "$defs",
            "additionalProperties",
            "allOf",
            "anyOf",
            "contains",
            "contentSchema",
            "definitions",
            "dependentSchemas",
        ),
        *(
            "else",
            "if",
            "items",
            "not",
            "oneOf",
            "patternProperties",
            "prefixItems",
            "properties",
            "propertyNames",
            "then",
        ),
    ],
)
def test_schemas_inside_schemas_are_checked_wherever_they_stand(keyword: str) -> None:
    wrong: Any = {"minLength": -1}
    step = ""
    if keyword in {"allOf", "anyOf", "oneOf", "prefixItems"}:
        wrong, step = [True, wrong], "[1]"
    if keyword in {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"}:
        wrong, step = {"b": wrong}, ".b"

    assert [problem.path for problem in check(variable({keyword: wrong}))] == [f"{A}.{keyword}{step}.minLength"]


def test_a_pattern_that_others_backtrack_on_is_matched_at_once() -> None:
    assert check(variable({"pattern": "^(a+)+$", "default": "a" * 100_000}))[:1] == []
    assert [problem.rule for problem in check(variable({"pattern": "^(a+)+$", "default": "a" * 100_000 + "b"}))] == [
        "pattern"
    ]


def test_a_number_python_itself_refuses_to_spell_is_only_a_problem() -> None:
    assert [problem.rule for problem in check(template({}, a=10**5000))] == ["number"]


def test_the_deepest_schema_allowed_needs_no_deep_stack() -> None:
    deepest = variable(nested_schemas(29), **{"$defs": {}})
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 400)
    try:
        deepest["variables"]["properties"]["a"]["default"] = "x"
        assert check(deepest) == []
        assert check(template(chain(20), a="{{ a }}", deep=nested_lists(MAX_DEPTH - 2))) == []
    finally:
        sys.setrecursionlimit(limit)


def test_a_terminal_never_sees_a_control_character_of_a_template() -> None:
    bad = template({"properties": {"\x1b[31m": {"type": "\x9b31m"}}}, **{"\x1b]0;x\x07": "{{ \x1b }} \u202e"})

    assert len(check(bad)) == 2
    assert all(str(problem).isprintable() for problem in check(bad))


def test_checking_changes_nothing() -> None:
    for given_template in [
        *GOOD.values(),
        *(case[1] for case in BAD if isinstance(case[1], dict) and case[0] != "endless"),
    ]:
        before = copy.deepcopy(given_template)
        check(given_template)
        assert repr(given_template) == repr(before)


def test_a_template_changed_after_its_check_is_checked_again() -> None:
    changing = template({"properties": {"a": {}}}, x="{{ a }}")
    assert check(changing) == []

    del changing["variables"]["properties"]["a"]

    assert [problem.rule for problem in check(changing)] == ["undeclared"]


@given(JSON | PYTHON | st.fixed_dictionaries({"job_configuration": PYTHON, "variables": PYTHON}))
def test_nothing_but_problems_comes_of_any_value(value: Any) -> None:
    problems = check(value)

    assert all(isinstance(problem, Problem) and problem.path.startswith("$") for problem in problems)
    assert all(str(problem).isprintable() for problem in problems)


@given(SCHEMAS, SCHEMAS)
def test_nothing_but_problems_comes_of_a_nearly_right_schema(schema: Any, configuration: Any) -> None:
    for bad in (template(schema), variable(schema), {"job_configuration": configuration, "variables": schema}):
        assert all(isinstance(problem, Problem) for problem in check(bad))


@given(st.dictionaries(st.sampled_from(list(LEVEL["properties"])), SCHEMAS | JSON, max_size=4))
def test_one_level_is_judged_as_the_standard_judges_it(level: dict[str, Any]) -> None:
    """Levels below are visited one by one, so here they are replaced by what is always a schema."""
    shallow = json.loads(json.dumps(level))
    for keyword, rule in shallow.items():
        if keyword in {"allOf", "anyOf", "oneOf", "prefixItems"} and isinstance(rule, list):
            shallow[keyword] = [True] * len(rule)
        if keyword in {"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"} and isinstance(
            rule, dict
        ):
            shallow[keyword] = dict.fromkeys(rule, True)

    with bounded_work():
        ours = not list(broken_rules(shallow, LEVEL, LEVEL))

    assert ours == Draft202012Validator(Draft202012Validator.META_SCHEMA).is_valid(shallow)
