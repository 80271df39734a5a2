"""``penstock flow-run submit``: put work into a pool."""

from __future__ import annotations

import re
import shlex
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

import typer
from rich.console import Console

from penstock.cli import times
from penstock.cli.completion import queue_names
from penstock.cli.errors import REFUSED, say
from penstock.cli.following import attended, show_run
from penstock.cli.options import DefaultPoolOption, OutputOption  # noqa: TC001 - typer reads them
from penstock.cli.output import Output, print_json, print_json_line
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
OPERATOR: Final = re.compile(r"[|&;<>]+|\d?[<>]{1,2}(&\d|[^<>=]\S*)?|[^;]*;")
"""A word that means something to a shell."""


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
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for the end of one run, and show its states and its output.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, help="With --wait: seconds to wait at most; then exit 1.", show_default=False),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Submit flow runs to a work pool."""
    if (entrypoint is None) == (command is None):
        raise typer.BadParameter("give exactly one of --entrypoint (path/to/file.py:function) and --command")
    _check_waiting(wait=wait, watch=watch, timeout=timeout, count=count)
    job_variables = _values(job_variable, "--job-variable")
    if working_dir is None and "working_dir" not in job_variables:
        entrypoint = _findable(entrypoint)
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
    for operator in _shell_operators(command)[:1]:
        say(f"Warning: no shell is involved: the command gets {operator} as an argument; use --command \"sh -c '...'\"")

    async def action(penstock: Penstock, where: str) -> list[Run]:
        document = await _submit(penstock, where, run, at, count, output)
        ids = document["runs"]
        if watch:
            if output is Output.JSON:
                print_json_line(document)
            return [await show_run(penstock, ids[0], output)]
        ended = await _wait(penstock, ids, timeout) if wait else []
        if output is Output.JSON:
            print_json(document | {"runs": ended or ids})
        return ended

    _, ended = ask_in(pool, action)
    if wait and output is Output.TABLE:
        print(_summary(ended))
    if any(one.state != "COMPLETED" for one in ended):
        raise typer.Exit(REFUSED)


async def _submit(
    penstock: Penstock, pool: str, run: NewRun, at: str | None, count: int, output: Output
) -> dict[str, Any]:
    """Submit a run so many times, and tell people; programs get the document that this returns."""
    now = times.of_ms(await penstock.now_ms())
    moment = _parse_at(at, now)
    # The dispatcher creates the queue together with the runs, so that a submission that is refused leaves nothing behind.
    created = run.queue not in [one.name for one in await penstock.read_queues(pool)]
    runs = [replace(run, scheduled_time=moment, name=_name(run.name, number, count)) for number in range(count)]
    with progress_of(count) as progress:
        ids = await penstock.submit_runs(pool, runs, progress=progress)
    if moment and moment < now:
        say(f"Note: {times.due(moment, now)} has passed, so it is due at once")
    document = {"pool": pool, "queue": run.queue, "queue_created": created, "runs": ids}
    if output is Output.TABLE:
        _print_submission(document, f"Due {times.due(moment, now)}" if moment and moment >= now else "")
    return document


def _findable(entrypoint: str | None) -> str | None:
    """Make an entrypoint one that workers on this host find from anywhere."""
    if entrypoint is None:
        return None
    entrypoint, warning = local_entrypoint(entrypoint)
    if warning:
        say(f"Warning: {warning}")
    return entrypoint


def _check_waiting(*, wait: bool, watch: bool, timeout: float | None, count: int) -> None:
    if timeout is not None and not wait:
        raise typer.BadParameter("--timeout is for --wait")
    if watch and (wait or count > 1):
        raise typer.BadParameter("--watch shows one run; --wait waits for any number of them")


async def _wait(penstock: Penstock, ids: list[str], timeout: float | None) -> list[Run]:  # noqa: ASYNC109 - the user's budget
    try:
        async with attended(penstock, ids):
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


def _shell_operators(command: str | None) -> list[str]:
    """What a shell would take for more than words; quoted, it is meant for the command."""
    try:
        words = shlex.split(command or "", posix=False)
    except ValueError:
        return []
    return [word for word in words if OPERATOR.fullmatch(word)]


def _parse_at(text: str | None, now: datetime) -> datetime | None:
    if text is None:
        return None
    try:
        return times.parse_moment(text, now)
    except ValueError as problem:
        raise typer.BadParameter(f"--at {problem}") from problem


def _name(name: str | None, number: int, count: int) -> str | None:
    return f"{name}-{number + 1}" if name is not None and count > 1 else name


def _print_submission(document: dict[str, Any], due: str) -> None:
    ids = document["runs"]
    if document["queue_created"]:
        print(f"Created work queue '{document['queue']}'")
    noun = "flow run" if len(ids) == 1 else "flow runs"
    print(f"Submitted {len(ids)} {noun} to work pool '{document['pool']}' (queue '{document['queue']}')")
    for run_id in ids[:SHOWN_IDS]:
        print(f"    {run_id}")
    if len(ids) > SHOWN_IDS:
        print(f"    ... and {len(ids) - SHOWN_IDS} more (--output json prints all)")
    if due:
        print(due)
    sys.stdout.flush()


def _summary(runs: list[Run]) -> str:
    """Count the ends, and say why what did not complete did not."""
    states = [run.state for run in runs]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    failed = [run for run in runs if run.state != "COMPLETED"]
    reasons = [f"    {run.id}  {run.state}  {run.message}".rstrip() for run in failed[:SHOWN_IDS]]
    return "\n".join([counts, *reasons])
