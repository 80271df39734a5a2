from __future__ import annotations

from typing import Any

import pytest

from penstock.contracts.pools import DEFAULT_WORKER_TYPE
from penstock.errors import NotFound
from penstock.templates import WORKER_TYPES, check, check_run, default_template, job_configuration, worker_type

PROCESS: dict[str, Any] = {
    "job_configuration": {
        "command": "{{ command }}",
        "env": "{{ env }}",
        "labels": "{{ labels }}",
        "name": "{{ name }}",
        "stream_output": "{{ stream_output }}",
        "working_dir": "{{ working_dir }}",
    },
    "variables": {
        "type": "object",
        "properties": {
            "name": {"title": "Name", "type": "string"},
            "env": {"title": "Environment Variables", "type": "object", "additionalProperties": {"type": "string"}},
            "labels": {"title": "Labels", "type": "object", "additionalProperties": {"type": "string"}},
            "command": {"title": "Command", "type": "string"},
            "stream_output": {"title": "Stream Output", "default": True, "type": "boolean"},
            "working_dir": {"title": "Working Directory", "type": "string", "format": "path"},
        },
    },
}


def test_the_default_template_of_type_process_offers_the_six_variables() -> None:
    template = default_template("process")
    descriptions = [each.pop("description") for each in template["variables"]["properties"].values()]

    assert template == PROCESS
    assert list(template["variables"]["properties"]) == list(PROCESS["variables"]["properties"])
    assert [description[:34] for description in descriptions] == [
        "Name given to infrastructure creat",
        "Environment variables to set when ",
        "Labels applied to infrastructure c",
        "The command to use when starting a",
        "If enabled, workers will stream ou",
        "If provided, workers will open flo",
    ]


def test_by_default_a_process_streams_its_output_and_nothing_else_is_said() -> None:
    assert job_configuration(default_template("process")) == {"stream_output": True}


def test_every_variable_of_a_process_can_be_chosen() -> None:
    deployment = {"stream_output": False, "env": {"A": "1"}, "working_dir": "/srv", "labels": {"team": "etl"}}

    assert job_configuration(
        default_template("process"), deployment, {"env.B": "2", "name": "n", "command": "true"}
    ) == {
        "command": "true",
        "env": {"A": "1", "B": "2"},
        "labels": {"team": "etl"},
        "name": "n",
        "stream_output": False,
        "working_dir": "/srv",
    }


def test_a_wrong_choice_for_a_process_is_refused_with_its_path() -> None:
    wrong = {"stream_output": "yes", "env": {"A": 1}, "working_dir": "", "labels": [], "name": None, "command": ["a"]}

    assert {problem.path for problem in check_run(default_template("process"), wrong)} == {
        *("$.stream_output", "$.env.A", "$.working_dir", "$.labels", "$.name", "$.command")
    }


@pytest.mark.parametrize("name", WORKER_TYPES)
def test_every_known_type_is_described_and_has_a_template_without_problems(name: str) -> None:
    card = worker_type(name)

    assert card.name == name
    assert card.display_name
    assert card.description.endswith(".")
    assert card.base_job_template
    assert check(card.base_job_template) == []


def test_the_type_pools_have_by_default_is_known_and_needs_no_package() -> None:
    assert worker_type(DEFAULT_WORKER_TYPE).package is None


def test_a_template_taken_from_the_registry_may_be_changed() -> None:
    default_template("process")["variables"].clear()

    assert check(default_template("process")) == []
    assert default_template("process")["variables"]


def test_an_unknown_type_is_not_found_and_the_known_ones_are_named() -> None:
    with pytest.raises(NotFound, match="unknown worker type 'proces'") as refused:
        default_template("proces")

    assert "process" in refused.value.hint
