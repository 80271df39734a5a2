"""Show what happens to a run: its states and its output, a line each."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from penstock.cli import times
from penstock.cli.output import Output, print_json_line
from penstock.contracts.logs import LogLine

if TYPE_CHECKING:
    from penstock.client import Penstock
    from penstock.contracts.runs import PastState, Run


async def show_run(penstock: Penstock, run_id: str, output: Output = Output.TABLE) -> Run:
    """Print the states and the output of a run as they come, until it has ended.

    Args:
        penstock: where it is.
        run_id: which.
        output: with JSON one object a line; a state has ``state``, a line of output has ``text``.

    Returns:
        The run as it ended.
    """
    async with aclosing(penstock.follow_run(run_id)) as steps:
        async for step in steps:
            if output is Output.JSON:
                print_json_line(step)
            else:
                print(line_of(step) if isinstance(step, LogLine) else state_line(step), flush=True)
    return await penstock.read_run(run_id)


def line_of(line: LogLine) -> str:
    """A line of output, for people."""
    return f"{_clock(line.at_ms)} | {line.source} | {line.text}"


def state_line(state: PastState) -> str:
    """A state, for people, in the columns of :func:`line_of`."""
    return f"{_clock(state.at_ms)} | state  | {state.name}" + (f": {state.message}" if state.message else "")


def _clock(at_ms: int) -> str:
    return times.of_ms(at_ms).astimezone().strftime("%H:%M:%S.%f")[:-3]
