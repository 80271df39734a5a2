"""What a definition may have been at a moment: certain after the answer to its change, either of two while that is under way."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.system.history.records import Change, Record


UNSAID = {"paused": False}
LONGEST_MS = 60_000
"""No change has a later deadline after it was sent."""


class Definitions:
    """Limits, pauses and priorities over time.

    Args:
        record: whose ``setting`` lines are read.
    """

    def __init__(self, record: Record) -> None:
        self._changes = record.changes

    def possible(self, what: str, of: str, at: int, *, since: int | None = None) -> list[Any]:
        """All values it may have had at a moment, or from ``since`` until then."""
        found: list[Any] = []
        certain: Change | None = None
        for change in reversed(self._changes.get(f"{what} of {of}", ())):
            if change.sent > at or change.ok is False:
                continue
            if certain is None:
                found.append(change.value)
                # An answer in the same millisecond came too late to be a barrier.
                if change.ok and change.answered is not None and change.answered < (at if since is None else since):
                    certain = change
            elif certain.sent - change.sent > LONGEST_MS:
                break
            elif change.ok is None and change.until >= certain.sent:
                found.append(change.value)
        # Never said for sure: no limit, not paused, no known priority.
        return found if certain else [*found, UNSAID.get(what)]

    def most(self, of: str, at: int) -> float:
        """The highest limit that may have been in force."""
        return max(_limit(value) for value in self.possible("limit", of, at))

    def least(self, of: str, at: int, since: int) -> float:
        """The lowest limit that may have been in force at any time from ``since`` on."""
        return min(_limit(value) for value in self.possible("limit", of, at, since=since))

    def surely_paused(self, of: str, at: int) -> bool:
        """Say whether nothing may be handed out."""
        return all(self.possible("paused", of, at))

    def maybe_paused(self, of: str, at: int, since: int) -> bool:
        """Say whether it was perhaps paused from ``since`` on."""
        return any(self.possible("paused", of, at, since=since))

    def priority(self, queue: str, at: int, since: int) -> int | None:
        """The priority of a queue; None while it is being changed, or if it is not known."""
        possible = set(self.possible("priority", f"queue/{queue}", at, since=since))
        return possible.pop() if len(possible) == 1 else None


def _limit(value: int | None) -> float:
    return math.inf if value is None else value
