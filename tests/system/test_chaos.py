"""A short chaos run in the suite; the long ones are ``python -m tests.system.chaos --minutes 30 --seed N``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.chaos.arena import Arena
from tests.system.chaos.flush import flush

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system

SEED = int(os.environ.get("CHAOS_SEED", "5"))
SECONDS = 40.0


@pytest.mark.timeout(240)
async def test_no_promise_breaks_while_everything_is_killed_frozen_cut_and_filled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = await Arena(SEED, tmp_path, SECONDS).run()
    with capsys.disabled():
        sys.stdout.write(f"\n{result.text()}\n")

    assert result.broken == [], f"seed {SEED}; judge it again: python -m tests.system.history {tmp_path / 'records'}"
    assert len(result.verdict.states) > 200, "the load was no load"
    assert len(result.faults) > 8, "the faults were no faults"


@pytest.mark.timeout(180)
async def test_services_recover_by_themselves_when_redis_loses_everything_and_say_so(tmp_path: Path) -> None:
    broken, recoveries = await flush(SEED, tmp_path, lives=3)

    assert broken == []
    assert len(recoveries) == 2
