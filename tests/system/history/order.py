"""Queue order: nothing is handed out while something that goes first waited for the same worker and could have gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.system.history.records import Record
    from tests.system.history.timeline import Definitions

SETTLES_MS = 12_000
"""A raised limit of a deployment reaches the runs set aside for it with a message; a killed dispatcher's takes its time."""
AWAKE_MS = 1000
"""A script reads the time when it starts: what falls due at a moment of its own may be seen by the next one only."""


class Waiting(NamedTuple):
    """A run in a queue.

    Attributes:
        due: ms; None when the record does not tell.
        explicit: it is due at a moment of its own, not when it was submitted.
        since: when it began to wait.
    """

    queue: str
    deployment: str | None
    due: int | None
    explicit: bool
    since: int


class Order:
    """Knows who waits.

    Args:
        record: for the workers' queues.
        definitions: limits, pauses and priorities.
    """

    def __init__(self, record: Record, definitions: Definitions) -> None:
        self._serves = record.serves
        self._some_choose = any(record.serves.values())
        self._definitions = definitions
        self.waiting: dict[str, Waiting] = {}

    def overtaken(self, at: int, run_id: str, worker: str | None, held: Mapping[str, int]) -> Iterator[str]:
        """Say which waiting runs should have gone before this one, which is handed out now.

        Args:
            at: when.
            run_id: it still counts as waiting.
            worker: who takes it; None when nobody has read it.
            held: what was in flight before, per gate.
        """
        mine = self.waiting.get(run_id)
        if mine is None or (worker is None and self._some_choose):
            return
        priority = self._definitions.priority(mine.queue, at, at)
        if priority is None:
            return
        for other_id, other in self.waiting.items():
            if other_id == run_id or not self._could_go(at, other, worker, held):
                continue
            if other.queue == mine.queue:
                first = mine.due is not None and (other.due, other_id) < (mine.due, run_id)
            else:
                theirs = self._definitions.priority(other.queue, at, at)
                first = theirs is not None and theirs < priority
            if first:
                yield f"run {run_id} of {mine.queue} before {other_id}, which waits in {other.queue} since {other.since} (at {at})"

    def _could_go(self, at: int, other: Waiting, worker: str | None, held: Mapping[str, int]) -> bool:
        if other.due is None or other.due > at - (AWAKE_MS if other.explicit else 0):
            return False
        queue = f"queue/{other.queue}"
        chosen = self._serves.get(worker or "", [])
        if chosen and other.queue not in chosen:
            return False
        if self._definitions.maybe_paused(queue, at, at) or held.get(queue, 0) >= self._definitions.least(
            queue, at, at
        ):
            return False
        if other.deployment is None:
            return True
        of = f"deployment/{other.deployment}"
        return held.get(of, 0) < self._definitions.least(of, at, at - SETTLES_MS)
