"""A picture of the throughputs, where matplotlib is installed."""

from __future__ import annotations

import statistics
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.benchmarks.peers.phases import Found


def throughput(founds: Sequence[Found], folder: Path) -> list[Path]:
    """Draw horizontal bars, the fastest on top, with the spread of the rounds.

    Args:
        founds: all peers; those without a figure are left out.
        folder: created if missing.

    Returns:
        The file; nothing, with a note on stderr, where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - optional
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'penstock[benchmarks]')", file=sys.stderr)
        return []
    measured = sorted((found for found in founds if found.throughput), key=_median)
    medians = [_median(found) for found in measured]
    spread = [
        [median - min(found.throughput) for median, found in zip(medians, measured, strict=True)],
        [max(found.throughput) - median for median, found in zip(medians, measured, strict=True)],
    ]
    figure = Figure(figsize=(8, 0.4 * len(measured) + 1.2), layout="constrained")
    axes = figure.subplots()
    ours = founds[0].peer.title
    axes.barh(
        [found.peer.title for found in measured],
        medians,
        xerr=spread,
        color=["#c2410c" if found.peer.title == ours else "#94a3b8" for found in measured],
    )
    axes.set_xlabel("no-op jobs a second: one producer, one worker, Redis, all on one machine")
    axes.spines[["top", "right"]].set_visible(False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "peers.svg"
    figure.savefig(path, metadata={"Date": None})
    return [path]


def _median(found: Found) -> float:
    return statistics.median(found.throughput)
