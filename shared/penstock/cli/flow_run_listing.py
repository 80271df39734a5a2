"""``penstock flow-run ls`` and ``inspect``: what runs there are."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from penstock.cli import times
from penstock.cli.options import AnyPoolOption, OutputOption  # noqa: TC001 - typer reads them
from penstock.cli.output import Output, print_json, print_record, print_table
from penstock.cli.run_options import DeploymentOption, NameOption, QueueOption, RunId, StatesOption, states_of
from penstock.cli.session import ask

if TYPE_CHECKING:
    from penstock.client import Penstock
    from penstock.contracts.runs import Run

MAX_LIMIT: Final = 100_000
MAX_PAGE: Final = 1_000_000


def list_runs(
    *,
    pool: AnyPoolOption = None,
    queue: QueueOption = None,
    deployment: DeploymentOption = None,
    state: StatesOption = None,
    name: NameOption = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=MAX_LIMIT, help="How many on a page.")] = 50,
    page: Annotated[int, typer.Option("--page", min=1, max=MAX_PAGE, help="Which page.")] = 1,
    output: OutputOption = Output.TABLE,
) -> None:
    """List flow runs: in flight, then waiting in their order, then finished."""
    states = states_of(state)

    async def action(penstock: Penstock) -> tuple[list[Run], datetime]:
        runs = await penstock.read_runs(
            pool,
            queue=queue,
            deployment=deployment,
            states=states,
            name=name,
            limit=limit + 1,
            offset=(page - 1) * limit,
        )
        return runs, times.of_ms(await penstock.now_ms())

    runs, now = ask(action)
    if output is Output.JSON:
        print_json(runs[:limit])
        return
    print_table(
        "Flow Runs",
        ["ID", "Name", "Pool", "Queue", "State", "Worker", "When"],
        [
            [
                run.id,
                run.name,
                run.pool or "-",
                run.queue or "-",
                state_of(run),
                run.worker or "",
                times.ago(when(run), now),
            ]
            for run in runs[:limit]
        ],
        f"more: --page {page + 1}" if len(runs) > limit else "",
    )


def inspect(run_id: RunId, output: OutputOption = Output.TABLE) -> None:
    """Show everything about a flow run, with the states it has been in."""

    async def action(penstock: Penstock) -> tuple[Run, datetime]:
        return await penstock.read_run(run_id), times.of_ms(await penstock.now_ms())

    run, now = ask(action)
    fields = run.model_dump(mode="json")
    if output is Output.JSON:
        print_json(fields)
        return
    print_record("FlowRun", {name: _for_people(name, value, now) for name, value in fields.items()})


def when(run: Run) -> datetime:
    """The moment of the last thing that happened to a run, or of the next thing that will."""
    moments = [run.ended_ms, run.started_ms, run.claimed_ms]
    if run.state == "SCHEDULED" or not any(moments):
        return datetime.fromisoformat(run.scheduled_time)
    return times.of_ms(next(ms for ms in moments if ms))


def state_of(run: Run) -> str:
    """A state as people know it: the name is added where it says more."""
    return run.state if run.state_name.upper() == run.state else f"{run.state} ({run.state_name})"


def _for_people(name: str, value: Any, now: datetime) -> Any:
    if name.endswith("_ms") and value is not None:
        return times.ago(times.of_ms(value), now)
    if name == "scheduled_time":
        return f"{value} ({times.ago_iso(value, now)})"
    if name == "states":
        return [_past(state, now) for state in value]
    return value


def _past(state: dict[str, Any], now: datetime) -> str:
    at = times.of_ms(state["at_ms"])
    message = f": {state['message']}" if state["message"] else ""
    return f"{at.isoformat(timespec='milliseconds')} {state['name']} ({times.ago(at, now)}){message}"
