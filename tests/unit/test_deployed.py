from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.client.deployed import deployed_run
from penstock.client.runs import prepare
from penstock.contracts.deployments import Deployment
from penstock.contracts.runs import ScheduledBy
from penstock.errors import Invalid

ID = "1f0f3c9e-6a5d-4f57-9d58-0c8f3c1b2a11"
SCHEDULE = "2f0f3c9e-6a5d-4f57-9d58-0c8f3c1b2a22"


def deployment(**fields: Any) -> Deployment:
    whole: dict[str, Any] = {
        "id": ID,
        "name": "hello/demo",
        "flow": "hello",
        "pool": "etl",
        "queue": "critical",
        "entrypoint": "hello.py:hello",
        "command": None,
        "working_dir": "/srv/flows",
        "parameters": {},
        "parameter_schema": None,
        "job_variables": {},
        "tags": [],
        "description": None,
        "version": None,
        "concurrency_limit": None,
        "collision_strategy": "enqueue",
        "retries": 0,
        "retry_delay_seconds": 0,
        "paused": False,
        "revision": 1,
        "revised_ms": 0,
        "created": "2026-01-01T00:00:00Z",
        "updated": "2026-01-01T00:00:00Z",
    }
    return Deployment.model_validate(whole | fields)


def test_a_run_has_what_its_deployment_says() -> None:
    run = deployed_run(deployment(retries=3, retry_delay_seconds=7.5))

    assert (run.entrypoint, run.command, run.working_dir) == ("hello.py:hello", None, "/srv/flows")
    assert (run.queue, run.deployment) == ("critical", ID)
    assert (run.retries, run.retry_delay_seconds) == (3, 7.5)
    assert (run.name, run.scheduled_time, run.scheduled_by, run.idempotency_key) == (None, None, None, None)


def test_a_deployed_command_is_run_as_it_is() -> None:
    run = deployed_run(deployment(entrypoint=None, command=["python", "-m", "load"]))

    assert (run.entrypoint, run.command) == (None, ["python", "-m", "load"])


def test_what_the_run_says_itself_is_carried_along() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    by = ScheduledBy(schedule=SCHEDULE, revision=4)

    run = deployed_run(deployment(), run_name="one", scheduled_time=moment, idempotency_key="k", scheduled_by=by)

    assert (run.name, run.scheduled_time, run.idempotency_key, run.scheduled_by) == ("one", moment, "k", by)


def test_a_run_wins_parameter_by_parameter_and_not_deeper() -> None:
    one = deployment(parameters={"name": "Marvin", "options": {"a": 1, "b": 2}, "day": 1})

    run = deployed_run(one, parameters={"day": 2, "options": {"a": 3}})

    assert run.parameters == {"name": "Marvin", "options": {"a": 3}, "day": 2}
    assert one.parameters == {"name": "Marvin", "options": {"a": 1, "b": 2}, "day": 1}


def test_null_is_a_value_and_wins() -> None:
    assert deployed_run(deployment(parameters={"name": "Marvin"}), parameters={"name": None}).parameters == {
        "name": None
    }


@pytest.mark.parametrize(
    ("deployed", "own", "merged"),
    [
        ({"stream_output": False}, {}, {"stream_output": False}),
        ({}, {"stream_output": False}, {"stream_output": False}),
        ({"cpu": 1, "image": "a"}, {"cpu": 2}, {"cpu": 2, "image": "a"}),
        ({"labels": {"a": "1"}}, {"labels": {"b": "2"}}, {"labels": {"b": "2"}}),
        ({"env": {"A": "1", "B": "1"}}, {"env": {"B": "2"}}, {"env": {"A": "1", "B": "2"}}),
        ({"env": {"A": "1"}}, {"env.B": "2"}, {"env": {"A": "1", "B": "2"}}),
        ({"env.A": "1"}, {"env": {"B": "2"}}, {"env": {"A": "1", "B": "2"}}),
        ({"env.A": "1"}, {"env.A": "2"}, {"env": {"A": "2"}}),
    ],
)
def test_job_variables_win_as_a_whole_but_the_environment_key_by_key(
    deployed: dict[str, Any], own: dict[str, Any], merged: dict[str, Any]
) -> None:
    assert deployed_run(deployment(job_variables=deployed), job_variables=own).job_variables == merged


def test_a_dotted_job_variable_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(Invalid, match="cpu"):
        deployed_run(deployment(job_variables={"cpu": 1}), job_variables={"cpu": 1, "cpu.cores": 2})


def test_tags_are_added_and_none_comes_twice() -> None:
    assert deployed_run(deployment(tags=["nightly", "etl"]), tags=["trial", "etl"]).tags == ["nightly", "etl", "trial"]


def test_a_resolved_run_can_be_submitted() -> None:
    by = ScheduledBy(schedule=SCHEDULE, revision=4, catch_up="latest")
    one = deployed_run(deployment(retries=2, tags=["a"]), idempotency_key="k", scheduled_by=by)

    (run,) = prepare([one], 0)

    assert (run.deployment, run.scheduled_by, run.idempotency_key, run.retries) == (ID, by, "k", 2)
    assert (run.queue, run.spec.tags, run.spec.working_dir) == ("critical", ["a"], "/srv/flows")
