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
from penstock.client.flow_runs import RETRY_OF

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """List flow runs: in flight, waiting by now, finished with the latest first, and last what is planned for later."""
    states = states_of(state)
    conditions: dict[str, Any] = {"queue": queue, "deployment": deployment, "name": name}

    async def action(penstock: Penstock) -> tuple[list[Run], int, datetime]:
        runs = await penstock.read_runs(pool, **conditions, states=states, limit=limit + 1, offset=(page - 1) * limit)
        planned = await penstock.count_planned(pool, **conditions) if not states and output is Output.TABLE else 0
        return runs, planned or 0, times.of_ms(await penstock.now_ms())

    found, planned, now = ask(action)
    runs = found[:limit]
    if output is Output.JSON:
        print_json(runs)
        return
    given = {"Pool": pool, "Queue": queue, "Deployment": deployment}
    columns = [column for column in CELLS if given.get(column) is None]
    print_table(
        "Flow Runs",
        columns,
        [[CELLS[column](run, now) for column in columns] for run in runs],
        f"more: --page {page + 1}" if len(found) > limit else "",
        optional=DISPENSABLE,
        whole=["State"],
        empty="No flow run matches" if page == 1 else f"No flow run is on page {page}",
    )
    hidden = planned - sum(1 for run in runs if _is_planned(run, now))
    if hidden > 0:
        print(f"{hidden} more {'is' if hidden == 1 else 'are'} planned for later; --state SCHEDULED lists what waits")


def inspect(run_id: RunId, output: OutputOption = Output.TABLE) -> None:
    """Show everything about a flow run, with the states it has been in."""

    async def action(penstock: Penstock) -> tuple[Run, datetime]:
        return await penstock.read_run(run_id), times.of_ms(await penstock.now_ms())

    run, now = ask(action)
    fields = run.model_dump(mode="json")
    if output is Output.JSON:
        print_json(fields)
        return
    if retried := run.spec.get("labels", {}).get(RETRY_OF):
        fields["retry_of"] = retried
    print_record("FlowRun", {name.removesuffix("_ms"): _for_people(name, value, now) for name, value in fields.items()})


def when(run: Run) -> datetime:
    """The moment of the last thing that happened to a run, or of the next thing that will."""
    moments = [run.ended_ms, run.started_ms, run.claimed_ms]
    if run.state == "SCHEDULED" or not any(moments):
        return datetime.fromisoformat(run.scheduled_time)
    return times.of_ms(next(ms for ms in moments if ms))


def state_of(run: Run) -> str:
    """A state as people know it: the name is added where it says more."""
    return run.state if run.state_name.upper() == run.state else f"{run.state} ({run.state_name})"


def duration(run: Run, now: datetime) -> str:
    """How long a run has run, or ran; empty for one that has not started."""
    if run.started_ms is None or run.state == "SCHEDULED":
        return ""
    end = now if run.ended_ms is None else times.of_ms(run.ended_ms)
    return times.lasted((end - times.of_ms(run.started_ms)).total_seconds())


CELLS: Final[dict[str, Callable[[Run, datetime], str]]] = {
    "ID": lambda run, _: run.id,
    "Name": lambda run, _: run.name,
    "Deployment": lambda run, _: run.deployment or "-",
    "Pool": lambda run, _: run.pool or "-",
    "Queue": lambda run, _: run.queue or "-",
    "State": lambda run, _: state_of(run),
    "Worker": lambda run, _: run.worker or "",
    "Scheduled": lambda run, _: times.absolute(datetime.fromisoformat(run.scheduled_time)),
    "When": lambda run, now: times.ago(when(run), now),
    "Duration": duration,
}
"""Columns of the list."""
DISPENSABLE: Final = ("Pool", "Queue", "Worker", "Scheduled", "Duration", "Deployment")
"""Columns that are left out in a narrow terminal, the first ones first."""


def _is_planned(run: Run, now: datetime) -> bool:
    return run.state == "SCHEDULED" and datetime.fromisoformat(run.scheduled_time) > now


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
