"""Project files as drafts: what is read, what is named because it is not done, what is refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from penstock.contracts.deployments import ScheduleSpec
from penstock.errors import Invalid, NotFound, Refused
from penstock.projects.files import Project, find_file, read_project

if TYPE_CHECKING:
    from pathlib import Path

    from penstock.projects.drafts import Draft

NOW = datetime(2026, 11, 21, 22, 0, tzinfo=UTC)
SEED = """\
deployments:
- name: demo-deployment
  entrypoint: demo_project/demo_flow.py:some_work
  work_pool:
    name: above-ground  
    job_variables:
        stream_output: false
"""  # noqa: W291 - as it stands in the documentation


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


def project(directory: Path, text: str, name: str = "prefect.yaml", **environment: str) -> Project:
    (directory / name).write_text(text)
    return read_project(directory / name, environment, NOW)


def one(directory: Path, deployment: str, **environment: str) -> tuple[Draft, list[str]]:
    """Read a file of one deployment, given by its lines."""
    lines = "".join(f"  {line}\n" for line in deployment.splitlines())
    found = project(directory, f"deployments:\n-\n  name: demo\n  entrypoint: a.py:f\n{lines}", **environment)
    return found.select(None, everything=False)[0][1], found.warnings[0]


def refused(directory: Path, deployment: str, **environment: str) -> str:
    with pytest.raises(Refused) as caught:
        one(directory, deployment, **environment)
    return f"{caught.value.message} | {caught.value.hint}"


def test_the_documented_file_is_read_unchanged_and_without_a_warning(directory: Path) -> None:
    found = project(directory, SEED)

    draft = found.drafts[0]
    assert (draft.name, draft.entrypoint) == ("demo-deployment", "demo_project/demo_flow.py:some_work")
    assert (draft.pool, draft.queue, draft.job_variables) == ("above-ground", None, {"stream_output": False})
    assert (draft.project, draft.where, draft.schedules) == (directory, "prefect.yaml:2", None)
    assert found.warnings == {-1: [], 0: []}


def test_every_supported_key_is_read(directory: Path) -> None:
    text = """\
prefect-version: 3.4.0
name: things
definitions:
  hourly: &hourly
    interval: 3600
    anchor_date: 2026-01-01T00:00:00
    timezone: Europe/Berlin
deployments:
- name: nightly
  flow_name: load
  entrypoint: etl.py:load
  version: 1.10
  description: Loads.
  tags: [etl, 2026]
  parameters: {day: 1, dates: [2026-01-31]}
  paused: true
  enforce_parameter_schema: false
  retries: 2
  retry_delay_seconds: 1.5
  concurrency_limit:
    limit: 3
    collision_strategy: CANCEL_NEW
  work_pool:
    name: etl
    work_queue_name: critical
    job_variables: {env: {A: "1"}}
  schedules:
  - cron: 0 6 * * 1-5
    timezone: Europe/Berlin
    active: false
    slug: weekdays
    catch_up: LATEST
    day_or: true
    parameters: {day: 2}
  - *hourly
  - interval: 10m
  - rrule: FREQ=DAILY;COUNT=900
- name: command
  command: [python, -m, load, 1]
  flow_name: load
  concurrency_limit: 1
  schedule: *hourly
"""
    found = project(directory, text)

    draft, command = found.drafts
    assert (draft.flow, draft.version, draft.description, draft.tags) == ("load", "1.10", "Loads.", ["etl", "2026"])
    assert draft.parameters == {"day": 1, "dates": ["2026-01-31"]}
    assert (draft.paused, draft.enforce, draft.retries, draft.retry_delay_seconds) == (True, False, 2, 1.5)
    assert (draft.concurrency_limit, draft.collision_strategy) == (3, "cancel_new")
    assert (draft.pool, draft.queue, draft.job_variables) == ("etl", "critical", {"env": {"A": "1"}})
    hourly = ScheduleSpec.model_validate(
        {"interval_seconds": 3600, "anchor": "2025-12-31T23:00:00Z", "timezone": "Europe/Berlin"}
    )
    assert draft.schedules is not None
    assert draft.schedules[0] == ScheduleSpec(
        cron="0 6 * * 1-5",
        timezone="Europe/Berlin",
        active=False,
        slug="weekdays",
        catch_up="latest",
        parameters={"day": 2},
    )
    assert draft.schedules[1].anchor == hourly.anchor
    assert draft.schedules[2:] == [ScheduleSpec(interval_seconds=600), ScheduleSpec(rrule="FREQ=DAILY;COUNT=900")]
    assert (command.command, command.entrypoint, command.concurrency_limit) == (["python", "-m", "load", "1"], None, 1)
    assert command.schedules is not None
    assert len(command.schedules) == 1
    assert found.warnings == {-1: [], 0: [], 1: []}


def test_an_empty_list_of_schedules_is_not_the_same_as_none(directory: Path) -> None:
    assert one(directory, "schedules: []")[0].schedules == []
    assert one(directory, "schedules:")[0].schedules is None
    assert one(directory, "schedule: {}")[0].schedules is None


def test_what_prefect_knows_and_penstock_does_not_is_named_with_its_path(directory: Path) -> None:
    text = """\
build:
- prefect_docker.deployments.steps.build_docker_image: {image_name: x}
push: null
pull:
- prefect.deployments.steps.git_clone: {repository: x}
deployments:
- name: demo
  entrypoint: a.py:f
  triggers: [{type: event}]
  build: null
  concurrency_limit: {limit: 1, grace_period_seconds: 60}
  schedules: [{cron: "0 6 * * *", day_or: false}]
"""
    found = project(directory, text)

    assert [warning.partition(" is Prefect's")[0] for warning in [*found.warnings[-1], *found.warnings[0]]] == [
        "prefect.yaml:1: 'build'",
        "prefect.yaml:5: 'pull[0].prefect.deployments.steps.git_clone'",
        "prefect.yaml:9: 'deployments[0].triggers'",
        "prefect.yaml:11: 'deployments[0].concurrency_limit.grace_period_seconds'",
        "prefect.yaml:12: 'deployments[0].schedules[0].day_or'",
    ]


def test_an_unknown_key_is_named_with_the_one_that_was_meant(directory: Path) -> None:
    _, warnings = one(directory, "entry_point: b.py:g\nwork_pool: {work_queue: x, name: p}\nzzz: 1")

    assert warnings == [
        "prefect.yaml:5: 'deployments[0].entry_point' is unknown and ignored; did you mean 'entrypoint'?",
        "prefect.yaml:7: 'deployments[0].zzz' is unknown and ignored",
        "prefect.yaml:6: 'deployments[0].work_pool.work_queue' is unknown and ignored; did you mean 'work_queue_name'?",
    ]


def wrong(directory: Path, text: str, name: str = "penstock.yaml") -> str:
    with pytest.raises(Refused) as caught:
        project(directory, text, name).select(None, everything=True)
    return f"{caught.value.message} | {caught.value.hint}"


@pytest.mark.parametrize(
    ("deployment", "told"),
    [
        ("zzz: 1", ".yaml:5: 'deployments[0].zzz' is unknown | "),
        ("entry_point: b.py:g", "'deployments[0].entry_point' is unknown; did you mean 'entrypoint'?"),
        ("cron: 0 6 * * *", "'deployments[0].cron' is unknown; write schedules: [{cron: ...}]"),
        ("timezone: UTC", "'deployments[0].timezone' is unknown; write schedules: [{cron: ..., timezone: ...}]"),
        ("pool: etl", "'deployments[0].pool' is unknown; write work_pool: {name: ...}"),
        ("queue: q", "'deployments[0].queue' is unknown; write work_pool: {name: ..., work_queue_name: ...}"),
        ("work_pool: {name: p, queue: q}", "'deployments[0].work_pool.queue' is unknown; write work_queue_name: ..."),
        ("concurrency_limit: {limit: 1, max: 2}", "'deployments[0].concurrency_limit.max' is unknown"),
        ("schedules: [{crn: '0 6 * * *'}]", "'deployments[0].schedules[0].crn' is unknown; did you mean 'cron'?"),
    ],
)
def test_a_key_nobody_knows_is_an_error_in_a_file_of_our_own(directory: Path, deployment: str, told: str) -> None:
    text = f"deployments:\n-\n  name: demo\n  entrypoint: a.py:f\n  {deployment}\n"

    assert told in wrong(directory, text)
    assert told in wrong(directory, text, "flows.yaml")


def test_a_key_of_prefects_is_none(directory: Path) -> None:
    found = project(directory, f"build: [a]\n{SEED}  triggers: [a]\n", "penstock.yaml")

    assert len(found.select(None, everything=True)) == 1
    assert [len(warnings) for warnings in found.warnings.values()] == [1, 1]


def test_all_that_is_wrong_is_said_at_once(directory: Path) -> None:
    text = """\
deploymnts: []
deployments:
- {name: a, entrypoint: 'a.py:f', cron: '@hourly', work_pool: etl}
- {name: b, entrypoint: 'a.py:f'}
- {name: c, entrypoint: 'a.py:f', retries: many}
"""

    assert wrong(directory, text) == (
        "penstock.yaml:1: 'deploymnts' is unknown; did you mean 'deployments'?\n"
        "penstock.yaml:3: 'deployments[0].cron' is unknown; write schedules: [{cron: ...}]\n"
        "penstock.yaml:3: deployments[0].work_pool has to be a mapping of keys and values, this is a text\n"
        "penstock.yaml:5: 'deployments[2].retries' has to be a whole number, this is a text"
        " | write work_pool: {name: etl}"
    )


def test_what_is_wrong_with_one_deployment_is_nothing_to_another(directory: Path) -> None:
    found = project(
        directory,
        "deployments:\n- {name: a, entrypoint: 'a.py:f', x: 1}\n- {name: b, entrypoint: 'a.py:f'}\n",
        "penstock.yaml",
    )

    assert [number for number, _ in found.select("b", everything=False)] == [1]
    with pytest.raises(Invalid, match="is unknown"):
        found.select("a", everything=False)


def test_the_pull_step_that_sets_the_directory_is_honoured(directory: Path) -> None:
    step = "pull:\n- prefect.deployments.steps.set_working_directory:\n    directory: {}\n"
    inner = "".join(f"  {line}\n" for line in step.format("/srv/inner").splitlines())
    text = (
        step.format("/srv/flows") + "deployments:\n- {name: a, entrypoint: 'a.py:f'}\n- name: b\n  entrypoint: a.py:f\n"
    )

    found = project(directory, text + inner)

    assert [draft.working_dir for draft in found.drafts] == ["/srv/flows", "/srv/inner"]
    assert found.warnings == {-1: [], 0: [], 1: []}


@pytest.mark.parametrize(
    ("deployment", "told"),
    [
        ("tags: etl", "prefect.yaml:5: 'deployments[0].tags' has to be a list of texts, this is a text"),
        ("tags: [etl, {a: 1}]", "'deployments[0].tags[1]' has to be a text, this is an object"),
        ("parameters: [1]", "prefect.yaml:5: deployments[0].parameters has to be a mapping of keys and values"),
        (
            "work_pool: etl",
            "deployments[0].work_pool has to be a mapping of keys and values, this is a text | write work_pool: {name: etl}",
        ),
        ("work_pool: [etl]", "deployments[0].work_pool has to be a mapping of keys and values, this is a list | "),
        ("concurrency_limit: many", "'deployments[0].concurrency_limit' has to be a whole number, this is a text"),
        ("concurrency_limit: true", "has to be a whole number, this is true or false"),
        ("concurrency_limit: {limit: 1, collision_strategy: WAIT}", "'WAIT' is unknown; one of ENQUEUE, CANCEL_NEW"),
        ("paused: maybe", "'deployments[0].paused' has to be true or false, this is a text"),
        ("retry_delay_seconds: soon", "has to be a number, this is a text"),
        ("description: [a]", "'deployments[0].description' has to be a text, this is a list"),
        ("command: ls", "prefect.yaml:3: give exactly one of 'entrypoint' (path/to/file.py:function) and 'command'"),
        ("schedules: {cron: x}", "'deployments[0].schedules' has to be a list, this is an object"),
        ("schedules: [{timezone: UTC}]", "exactly one of cron, interval and rrule; this one has none of them"),
        ("schedules: [{crn: '@daily'}]", "this one has none of them, but 'crn' (did you mean 'cron'?)"),
        ("schedules:\n- cron: 0 6 * * *\n  interval: 5", "prefect.yaml:6: a schedule has exactly one of"),
        ("schedules: [{cron: '0 6 31 2 *'}]", "prefect.yaml:5: "),
        ("schedules:\n- cron: 0 6 * * *\n  timezone: Europe/Berln", "prefect.yaml:6: unknown time zone 'Europe/Berln'"),
        ("schedules: [{interval: 0}]", "prefect.yaml:5: interval_seconds: Input should be greater than or equal to 1"),
        ("schedules: [{interval: soon}]", "prefect.yaml:5: 'soon' is no interval: give seconds, or 90s, 10m, 1h, 1d"),
        ("schedules: [{interval: 5, anchor_date: soon}]", "'soon' is no date: give ISO 8601"),
        ("schedules: [{cron: '0 6 * * *', anchor_date: 2026-01-01}]", "a cron has none"),
        ("schedules: [{cron: '0 6 * * *', catch_up: some}]", "prefect.yaml:5: catch_up: Input should be"),
        ("schedules: [{cron: '0 6 * * *'}]\nschedule: {interval: 5}", "give 'schedules' or 'schedule', not both"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_line(directory: Path, deployment: str, told: str) -> None:
    assert told in refused(directory, deployment)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a\n", "prefect.yaml:1: the file has to be a mapping of keys and values, this is a list"),
        ("deployments: {a: 1}\n", "prefect.yaml:1: 'deployments' has to be a list, this is an object"),
        ("deployments:\n- a\n", "prefect.yaml:2: deployments[0] has to be a mapping"),
    ],
)
def test_a_file_of_another_shape_is_refused(directory: Path, text: str, told: str) -> None:
    with pytest.raises(Invalid) as caught:
        project(directory, text)
    assert told in caught.value.message


def test_environment_variables_are_filled_in(directory: Path) -> None:
    draft, warnings = one(
        directory,
        "parameters: {a: '{{ $STAGE }}', b: ['x-{{$STAGE}}-{{ $N }}']}\nconcurrency_limit: '{{ $N }}'",
        STAGE="test",
        N="5",
    )

    assert draft.parameters == {"a": "test", "b": ["x-test-5"]}
    assert draft.concurrency_limit == 5
    assert warnings == []


def test_a_value_from_the_environment_is_not_filled_in_again(directory: Path) -> None:
    assert one(directory, "description: '{{ $A }}'", A="{{ $B }}", B="secret")[0].description == "{{ $B }}"


def test_an_environment_variable_that_is_not_set_is_refused(directory: Path) -> None:
    assert refused(directory, "description: '{{ $STAGES }}'", STAGE="test") == (
        "prefect.yaml:5: the environment variable STAGES is not set | did you mean 'STAGE'?"
    )


def test_blocks_and_variables_of_a_server_are_named_as_unsupported(directory: Path) -> None:
    assert "prefect.yaml:5: '{{ prefect.blocks.secret.x }}' is unsupported" in refused(
        directory, "description: '{{ prefect.blocks.secret.x }}'"
    )


def test_other_placeholders_stay_and_are_named(directory: Path) -> None:
    draft, warnings = one(directory, "parameters: {a: '{{ image.tag }}'}")

    assert draft.parameters == {"a": "{{ image.tag }}"}
    assert warnings == ["prefect.yaml:5: '{{ image.tag }}' is left as it is; only {{ $NAME }} is filled in"]


def test_placeholders_of_what_is_not_supported_do_no_harm(directory: Path) -> None:
    assert len(one(directory, "push: [{a: '{{ prefect.blocks.x }}'}]")[1]) == 1


TWO = "deployments:\n- {name: a, entrypoint: 'a.py:f'}\n- {name: b, flow_name: g, entrypoint: 'a.py:f'}\n"


def test_deployments_are_chosen_by_name_or_all_of_them(directory: Path) -> None:
    found = project(directory, TWO)

    assert [number for number, _ in found.select("b", everything=False)] == [1]
    assert [number for number, _ in found.select("g/b", everything=False)] == [1]
    assert [number for number, _ in found.select(None, everything=True)] == [0, 1]
    with pytest.raises(Invalid, match=re.escape("prefect.yaml has 2 deployments: a, b")):
        found.select(None, everything=False)
    with pytest.raises(NotFound, match=re.escape("prefect.yaml has no deployment 'c'")):
        found.select("c", everything=False)
    with pytest.raises(NotFound, match=re.escape("prefect.yaml has no deployment 'h/b'")):
        found.select("h/b", everything=False)


def test_what_is_wrong_with_one_deployment_keeps_nobody_from_another(directory: Path) -> None:
    found = project(directory, TWO.replace("name: b", "name: b, tags: '{{ $UNSET }}'"))

    assert found.select("a", everything=False)[0][1].name == "a"
    with pytest.raises(Invalid, match=r"prefect\.yaml:3: the environment variable UNSET is not set"):
        found.select("b", everything=False)
    with pytest.raises(Invalid, match="UNSET"):
        found.select(None, everything=True)


def test_the_only_deployment_needs_no_name(directory: Path) -> None:
    assert len(project(directory, SEED).select(None, everything=False)) == 1


def test_a_name_that_is_there_twice_is_no_choice(directory: Path) -> None:
    found = project(directory, TWO.replace("name: b", "name: a"))

    with pytest.raises(
        Invalid, match=re.escape("prefect.yaml has 2 deployments called 'a': prefect.yaml:2, prefect.yaml:3")
    ):
        found.select("a", everything=False)


def test_a_file_without_deployments_has_nothing_to_choose(directory: Path) -> None:
    for text in ("", "deployments:\n", "deployments: []\n"):
        with pytest.raises(NotFound, match="lists no deployments"):
            project(directory, text).select(None, everything=True)


def test_penstocks_own_file_is_preferred(directory: Path) -> None:
    assert find_file(directory) is None
    project(directory, SEED)
    assert find_file(directory) == directory / "prefect.yaml"
    project(directory, SEED, "penstock.yaml")
    assert find_file(directory) == directory / "penstock.yaml"


def test_a_file_that_cannot_be_read_says_so(directory: Path) -> None:
    with pytest.raises(NotFound, match="No such file"):
        read_project(directory / "flows.yaml", {}, NOW)
