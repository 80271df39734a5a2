"""Help teaches by example, and what it teaches can be typed."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from penstock.cli.app import app
from tests.command_tree import commands, parse

EVERY = dict(commands())


def examples(command: Any) -> list[str]:
    return re.findall(r"^  (penstock .*?)(?:\s{3,}.*)?$", command.epilog or "", re.MULTILINE)


@pytest.mark.parametrize("name", EVERY)
def test_every_command_and_group_shows_what_one_types(name: str) -> None:
    lines = examples(EVERY[name])

    assert [line for line in lines if line.startswith(name)]
    printed = CliRunner().invoke(app, [*name.split()[1:], "--help"], env={"COLUMNS": "200"}).stdout
    assert [line for line in lines if f"  {line}" not in printed] == []


@pytest.mark.parametrize("line", [line for command in EVERY.values() for line in examples(command)])
def test_every_example_can_be_typed(line: str) -> None:
    # What is printed into a file is up to the shell.
    typed = line.partition(" > ")[0]

    assert typed.startswith(parse(typed))


@pytest.mark.parametrize("name", EVERY)
def test_every_command_and_every_option_says_what_it_is_for(name: str) -> None:
    command = EVERY[name]

    assert command.help
    unsaid = [
        param.name
        for param in command.params
        if not getattr(param, "help", None) and param.param_type_name == "option" and param.name != "help"
    ]
    assert unsaid == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("work-poll", "work-pool"),
        ("work-pool insepct", "inspect"),
        ("work-queue read-run", "read-runs"),
        ("worker inspct", "inspect"),
        ("flow-run log", "logs"),
        ("work-pool preview etl --hour 3", "--hours"),
        ("flow-run ls --state-type FAILED", "--state"),
        ("flow-run logs 0 --num-lines 3", "--tail"),
        ("flow-run submit --work-queue low", "--queue"),
    ],
)
def test_mistyped_commands_and_options_get_a_suggestion(typed: str, meant: str) -> None:
    refused = CliRunner().invoke(app, typed.split())

    assert refused.exit_code == 2
    assert meant in refused.stderr


@pytest.mark.parametrize("words", [["work-pool", "create"], ["work-pool", "inspect"], ["worker", "start", "-p"]])
def test_an_argument_that_is_no_text_is_wrong_usage_and_no_bug(words: list[str]) -> None:
    command = [sys.executable.encode(), b"-m", b"penstock", *(word.encode() for word in words), b"a\xff"]

    done = subprocess.run(command, capture_output=True, check=False, timeout=30)

    assert done.returncode == 2
    assert b"is not UTF-8" in done.stderr
