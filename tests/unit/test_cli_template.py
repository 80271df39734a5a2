from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from penstock.cli import template
from penstock.cli.app import Root
from penstock.templates import default_template

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from typer.testing import Result

DONE, REFUSED, USAGE = 0, 1, 2

app = typer.Typer(cls=Root)
app.add_typer(template.app, name="template")


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], None]:
    """Write a file into the working directory: bytes as they are, anything else as JSON."""
    monkeypatch.chdir(tmp_path)

    def written(name: str, content: Any) -> None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    return written


def run(*arguments: str, code: int = DONE) -> Result:
    result = CliRunner().invoke(app, ["template", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_lint_says_that_a_template_is_valid(write: Callable[[str, Any], None]) -> None:
    write("t.json", default_template("process"))

    assert run("lint", "t.json").stdout == "'t.json' is a valid base job template\n"
    assert json.loads(run("lint", "t.json", "--output", "json").stdout) == {"valid": True, "problems": []}


def test_lint_tells_every_problem_on_a_line_of_its_own(write: Callable[[str, Any], None]) -> None:
    write("t.json", {"job_configuration": {"a": "{{ b }}"}, "variables": {"properties": {"c": {"type": "strin"}}}})

    lines = run("lint", "t.json", code=REFUSED).stdout.splitlines()

    assert lines[0].startswith('$.variables.properties.c.type: "strin" fits none of the alternatives')
    assert lines[1:] == [
        "$.job_configuration.a: {{ b }} is no property of variables (undeclared)",
        "'t.json' has 2 problems",
    ]


def test_lint_tells_programs_path_rule_and_message(write: Callable[[str, Any], None]) -> None:
    write("t.json", [])

    assert json.loads(run("lint", "t.json", "--output", "json", code=REFUSED).stdout) == {
        "valid": False,
        "problems": [
            {
                "path": "$",
                "rule": "type",
                "message": "a template is an object with job_configuration and variables; this is a list",
            }
        ],
    }


@pytest.mark.parametrize("command", ["lint", "render"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"{", "is not JSON"), (b"\xff\xfe{}", "is not JSON"), (b"", "is not JSON"), (None, "No such file")],
)
def test_a_file_that_holds_no_json_is_a_usage_error(
    write: Callable[[str, Any], None], command: str, content: bytes | None, reason: str
) -> None:
    write("other.json", {})
    if content is not None:
        write("t.json", content)

    assert reason in run(command, "t.json", code=USAGE).stderr


def test_a_template_of_5_mb_is_a_problem_and_no_more(write: Callable[[str, Any], None]) -> None:
    write("t.json", {"job_configuration": {"a": "x" * 5_000_000}, "variables": {}})

    assert "at most 262144 bytes" in run("lint", "t.json", code=REFUSED).stdout


def test_render_shows_what_a_worker_is_given_without_any_choice(write: Callable[[str, Any], None]) -> None:
    write("t.json", default_template("process"))

    assert json.loads(run("render", "t.json").stdout) == {"stream_output": True}


def test_render_merges_the_deployment_file_and_the_variables_of_the_run(write: Callable[[str, Any], None]) -> None:
    write("t.json", default_template("process"))
    write("d.json", {"env": {"A": "deployment", "B": "deployment"}, "stream_output": False})

    shown = run("render", "t.json", "--vars", "d.json", "--var", "env.B=run", "--var", "command=python x.py a=b").stdout

    assert json.loads(shown) == {
        "command": "python x.py a=b",
        "env": {"A": "deployment", "B": "run"},
        "stream_output": False,
    }


def test_a_value_is_json_when_it_parses(write: Callable[[str, Any], None]) -> None:
    write("t.json", {"job_configuration": {"x": "{{ n }}"}, "variables": {"properties": {"n": {"type": "integer"}}}})

    assert json.loads(run("render", "t.json", "--var", "n=5").stdout) == {"x": 5}
    assert run("render", "t.json", "--var", 'n="5"', code=REFUSED).stderr.splitlines() == [
        'Error: job variables: $.n: "5" is not of type "integer" (type)'
    ]


def test_render_refuses_a_template_that_has_problems_and_says_who_shows_them(write: Callable[[str, Any], None]) -> None:
    write("t.json", {"job_configuration": {"a": "{{ b }}"}, "variables": {}})

    assert run("render", "t.json", code=REFUSED).stderr.splitlines() == [
        "Error: base job template: $.job_configuration.a: {{ b }} is no property of variables (undeclared)",
        "Hint: `penstock template lint FILE` shows every problem",
    ]


@pytest.mark.parametrize("text", ["n", "=1"])
def test_a_variable_without_name_or_value_is_a_usage_error(write: Callable[[str, Any], None], text: str) -> None:
    write("t.json", {})

    assert f"--var '{text}' is not of the form name=value" in run("render", "t.json", "--var", text, code=USAGE).stderr


def test_a_deployment_file_that_holds_no_object_is_a_usage_error(write: Callable[[str, Any], None]) -> None:
    write("t.json", {})
    write("d.json", [1])

    assert "--vars 'd.json' holds no JSON object" in run("render", "t.json", "--vars", "d.json", code=USAGE).stderr


@pytest.mark.parametrize("command", ["lint", "render"])
def test_help_teaches_by_example(command: str) -> None:
    assert f"penstock template {command} template.json" in run(command, "--help").stdout
