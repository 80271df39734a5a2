"""A seed of the fault injector decides what strikes, in which order and how, however long each fault takes."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

from tests.system.chaos.faults import Faults
from tests.system.chaos.mix import Mix
from tests.system.history import Recorder

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("kill redis", "kill service", "cut network")


async def struck(seed: str, record: Path, slowness: float) -> list[tuple[str, int]]:
    """What strikes within a moment, and what each decides for itself."""
    seen: list[tuple[str, int]] = []
    nobody: Any = None
    mix = Mix(faults=dict.fromkeys(NAMES, 1), apart=(0.0, 0.002))
    recorder = Recorder(record)
    faults = Faults(nobody, nobody, nobody, nobody, {}, nobody, recorder, Random(seed), mix)

    def strike(name: str) -> Any:
        async def harm() -> None:
            seen.append((name, faults._chance.randrange(1000)))
            await asyncio.sleep(slowness)
            faults._chance.random()

        return harm

    faults.kinds = {name: (1, strike(name)) for name in NAMES}
    await faults.storm(0.15)
    recorder.close()
    return seen


async def test_the_same_seed_strikes_the_same_however_long_each_takes(tmp_path: Path) -> None:
    quick, slow, other = [
        await struck(seed, tmp_path / f"{number}.jsonl", slowness)
        for number, (seed, slowness) in enumerate([("1/faults", 0), ("1/faults", 0.01), ("2/faults", 0)])
    ]
    both = min(len(quick), len(slow))

    assert both > 5
    assert quick[:both] == slow[:both]
    assert quick[:both] != other[:both]
    assert {name for name, _ in quick} == set(NAMES)
