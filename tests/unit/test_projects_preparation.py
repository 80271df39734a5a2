"""From drafts to definitions: everything that can be said to be wrong before anything is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from penstock.contracts.deployments import ScheduleSpec
from penstock.errors import Refused
from penstock.projects.drafts import Draft
from penstock.projects.preparation import Prepared, prepare, relative_entrypoint

if TYPE_CHECKING:
    from pathlib import Path

CODE = '''
def load(day: str, count: int = 1):
    """Load a day."""

def store(): ...

def some(**more): ...
'''
DAILY = ScheduleSpec(cron="0 6 * * *")


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    (tmp_path / "etl.py").write_text(CODE)
    return Draft(project=tmp_path, name="nightly", entrypoint="etl.py:load", pool="etl")


def one(draft: Draft, **changes: Any) -> Prepared:
    (found,) = prepare([replace(draft, **changes)])
    return found


def refused(*drafts: Draft) -> str:
    with pytest.raises(Refused) as caught:
        prepare(drafts)
    return f"{caught.value.message} | {caught.value.hint}"


def test_a_draft_becomes_a_definition(draft: Draft) -> None:
    found = one(draft, parameters={"day": "x"}, schedules=[DAILY])

    assert (found.name, found.pool, found.warnings) == ("load/nightly", "etl", [])
    schema = found.definition.pop("parameter_schema")
    assert list(schema["properties"]) == ["day", "count"]
    assert found.definition == {
        "entrypoint": "etl.py:load",
        "command": None,
        "working_dir": str(draft.project),
        "parameters": {"day": "x"},
        "job_variables": {},
        "tags": [],
        "description": "Load a day.",
        "version": None,
        "concurrency_limit": None,
        "collision_strategy": "enqueue",
        "retries": 0,
        "retry_delay_seconds": 0,
        "schedules": [DAILY],
        "paused": None,
        "queue": "default",
    }


def test_names_come_from_the_draft_then_from_the_code(draft: Draft) -> None:
    assert one(draft, name=None).name == "load/default"
    assert one(draft, flow="Big load").name == "Big load/nightly"
    assert one(draft, name="big/nightly").name == "big/nightly"


def test_a_description_of_ones_own_wins(draft: Draft) -> None:
    assert one(draft, description="").definition["description"] == ""


def test_a_command_needs_the_name_of_a_flow(draft: Draft) -> None:
    command = replace(draft, entrypoint=None, command=["ls"], where="prefect.yaml:2")

    assert refused(command) == (
        "prefect.yaml:2: a command has no function to name its flow after | name it with --flow (flow_name)"
    )
    found = one(command, flow="list", parameters={"a": 1})
    assert (found.name, found.definition["parameter_schema"]) == ("list/nightly", None)


def test_a_parameter_the_function_does_not_take_is_refused_by_name(draft: Draft) -> None:
    assert refused(replace(draft, where="prefect.yaml:2", parameters={"dya": "x"})) == (
        "prefect.yaml:2: parameters of 'load/nightly': there is no parameter 'dya', did you mean 'day'? | "
        "its parameters: day (string, required), count (integer)"
    )
    assert "'count' does not fit" in refused(replace(draft, parameters={"count": "many"}))


def test_a_function_that_takes_more_keywords_takes_any(draft: Draft) -> None:
    assert one(draft, entrypoint="etl.py:some", parameters={"x": 1}).definition["parameters"] == {"x": 1}


def test_parameters_are_not_checked_where_the_schema_is_not_enforced(draft: Draft) -> None:
    found = one(draft, enforce=False, parameters={"dya": 1}, schedules=[DAILY])

    assert found.definition["parameter_schema"] is None


def test_what_looks_like_a_number_is_a_text_where_a_text_is_expected(draft: Draft) -> None:
    found = one(draft, parameters={"day": 5, "count": 5}, texts={"day": "5", "count": "5"})

    assert found.definition["parameters"] == {"day": "5", "count": 5}
    assert "'day' does not fit" in refused(replace(draft, parameters={"day": 5}))


def test_a_schedule_all_runs_of_which_would_fail_is_refused(draft: Draft) -> None:
    assert refused(replace(draft, schedules=[DAILY])) == (
        "every run of schedule 1 (cron '0 6 * * *' (UTC)) of 'load/nightly' would fail: 'day' has no value | "
        "give it one (--param day=...), or a default in the function"
    )
    own = ScheduleSpec(cron="0 6 * * *", slug="own", parameters={"day": "x"})
    assert one(draft, schedules=[own]).definition["schedules"] == [own]
    assert "every run of schedule 2 (cron '0 6 * * *' (UTC))" in refused(replace(draft, schedules=[own, DAILY]))
    wrong = ScheduleSpec(cron="0 6 * * *", slug="own", parameters={"day": "x", "coumt": 1})
    assert "parameters of schedule 'own' of 'load/nightly': there is no parameter 'coumt'" in refused(
        replace(draft, schedules=[wrong])
    )


def test_without_schedules_a_required_parameter_may_be_left_to_the_run(draft: Draft) -> None:
    assert one(draft).definition["parameters"] == {}


def test_the_rules_for_schedules_also_hold_where_only_the_names_of_parameters_are_known(draft: Draft) -> None:
    (draft.project / "etl.py").write_text(f"import nowhere\n{CODE}")

    assert "'day' has no value" in refused(replace(draft, schedules=[DAILY]))
    assert "there is no parameter 'dya'" in refused(replace(draft, parameters={"dya": "x"}))
    found = one(draft, parameters={"day": "x"}, schedules=[DAILY])
    assert found.definition["parameter_schema"] is None
    assert len(found.warnings) == 1


def test_the_same_deployment_twice_is_refused_with_both_places(draft: Draft) -> None:
    first, second = replace(draft, where="prefect.yaml:2"), replace(draft, where="prefect.yaml:9")

    assert refused(first, second) == (
        "prefect.yaml:9: the deployment 'load/nightly' is here twice, at prefect.yaml:2 | give one of them another name"
    )
    assert [one.name for one in prepare([first, replace(second, entrypoint="etl.py:store")])] == [
        "load/nightly",
        "store/nightly",
    ]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "a%b"}, "contains %"),
        ({"name": " "}, "a name must not be blank"),
        ({"flow": "a/b"}, "is not of the form flow/deployment"),
        ({"concurrency_limit": -1}, "concurrency_limit"),
        ({"retries": -1}, "retries"),
        ({"retry_delay_seconds": -1}, "retry_delay_seconds"),
        ({"queue": "a/b"}, "contains /"),
        ({"pool": "a/b"}, "contains /"),
        ({"entrypoint": "etl.py:stor"}, "etl.py has no function 'stor' | did you mean 'store'?"),
        (
            {"schedules": [ScheduleSpec(cron="0 6 * * *", slug="a", parameters={"day": "x"})] * 2},
            "two schedules have the slug 'a'",
        ),
    ],
)
def test_what_breaks_a_rule_is_told_with_its_place(draft: Draft, changes: dict[str, Any], told: str) -> None:
    message = refused(replace(draft, where="prefect.yaml:7", **changes))

    assert message.startswith("prefect.yaml:7: ")
    assert told in message


def test_an_entrypoint_is_relative_to_the_directory_it_runs_in(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()

    def spelled(entrypoint: str, working_dir: str | None = None) -> str:
        return relative_entrypoint(entrypoint, tmp_path, working_dir)

    assert spelled("flows/./a.py:f") == "flows/a.py:f"
    assert spelled(f"{tmp_path}/flows/a.py:f") == "flows/a.py:f"
    assert spelled("../a.py:f") == f"{tmp_path.parent}/a.py:f"
    assert spelled("flows/a.py:f", str(tmp_path / "flows")) == "a.py:f"
    assert spelled("a.py:f", str(tmp_path / "flows")) == f"{tmp_path}/a.py:f"
    assert spelled("flows/a.py:f", "/no/such/directory") == "flows/a.py:f"


def test_the_working_directory_is_absolute_and_may_come_from_the_job_variables(draft: Draft) -> None:
    assert one(draft, working_dir="/srv").definition["working_dir"] == "/srv"
    assert one(draft, working_dir="sub").definition["working_dir"] == str(draft.project / "sub")
    found = one(draft, job_variables={"working_dir": "/srv"})
    assert (found.definition["working_dir"], found.definition["job_variables"]) == ("/srv", {"working_dir": "/srv"})
