"""``python -m tests.system.history FILE...``: judge a record again. A folder means all of its ``.jsonl`` files."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.system.history import check, load


def main(arguments: list[str]) -> int:
    """Print the verdict; 1 when a promise is broken, 64 without a file."""
    files = [file for given in map(Path, arguments) for file in (given.glob("*.jsonl") if given.is_dir() else [given])]
    if not files:
        sys.stderr.write(f"{__doc__}\n")
        return 64
    verdict = check(load(sorted(files)))
    sys.stdout.write(verdict.text() + "\n")
    return 1 if verdict.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
