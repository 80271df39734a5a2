"""``python -m tests.benchmarks [NAME ...] [--quick] [--json FILE] [--plots FOLDER]``; without a name: every one.

Each benchmark starts what it needs, warms up, repeats, and prints a table with medians, spread and ratios. A benchmark is a module
of this folder with ``measure(given) -> Report``; only ratios within one run compare between machines.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from tests.benchmarks.report import machine

if TYPE_CHECKING:
    from tests.benchmarks.report import Report

BENCHMARKS = ("lifecycle", "latency", "start", "heartbeats", "growth", "memory", "idle", "cluster", "soak", "peers")


def arguments() -> argparse.ArgumentParser:
    """Spell the options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description="Measure, as ratios within one run."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; none means all")
    parser.add_argument(
        "--quick", action="store_true", help="a hundredth of the work: shows that it runs, not how fast"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each figure is measured")
    parser.add_argument("--runs", type=int, default=None, help="how many runs, where a benchmark goes by runs")
    parser.add_argument("--peer", action="append", default=[], help="peers: only this one; may be repeated")
    parser.add_argument(
        "--patience", type=float, default=100, help="peers: seconds to wait for a job whose worker was killed"
    )
    parser.add_argument("--json", type=Path, default=None, help="write all figures there")
    parser.add_argument("--plots", type=Path, default=None, help="write plots into this folder")
    return parser


def main() -> int:
    """Run what was asked for; 1 when a budget was missed or a benchmark could not run."""
    parser = arguments()
    given = parser.parse_args()
    wrong = sorted(set(given.names) - set(BENCHMARKS))
    if wrong:
        parser.error(f"there is no benchmark {', '.join(wrong)}; there are {', '.join(BENCHMARKS)}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    found: dict[str, Report] = {}
    for name in given.names or BENCHMARKS:
        found[name] = importlib.import_module(f"tests.benchmarks.{name}").measure(given)
        found[name].print()
        sys.stdout.flush()
        if given.json:
            # After each: an hour of figures must not be lost to the last one.
            spelled = {"machine": machine(), **{known: report.as_json() for known, report in found.items()}}
            given.json.write_text(json.dumps(spelled, indent=2) + "\n")
    missed = [
        figure for report in found.values() for figure in report.figures if figure.budget and not figure.budget.met
    ]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
