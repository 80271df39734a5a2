"""``penstock flow-run explain``, ``watch`` and ``logs``: what one run waits for, does and prints."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.errors import REFUSED, say
from penstock.cli.following import NOT_STARTED, Screen, attended, show_run
from penstock.cli.options import OutputOption  # noqa: TC001 - typer reads them
from penstock.cli.output import Output, print_json, visible
from penstock.cli.run_options import RunId  # noqa: TC001 - typer reads it
from penstock.cli.session import ask

if TYPE_CHECKING:
    from penstock.client import Penstock
    from penstock.client.explanation import Explanation, Obstacle
    from penstock.contracts.runs import Run


def logs(
    run_id: RunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    tail: Annotated[
        int | None,
        typer.Option("--tail", "-t", min=0, metavar="N", help="Only the last N of the lines.", show_default=False),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print what a flow run printed. Kept for a day after its last line, the latest part of a long output.

    With --output json each line is one JSON object: at_ms, source, text.
    """
    screen = Screen(output)

    async def action(penstock: Penstock) -> Run | None:
        silent = tail != 0
        async with AsyncExitStack() as stack:
            if follow:
                await stack.enter_async_context(attended(penstock, [run_id]))
            lines = await stack.enter_async_context(aclosing(penstock.logs(run_id, follow=follow, tail=tail)))
            async for line in lines:
                silent = False
                screen.show(line)
        return await penstock.read_run(run_id) if silent else None

    run = ask(action)
    if run is None:
        return
    if run.started_ms is None and run.state in NOT_STARTED:
        say(f"Run '{run_id}' has not started; `penstock flow-run explain {run_id}` says why")
    else:
        say(f"No output of run '{run_id}' is kept")


def watch(run_id: RunId, output: OutputOption = Output.TABLE) -> None:
    """Follow a flow run to its end: its states and its output as they come. Exit 1 unless it completed.

    With --output json each line is one JSON object, a state or a line of output.
    """
    run = ask(lambda penstock: show_run(penstock, run_id, output))
    if run.state != "COMPLETED":
        raise typer.Exit(REFUSED)


def explain(run_id: RunId, output: OutputOption = Output.TABLE) -> None:
    """Say why a flow run is not running: what stops it, who holds what it waits for, and what one may do."""
    why = ask(lambda penstock: penstock.explain_run(run_id))
    if output is Output.JSON:
        print_json(why)
        return
    print(visible(f"Flow run '{why.name}' ({why.run}) is {why.state_name}"))
    print(visible(f"Why: {why.text}"))
    _print_holders(why)
    if why.position is not None:
        print(f"Position: {_ahead(why)}")
    for other in why.further:
        print(visible(f"Also: {other.text}"))
        _print_holders(other)
    print(f"What to do: {why.command}")


def _print_holders(reason: Obstacle) -> None:
    for one in reason.holders:
        print(visible(f"    {one.id}  {one.name}  {one.state}" + (f"  on '{one.worker}'" if one.worker else "")))
    if reason.holders_total > len(reason.holders):
        print(f"    ... and {reason.holders_total - len(reason.holders)} more")


def _ahead(why: Explanation) -> str:
    if not why.position:
        return "next in work pool"
    return f"{why.position} waiting {'run comes' if why.position == 1 else 'runs come'} before it"
