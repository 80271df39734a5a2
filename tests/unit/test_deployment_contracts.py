from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from penstock.contracts.deployments import (
    MAX_SCHEDULES,
    CreateDeployment,
    CreateSchedule,
    DeploymentChanges,
    Schedule,
    ScheduleSpec,
    UpdateDeployment,
    UpdateSchedule,
    flow_id,
)

DEPLOYMENT: dict[str, Any] = {"deployment": "hello/demo", "pool": "etl", "entrypoint": "hello.py:hello"}


@pytest.mark.parametrize(
    ("name", "normal"),
    [("hello/demo", "hello/demo"), ("grüße/数据", "grüße/数据"), ("a b/c", "a b/c"), ("e\u0301/x", "\u00e9/x")],
)
def test_a_name_is_a_flow_and_a_deployment_normalised(name: str, normal: str) -> None:
    assert CreateDeployment.model_validate({**DEPLOYMENT, "deployment": name}).deployment == normal


@pytest.mark.parametrize(
    "name", ["hello", "a/b/c", "/demo", "hello/", " /demo", "", "a%/b", "a/b>", "a/\x00", f"a/{'x' * 201}", None, 7]
)
def test_what_is_no_such_name_is_refused(name: object) -> None:
    with pytest.raises(ValidationError):
        CreateDeployment.model_validate({**DEPLOYMENT, "deployment": name})


def test_a_flow_has_the_same_id_everywhere() -> None:
    assert flow_id("hello") == flow_id("hello")
    assert flow_id("hello") != flow_id("hallo")
    assert len(flow_id("")) == 36


@pytest.mark.parametrize(
    "fields",
    [
        {"entrypoint": None},
        {"command": "ls"},
        {"entrypoint": "hello.py"},
        {"entrypoint": None, "command": []},
        {"entrypoint": None, "command": ""},
        {"entrypoint": f"{'x' * 1000}.py:f"},
        {"retries": -1},
        {"retries": 1001},
        {"retries": "1"},
        {"retry_delay_seconds": -1},
        {"retry_delay_seconds": float("inf")},
        {"retry_delay_seconds": float("nan")},
        {"concurrency_limit": -1},
        {"concurrency_limit": 2**31},
        {"collision_strategy": "wait"},
        {"tags": ["x"] * 101},
        {"tags": "x"},
        {"parameters": []},
        {"parameter_schema": []},
        {"job_variables": None},
        {"queue": "a/b"},
        {"pool": "a/b"},
        {"deployment_id": "7"},
        {"schedules": [{"cron": "* * * * *"}] * (MAX_SCHEDULES + 1)},
        {"schedules": [{"cron": "* * * * *", "slug": "a"}, {"cron": "0 * * * *", "slug": "a"}]},
        {"nonsense": 1},
    ],
)
def test_a_deployment_that_breaks_a_rule_is_refused(fields: dict[str, Any]) -> None:
    CreateDeployment.model_validate(DEPLOYMENT)
    with pytest.raises(ValidationError):
        CreateDeployment.model_validate({**DEPLOYMENT, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cron": "* * * * *", "interval_seconds": 60},
        {"cron": "* * * * *", "rrule": "FREQ=DAILY"},
        {"interval_seconds": 0},
        {"interval_seconds": 0.5},
        {"interval_seconds": 367 * 86_400},
        {"interval_seconds": float("nan")},
        {"interval_seconds": 60, "anchor": "2026-01-01T00:00:00"},
        {"interval_seconds": 60, "anchor": "yesterday"},
        {"cron": "* * * * *", "timezone": "Europe/Atlantis"},
        {"cron": "* * * * *", "timezone": "../../etc/passwd"},
        {"cron": "* * * * *", "timezone": ""},
        {"cron": "* * * * *", "timezone": "a\x00b"},
        {"cron": "*" * 1001},
        {"rrule": "x" * 6501},
        {"cron": "* * * * *", "catch_up": "some"},
        {"cron": "* * * * *", "parameters": None},
        {"cron": "* * * * *", "slug": "x" * 201},
        {"cron": "* * * * *", "max_runs": 1},
        {"cron": "* * * * *", "id": "mine"},
    ],
)
def test_a_schedule_that_breaks_a_rule_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CreateSchedule.model_validate({"deployment": "hello/demo", "schedule": fields})


def test_a_schedule_is_a_spec_with_an_id_and_nothing_else() -> None:
    assert set(Schedule.model_fields) - set(ScheduleSpec.model_fields) == {"id"}
    with pytest.raises(ValidationError):
        Schedule.model_validate({"cron": "* * * * *", "id": "a", "ordinal": 1})


def test_an_update_carries_what_was_given_and_nothing_else() -> None:
    update = UpdateDeployment(deployment="a/b", changes=DeploymentChanges(description=None, retries=0))
    assert update.model_dump()["changes"] == {"description": None, "retries": 0}


@pytest.mark.parametrize(
    "changes",
    [
        {"paused": True},
        {"schedules": []},
        {"name": "c/d"},
        {"revision": 7},
        {"pool": None},
        {"pool": ""},
        {"tags": None},
        {"parameters": None},
        {"retries": None},
        {"command": []},
    ],
)
def test_an_update_changes_no_other_fields_and_gives_no_wrong_ones(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        UpdateDeployment.model_validate({"deployment": "a/b", "changes": changes})


def test_an_update_can_name_every_field_of_a_new_deployment_but_schedules_and_pause() -> None:
    mine = {"deployment", "schedules", "paused", "overwrite", "deployment_id", "type", "id", "deadline"}
    assert set(CreateDeployment.model_fields) - mine == set(DeploymentChanges.model_fields)


def test_a_schedule_is_named_by_something() -> None:
    with pytest.raises(ValidationError):
        UpdateSchedule(deployment="a/b", schedule_id="", active=True)
