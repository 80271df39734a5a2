"""Pictures of what benchmarks have found; without matplotlib (extra ``benchmarks``) they are left out, and the report says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.benchmarks.report import Report

SIZE_INCHES = (8, 4.5)


def draw(report: Report, folder: Path | None, name: str, fill: Callable[[Any], None]) -> None:
    """Draw one plot into an SVG file of the report.

    Args:
        report: learns of the file.
        folder: None draws nothing.
        name: of the file, without its ending.
        fill: gets matplotlib's axes.
    """
    if folder is None:
        return
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'penstock[benchmarks]')")
        return
    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after its backend has been chosen

    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = name
    figure, axes = plt.subplots(figsize=SIZE_INCHES)
    fill(axes)
    axes.grid(visible=True, alpha=0.3)
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    report.plots.append(path)


def distribution(
    report: Report, folder: Path | None, name: str, what: str, values: Mapping[str, Sequence[float]]
) -> None:
    """Draw which part of all values lies below each value, on a logarithmic axis.

    Args:
        report: learns of the file.
        folder: None draws nothing.
        name: of the file.
        what: says what is measured, and its unit.
        values: by the name of their line.
    """

    def fill(axes: Any) -> None:
        for label, some in values.items():
            ordered = sorted(some)
            axes.plot(ordered, [(index + 1) / len(ordered) for index in range(len(ordered))], label=label)
        axes.set_xscale("log")
        axes.set_xlabel(what)
        axes.set_ylabel("part of all runs")
        axes.legend()

    draw(report, folder, name, fill)
