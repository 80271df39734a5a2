"""``penstock flow-run submit``: put work into a pool."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

import typer
from rich.console import Console

from penstock.cli import times
from penstock.cli.completion import queue_names
from penstock.cli.errors import REFUSED, say
from penstock.cli.options import DefaultPoolOption, OutputOption  # noqa: TC001 - typer reads them
from penstock.cli.output import Output, print_json
from penstock.cli.parsing import local_entrypoint, pairs, parameters
from penstock.cli.session import ask_in
from penstock.client import NewRun
from penstock.client.runs import CHUNK, prepare
from penstock.contracts.queues import DEFAULT_QUEUE
from penstock.contracts.runs import Run, RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.client import Penstock

SHOWN_IDS: Final = 20
"""How many ids are printed for people; programs get all of them."""
MAX_COUNT: Final = 1_000_000
STATES: Final = get_args(RunState)


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
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, help="With --wait: seconds to wait at most; then exit 1.", show_default=False),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Submit flow runs to a work pool."""
    if (entrypoint is None) == (command is None):
        raise typer.BadParameter("give exactly one of --entrypoint (path/to/file.py:function) and --command")
    if timeout is not None and not wait:
        raise typer.BadParameter("--timeout is for --wait")
    job_variables = _values(job_variable, "--job-variable")
    if entrypoint is not None and working_dir is None and "working_dir" not in job_variables:
        entrypoint, warning = local_entrypoint(entrypoint)
        if warning:
            say(f"Warning: {warning}")
    run = NewRun(
        entrypoint=entrypoint,
        command=_split(command),
        parameters=_values(param, "--param"),
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
        # The dispatcher creates the queue together with the runs, so that a submission that is refused leaves nothing behind.
        created = queue not in [one.name for one in await penstock.read_queues(where)]
        runs = [replace(run, scheduled_time=moment, name=_name(name, number, count)) for number in range(count)]
        with progress_of(count) as progress:
            ids = await penstock.submit_runs(where, runs, progress=progress)
        if output is Output.TABLE:
            _print_submission(where, queue, ids, queue_created=created)
        return created, ids, await _wait(penstock, ids, timeout) if wait else []

    found, (created, ids, ended) = ask_in(pool, action)
    if output is Output.JSON:
        print_json({"pool": found, "queue": queue, "queue_created": created, "runs": ended if wait else ids})
    elif wait:
        print(_summary(ended))
    if any(one.state != "COMPLETED" for one in ended):
        raise typer.Exit(REFUSED)


async def _wait(penstock: Penstock, ids: list[str], timeout: float | None) -> list[Run]:  # noqa: ASYNC109 - the user's budget
    try:
        return await penstock.wait_for_runs(ids, timeout)
    except TimeoutError as problem:
        say(f"Error: {problem}")
        say("Hint: they go on; `penstock flow-run watch ID` follows one")
        return [await penstock.read_run(run_id) for run_id in ids]


def _values(texts: list[str] | None, option: str) -> dict[str, Any]:
    pairs(texts or [], option)  # tells a wrong one by the name of this option
    return parameters(texts or [])


@contextmanager
def progress_of(count: int) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar while many runs are submitted, where somebody looks at it; what is printed for programs stays as it is."""
    console = Console(stderr=True)
    if count <= CHUNK or not console.is_terminal:
        yield None
        return
    from rich.progress import (  # noqa: PLC0415 - few submissions show a bar
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (TextColumn("Submitting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=count)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield progress


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
