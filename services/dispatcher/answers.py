"""What scripts answer, as the service reads it; pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson


class Claimed(NamedTuple):
    """What one claim did."""

    pool: str
    runs: int
    next_due_ms: int | None
    more: bool


class Submitted(NamedTuple):
    """What became of a submission.

    Attributes:
        words: one word for all of it, or one for each run.
        refused: run, code and message of each run that was refused, as the answer says them.
    """

    words: str | list[str]
    refused: list[dict[str, str]]


def submitted_of(answer: Any) -> Submitted:
    """Read what became of a submission."""
    if isinstance(answer, bytes):
        return Submitted(answer.decode(), [])
    words, rows = answer
    return Submitted([word.decode() for word in words], orjson.loads(b"[" + rows + b"]"))


def words_of(answer: Any) -> str | list[str]:
    """Read what became of a command: one word for all of it, or one for each run."""
    return answer.decode() if isinstance(answer, bytes) else [word.decode() for word in answer]


def claimed_of(pool: str, answer: Any) -> Claimed:
    """Read what a claim in a pool did."""
    runs, next_due_ms, more = answer
    return Claimed(pool, int(runs), int(next_due_ms) if next_due_ms else None, bool(more))
