from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import typer

from penstock.cli.events import describe, parse_since
from penstock.cli.parsing import choice, choose_pool, json_file, limit_and_name, local_entrypoint, pairs, parameters
from penstock.contracts.events import Event

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("first", "second"), [("5", "etl"), ("etl", "5")])
@pytest.mark.parametrize("limit_first", [True, False])
def test_limit_and_name_are_told_apart_in_either_order(first: str, second: str, limit_first: bool) -> None:
    assert limit_and_name(first, second, limit_first=limit_first) == (5, "etl")


@pytest.mark.parametrize(
    ("given", "default", "existing", "chosen"),
    [
        ("etl", "ml", ["a", "b"], "etl"),
        ("", "ml", ["a"], ""),
        (None, "ml", ["a"], "ml"),
        (None, "", ["a"], "a"),
    ],
)
def test_the_pool_given_wins_over_the_default_and_that_over_the_only_one(
    given: str | None, default: str, existing: list[str], chosen: str
) -> None:
    assert choose_pool(given, default, existing) == chosen


def test_of_many_pools_or_none_nobody_can_choose() -> None:
    with pytest.raises(typer.BadParameter, match=r"there are 2 work pools: a, b$"):
        choose_pool(None, "", ["a", "b"])
    with pytest.raises(typer.BadParameter, match=r"p19, \.\.\.$"):
        choose_pool(None, "", [f"p{number:02}" for number in range(30)])
    with pytest.raises(typer.BadParameter, match="work-pool create"):
        choose_pool(None, "", [])


def test_two_numbers_are_taken_in_the_documented_order() -> None:
    assert limit_and_name("1", "2", limit_first=True) == (1, "2")
    assert limit_and_name("1", "2", limit_first=False) == (2, "1")


def test_a_negative_limit_is_a_limit_and_left_to_the_rule_that_refuses_it() -> None:
    assert limit_and_name("-1", "etl", limit_first=True) == (-1, "etl")


def test_no_number_at_all_is_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter, match="neither 'five' nor 'etl' is a whole number"):
        limit_and_name("five", "etl", limit_first=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("n=1", 1),
        ("n=1.5", 1.5),
        ("n=true", True),
        ("n=null", None),
        ('n={"a":[1]}', {"a": [1]}),
        ('n="1"', "1"),
        ("n=one", "one"),
        ("n=", ""),
        ("n=a=b", "a=b"),
        ("n=2030-01-01", "2030-01-01"),
    ],
)
def test_a_parameter_is_json_when_it_parses_and_text_when_not(text: str, value: Any) -> None:
    assert parameters([text]) == {"n": value}


@pytest.mark.parametrize("text", ["n", "=1", ""])
def test_a_parameter_without_name_or_value_is_a_usage_error(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not of the form name=value"):
        parameters([text])


def test_the_last_of_two_equal_names_wins() -> None:
    assert pairs(["A=1", "A=2"], "--env") == {"A": "2"}


def test_a_word_of_a_closed_set_may_be_typed_in_any_case() -> None:
    assert choice("failed", ["FAILED", "CRASHED"], "--state") == "FAILED"
    assert choice("CRASH", ["crash", "keep"], "--on-worker-lost") == "crash"


def test_a_mistyped_word_gets_a_suggestion() -> None:
    with pytest.raises(typer.BadParameter, match=r"did you mean 'FAILED'\?"):
        choice("failled", ["FAILED", "CRASHED"], "--state")


def test_a_word_close_to_none_gets_the_whole_set() -> None:
    with pytest.raises(typer.BadParameter, match="one of FAILED, CRASHED"):
        choice("zzz", ["FAILED", "CRASHED"], "--state")


@pytest.mark.parametrize(
    ("content", "reason"), [("{", "is not JSON"), ("[1]", "holds no JSON object"), (None, "No such file")]
)
def test_a_template_that_is_no_json_object_is_a_usage_error(tmp_path: Path, content: str | None, reason: str) -> None:
    file = tmp_path / "template.json"
    if content is not None:
        file.write_text(content)

    with pytest.raises(typer.BadParameter, match=reason):
        json_file(file, "--base-job-template")


def test_an_entrypoint_that_exists_here_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flows.py").write_text("")
    monkeypatch.chdir(tmp_path)

    assert local_entrypoint("flows.py:load") == (f"{tmp_path.resolve()}/flows.py:load", "")


def test_an_entrypoint_that_does_not_exist_here_is_kept_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    entrypoint, warning = local_entrypoint("flows.py:load")

    assert entrypoint == "flows.py:load"
    assert "'flows.py' does not exist here" in warning


@pytest.mark.parametrize("text", ["flows.py", ":load", "", "a\0b:load"])
def test_an_entrypoint_of_the_wrong_form_is_left_to_the_rule_that_refuses_it(text: str) -> None:
    assert local_entrypoint(text)[0] == text


@pytest.mark.parametrize(
    ("text", "since"),
    [
        (None, None),
        ("0", "0"),
        ("10m", timedelta(minutes=10)),
        ("1700000000000-3", "1700000000000-3"),
        ("1700000000000-3,0-0", "1700000000000-3,0-0"),
    ],
)
def test_since_is_a_duration_or_a_cursor(text: str | None, since: object) -> None:
    assert parse_since(text) == since


def test_since_that_is_neither_is_a_usage_error() -> None:
    with pytest.raises(typer.BadParameter, match="give a duration"):
        parse_since("yesterday")


def test_an_event_is_one_line_that_says_what_changed() -> None:
    event = Event(
        id="1",
        occurred="2030-01-31T12:00:00.123456Z",
        event="prefect.work-queue.updated",
        resource={"prefect.resource.id": "prefect.work-queue.1", "prefect.resource.name": "low"},
        related=[{"prefect.resource.role": "work-pool", "prefect.resource.name": "etl"}],
        payload={"updates": {"priority": {"from": 1, "to": 2}}},
    )

    line = describe(event)

    assert line.endswith("prefect.work-queue.updated      low  in 'etl'  priority: 1 -> 2")
    assert ":00:00.123  " in line


def test_an_event_of_another_shape_is_told_too() -> None:
    event = Event(id="1", occurred="once", event="x", resource={}, payload={"updates": {"a": 1}, "reason": "why"})

    assert describe(event).split() == ["once", "x", "a", "why"]


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_an_event_at_the_end_of_the_calendar_is_told_too(moment: str) -> None:
    assert describe(Event(id="1", occurred=moment, event="x", resource={})).split() == [moment, "x"]


@pytest.mark.parametrize("updates", ["text", ["a"], 7, True, None, {}])
def test_an_event_whose_updates_are_none_is_told_without_them(updates: object) -> None:
    event = Event(id="1", occurred="once", event="x", resource={}, payload={"updates": updates, "reason": "why"})

    assert describe(event).split() == ["once", "x", "why"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("2", "2"), ("true", "true"), ("a=b", "a=b"), ('"quoted"', "quoted"), ("null", None), ('{"a":1}', '{"a":1}')],
)
def test_a_variable_of_the_environment_is_a_text_whatever_it_looks_like(typed: str, meant: str | None) -> None:
    assert parameters([f"env.STAGE={typed}"]) == {"env.STAGE": meant}
