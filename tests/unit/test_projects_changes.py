"""What deploying again changed, in words."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.contracts.deployments import Deployment, Schedule
from penstock.projects.changes import differences, other_code

OFTEN = Schedule(id="1", interval_seconds=600, slug="often")
DAILY = Schedule(id="2", cron="@daily")
SIGNATURE = {"properties": {"name": {"type": "string"}, "day": {"type": "integer"}}}


def deployment(**fields: Any) -> Deployment:
    values = {
        "id": "d",
        "name": "hello/demo",
        "flow": "hello",
        "pool": "local",
        "queue": "default",
        "entrypoint": "flows.py:hello",
        "command": None,
        "working_dir": "/a",
        "parameters": {"name": "Ford"},
        "parameter_schema": SIGNATURE,
        "job_variables": {"env": {"TOKEN": "secret"}},
        "tags": ["a", "b c"],
        "description": "Greets.",
        "version": None,
        "concurrency_limit": None,
        "collision_strategy": "enqueue",
        "retries": 2,
        "retry_delay_seconds": 0,
        "paused": False,
        "revision": 1,
        "revised_ms": 1,
        "created": "",
        "updated": "",
        "schedules": [OFTEN, DAILY],
    }
    return Deployment.model_validate(values | fields)


BEFORE = deployment()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"revision": 2, "updated": "now"}, []),
        ({"retries": 0}, ["retries 2 -> 0"]),
        ({"retry_delay_seconds": 1.5}, ["retry delay 0 -> 1.5"]),
        ({"working_dir": "/b"}, ["directory /a -> /b"]),
        ({"pool": "etl", "queue": "fast"}, ["pool local -> etl", "queue default -> fast"]),
        ({"tags": []}, ["tags a 'b c' -> none"]),
        ({"concurrency_limit": 1}, ["concurrency limit none -> 1"]),
        ({"paused": True}, ["paused no -> yes"]),
        (
            {"entrypoint": None, "command": ["a", "b c"]},
            ["entrypoint flows.py:hello -> none", "command none -> a 'b c'"],
        ),
        ({"parameters": {}}, ["parameters: name removed"]),
        ({"parameters": {"name": 5, "day": [1]}}, ["parameters: day added ([1]), name Ford -> 5"]),
        ({"job_variables": {"env": {}}}, ["job variables: env changed"]),
        ({"job_variables": {"cpu": "x"}}, ["job variables: cpu added, env removed"]),
        ({"description": None}, ["description removed"]),
        ({"description": "Says hello."}, ["description changed"]),
        ({"parameter_schema": None}, ["its parameters are not checked any more"]),
        (
            {"parameter_schema": {"properties": {"day": {"type": "string"}, "hour": {}}}},
            ["what the function takes: hour added, name removed, day changed"],
        ),
        ({"parameter_schema": {**SIGNATURE, "required": ["day"]}}, ["what the function takes changed"]),
        ({"schedules": [DAILY]}, ["schedule 'often' removed"]),
        ({"schedules": [OFTEN]}, ["schedule cron '@daily' (UTC) removed"]),
        ({"schedules": [DAILY, OFTEN]}, []),
        (
            {"schedules": [OFTEN.model_copy(update={"interval_seconds": 60}), DAILY]},
            ["schedule 'often': every 10 minutes -> every minute"],
        ),
        (
            {"schedules": [OFTEN.model_copy(update={"id": "9", "active": False}), DAILY]},
            ["schedule 'often': active changed"],
        ),
        (
            {"schedules": [OFTEN, DAILY.model_copy(update={"id": "9", "catch_up": "none"})]},
            ["schedule cron '@daily' (UTC): catch-up changed"],
        ),
        ({"schedules": [OFTEN, DAILY, Schedule(id="3", cron="@hourly")]}, ["schedule cron '@hourly' (UTC) added"]),
    ],
)
def test_each_change_is_a_line(fields: dict[str, Any], told: list[str]) -> None:
    assert differences(BEFORE, deployment(**fields)) == told


def test_what_is_secret_is_not_repeated() -> None:
    assert "secret" not in str(differences(BEFORE, deployment(job_variables={})))


def test_long_values_are_shortened_and_odd_signs_escaped() -> None:
    (told,) = differences(BEFORE, deployment(parameters={"name": "\x1b[31m" + "x" * 500}))

    assert len(told) < 150
    assert "\\x1b[31m" in told


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, ""),
        ({"entrypoint": "flows.py:other"}, ""),
        ({"retries": 0}, ""),
        ({"entrypoint": "b.py:hello"}, "'hello/demo' ran flows.py before; from now on it runs b.py"),
        ({"working_dir": "/b"}, "'hello/demo' ran in /a before; from now on its runs start in /b"),
        (
            {"entrypoint": None, "command": "ls -l"},
            "'hello/demo' ran flows.py before; from now on it runs the command ls -l",
        ),
    ],
)
def test_code_from_somewhere_else_is_said(fields: dict[str, Any], told: str) -> None:
    assert other_code(BEFORE, deployment(**fields)) == told
