"""The same no-op jobs through Penstock and its peers, each as its own documentation recommends, in one run on one machine.

A peer has a program (:mod:`tests.benchmarks.peers.programs`) that runs in an environment of its own, which the benchmark makes
(:mod:`~tests.benchmarks.peers.homes`) from one table (:mod:`~tests.benchmarks.peers.table`). What cannot be installed or started
says so in its row, and the others go on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from tests.benchmarks.report import Report


def measure(given: argparse.Namespace) -> Report:
    """Measure what ``given.peer`` names, or all; see :func:`tests.benchmarks.peers.comparison.compare`."""
    # The programs of the peers lie in this package, and in their environments there is nothing of the project.
    from tests.benchmarks.peers.comparison import compare  # noqa: PLC0415

    return compare(given)
