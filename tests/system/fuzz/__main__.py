"""``python -m tests.system.fuzz --entries 100000 --inputs 10000 --seed N [--json FILE] [--keep FOLDER]``."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.system.fuzz.inputs import InputFuzz
from tests.system.fuzz.streams import StreamFuzz


def arguments() -> argparse.ArgumentParser:
    """Spell the options."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.fuzz", description="Bad input of every kind, judged.")
    parser.add_argument("--entries", type=int, default=5000, help="entries to streams; 0 for none")
    parser.add_argument("--inputs", type=int, default=500, help="inputs to the command line; 0 for none")
    parser.add_argument("--seed", type=int, default=None, help="the same seed makes the same input")
    parser.add_argument("--json", type=Path, default=None, help="write the figures there, too")
    parser.add_argument("--keep", type=Path, default=None, help="keep logs and data there")
    return parser


def main() -> int:
    """Run it; 1 when anything is not as it must be."""
    given = arguments().parse_args()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    sys.stdout.write(f"seed {seed}\n")
    sys.stdout.flush()
    broken: list[str] = []
    figures: dict[str, object] = {"seed": seed}
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if given.entries:
            result = asyncio.run(StreamFuzz(seed, folder, given.entries).run())
            broken += result.broken
            figures["streams"] = {**result.figures, "wrong": result.tally.count_wrong}
        if given.inputs:
            typed = InputFuzz(seed, folder, given.inputs).run()
            broken += typed.wrong
            figures["inputs"] = {
                "codes": dict(sorted(typed.codes.items())),
                "as processes": typed.processes,
                "slowest": round(typed.slowest, 1),
                "seconds": round(typed.seconds),
                "wrong": typed.count_wrong,
            }
    figures["broken"] = broken
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
