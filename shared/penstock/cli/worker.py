"""``penstock worker``: who does the work."""

from __future__ import annotations

import asyncio
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from penstock.cli import times
from penstock.cli.completion import queue_names, worker_names
from penstock.cli.options import AnyPoolOption, DefaultPoolOption, OutputOption, PoolOption, examples
from penstock.cli.output import Output, print_json, print_record, print_table
from penstock.cli.session import ask, ask_in
from penstock.client.local_state import read_settings

if TYPE_CHECKING:
    from penstock.client import Penstock, Worker
    from penstock.contracts.runs import Run

app = typer.Typer(
    help="Start, watch and drain workers.",
    no_args_is_help=True,
    epilog=examples(
        "penstock worker start --pool etl --limit 5",
        "penstock worker ls -v",
        "penstock worker inspect w1 --pool etl",
        "penstock worker drain w1 --pool etl --deadline 600 --wait",
    ),
)

SHOWN_RUNS: Final = 5
"""Names of runs a line of the table shows; `worker inspect` has all."""


class InstallPolicy(StrEnum):
    """Whether to install the package of a worker type."""

    ALWAYS = "always"
    IF_NOT_PRESENT = "if-not-present"
    NEVER = "never"
    PROMPT = "prompt"


@app.command(
    epilog=examples(
        "penstock worker start -p etl",
        "penstock worker start -p etl --type process",
        "penstock worker start -p etl -q critical -q high --limit 5",
    )
)
def start(
    *,
    pool: PoolOption,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Its name; a unique one when not given.", show_default=False)
    ] = None,
    worker_type: Annotated[
        str | None,
        typer.Option(
            "--type", "-t", help="Its type; the pool's when not given. Creates a missing pool.", show_default=False
        ),
    ] = None,
    work_queues: Annotated[
        list[str] | None,
        typer.Option(
            "--work-queue",
            "-q",
            help="Serve only this queue; may be repeated. A missing one is created.",
            show_default=False,
            autocompletion=queue_names,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-l", min=1, help="Most runs it holds at the same time.", show_default=False),
    ] = None,
    prefetch_seconds: Annotated[
        float | None,
        typer.Option("--prefetch-seconds", min=0, help="Take runs so long before they are due.", show_default=False),
    ] = None,
    run_once: Annotated[bool, typer.Option("--run-once", help="Do what is due now, then stop.")] = False,
    with_healthcheck: Annotated[bool, typer.Option("--with-healthcheck", help="Serve /livez and /readyz.")] = False,
    install_policy: Annotated[
        InstallPolicy, typer.Option("--install-policy", help="Install the package of the worker type?")
    ] = InstallPolicy.PROMPT,
) -> None:
    """Start a worker; Ctrl-C or SIGTERM lets it finish what it has."""
    from penstock.worker.settings import WorkerSettings  # noqa: PLC0415 - other commands need not load the worker
    from penstock.worker.start import run_worker  # noqa: PLC0415 - the same

    work = run_worker(
        read_settings(WorkerSettings),
        pool=pool,
        name=name,
        worker_type=worker_type,
        queues=list(work_queues or []),
        limit=limit,
        prefetch_seconds=prefetch_seconds,
        run_once=run_once,
        with_healthcheck=with_healthcheck,
        install_policy=install_policy.value,
    )
    raise typer.Exit(asyncio.run(work))


@app.command(
    "ls", epilog=examples("penstock worker ls", "penstock worker ls --pool etl -v", "penstock worker ls --output json")
)
def list_workers(
    pool: AnyPoolOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also show the runs they hold.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List workers, OFFLINE ones included. SUSPECT: still ONLINE, but its heartbeat is overdue."""

    async def action(penstock: Penstock) -> tuple[list[Worker], list[list[Run]], datetime]:
        workers = await penstock.read_workers(pool)
        held = await penstock.read_held(workers) if verbose else [[]] * len(workers)
        return workers, held, times.of_ms(await penstock.now_ms())

    workers, held, now = ask(action)
    if output is Output.JSON:
        runs = [{"runs": [run.id for run in of_one]} if verbose else {} for of_one in held]
        print_json([worker.model_dump(mode="json") | more for worker, more in zip(workers, runs, strict=True)])
        return
    print_table(
        "Workers",
        ["Name", "Pool", "Type", "Status", "Slots", "Last heartbeat", "Queues", "Version", *(["Runs"] * verbose)],
        [
            [
                worker.name,
                worker.pool,
                worker.type,
                _status(worker),
                f"{worker.slots_used}/{worker.slots}",
                times.ago_iso(worker.last_heartbeat, now),
                ", ".join(worker.queues) or "all",
                worker.version,
                *([_names(runs)] * verbose),
            ]
            for worker, runs in zip(workers, held, strict=True)
        ],
    )


@app.command(epilog=examples("penstock worker inspect w1 --pool etl", "penstock worker inspect w1 -p etl -o json"))
def inspect(
    name: Annotated[str, typer.Argument(help="Name of the worker.", show_default=False, autocompletion=worker_names)],
    pool: DefaultPoolOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show everything about a worker: whether it lives, what it serves, what it holds."""

    async def action(penstock: Penstock, where: str) -> tuple[Worker, list[Run], datetime]:
        worker = await penstock.read_worker(where, name)
        (runs,) = await penstock.read_held([worker])
        return worker, runs, times.of_ms(await penstock.now_ms())

    _, (worker, runs, now) = ask_in(pool, action)
    age = max((now - datetime.fromisoformat(worker.last_heartbeat)).total_seconds(), 0)
    fields = worker.model_dump(mode="json") | {"last_heartbeat_age_seconds": round(age, 3)}
    if output is Output.JSON:
        print_json(fields | {"runs": runs})
        return
    people = {
        "last_heartbeat": times.ago_iso(worker.last_heartbeat, now),
        "last_heartbeat_age_seconds": fields["last_heartbeat_age_seconds"],
        "queues": worker.queues or "all",
        "runs": [_said(run, now) for run in runs],
    }
    print_record("Worker", fields | people)


@app.command(
    epilog=examples("penstock worker drain w1", "penstock worker drain w1 --pool etl --deadline 600 --wait"),
)
def drain(
    name: Annotated[str, typer.Argument(help="Name of the worker.", show_default=False, autocompletion=worker_names)],
    pool: DefaultPoolOption = None,
    deadline: Annotated[
        float | None,
        typer.Option(
            "--deadline",
            min=0,
            metavar="SECONDS",
            help="How long its runs may go on; the worker's own setting when not given.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Return when it has ended.")] = False,
) -> None:
    """Have a worker take nothing new, finish what it holds, and end, wherever it runs.

    What has not begun is handed back at once. What is not done at the deadline is ended; the pool's policy for lost workers
    decides what becomes of it. Said again, a new deadline replaces the old one. Whatever restarts the process (a container's
    restart policy, `penstock up`) starts a new life of the worker, which gets work again.
    """

    async def action(penstock: Penstock, where: str) -> None:
        draining = await penstock.drain_worker(where, name, deadline)
        print(f"Worker '{name}' gets nothing more and ends; it holds {draining.runs} run(s)", flush=True)
        if wait:
            await penstock.wait_for_worker_end(where, name, draining.boot_id)
            print(f"Worker '{name}' has ended")

    ask_in(pool, action)


def _status(worker: Worker) -> str:
    status = "SUSPECT" if worker.suspect else worker.status
    return f"{status} (draining)" if worker.draining else status


def _names(runs: list[Run]) -> str:
    more = f" and {len(runs) - SHOWN_RUNS} more" if len(runs) > SHOWN_RUNS else ""
    return ", ".join(run.name for run in runs[:SHOWN_RUNS]) + more


def _said(run: Run, now: datetime) -> str:
    since = f", since {times.ago(times.of_ms(run.claimed_ms), now)}" if run.claimed_ms else ""
    return f"{run.id} {run.name} ({run.state}, queue '{run.queue}'{since})"
