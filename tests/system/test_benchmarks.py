"""Every benchmark runs and says what it should; how fast it is belongs to ``python -m tests.benchmarks``, never here."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.benchmarks.__main__ import BENCHMARKS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system

MISSED = 1
ELSEWHERE = {"peers", "cluster", "soak"}
"""They have tests of their own."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name not in ELSEWHERE])
def test_it_measures_every_figure_and_spells_them_as_json(name: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", name, "--quick", "--rounds", "1", "--json", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)

    # A budget missed on a busy machine is no failure of the benchmark.
    assert told.returncode in {0, MISSED}, told.stderr
    report: dict[str, Any] = json.loads(file.read_text())[name]
    assert len(report["figures"]) > 1
    for figure in report["figures"]:
        assert figure["what"].split()[0] in told.stdout
        assert figure["values"] or figure["note"], figure
        assert all(value >= 0 for value in figure["values"])


def test_a_benchmark_there_is_not_is_refused_with_those_there_are() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "lifecylce"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "there is no benchmark lifecylce; there are lifecycle, latency," in told.stderr
