"""``penstock flow-run``: submit work and see what became of it."""

from __future__ import annotations

import shlex
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

import typer

from penstock.cli import times
from penstock.cli.completion import queue_names
from penstock.cli.errors import REFUSED, say
from penstock.cli.options import AnyPoolOption, DefaultPoolOption, OutputOption, examples
from penstock.cli.output import Output, print_json, print_json_line, print_record, print_table
from penstock.cli.parsing import choice, local_entrypoint, pairs, parameters
from penstock.cli.session import ask, ask_in
from penstock.client import NewRun
from penstock.client.runs import prepare
from penstock.contracts.queues import DEFAULT_QUEUE
from penstock.contracts.runs import Run, RunState

if TYPE_CHECKING:
    from penstock.client import Penstock

app = typer.Typer(
    help="Submit and watch flow runs.",
    no_args_is_help=True,
    epilog=examples(
        "penstock flow-run submit --pool etl --entrypoint flows.py:load --param day=1 --wait",
        "penstock flow-run ls --pool etl --state RUNNING",
        "penstock flow-run logs 0198c0de-0000-7000-8000-000000000000 --follow",
    ),
)

SHOWN_IDS: Final = 20
"""How many ids are printed for people; programs get all of them."""
MAX_COUNT: Final = 1_000_000
STATES: Final = get_args(RunState)


@app.command(
    epilog=examples(
        "penstock flow-run submit --pool etl --entrypoint flows.py:load --param day=1",
        "penstock flow-run submit -p etl -q critical -e flows.py:load --wait",
        'penstock flow-run submit -p etl --command "python -m load --day 1" --count 10',
        "penstock flow-run submit -p etl -e flows.py:load --at 2030-01-31T08:00",
        "penstock flow-run submit -p etl -e flows.py:load --at +90s --env STAGE=test",
        "penstock flow-run submit -p etl -e flows.py:load --job-variable stream_output=false",
    )
)
def submit(
    *,
    pool: DefaultPoolOption = None,
    queue: Annotated[
        str,
        typer.Option("--queue", "-q", help="Where it waits; created when missing.", autocompletion=queue_names),
    ] = DEFAULT_QUEUE,
    entrypoint: Annotated[
        str | None, typer.Option("--entrypoint", "-e", help="path/to/file.py:function", show_default=False)
    ] = None,
    command: Annotated[
        str | None, typer.Option("--command", "-c", help="A command with its arguments.", show_default=False)
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param", help="name=value; JSON if the value parses, else text. Repeatable.", show_default=False
        ),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Not before: ISO 8601, or a delay (+90s, 10m).", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=MAX_COUNT, help="How many of it.")] = 1,
    name: Annotated[str | None, typer.Option("--name", help="Made up when not given.", show_default=False)] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", help="NAME=VALUE for the process. Repeatable.", show_default=False)
    ] = None,
    working_dir: Annotated[
        str | None,
        typer.Option("--working-dir", help="On the worker; a temporary directory when not given.", show_default=False),
    ] = None,
    job_variable: Annotated[
        list[str] | None,
        typer.Option(
            "--job-variable",
            help="name=value for the pool's template; JSON if the value parses, else text. env.NAME sets one. Repeatable.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit 1 unless all completed.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Submit flow runs to a work pool."""
    if (entrypoint is None) == (command is None):
        raise typer.BadParameter("give exactly one of --entrypoint (path/to/file.py:function) and --command")
    pairs(job_variable or [], "--job-variable")  # tells a wrong one by the name of this option
    job_variables = parameters(job_variable or [])
    if entrypoint is not None and working_dir is None and "working_dir" not in job_variables:
        entrypoint, warning = local_entrypoint(entrypoint)
        if warning:
            say(f"Warning: {warning}")
    run = NewRun(
        entrypoint=entrypoint,
        command=_split(command),
        parameters=parameters(param or []),
        queue=queue,
        name=name,
        env=dict(pairs(env or [], "--env")),
        working_dir=working_dir,
        job_variables=job_variables,
    )
    prepare([run], 0)
    _parse_at(at, datetime.now().astimezone())

    async def action(penstock: Penstock, where: str) -> tuple[bool, list[str], list[Run]]:
        moment = _parse_at(at, times.of_ms(await penstock.now_ms()))
        known = [one.name for one in await penstock.read_queues(where)]
        if queue not in known:
            await penstock.create_queue(where, queue, if_missing=True)
        runs = [replace(run, scheduled_time=moment, name=_name(name, number, count)) for number in range(count)]
        ids = await penstock.submit_runs(where, runs)
        if output is Output.TABLE:
            _print_submission(where, queue, ids, queue_created=queue not in known)
        return queue not in known, ids, await penstock.wait_for_runs(ids) if wait else []

    found, (created, ids, ended) = ask_in(pool, action)
    if output is Output.JSON:
        print_json({"pool": found, "queue": queue, "queue_created": created, "runs": ended if wait else ids})
    elif wait:
        print(_summary(ended))
    if any(one.state != "COMPLETED" for one in ended):
        raise typer.Exit(REFUSED)


@app.command(
    "ls",
    epilog=examples(
        "penstock flow-run ls --pool etl",
        "penstock flow-run ls --state RUNNING --state PENDING",
        "penstock flow-run ls --state FAILED --limit 100 --output json",
    ),
)
def list_runs(
    pool: AnyPoolOption = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only runs in this state. Repeatable.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=MAX_COUNT, help="How many at most.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List flow runs: in flight, then waiting in their order, then finished."""
    states: Any = [choice(one, STATES, "--state") for one in state or []]

    async def action(penstock: Penstock) -> tuple[list[Run], datetime]:
        return await penstock.read_runs(pool, states=states, limit=limit), times.of_ms(await penstock.now_ms())

    runs, now = ask(action)
    if output is Output.JSON:
        print_json(runs)
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
                run.state,
                run.worker or "",
                times.ago(when(run), now),
            ]
            for run in runs
        ],
    )


@app.command(epilog=examples("penstock flow-run inspect 0198c0de-0000-7000-8000-000000000000"))
def inspect(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the run.", show_default=False)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show everything about a flow run."""

    async def action(penstock: Penstock) -> tuple[Run, datetime]:
        return await penstock.read_run(run_id), times.of_ms(await penstock.now_ms())

    run, now = ask(action)
    fields = run.model_dump(mode="json")
    if output is Output.JSON:
        print_json(fields)
        return
    print_record("FlowRun", {name: _for_people(name, value, now) for name, value in fields.items()})


@app.command(
    epilog=examples(
        "penstock flow-run logs 0198c0de-0000-7000-8000-000000000000",
        "penstock flow-run logs 0198c0de-0000-7000-8000-000000000000 --follow",
    )
)
def logs(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the run.", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print what a flow run printed. Kept for a day after its last line, the latest part of a long output.

    With --output json each line is one JSON object: at_ms, source, text.
    """

    async def action(penstock: Penstock) -> int:
        count = 0
        async with aclosing(penstock.logs(run_id, follow=follow)) as lines:
            async for line in lines:
                count += 1
                if output is Output.JSON:
                    print_json_line(line)
                else:
                    at = times.of_ms(line.at_ms).astimezone().strftime("%H:%M:%S.%f")[:-3]
                    print(f"{at} | {line.source} | {line.text}", flush=True)
        return count

    if ask(action) == 0:
        say(f"No output of run '{run_id}' is kept")


def when(run: Run) -> datetime:
    """The moment of the last thing that happened to a run, or of the next thing that will."""
    moments = [run.ended_ms, run.started_ms, run.claimed_ms]
    if run.state == "SCHEDULED" or not any(moments):
        return datetime.fromisoformat(run.scheduled_time)
    return times.of_ms(next(ms for ms in moments if ms))


def _for_people(name: str, value: Any, now: datetime) -> Any:
    if name.endswith("_ms") and value is not None:
        return times.ago(times.of_ms(value), now)
    if name == "scheduled_time":
        return f"{value} ({times.ago_iso(value, now)})"
    return value


def _split(command: str | None) -> list[str] | None:
    if command is None:
        return None
    try:
        words = shlex.split(command)
    except ValueError as problem:
        raise typer.BadParameter(f"--command {command!r}: {problem}") from problem
    if not words:
        raise typer.BadParameter("--command is empty")
    return words


def _parse_at(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    try:
        return times.parse_moment(text, now)
    except ValueError as problem:
        raise typer.BadParameter(f"--at {problem}") from problem


def _name(name: str | None, number: int, count: int) -> str | None:
    return f"{name}-{number + 1}" if name is not None and count > 1 else name


def _print_submission(pool: str, queue: str, ids: list[str], *, queue_created: bool) -> None:
    if queue_created:
        print(f"Created work queue '{queue}'")
    noun = "flow run" if len(ids) == 1 else "flow runs"
    print(f"Submitted {len(ids)} {noun} to work pool '{pool}' (queue '{queue}')")
    for run_id in ids[:SHOWN_IDS]:
        print(f"    {run_id}")
    if len(ids) > SHOWN_IDS:
        print(f"    ... and {len(ids) - SHOWN_IDS} more (--output json prints all)")


def _summary(runs: list[Run]) -> str:
    """Count the ends, and say why what did not complete did not."""
    states = [run.state for run in runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    failed = [run for run in runs if run.state != "COMPLETED"]
    reasons = [f"    {run.id}  {run.state}  {run.message}".rstrip() for run in failed[:SHOWN_IDS]]
    return "\n".join([counts, *reasons])
