"""Base job templates at the command line: files people get wrong, the default template, job variables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from penstock import keys
from penstock.templates import default_template
from tests.command_line import REFUSED, USAGE, new_pool, typing_commands

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Command


OWN = {
    "job_configuration": {"env": {"SIZE": "{{ size }}"}},
    "variables": {"type": "object", "properties": {"size": {"type": "integer", "maximum": 8}}},
}


@pytest.fixture
def penstock(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run one command in this process; its output and its errors are kept apart."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", url)
    monkeypatch.chdir(tmp_path)
    return typing_commands()


@pytest.fixture
def pool(penstock: Command) -> str:
    return new_pool(penstock)


def inspected(penstock: Command, pool: str) -> Any:
    return json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)


def commands_sent(url: str) -> Any:
    with Redis.from_url(url) as client:
        return client.xinfo_stream(keys.key(0, "commands"))["last-generated-id"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "'template.json': No such file or directory"),
        (b"", "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
        (b'{"job_configuration": NaN, "variables": {}}', "is not JSON"),
        (b'\xff\xfe{"a": 1}', "is not UTF-8: invalid start byte at byte 0"),
        (
            b"[1, 2]",
            "base job template: $: a template is an object with job_configuration and variables; this is a list",
        ),
        (b'{"job_configuration": {}}', "base job template: $.variables: the section is missing"),
        (
            b'{"job_configuration": {"command": "{{ comand }}"}, "variables": {"properties": {"command": {}}}}',
            "$.job_configuration.command: {{ comand }} is no property of variables; did you mean {{ command }}?",
        ),
        (
            b'{"job_configuration": {}, "variables": {}, "x": "' + b"x" * 5_000_000 + b'"}',
            "has more than 1048576 bytes",
        ),
        (b'{"job_configuration": {"a": "' + b"x" * 300_000 + b'"}, "variables": {}}', "at most 262144 bytes are taken"),
        (b'{"job_configuration": {"a":' + b"[" * 100 + b"]" * 100 + b'}, "variables": {}}', "nested deeper than 64"),
    ],
    ids=lambda value: value.decode(errors="replace")[:30] if isinstance(value, bytes) else None,
)
def test_a_wrong_template_file_is_refused_in_one_line_and_nothing_is_sent(
    penstock: Command, pool: str, url: str, tmp_path: Path, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "template.json").write_bytes(content)
    before = commands_sent(url)

    for command, name in (("create", "new"), ("update", pool)):
        result = penstock("work-pool", command, name, "--base-job-template", "template.json", code=REFUSED)

        assert result.stdout == ""
        error, *hint = result.stderr.splitlines()
        assert error.startswith("Error: --base-job-template 'template.json'")
        assert said in error
        assert len(error) < 1000
        assert len(hint) <= 1
    assert commands_sent(url) == before


def test_a_directory_is_no_template_file(penstock: Command, pool: str) -> None:
    result = penstock("work-pool", "update", pool, "--base-job-template", ".", code=REFUSED)
    assert result.stderr == "Error: --base-job-template '.': Is a directory\n"


def test_the_default_template_is_printed_written_and_what_a_new_pool_has(
    penstock: Command, pool: str, tmp_path: Path
) -> None:
    ask = ("work-pool", "get-default-base-job-template", "--type", "process")

    printed = penstock(*ask).stdout
    said = penstock(*ask, "--file", "default.json").stdout

    assert json.loads(printed) == default_template("process") == inspected(penstock, pool)["base_job_template"]
    assert said == "Wrote the default base job template of type 'process' to 'default.json'\n"
    assert (tmp_path / "default.json").read_text() == printed
    penstock("template", "lint", "default.json")
    penstock("work-pool", "update", pool, "--base-job-template", "default.json")


def test_the_default_template_of_an_unknown_type_is_refused_with_the_types_there_are(penstock: Command) -> None:
    result = penstock("work-pool", "get-default-base-job-template", "--type", "proces", code=REFUSED)
    assert result.stderr == "Error: unknown worker type 'proces'\nHint: known types: process\n"


def test_a_default_template_that_cannot_be_written_says_where(penstock: Command) -> None:
    ask = ("work-pool", "get-default-base-job-template", "--type", "process", "--file", "missing/default.json")
    assert penstock(*ask, code=REFUSED).stderr == "Error: --file 'missing/default.json': No such file or directory\n"


def test_inspect_names_the_variables_of_the_template_and_json_has_all_of_it(
    penstock: Command, pool: str, tmp_path: Path
) -> None:
    (tmp_path / "own.json").write_text(json.dumps(OWN))
    shown = penstock("work-pool", "inspect", pool).stdout
    assert "'variables command, env, labels, name, stream_output, working_dir (--output json shows it)'" in shown

    penstock("work-pool", "update", pool, "--base-job-template", "own.json")
    shown = penstock("work-pool", "inspect", pool).stdout
    assert "base_job_template='variables size (--output json shows it)'" in shown
    assert inspected(penstock, pool)["base_job_template"] == OWN

    (tmp_path / "own.json").write_text("{}")
    penstock("work-pool", "update", pool, "--base-job-template", "own.json")
    assert "base_job_template='none'" in penstock("work-pool", "inspect", pool).stdout
    assert inspected(penstock, pool)["base_job_template"] == {}


def test_job_variables_are_json_where_they_parse_and_a_forbidden_one_is_refused(
    penstock: Command, pool: str, tmp_path: Path
) -> None:
    (tmp_path / "own.json").write_text(json.dumps(OWN))
    penstock("work-pool", "update", pool, "--base-job-template", "own.json")
    submit = ("flow-run", "submit", "--pool", pool, "--command", "true", "--output", "json")

    sent = penstock(*submit, "--job-variable", "size=8", "--job-variable", "note=as text")
    refused = penstock(*submit, "--job-variable", "size=9", code=REFUSED)
    unclear = penstock(*submit, "--job-variable", "size", code=USAGE)

    (run,) = json.loads(sent.stdout)["runs"]
    spec = json.loads(penstock("flow-run", "inspect", run, "-o", "json").stdout)["spec"]
    assert spec["job_variables"] == {"size": 8, "note": "as text"}
    assert refused.stderr == "Error: job variables: $.size: 9 is greater than 8 (maximum)\n"
    assert "--job-variable 'size' is not of the form name=value" in unclear.stderr
