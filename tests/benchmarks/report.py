"""What a benchmark has found: figures with their spread, ratios within the run, budgets; as a table and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Budget:
    """What a figure must come to.

    Attributes:
        text: as the design spells it, e.g. ``at least 50 % of the bare scripts``.
        met: whether this run did.
    """

    text: str
    met: bool


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured.

    Attributes:
        what: names it.
        unit: ``runs/s``, ``ms``, ``us``, ``bytes``, ``MB``, ``% of a core``.
        values: one for each round; the median is quoted, the lowest and the highest are its spread. None could be measured: empty.
        against: the figure of the same run that ``ratio`` divides by; '' for none.
        ratio: median of the ratios round by round; only it compares between machines.
        budget: None where there is none.
        note: what a reader must know, and why there are no values.
    """

    what: str
    unit: str
    values: Sequence[float]
    against: str = ""
    ratio: float | None = None
    budget: Budget | None = None
    note: str = ""

    @property
    def median(self) -> float | None:
        """The value to quote."""
        return statistics.median(self.values) if self.values else None


def against(bare: Sequence[float], measured: Sequence[float]) -> float:
    """The median of ``measured / bare`` round by round: noise that lasts longer than a round cancels out."""
    return statistics.median(one / other for one, other in zip(measured, bare, strict=True))


@dataclass(slots=True)
class Report:
    """All a benchmark has found.

    Attributes:
        title: one line, with sizes: ``50,000 runs, batches of 100, median of 3``.
        figures: in the order of the table.
        columns: further columns by heading, a text for each figure (``""`` for none); a table of their own below the first.
        plots: files that were written.
    """

    title: str
    figures: list[Figure]
    columns: dict[str, list[str]] = field(default_factory=dict)
    plots: list[Path] = field(default_factory=list)

    def print(self) -> None:
        """Show it as a table."""
        # Wide enough also where the output is a file.
        console = Console(width=None if Console().is_terminal else 160)
        table = _table(self.title, ("what", "median", "lowest .. highest", "ratio", "budget", "note"))
        for figure in self.figures:
            table.add_row(*_cells(figure), figure.note)
        console.print(table)
        if self.columns:
            table = _table("", ("what", *self.columns))
            for index, figure in enumerate(self.figures):
                if any(texts := [column[index] for column in self.columns.values()]):
                    table.add_row(figure.what, *texts)
            console.print(table)
        for plot in self.plots:
            print(f"plot: {plot}")

    def as_json(self) -> dict[str, Any]:
        """Spell it for machines."""
        return {
            "title": self.title,
            "figures": [
                {
                    "what": figure.what,
                    "unit": figure.unit,
                    "median": figure.median,
                    "values": list(figure.values),
                    "against": figure.against,
                    "ratio": figure.ratio,
                    "budget": figure.budget and {"text": figure.budget.text, "met": figure.budget.met},
                    "note": figure.note,
                    **{heading: texts[index] for heading, texts in self.columns.items()},
                }
                for index, figure in enumerate(self.figures)
            ],
            "plots": [plot.name for plot in self.plots],
        }


def machine() -> dict[str, Any]:
    """Say where this ran: figures are nothing without it."""
    return {
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title or None, title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _cells(figure: Figure) -> tuple[str, ...]:
    budget = figure.budget
    spread = f"{_spelled(min(figure.values))} .. {_spelled(max(figure.values))}" if figure.values else ""
    return (
        figure.what,
        "-" if figure.median is None else f"{_spelled(figure.median)} {figure.unit}",
        spread if len(figure.values) > 1 else "",
        "" if figure.ratio is None else f"{figure.ratio:.2f} of {figure.against}",
        "" if budget is None else f"{budget.text}: {'met' if budget.met else 'MISSED'}",
    )


def _spelled(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
