"""Which worker holds what: never more than its slots, and never again a life of it that another has replaced."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.history.records import Claim, Record


class Holders:
    """Follows runs into workers' hands. A claim that nobody has read is in nobody's: who was to have it is not known.

    Args:
        record: for claims and the workers' slots.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._worker: dict[str, str] = {}
        self._held: Counter[str] = Counter()
        self._lives: dict[str, list[str]] = defaultdict(list)

    def take(self, at: int, run_id: str, epoch: int) -> Iterator[tuple[int, str]]:
        """A run is handed out.

        Args:
            at: when.
            run_id: which.
            epoch: of the claim.

        Yields:
            The number of a promise that this breaks, and how.
        """
        claim = self._claim(run_id, epoch)
        if claim is None:
            return
        self._worker[run_id] = claim.worker
        self._held[claim.worker] += 1
        slots = self._record.slots.get(claim.worker)
        if slots is not None and self._held[claim.worker] > slots:
            yield 1, f"{self._held[claim.worker]} in the hand of {claim.worker}, {slots} slots (at {at}, run {run_id})"
        lives = self._lives[claim.worker]
        if claim.boot not in lives:
            lives.append(claim.boot)
        elif lives[-1] != claim.boot:
            yield 2, f"run {run_id} was handed to a life of {claim.worker} that another had replaced (at {at})"

    def release(self, run_id: str) -> None:
        """A run is in nobody's hand any more."""
        worker = self._worker.pop(run_id, None)
        if worker is not None:
            self._held[worker] -= 1

    def _claim(self, run_id: str, epoch: int) -> Claim | None:
        """The one claim; None where Redis may have forgotten it, and has perhaps made another instead."""
        claims = self._record.claims.get((run_id, epoch), [])
        if not claims or any(self._record.may_have_forgotten(claim.assigned) for claim in claims):
            return None
        return claims[0]
