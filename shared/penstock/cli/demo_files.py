"""The files of ``penstock demo``: measurements to work on, and the proof that every one was worked on."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Final

from penstock.cli import demo_work

SEED: Final = 20_261_121
"""Any number: the same files, so the same work, at every demo."""
SENSORS: Final = ("east", "north", "south", "west")
ROWS: Final = (4_000, 16_000)
"""Rows of a file, chosen so that a run computes for some tens of milliseconds."""


class DemoFiles:
    """A directory with ``work.py``, ``measurements/`` and ``results/``.

    Args:
        directory: empty.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._measurements = directory / "measurements"
        self._results = directory / "results"
        self._digests: dict[str, str] = {}

    @property
    def entrypoint(self) -> str:
        """What the runs execute: a file of the demo's own, as a user's would be."""
        return f"{self.directory / 'work.py'}:{demo_work.summarize.__name__}"

    def prepare(self, names: list[str]) -> None:
        """Write one file of measurements for every run's name."""
        for directory in (self._measurements, self._results):
            directory.mkdir(parents=True)
        shutil.copyfile(Path(demo_work.__file__), self.directory / "work.py")
        chance = random.Random(SEED)  # noqa: S311 - made-up measurements, no secrets
        for name in names:
            rows = [f"{chance.choice(SENSORS)},{chance.gauss(20, 5):.4f}\n" for _ in range(chance.randint(*ROWS))]
            content = ("sensor,value\n" + "".join(rows)).encode()
            (self._measurements / f"{name}.csv").write_bytes(content)
            self._digests[name] = hashlib.sha256(content).hexdigest()

    def parameters(self, name: str) -> dict[str, str]:
        """Parameters of a run."""
        return {"source": str(self._measurements / f"{name}.csv"), "result": str(self._results / f"{name}.json")}

    def problems(self) -> list[str]:
        """Compare the results with the measurements: one for each, complete, of the right file, and no other."""
        found = {path.stem: path for path in self._results.glob("*.json")}
        problems = [f"run {name} left no result" for name in self._digests if name not in found]
        problems += [f"unexpected result {name}" for name in found if name not in self._digests]
        for name, digest in self._digests.items():
            if name in found and json.loads(found[name].read_bytes())["sha256"] != digest:
                problems.append(f"the result of run {name} is not about its file")
        return problems
