"""The short soak: nothing is lost and nothing left behind; whether memory is flat takes a million runs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system


@pytest.mark.timeout(300)
def test_a_short_soak_loses_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "soak", "--quick", "--json", str(file)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stdout + told.stderr
    report: dict[str, Any] = json.loads(file.read_text())["soak"]
    figures = {figure["what"]: figure for figure in report["figures"]}
    assert figures["accepted runs that ended"]["median"] >= 10_000
    for state in ("CANCELLED", "COMPLETED", "FAILED"):
        assert state in figures["accepted runs that ended"]["note"]
    judged = [figure for figure in figures.values() if figure["budget"]]
    assert len(judged) == 10
    assert all(figure["median"] == 0 for figure in judged)
