"""Show what happens to a run: its states and its output, a line each, and why nothing happens."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from penstock.bus.cancellation import end_tasks
from penstock.cli import times
from penstock.cli.errors import say
from penstock.cli.output import Output, print_json_line, visible
from penstock.contracts.logs import LogLine
from penstock.errors import PenstockError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from datetime import date

    from penstock.client import Penstock
    from penstock.client.explanation import Code, Explanation
    from penstock.contracts.runs import PastState, Run

PATIENCE_SECONDS: Final = 2.5
"""So long a run may stand still until somebody who watches it is told why; then it is looked at again."""
LOOKS: Final = 100
"""Of many runs, so many are looked at in one go for the first that has not started."""
NOT_STARTED: Final = frozenset({"SCHEDULED", "PENDING"})


class Screen:
    """Prints steps of runs; times are on this host's clock, and before the first of a day its date and zone are said."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._day: date | None = None

    def show(self, step: PastState | LogLine) -> None:
        """Print one step."""
        if self._output is Output.JSON:
            print_json_line(step)
            return
        self.date(step.at_ms)
        print(line_of(step) if isinstance(step, LogLine) else state_line(step), flush=True)

    def date(self, at_ms: int) -> None:
        """Say the date and the zone on standard error unless they are those of the line before."""
        local = times.of_ms(at_ms).astimezone()
        if local.date() != self._day:
            self._day = local.date()
            say(f"{local:%A, %Y-%m-%d}, times are {times.zone_of(local)}")


async def show_run(penstock: Penstock, run_id: str, output: Output = Output.TABLE) -> Run:
    """Print the states and the output of a run as they come, until it has ended; why it does not start on standard error.

    Args:
        penstock: where it is.
        run_id: which.
        output: with JSON one object a line; a state has ``state``, a line of output has ``text``.

    Returns:
        The run as it ended.
    """
    screen = Screen(output)
    async with attended(penstock, [run_id]), aclosing(penstock.follow_run(run_id)) as steps:
        async for step in steps:
            screen.show(step)
    return await penstock.read_run(run_id)


@asynccontextmanager
async def attended(penstock: Penstock, run_ids: Sequence[str]) -> AsyncIterator[None]:
    """Tell people who wait for runs, on standard error, why the first of them does not start, and at Ctrl-C that it goes on.

    Args:
        penstock: where they are.
        run_ids: those that are waited for.
    """
    telling = asyncio.create_task(_tell_why(penstock, run_ids))
    try:
        yield
    except asyncio.CancelledError:
        one = run_ids[0] if len(run_ids) == 1 else "ID"
        what = "The run goes on." if len(run_ids) == 1 else f"The {len(run_ids)} runs go on."
        say(f"{what} Watch: penstock flow-run watch {one}; end it: penstock flow-run cancel {one}")
        raise
    finally:
        await end_tasks([telling])


async def _tell_why(penstock: Penstock, run_ids: Sequence[str]) -> None:
    """Say why the first run that has not started stands still, once, and again when there is another reason."""
    left = deque(run_ids)
    before = left[0] if left else ""
    told: Code | None = None
    while left:
        await asyncio.sleep(PATIENCE_SECONDS)
        try:
            why = await _first_still(penstock, left)
            if why is None:
                told = None
            # Of many runs the first that waits may be another each time: then nothing stands still.
            elif why.run == before and why.code != told:
                say(_reason_line(why, await penstock.now_ms()))
                told = why.code
            before = why.run if why else left[0]
        except PenstockError:
            # Whoever waits for the run learns of it; this only adds to that.
            continue


async def _first_still(penstock: Penstock, left: deque[str]) -> Explanation | None:
    """Explain the first run that has not started; forget those before it, unless there is only one, which may wait again."""
    for _ in range(LOOKS):
        why = await penstock.explain_run(left[0])
        if why.state in NOT_STARTED:
            return why
        if len(left) == 1:
            return None
        left.popleft()
    return None


def _reason_line(why: Explanation, now_ms: int) -> str:
    # To watch it is what the reader does already.
    advice = "" if why.command.startswith("penstock flow-run watch") else f"; {why.command}"
    return f"{_clock(now_ms)} | waits  | {why.text}{advice}"


def line_of(line: LogLine) -> str:
    """A line of output, for people."""
    return f"{_clock(line.at_ms)} | {line.source} | {line.text}"


def state_line(state: PastState) -> str:
    """A state, for people, in the columns of :func:`line_of`."""
    return visible(f"{_clock(state.at_ms)} | state  | {state.name}" + (f": {state.message}" if state.message else ""))


def _clock(at_ms: int) -> str:
    return times.of_ms(at_ms).astimezone().strftime("%H:%M:%S.%f")[:-3]
