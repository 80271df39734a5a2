"""Logs: what a worker appends to ``logs:<run>``, the output of one run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from penstock.contracts.base import Message

Source = Literal["stdout", "stderr"]


class LogLine(BaseModel):
    """One line of output.

    Attributes:
        at_ms: when the worker read it, milliseconds since 1970 by the worker's clock.
        text: without its line break; what was not UTF-8 is replaced, what was too long is cut.
    """

    model_config = ConfigDict(frozen=True)

    at_ms: int
    source: Source
    text: str


class RunLog(Message):
    """On ``logs:<run>``: the next lines of a run's output, in the order in which the worker read them."""

    type: Literal["run.log"] = "run.log"
    run: str
    lines: list[LogLine]
