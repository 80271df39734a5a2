"""``python -m tests.system.chaos --minutes 30 --seed N [--json FILE] [--keep FOLDER]``, or ``--mutations``."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.chaos.arena import Arena
from tests.system.chaos.flush import flush
from tests.system.chaos.hunt import hunt_all
from tests.system.chaos.mutations import MUTATIONS

if TYPE_CHECKING:
    from tests.system.chaos.arena import Result


def arguments() -> argparse.ArgumentParser:
    """Spell the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description="Faults at random, judged.")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults strike")
    parser.add_argument("--seed", type=int, default=None, help="the same seed makes the same decisions")
    parser.add_argument("--json", type=Path, default=None, help="write the figures there, too")
    parser.add_argument("--keep", type=Path, default=None, help="keep record, logs and data there")
    parser.add_argument(
        "--flush", action="store_true", help="the other scenario: Redis loses everything, again and again"
    )
    parser.add_argument(
        "--mutation",
        action="append",
        choices=sorted(MUTATIONS),
        metavar="NAME",
        help="take this safeguard out and see whether it is found out; may be repeated",
    )
    parser.add_argument("--mutations", action="store_true", help="the same with every safeguard there is")
    return parser


def spelled(result: Result) -> dict[str, object]:
    """A result as JSON."""
    return {
        "seed": result.seed,
        "broken": result.broken,
        "promises": {str(number): not texts for number, texts in result.verdict.violations.items()},
        "counts": dict(result.verdict.counts),
        "most_in_flight": dict(result.verdict.peak),
        "faults": dict(result.faults),
        "recovered_in_seconds": [round(seconds, 1) for seconds in result.recoveries],
        "figures": result.figures,
    }


def main() -> int:
    """Run it; 1 when a promise is broken."""
    given = arguments().parse_args()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        if given.flush:
            broken, recoveries = asyncio.run(flush(seed, folder))
            sys.stdout.write("recovered in (s): " + ", ".join(f"{seconds:.1f}" for seconds in recoveries) + "\n")
            sys.stdout.write("\n".join(broken or ["all promises held"]) + "\n")
            return 1 if broken else 0
        names = list(MUTATIONS) if given.mutations else given.mutation
        if names:
            good = asyncio.run(hunt_all(names, seed, folder))
            sys.stdout.write("every mutation was found\n" if good else "NOT every mutation was found\n")
            return 0 if good else 1
        result = asyncio.run(Arena(seed, folder, given.minutes * 60).run())
    sys.stdout.write(result.text() + "\n")
    if given.json:
        given.json.write_text(json.dumps(spelled(result), indent=2) + "\n")
    return 1 if result.broken else 0


if __name__ == "__main__":
    sys.exit(main())
