"""What a worker does about an audit: the claims it holds against those the dispatcher says that it holds; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from penstock.contracts.workers import AuditedRun


class Difference(NamedTuple):
    """Where the two sides differ.

    Attributes:
        unknown: named and not held: they ended here, or never came.
        begun: named as PENDING, and running.
        stopped: held, and to be stopped.
        void: tokens of claims that are held and were not named.
    """

    unknown: list[AuditedRun]
    begun: list[AuditedRun]
    stopped: list[AuditedRun]
    void: set[str]


def compare(named: Sequence[AuditedRun], held: Collection[str], running: Collection[str]) -> Difference:
    """Compare both sides at one place of the inbox. Tokens count: after a loss an epoch may come a second time.

    Args:
        named: by the dispatcher.
        held: tokens of the claims that are here and valid.
        running: those of them that have begun.
    """
    here = [run for run in named if run.token in held]
    return Difference(
        unknown=[run for run in named if run.token not in held],
        begun=[run for run in here if run.state == "PENDING" and run.token in running],
        stopped=[run for run in here if run.state == "CANCELLING"],
        void=set(held) - {run.token for run in named},
    )
