from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
import typer

from penstock.cli.parameter_options import given_job_variables, given_parameters

if TYPE_CHECKING:
    from pathlib import Path


def wrong(params: str) -> str:
    with pytest.raises(typer.BadParameter) as refusal:
        given_parameters(None, params)
    return refusal.value.message


def test_nothing_given_is_nothing() -> None:
    assert given_parameters(None, None) == {}
    assert given_job_variables(None) == {}


def test_a_single_parameter_wins_over_all_at_once() -> None:
    assert given_parameters(["day=2", "name=Ford"], '{"day": 1, "deep": {"a": [1, 2.5, null]}}') == {
        "day": 2,
        "name": "Ford",
        "deep": {"a": [1, 2.5, None]},
    }


def test_parameters_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    file.write_bytes(b'\xef\xbb\xbf{"name": "Zaph\xc3\xb6d"}')

    assert given_parameters(None, f"@{file}") == {"name": "Zaphöd"}


def test_parameters_are_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"day": 1}')))

    assert given_parameters(None, "-") == {"day": 1}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "--params is not JSON"),
        ("day=1", "--params is not JSON"),
        ("{'day': 1}", "--params is not JSON"),
        ('{"day": 1} x', "--params is not JSON"),
        ("[1]", "--params is no JSON object"),
        ("1", "--params is no JSON object"),
        ("null", "--params is no JSON object"),
        ('{"day": 1, "day": 2}', "the key 'day' is there twice"),
        ('{"deep": [{"a": 1, "a": 1}]}', "the key 'a' is there twice"),
        ('{"day": NaN}', "NaN is no JSON number"),
        ('{"day": -Infinity}', "-Infinity is no JSON number"),
        ('{"day": 1e999}', "1e999 is too large a number"),
        ('{"day": ' + "9" * 5000 + "}", "--params is not JSON"),
        ('{"day": "\\ud800"}', "half of a surrogate pair"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_wrong_usage_and_says_why(text: str, told: str) -> None:
    assert told in wrong(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "list.json").write_text("[]")

    assert "missing.json': No such file" in wrong(f"@{tmp_path}/missing.json")
    assert "Is a directory" in wrong(f"@{tmp_path}")
    assert "is not UTF-8 text" in wrong(f"@{tmp_path}/binary")
    assert "list.json' is no JSON object" in wrong(f"@{tmp_path}/list.json")
    assert "--params '@a\\x00b'" in wrong("@a\0b")


def test_a_wrong_job_variable_is_told_by_its_own_option() -> None:
    assert given_job_variables(["env.STAGE=test", "stream_output=false"]) == {
        "env.STAGE": "test",
        "stream_output": False,
    }
    with pytest.raises(typer.BadParameter, match="--job-variable 'x'"):
        given_job_variables(["x"])
