"""A short fuzz in the suite; the long one is ``python -m tests.system.fuzz --entries 100000 --inputs 10000 --seed N``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.fuzz.inputs import InputFuzz
from tests.system.fuzz.streams import StreamFuzz

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system

SEED = int(os.environ.get("FUZZ_SEED", "7"))
ENTRIES = 1000
INPUTS = 150


@pytest.mark.timeout(300)
async def test_bad_entries_are_buried_or_refused_and_good_runs_between_them_complete(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = await StreamFuzz(SEED, tmp_path, ENTRIES).run()
    with capsys.disabled():
        sys.stdout.write(f"\nFUZZ_SEED={SEED}: {result.figures['verdicts']}\n")

    assert result.broken == [], f"FUZZ_SEED={SEED}; python -m tests.system.fuzz --entries {ENTRIES} --seed {SEED}"
    assert result.figures["good runs completed"] > 10, "nothing good was between all the bad"
    assert sum(result.figures["dead letters"].values()) > ENTRIES / 3, "the bad entries were not bad"


@pytest.mark.timeout(300)
def test_wrong_inputs_to_the_command_line_end_with_a_reason_and_a_known_exit_code(tmp_path: Path) -> None:
    result = InputFuzz(SEED, tmp_path, INPUTS).run()

    assert result.wrong == [], f"FUZZ_SEED={SEED}; python -m tests.system.fuzz --inputs {INPUTS} --seed {SEED}"
    assert len(result.codes) > 15, "hardly anything was typed"
