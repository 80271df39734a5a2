"""The loss of a safeguard is found out in a real run: of the fence, a limit, a pause, the reclaim, the line of an event.

Which others there are: ``python -m tests.system.chaos --mutations``. That nothing is found while all are in place, under the same
faults, is :mod:`tests.system.test_chaos`.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.system.chaos.hunt import hunt
from tests.system.chaos.mutations import MUTATIONS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system

SEED = int(os.environ.get("CHAOS_SEED", "5"))


@pytest.mark.timeout(150)
@pytest.mark.parametrize("name", ["fence", "pool-limit", "pool-pause", "reclaim", "event-running"])
async def test_the_loss_of_a_safeguard_is_found_out(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hunted = await hunt(MUTATIONS[name], SEED, tmp_path)
    with capsys.disabled():
        sys.stdout.write(f"\n{hunted.row()}\n")

    assert hunted.found, f"seed {SEED}; the record is in {tmp_path}"
