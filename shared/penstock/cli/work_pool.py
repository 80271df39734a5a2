"""``penstock work-pool``: what is handed out to whom, and how much of it at the same time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from penstock.cli import times
from penstock.cli.base_templates import compact, read_template, written
from penstock.cli.options import (
    EITHER_ORDER,
    DescriptionOption,
    HoursOption,
    LimitOption,
    OutputOption,
    PoolName,
    YesOption,
    examples,
)
from penstock.cli.output import MARK, Output, print_json, print_record, print_table
from penstock.cli.parsing import choice, limit_and_name
from penstock.cli.preview import LimitOption as ShownOption
from penstock.cli.preview import paused_parts, show_preview, within
from penstock.cli.session import ask
from penstock.cli.slots import show_slots
from penstock.client.watching import SHOWN
from penstock.contracts.pools import DEFAULT_MAX_ATTEMPTS, DEFAULT_WORKER_TYPE, OnWorkerLost, Pool
from penstock.errors import Conflict, Invalid, NotFound

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.client import InFlight, Penstock
    from penstock.client.watching import Preview

app = typer.Typer(
    help="Create, change and watch work pools.",
    no_args_is_help=True,
    epilog=examples(
        "penstock work-pool create etl --type process --concurrency-limit 5",
        "penstock work-pool ls",
        "penstock work-pool slots etl",
    ),
)

LOST = get_args(OnWorkerLost)
TemplateOption = Annotated[
    Path | None,
    typer.Option(
        "--base-job-template",
        metavar="FILE",
        help="JSON file with the base job template; a new pool without one gets the default of its type.",
        show_default=False,
    ),
]
LostOption = Annotated[
    str | None,
    typer.Option("--on-worker-lost", help=f"What becomes of running runs of a dead worker: {', '.join(LOST)}."),
]
AttemptsOption = Annotated[
    int | None, typer.Option("--max-attempts", help="How often 'requeue' starts a run at most.", show_default=False)
]


@app.command(
    epilog=examples(
        "penstock work-pool create etl",
        "penstock work-pool create etl --type process --concurrency-limit 5",
        'penstock work-pool create etl --paused --description "nightly loads"',
        "penstock work-pool create etl --on-worker-lost requeue --max-attempts 5",
    )
)
def create(
    *,
    name: PoolName,
    worker_type: Annotated[str, typer.Option("--type", "-t", help="Type of its workers.")] = DEFAULT_WORKER_TYPE,
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused.")] = False,
    base_job_template: TemplateOption = None,
    description: DescriptionOption = None,
    concurrency_limit: LimitOption = None,
    on_worker_lost: LostOption = None,
    max_attempts: AttemptsOption = None,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Leave an existing pool as it is.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Update an existing pool; with --paused also pause it.")
    ] = False,
) -> None:
    """Create a work pool."""
    template = read_template(base_job_template, "--base-job-template") if base_job_template else None
    lost: Any = choice(on_worker_lost, LOST, "--on-worker-lost") if on_worker_lost else "crash"

    async def action(penstock: Penstock) -> tuple[bool, Pool]:
        existed = (if_missing or overwrite) and await _exists(penstock, name)
        pool = await penstock.create_pool(
            name,
            worker_type=worker_type,
            description=description,
            is_paused=paused,
            concurrency_limit=concurrency_limit,
            base_job_template=template,
            on_worker_lost=lost,
            max_attempts=DEFAULT_MAX_ATTEMPTS if max_attempts is None else max_attempts,
            if_missing=if_missing,
            overwrite=overwrite,
        )
        return existed, pool

    existed, pool = ask(action)
    if existed:
        print(f"Updated work pool '{pool.name}'" if overwrite else f"Work pool '{pool.name}' exists already")
        return
    print(
        f"Created work pool with properties:\n"
        f"    name - '{pool.name}'\n"
        f"    id - {pool.id}\n"
        f"    concurrency limit - {pool.concurrency_limit}\n\n"
        f"Start a worker to pick up flows from the work pool:\n"
        f"    penstock worker start -p '{pool.name}'\n\n"
        f"Inspect the work pool:\n"
        f"    penstock work-pool inspect '{pool.name}'"
    )


@app.command(
    "ls", epilog=examples("penstock work-pool ls", "penstock work-pool ls -v", "penstock work-pool ls --output json")
)
def list_pools(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also show status and description.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """List work pools."""
    pools = ask(lambda penstock: penstock.read_pools())
    if output is Output.JSON:
        print_json(pools)
        return
    print_table(
        "Work Pools",
        ["Name", "Type", "ID", "Concurrency Limit", *(["Status", "Description"] if verbose else [])],
        [
            [marked(pool.name, is_paused=pool.is_paused), pool.type, pool.id, pool.concurrency_limit]
            + ([pool.status, pool.description or ""] if verbose else [])
            for pool in pools
        ],
        f"{MARK} denotes a paused pool",
        optional=["Type", "Description"],
        empty="There is no work pool; `penstock work-pool create NAME` makes one",
    )


@app.command(epilog=examples("penstock work-pool inspect etl", "penstock work-pool inspect etl --output json"))
def inspect(name: PoolName, output: OutputOption = Output.TABLE) -> None:
    """Show everything about a work pool."""

    async def action(penstock: Penstock) -> tuple[Pool, InFlight, datetime]:
        pool = await penstock.read_pool(name)
        return pool, await penstock.read_slots(name), times.of_ms(await penstock.now_ms())

    pool, in_flight, now = ask(action)
    fields = pool.model_dump(mode="json") | {"active_slots": in_flight.pool}
    if output is Output.JSON:
        print_json(fields)
        return
    fields |= {moment: times.ago_iso(fields[moment], now) for moment in ("created", "updated")}
    fields["base_job_template"] = compact(pool.base_job_template)
    print_record("WorkPool", fields | {"queues": [queue.name for queue in pool.queues]})


@app.command(
    epilog=examples(
        'penstock work-pool update etl --description "nightly loads"',
        "penstock work-pool update etl --concurrency-limit 10",
        "penstock work-pool update etl --base-job-template template.json",
    )
)
def update(
    *,
    name: PoolName,
    base_job_template: TemplateOption = None,
    description: DescriptionOption = None,
    concurrency_limit: LimitOption = None,
    on_worker_lost: LostOption = None,
    max_attempts: AttemptsOption = None,
    paused: Annotated[
        bool | None, typer.Option("--paused/--no-paused", help="Pause or resume the pool.", show_default=False)
    ] = None,
    worker_type: Annotated[
        str | None,
        typer.Option("--type", "-t", help="The type the pool has; it cannot be changed.", show_default=False),
    ] = None,
) -> None:
    """Change fields of a work pool; what is not given stays as it is."""
    given: dict[str, Any] = {
        "base_job_template": read_template(base_job_template, "--base-job-template") if base_job_template else None,
        "description": description,
        "concurrency_limit": concurrency_limit,
        "on_worker_lost": choice(on_worker_lost, LOST, "--on-worker-lost") if on_worker_lost else None,
        "max_attempts": max_attempts,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes and paused is None and worker_type is None:
        raise typer.BadParameter("nothing to change: give at least one option (--help lists them)")

    async def action(penstock: Penstock) -> None:
        pool = await penstock.read_pool(name)
        if worker_type not in (None, pool.type):
            raise Conflict(
                f"work pool '{pool.name}' is of type {pool.type}, not {worker_type}",
                "the type of a pool cannot be changed; create another pool",
            )
        if changes:
            await penstock.update_pool(name, **changes)
        if paused is not None:
            await (penstock.pause_pool(name) if paused else penstock.resume_pool(name))

    ask(action)
    print(f"Updated work pool '{name}'")


@app.command(epilog=examples("penstock work-pool preview etl", "penstock work-pool preview etl --hours 12"))
def preview(
    name: PoolName, hours: HoursOption = 1, limit: ShownOption = SHOWN, output: OutputOption = Output.TABLE
) -> None:
    """Show the runs of the next hours in the order in which they will be handed out, late ones first."""

    async def action(penstock: Penstock) -> tuple[Pool, Preview]:
        return await penstock.read_pool(name), await penstock.preview(name, within=within(hours), limit=limit)

    pool, found = ask(action)
    paused = paused_parts(pool, pool.queues)
    show_preview(f"Upcoming Runs of Work Pool '{pool.name}'", found, output, paused=paused, with_queue=True)


@app.command(epilog=examples("penstock work-pool slots etl", "penstock work-pool slots etl --output json"))
def slots(name: PoolName, limit: ShownOption = SHOWN, output: OutputOption = Output.TABLE) -> None:
    """Show who holds each slot and since when, what waits in which queue, and what it waits for."""
    show_slots(ask(lambda penstock: penstock.explain_slots(name, limit=limit)), output)


@app.command(epilog=examples("penstock work-pool pause etl"))
def pause(name: PoolName) -> None:
    """Pause a work pool: once this has answered, nothing more is handed out."""
    ask(lambda penstock: penstock.pause_pool(name))
    print(f"Paused work pool '{name}'")


@app.command(epilog=examples("penstock work-pool resume etl"))
def resume(name: PoolName) -> None:
    """Resume a paused work pool."""
    ask(lambda penstock: penstock.resume_pool(name))
    print(f"Resumed work pool '{name}'")


@app.command(epilog=examples("penstock work-pool delete etl", "penstock work-pool delete etl --yes"))
def delete(name: PoolName, yes: YesOption = False) -> None:
    """Delete a work pool and its queues.

    Its runs, waiting or in flight, become CANCELLED; workers stop theirs.
    """
    from penstock.cli.deployment_words import left_behind  # noqa: PLC0415 - only deleting needs it

    async def look(penstock: Penstock) -> tuple[Pool, list[str]]:
        return await penstock.read_pool(name), left_behind(name, await penstock.read_deployments(name))

    pool, left = ask(look)
    told = "\n".join(["Its runs, waiting or in flight, become CANCELLED; workers stop theirs.", *left])
    if not yes and sys.stdin.isatty():
        print(f"This deletes the work pool '{pool.name}' and its {len(pool.queues)} work queue(s).\n{told}")
        typer.confirm("Delete it?", abort=True)
    ask(lambda penstock: penstock.delete_pool(name))
    print(f"Deleted work pool '{name}'\n{told}")


@app.command(
    "set-concurrency-limit",
    context_settings=EITHER_ORDER,
    epilog=examples("penstock work-pool set-concurrency-limit 5 etl", "penstock work-pool set-concurrency-limit etl 5"),
)
def set_limit(
    limit: Annotated[str, typer.Argument(metavar="LIMIT", help="0 or more.", show_default=False)],
    name: Annotated[str, typer.Argument(metavar="POOL_NAME", show_default=False)],
) -> None:
    """Limit how many runs of a work pool are in flight at the same time."""
    number, pool = limit_and_name(limit, name, limit_first=True)
    ask(lambda penstock: penstock.update_pool(pool, concurrency_limit=number))
    print(f"Set concurrency limit for work pool '{pool}' to {number}")


@app.command("clear-concurrency-limit", epilog=examples("penstock work-pool clear-concurrency-limit etl"))
def clear_limit(name: PoolName) -> None:
    """Remove the concurrency limit of a work pool."""
    ask(lambda penstock: penstock.update_pool(name, concurrency_limit=None))
    print(f"Cleared concurrency limit for work pool '{name}'")


@app.command(
    "get-default-base-job-template",
    epilog=examples(
        "penstock work-pool get-default-base-job-template --type process",
        "penstock work-pool get-default-base-job-template --type process --file template.json",
    ),
)
def default_base_job_template(
    worker_type: Annotated[str, typer.Option("--type", "-t", help="Type of the workers.", show_default=False)],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", metavar="FILE", help="Write it there.", show_default=False)
    ] = None,
) -> None:
    """Show the template that a new pool of this type gets, to begin your own with."""
    from penstock.templates import default_template  # noqa: PLC0415 - other commands need not load the schema library

    text = written(default_template(worker_type))
    if file is None:
        print(text)
        return
    try:
        file.write_text(text + "\n", encoding="utf-8")
    except OSError as problem:
        raise Invalid(f"--file '{file}': {problem.strerror}") from problem
    print(f"Wrote the default base job template of type '{worker_type}' to '{file}'")


def marked(name: str, *, is_paused: bool) -> str:
    """Mark the name of something paused."""
    return f"{name} {MARK}" if is_paused else name


async def _exists(penstock: Penstock, name: str) -> bool:
    try:
        await penstock.read_pool(name)
    except NotFound:
        return False
    return True
