"""What a soak has found: whether memory stayed flat, whether anything was lost, what was left behind; and its plots."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.streams import ALL
from tests.benchmarks.plots import draw
from tests.benchmarks.report import Budget, Figure, Report
from tests.benchmarks.soak_samples import trend

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from tests.benchmarks.soak_load import Load
    from tests.benchmarks.soak_samples import Series

GROWTH = 0.05
"""Flat: what half of the runs have added is at most this part."""
STEADY_RUNS = 200_000
"""After so many runs with everything full the warming up of processes is not taken for growth any more."""
UNJUDGED = ("RSS worker", "RSS load")
"""The benchmark's own processes."""
REDIS = {"settled": "Redis, used, nothing in flight", "used_memory": "Redis, used", "RSS Redis": "RSS of Redis"}
"""Series -> what it is called."""


class Outcome(NamedTuple):
    """All a soak has seen.

    Attributes:
        runs: how many were to be submitted.
        load: the tally and what was asked.
        series: name -> every sample; ``RSS <name>`` for a process.
        cpu: percent of a core by process.
        full_at: from so many finished runs on everything that is bounded by number was full; None: never.
        seconds: from the first submission to the last.
        half, end: keys by family after half of the runs and at the end.
        lasting: those at the end that never expire.
        wrong: what must not be there at the end -> what is.
    """

    runs: int
    load: Load
    series: dict[str, Series]
    cpu: dict[str, float]
    full_at: int | None
    seconds: float
    half: Counter[str]
    end: Counter[str]
    lasting: Counter[str]
    wrong: dict[str, list[str]]


def report(outcome: Outcome, plots: Path | None) -> Report:
    """Put the figures together and draw them."""
    watched = REDIS | {name: name.replace(" ", " of ", 1) for name in outcome.series if name.startswith("RSS ")}
    figures = [
        *_counted(outcome),
        *(_flat(outcome, name, what) for name, what in watched.items()),
        *_lengths(outcome),
        *(
            Figure(what, "", [len(found)], budget=Budget("none", met=not found), note=", ".join(found[:3]))
            for what, found in outcome.wrong.items()
        ),
        *_families(outcome),
    ]
    since = "too few to fill what is bounded" if outcome.full_at is None else f"full after {outcome.full_at:,}"
    made = Report(f"Soak: {outcome.runs:,} runs in {outcome.seconds:.0f} s, {since}", figures)
    services = {name: name.removeprefix("RSS ") for name in watched if not name.startswith((*REDIS, *UNJUDGED))}
    for file, names in (("soak-redis", REDIS), ("soak-services", services)):
        draw(made, plots, file, partial(_fill, outcome, names))
    return made


def _counted(outcome: Outcome) -> list[Figure]:
    load, tally = outcome.load, outcome.load.tally
    ends = ", ".join(f"{count:,} {state}" for state, count in sorted(tally.ends.items()))
    asked = ", ".join(f"{count:,} {word}" for word, count in sorted(load.cancellations.items()) if count)
    beside = f"{tally.events:,} events, {load.commands} rounds of commands, {load.same:,} runs sent twice"
    return [
        Figure("accepted runs that ended", "runs", [tally.finished], note=ends),
        Figure("all together", "runs/s", [tally.finished / outcome.seconds], note=beside),
        Figure("asked to be cancelled", "runs", [load.cancellations.total()], note=asked),
    ]


def _flat(outcome: Outcome, name: str, what: str) -> Figure:
    series, since = outcome.series[name], outcome.full_at
    used = outcome.cpu.get(name.removeprefix("RSS "))
    cpu = "" if used is None else f"; {used:.0f} % of a core"
    found = trend(series, since or 0)
    if not found:
        return Figure(what, "MB", series.values[-1:], note=f"too few points{cpu}")
    judged = since is not None and outcome.runs - since >= STEADY_RUNS and not name.startswith(UNJUDGED)
    return Figure(
        what,
        "MB",
        [round(value, 2) for value in found.quarters],
        budget=Budget(f"growth over half of the runs <= {GROWTH:.0%}", met=found.growth <= GROWTH) if judged else None,
        note=f"{found.growth:+.1%} from the second quarter to the last, {found.slope:+.2f} MB per 100,000 runs{cpu}",
    )


def _lengths(outcome: Outcome) -> list[Figure]:
    names = ("AOF", "keys", *(f"stream {stream.name}" for stream in ALL))
    return [
        Figure(
            name,
            "MB" if name == "AOF" else "",
            outcome.series[name].values[-1:],
            note=f"at the end; at most {max(outcome.series[name].values):,.0f}",
        )
        for name in names
    ]


def _families(outcome: Outcome) -> list[Figure]:
    return [
        Figure(
            f"keys: {family}",
            "",
            [count],
            note=f"{outcome.half[family]:,} after half of the runs; {outcome.lasting[family]:,} never expire",
        )
        for family, count in outcome.end.most_common()
    ]


def _fill(outcome: Outcome, names: dict[str, str], axes: Any) -> None:
    for name, label in names.items():
        series = outcome.series[name]
        style = "o" if name == "settled" else "-"
        axes.plot([at / 1000 for at in series.at], series.values, style, label=label, linewidth=1, markersize=4)
    if outcome.full_at is not None:
        axes.axvline(outcome.full_at / 1000, color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("finished runs, thousands; dotted: all that is bounded by number is full")
    axes.set_ylabel("memory, MB")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")
