"""The work of ``penstock demo``: one run reads one file of measurements and writes down what is in it.

A worker runs it in a process of its own; it needs nothing of Penstock.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import random

RESAMPLES = 30
"""Of the bootstrap: enough for a rough interval, and for a run that computes for some tens of milliseconds."""


def summarize(source: str, result: str) -> None:
    """Summarize a CSV file with the columns ``sensor`` and ``value``.

    Args:
        source: path of the file.
        result: path of the JSON file to write; it appears complete or not at all, also when this runs twice.
    """
    with open(source, "rb") as file:  # noqa: PTH123 - every run pays for its imports
        digest = hashlib.sha256(file.read()).hexdigest()
    values: dict[str, list[float]] = {}
    with open(source, newline="", encoding="ascii") as file:  # noqa: PTH123 - the same
        for row in csv.DictReader(file):
            values.setdefault(row["sensor"], []).append(float(row["value"]))
    summary = {
        "source": os.path.basename(source),  # noqa: PTH119 - the same
        "sha256": digest,
        "rows": sum(len(column) for column in values.values()),
        "sensors": {sensor: describe(column, digest) for sensor, column in sorted(values.items())},
    }
    fresh = f"{result}.{os.getpid()}"
    with open(fresh, "w", encoding="utf-8") as file:  # noqa: PTH123 - the same
        json.dump(summary, file, indent=1)
    os.replace(fresh, result)  # noqa: PTH105 - the same
    print(f"{summary['rows']} rows in {summary['source']}, sha256 {digest[:12]}")


def describe(column: list[float], seed: str) -> dict[str, float]:
    """Say how values are spread, with a bootstrap interval of the mean.

    Args:
        column: not empty.
        seed: the same one gives the same interval.
    """
    ordered = sorted(column)
    mean = math.fsum(ordered) / len(ordered)
    variance = math.fsum((value - mean) ** 2 for value in ordered) / len(ordered)
    chance = random.Random(seed)  # noqa: S311 - statistics, no secrets
    means = sorted(math.fsum(chance.choices(ordered, k=len(ordered))) / len(ordered) for _ in range(RESAMPLES))
    return {
        "count": len(ordered),
        "mean": mean,
        "mean_low": means[1],
        "mean_high": means[-2],
        "deviation": math.sqrt(variance),
        "median": ordered[len(ordered) // 2],
        "p99": ordered[len(ordered) * 99 // 100],
        "maximum": ordered[-1],
    }
