from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from penstock.cli.demo_files import DemoFiles
from penstock.cli.demo_work import summarize

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> DemoFiles:
    files = DemoFiles(tmp_path)
    files.prepare(["a", "b"])
    return files


def test_work_done_for_every_file_leaves_no_problem(files: DemoFiles) -> None:
    for name in ("a", "b"):
        summarize(**files.parameters(name))
    assert files.problems() == []


def test_work_done_twice_leaves_the_same_result(files: DemoFiles) -> None:
    parameters = files.parameters("a")
    summarize(**parameters)
    with open(parameters["result"], "rb") as result:  # noqa: PTH123 - the path is a parameter of a run, a text
        first = result.read()
    summarize(**parameters)
    with open(parameters["result"], "rb") as result:  # noqa: PTH123 - the same
        assert result.read() == first
    assert json.loads(first)["rows"] == sum(sensor["count"] for sensor in json.loads(first)["sensors"].values())


def test_a_missing_a_foreign_and_a_wrong_result_are_problems(files: DemoFiles, tmp_path: Path) -> None:
    assert files.problems() == ["run a left no result", "run b left no result"]
    summarize(source=files.parameters("a")["source"], result=files.parameters("b")["result"])
    summarize(source=files.parameters("a")["source"], result=str(tmp_path / "results" / "c.json"))
    assert files.problems() == [
        "run a left no result",
        "unexpected result c",
        "the result of run b is not about its file",
    ]
