"""What scripts answer, as the service reads it; pure."""

from __future__ import annotations

from typing import Any, NamedTuple


class Claimed(NamedTuple):
    """What one claim did."""

    pool: str
    runs: int
    next_due_ms: int | None
    more: bool


def words_of(answer: Any) -> str | list[str]:
    """Read what became of a submission: one word for all of it, or one for each run."""
    return answer.decode() if isinstance(answer, bytes) else [word.decode() for word in answer]


def claimed_of(pool: str, answer: Any) -> Claimed:
    """Read what a claim in a pool did."""
    runs, next_due_ms, more = answer
    return Claimed(pool, int(runs), int(next_due_ms) if next_due_ms else None, bool(more))
