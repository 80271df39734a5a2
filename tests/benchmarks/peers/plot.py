"""A picture of the throughputs."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from tests.benchmarks import plots

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.benchmarks.peers.phases import Found
    from tests.benchmarks.report import Report

OURS = "#c2410c"
THEIRS = "#94a3b8"


def throughput(report: Report, founds: Sequence[Found], folder: Path | None) -> None:
    """Draw horizontal bars, the fastest on top, with the spread of the rounds.

    Args:
        report: learns of the file.
        founds: ours first; those without a figure are left out.
        folder: None draws nothing.
    """
    measured = sorted((found for found in founds if found.throughput), key=_median)
    medians = [_median(found) for found in measured]
    spread = [
        [median - min(found.throughput) for median, found in zip(medians, measured, strict=True)],
        [max(found.throughput) - median for median, found in zip(medians, measured, strict=True)],
    ]

    def fill(axes: Any) -> None:
        colours = [OURS if found is founds[0] else THEIRS for found in measured]
        axes.barh([found.peer.title for found in measured], medians, xerr=spread, color=colours)
        axes.set_xlabel("no-op jobs a second: one producer, one worker, Redis, all on one machine")

    plots.draw(report, folder, "peers", fill)


def _median(found: Found) -> float:
    return statistics.median(found.throughput)
