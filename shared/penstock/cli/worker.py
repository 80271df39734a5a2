"""``penstock worker``: who does the work."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import times
from penstock.cli.options import AnyPoolOption, OutputOption, PoolOption, examples
from penstock.cli.output import Output, print_json, print_table
from penstock.cli.session import ask
from penstock.client.local_state import read_settings

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.client import Penstock, Worker

app = typer.Typer(help="Start and watch workers.", no_args_is_help=True)


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
        typer.Option("--work-queue", "-q", help="Serve only this queue; may be repeated.", show_default=False),
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


@app.command("ls", epilog=examples("penstock worker ls", "penstock worker ls --pool etl --output json"))
def list_workers(pool: AnyPoolOption = None, output: OutputOption = Output.TABLE) -> None:
    """List workers, OFFLINE ones included."""

    async def action(penstock: Penstock) -> tuple[list[Worker], datetime]:
        return await penstock.read_workers(pool), times.of_ms(await penstock.now_ms())

    workers, now = ask(action)
    if output is Output.JSON:
        print_json(workers)
        return
    print_table(
        "Workers",
        ["Name", "Pool", "Type", "Status", "Slots", "Last heartbeat", "Queues", "Version"],
        [
            [
                worker.name,
                worker.pool,
                worker.type,
                f"{worker.status} (draining)" if worker.draining else worker.status,
                f"{worker.slots_used}/{worker.slots}",
                times.ago_iso(worker.last_heartbeat, now),
                ", ".join(worker.queues) or "all",
                worker.version,
            ]
            for worker in workers
        ],
    )
