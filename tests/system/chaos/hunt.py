"""Take safeguards out one by one, and see whether the history tells; with all of them in place the same mix must break nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.system.chaos.arena import Arena
from tests.system.chaos.mutations import MIXES, MUTATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.system.chaos.arena import Result
    from tests.system.chaos.mutation import Mutation

ATTEMPTS: Final = 3
"""A fault may miss the one moment that counts; then another seed tries."""


@dataclass(frozen=True)
class Hunted:
    """What became of one mutation.

    Attributes:
        found: the promises it was to break that were broken.
        also: the others that were.
        evidence: the first text of the first of them.
        after_seconds: since the first event, None where only the end shows it.
        runs: how many there were by then.
        attempts: seeds it took.
        seconds: they took altogether.
    """

    mutation: Mutation
    found: tuple[int, ...]
    also: tuple[int, ...]
    evidence: str
    after_seconds: float | None
    runs: int
    attempts: int
    seconds: int

    def row(self) -> str:
        """A line of the table."""
        if not self.found:
            by = "NOT FOUND"
        elif self.after_seconds is None:
            by = f"promise {', '.join(map(str, self.found))}, at the end, {self.runs} runs"
        else:
            by = f"promise {', '.join(map(str, self.found))}, {self.after_seconds:.1f} s, {self.runs} runs"
        also = f" (also {', '.join(map(str, self.also))})" if self.also else ""
        spent = f"{self.attempts} x, {self.seconds} s"
        return f"{self.mutation.name:22} {self.mutation.place:52} {by + also:44} {spent:10} {self.mutation.out}"


async def hunt(mutation: Mutation, seed: int, folder: Path, attempts: int = ATTEMPTS) -> Hunted:
    """Run the arena with one safeguard less, until its loss is found out.

    Args:
        mutation: which.
        seed: of the first attempt; the next has the next.
        folder: for data, logs and records.
        attempts: how often at most.

    Raises:
        Rotten: the mutation does not fit the product any more.
        RuntimeError: the product does not live with it, so that nothing would be proved.
    """
    mutation.apply(mutation.source)
    seconds = 0
    for attempt in range(1, attempts + 1):
        place = folder / f"{mutation.name}-{attempt}"
        result = await Arena(seed + attempt - 1, place, mutation.seconds, mutation.mix, mutation.name).run()
        seconds += result.figures["seconds"]
        _must_live(mutation, result, place)
        broken = {number: texts for number, texts in result.verdict.violations.items() if texts}
        found = tuple(number for number in broken if number in mutation.promises)
        if found or attempt == attempts:
            break
    also = tuple(number for number in broken if number not in found)
    first = result.verdict.first[found[0]] if found else None
    after = None if first is None or first.after_ms is None else first.after_ms / 1000
    evidence = broken[found[0]][0] if found else ""
    return Hunted(mutation, found, also, evidence, after, first.runs if first else 0, attempt, seconds)


def _must_live(mutation: Mutation, result: Result, folder: Path) -> None:
    dead = [text for text in result.wrong if " ended with " in text]
    dead += [log.name for log in folder.glob("*.log") if b"user_script" in log.read_bytes()]
    if dead:
        raise RuntimeError(f"{mutation.name}: nothing works with it, so it proves nothing: {dead[0]}")


async def control(name: str, seed: int, folder: Path) -> Result:
    """Run a mix with everything in place, as long as the longest of its mutations.

    Args:
        name: of the mix.
        seed: decides.
        folder: for data, logs and records.
    """
    mix = MIXES[name]
    seconds = max(mutation.seconds for mutation in MUTATIONS.values() if mutation.mix is mix)
    return await Arena(seed, folder / f"control-{name}", seconds, mix).run()


async def hunt_all(names: Sequence[str], seed: int, folder: Path) -> bool:
    """Try mutations, and before each mix that mix alone; tell each as a line of a table.

    Returns:
        Whether each was found, and nothing without.
    """
    good = True
    for name, mix in MIXES.items():
        if not any(MUTATIONS[one].mix is mix for one in names):
            continue
        result = await control(name, seed, folder)
        good = good and not result.broken
        _tell(f"{'(none)':22} {'mix ' + name:52} {'; '.join(result.broken[:1]) or 'all promises held'}")
        for mutation in _of(names, name):
            hunted = await hunt(mutation, seed, folder)
            good = good and bool(hunted.found)
            _tell(hunted.row())
    return good


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _of(names: Sequence[str], mix: str) -> Iterator[Mutation]:
    return (MUTATIONS[name] for name in names if MUTATIONS[name].mix is MIXES[mix])
