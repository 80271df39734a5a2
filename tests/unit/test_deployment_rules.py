from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.deployments import DeploymentChanges, ScheduleSpec
from penstock.errors import Invalid
from penstock.templates import default_template
from services.pool_registry import checks, rules

NOW = datetime(2026, 3, 4, 5, 6, 7, 890_000, tzinfo=UTC)
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "limit": {"type": "integer", "default": None},
        "mode": {"enum": ["fast", "slow"], "default": "fast"},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def spec(**fields: Any) -> ScheduleSpec:
    return ScheduleSpec.model_validate(fields)


def test_what_keeps_future_runs_are_fields_of_a_deployment() -> None:
    assert set(DeploymentChanges.model_fields) > rules.KEEPS_FUTURE_RUNS


@pytest.mark.parametrize("name", sorted({*DeploymentChanges.model_fields, "schedules", "paused"}))
def test_every_change_revises_but_those_that_say_nothing_about_runs(name: str) -> None:
    assert rules.revises([name]) is (name not in rules.KEEPS_FUTURE_RUNS)
    assert rules.revises(["description", name]) is (name not in rules.KEEPS_FUTURE_RUNS)
    assert not rules.revises([])


@pytest.mark.parametrize(
    ("given_fields", "unset"),
    [
        ({}, {}),
        ({"description": "d"}, {}),
        ({"entrypoint": "a.py:a"}, {"command": None}),
        ({"command": "ls"}, {"entrypoint": None}),
        ({"command": ["ls"]}, {"entrypoint": None}),
        ({"command": "ls", "entrypoint": None}, {}),
        ({"entrypoint": None}, {}),
        ({"command": None}, {}),
    ],
)
def test_giving_one_thing_to_run_takes_the_place_of_the_other(
    given_fields: dict[str, Any], unset: dict[str, None]
) -> None:
    assert rules.completed_work(given_fields) == unset


@pytest.mark.parametrize(
    "given_fields",
    [
        {"entrypoint": "a.py:a", "command": "ls"},
        {"entrypoint": None, "command": None},
        {"entrypoint": "a.py"},
        {"entrypoint": "a.py:1a"},
    ],
)
def test_two_things_to_run_none_or_a_wrong_one_are_refused(given_fields: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="entrypoint"):
        rules.completed_work(given_fields)


@pytest.mark.parametrize(
    ("entrypoint", "command", "has_one"),
    [(None, None, False), ("a", None, True), (None, "a", True), ("a", "a", False)],
)
def test_one_thing_to_run_is_exactly_one(entrypoint: str | None, command: str | None, has_one: bool) -> None:
    assert rules.has_one_thing_to_run(entrypoint=entrypoint, command=command) is has_one


@pytest.mark.parametrize("delay", [0, 0.0])
def test_equal_delays_have_equal_texts(delay: float) -> None:
    changes = DeploymentChanges.model_construct(retry_delay_seconds=delay)
    assert rules.texts(changes, ["retry_delay_seconds"]) == ["retry_delay_seconds", "0.0"]


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"name": 7}, r"parameters: \$\.name: .*\(type\)"),
        ({"nmae": "x"}, r"parameters: \$\.nmae: .*\(additionalProperties\)"),
        ({"mode": "late"}, r"parameters: \$\.mode: .*\(enum\)"),
        ({"mode": None}, r"parameters: \$\.mode: .*\(enum\)"),
        ({"name": None}, r"parameters: \$\.name: .*\(type\)"),
    ],
)
def test_parameters_that_do_not_fit_are_named_with_their_rule(parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid, match=told):
        checks.check_parameters(SCHEMA, parameters)


@pytest.mark.parametrize("parameters", [{}, {"name": "x"}, {"limit": None}, {"limit": 3, "mode": "slow"}])
def test_parameters_fit_even_if_required_ones_are_missing(parameters: dict[str, Any]) -> None:
    checks.check_parameters(SCHEMA, parameters)
    checks.check_parameters({"$schema": "https://json-schema.org/draft/2020-12/schema", **SCHEMA}, parameters)


@pytest.mark.parametrize("schema", [None, {}])
def test_without_a_schema_anything_fits_that_is_json(schema: dict[str, Any] | None) -> None:
    checks.check_parameters(schema, {"anything": [{}]})
    with pytest.raises(Invalid, match=r"parameters: \$\.n: .*\(number\)"):
        checks.check_parameters(schema, {"n": 2**70})


def test_parameters_of_a_schedule_are_laid_over_the_deployments() -> None:
    checks.check_parameters(SCHEMA, {"name": "x"}, [spec(cron="* * * * *", parameters={"limit": 3})])
    with pytest.raises(Invalid, match=r"^parameters of schedule 'nightly': \$\.limit: .*\(type\)"):
        checks.check_parameters(
            SCHEMA,
            {"name": "x"},
            [
                spec(cron="* * * * *", parameters={"limit": 3}),
                spec(cron="* * * * *", slug="nightly", parameters={"limit": "3"}),
            ],
        )
    few = {"maxProperties": 1}
    checks.check_parameters(few, {"a": 1}, [spec(cron="* * * * *", parameters={"a": 2})])
    with pytest.raises(Invalid, match=r"^parameters of schedule 1: .*\(maxProperties\)"):
        checks.check_parameters(few, {"a": 1}, [spec(cron="* * * * *", parameters={"b": 2})])
    with pytest.raises(ValueError, match="JSON has no such number"):
        spec(cron="* * * * *", parameters={"n": float("inf")})


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"properties": {"n": {"type": "integr"}}}, r"\$\.properties\.n\.type: "),
        ({"properties": []}, r"\$\.properties: "),
        ({"type": "array"}, r"\$\.type: "),
        ({"required": "name"}, r"\$\.required: "),
        ({"properties": {"n": {"pattern": "("}}}, r"\$\.properties\.n\.pattern: "),
        ({"properties": {"n": {"$ref": "http://example.com"}}}, r"\$\.properties\.n\.\$ref: "),
        ({"properties": {"n": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"$ref": "#/$defs/n"}}}, r"\(recursion\)"),
    ],
)
def test_a_schema_that_is_none_is_refused_with_its_path(schema: dict[str, Any], told: str) -> None:
    with pytest.raises(Invalid, match=f"parameter schema: .*{told}"):
        checks.check_parameters(schema, {})


def test_neither_depth_nor_size_is_unbounded() -> None:
    deep: dict[str, Any] = {}
    for _ in range(200):
        deep = {"properties": {"n": deep}}
    with pytest.raises(Invalid, match="depth"):
        checks.check_parameters(deep, {})
    with pytest.raises(Invalid, match="bytes"):
        checks.check_parameters(None, {"text": "x" * 300_000})


def test_all_levels_of_one_command_share_the_bound_of_work() -> None:
    schema = {"additionalProperties": {"anyOf": [{"const": number} for number in range(100)]}}
    parameters = {str(number): 99 for number in range(500)}
    checks.check_parameters(schema, parameters)
    with pytest.raises(Invalid, match="work"):
        checks.check_parameters(schema, {}, [spec(cron="* * * * *", parameters=parameters)] * 10)


def test_job_variables_must_fit_the_template_of_the_pool_as_far_as_they_go() -> None:
    template = default_template("process")
    checks.check_job_variables(template, {})
    checks.check_job_variables(template, {"env": {"A": "1"}})
    checks.check_job_variables(None, {"anything": 1})
    with pytest.raises(Invalid, match=r"job variables: \$\.env: .*\(type\)"):
        checks.check_job_variables(template, {"env": 7})
    with pytest.raises(Invalid, match="number"):
        checks.check_job_variables(None, {"n": 2**70})


def test_an_anchor_outside_of_the_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="a moment is between 0001-01-03 and 9999-12-29"):
        spec(interval_seconds=60, anchor="0001-01-01T00:00:00+14:00")


def test_equal_schedules_have_equal_rows_whatever_the_zone_of_the_anchor() -> None:
    one = rules.schedule_row(spec(interval_seconds=60, anchor="2026-01-01T02:00:00+02:00"), "id", NOW)
    other = rules.schedule_row(spec(interval_seconds=60.0, anchor="2026-01-01T00:00:00Z"), "id", NOW)
    assert one == other
    assert one.anchor == '"2026-01-01T00:00:00Z"'
    assert one.rest.startswith('"active":true,')


@pytest.mark.parametrize(
    ("fields", "otherwise"),
    [
        ({"interval_seconds": 60}, '"2026-03-04T05:06:07Z"'),
        ({"rrule": "FREQ=DAILY"}, '"2026-03-04T00:00:00Z"'),
        ({"rrule": "FREQ=DAILY", "timezone": "America/New_York"}, '"2026-03-04T05:00:00Z"'),
        ({"rrule": "FREQ=DAILY;COUNT=3"}, '"2026-03-04T05:06:00Z"'),
        ({"rrule": "dtstart:20260101T000000\nRRULE:FREQ=DAILY"}, "null"),
        ({"cron": "* * * * *"}, "null"),
    ],
)
def test_an_interval_begins_this_second_and_a_rule_at_midnight_of_its_zone(
    fields: dict[str, Any], otherwise: str
) -> None:
    row = rules.schedule_row(spec(**fields), "id", NOW)
    assert (row.anchor, row.otherwise) == ("", otherwise)


A, B = '"2026-01-01T00:00:00Z"', '"2026-02-02T00:00:00Z"'
ROWS = st.builds(
    rules.ScheduleRow,
    id=st.uuids().map(str),
    anchor=st.sampled_from(["", A]),
    otherwise=st.sampled_from(["null", B]),
    rest=st.sampled_from("xyz"),
)
KEPT = ROWS.map(rules.new_schedule)


@given(st.lists(KEPT, max_size=6), st.lists(ROWS, max_size=6))
def test_as_many_are_kept_as_are_the_same_and_all_that_were_given_are_there(
    kept: list[rules.KeptSchedule], rows: list[rules.ScheduleRow]
) -> None:
    merged = rules.merged_schedules(kept, rows)

    assert sorted(one.rest for one in merged) == sorted(row.rest for row in rows)
    assert merged == sorted(merged)
    assert set(merged) <= set(kept) | {rules.new_schedule(row) for row in rows}


@given(st.lists(KEPT, max_size=6, unique_by=lambda one: one.id))
def test_giving_what_there_is_changes_nothing(kept: list[rules.KeptSchedule]) -> None:
    rows = [rules.ScheduleRow("new", "", B, one.rest) for one in kept]
    assert rules.merged_schedules(kept, rows) == sorted(kept)


@pytest.mark.parametrize(
    ("anchor", "row", "expected"),
    [
        (A, ("", B), A),
        (A, ("", "null"), "null"),
        ("null", ("", B), B),
        ("null", ("", "null"), "null"),
        (A, (B, "null"), B),
        ("null", (B, "null"), B),
    ],
)
def test_a_replaced_schedule_keeps_its_id_and_counts_from_where_it_did(
    anchor: str, row: tuple[str, str], expected: str
) -> None:
    replaced = rules.replaced_schedule(rules.KeptSchedule("old", anchor, "x"), rules.ScheduleRow("new", *row, "y"))
    assert replaced == rules.KeptSchedule("old", expected, "y")
