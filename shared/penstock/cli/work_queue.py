"""``penstock work-queue``: who is served first within a work pool."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import times
from penstock.cli.options import (
    EITHER_ORDER,
    DefaultPoolOption,
    DescriptionOption,
    HoursOption,
    LimitOption,
    OutputOption,
    QueueName,
    YesOption,
    examples,
)
from penstock.cli.output import MARK, Output, print_json, print_record, print_table
from penstock.cli.parsing import limit_and_name
from penstock.cli.preview import LimitOption as ShownOption
from penstock.cli.preview import paused_parts, show_preview, show_runs, within
from penstock.cli.session import ask_in
from penstock.cli.work_pool import marked
from penstock.client.watching import SHOWN

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.client import Penstock
    from penstock.client.watching import Preview
    from penstock.contracts.pools import Pool, Queue

app = typer.Typer(
    help="Create, change and watch work queues.",
    no_args_is_help=True,
    epilog=examples(
        "penstock work-queue create critical --pool etl --priority 1 --concurrency-limit 1",
        "penstock work-queue ls --pool etl",
        "penstock work-queue preview critical --pool etl --hours 12",
    ),
)

PriorityOption = Annotated[
    int | None,
    typer.Option("--priority", "-q", help="1 is served first; a taken number shifts the others.", show_default=False),
]


@app.command(
    epilog=examples(
        "penstock work-queue create critical --pool etl --priority 1 --concurrency-limit 1",
        "penstock work-queue create low -p etl --priority 10",
    )
)
def create(
    *,
    name: QueueName,
    pool: DefaultPoolOption = None,
    priority: PriorityOption = None,
    concurrency_limit: LimitOption = None,
    description: DescriptionOption = None,
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused.")] = False,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Leave an existing queue as it is.")] = False,
) -> None:
    """Create a work queue."""
    _, queue = ask_in(
        pool,
        lambda penstock, where: penstock.create_queue(
            where,
            name,
            priority=priority,
            description=description,
            concurrency_limit=concurrency_limit,
            is_paused=paused,
            if_missing=if_missing,
        ),
    )
    print(
        f"{'Work queue ready' if if_missing else 'Created work queue'} with properties:\n"
        f"    name - '{queue.name}'\n"
        f"    work pool - '{queue.pool}'\n"
        f"    id - {queue.id}\n"
        f"    priority - {queue.priority}\n"
        f"    concurrency limit - {queue.concurrency_limit}\n\n"
        f"Start a worker to pick up flows from the work queue:\n"
        f"    penstock worker start -p '{queue.pool}' -q '{queue.name}'\n\n"
        f"Inspect the work queue:\n"
        f"    penstock work-queue inspect '{queue.name}' --pool '{queue.pool}'"
    )


@app.command("ls", epilog=examples("penstock work-queue ls --pool etl", "penstock work-queue ls -p etl --output json"))
def list_queues(pool: DefaultPoolOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the work queues of a pool, the one that is served first at the top."""
    found, queues = ask_in(pool, lambda penstock, where: penstock.read_queues(where))
    if output is Output.JSON:
        print_json(queues)
        return
    print_table(
        f"Work Queues in Work Pool '{found}'",
        ["Name", "Priority", "Concurrency Limit", "Status", "ID"],
        [
            [
                marked(queue.name, is_paused=queue.is_paused),
                queue.priority,
                queue.concurrency_limit,
                queue.status,
                queue.id,
            ]
            for queue in queues
        ],
        f"{MARK} denotes a paused queue",
    )


@app.command(epilog=examples("penstock work-queue inspect critical --pool etl"))
def inspect(name: QueueName, pool: DefaultPoolOption = None, output: OutputOption = Output.TABLE) -> None:
    """Show everything about a work queue."""

    async def action(penstock: Penstock, where: str) -> tuple[Queue, int, datetime]:
        queue = await penstock.read_queue(where, name)
        in_flight = (await penstock.read_slots(where)).queues.get(queue.name, 0)
        return queue, in_flight, times.of_ms(await penstock.now_ms())

    _, (queue, in_flight, now) = ask_in(pool, action)
    fields = queue.model_dump(mode="json") | {"active_slots": in_flight}
    if output is Output.JSON:
        print_json(fields)
        return
    print_record(
        "WorkQueue", fields | {moment: times.ago_iso(fields[moment], now) for moment in ("created", "updated")}
    )


@app.command(
    epilog=examples(
        "penstock work-queue preview critical --pool etl", "penstock work-queue preview critical -p etl --hours 12"
    )
)
def preview(
    name: QueueName,
    pool: DefaultPoolOption = None,
    hours: HoursOption = 1,
    limit: ShownOption = SHOWN,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the runs of the next hours in the order in which they will be handed out, late ones first."""

    async def action(penstock: Penstock, where: str) -> tuple[Pool, Queue, Preview]:
        found = await penstock.read_pool(where), await penstock.read_queue(where, name)
        return *found, await penstock.preview(where, queue=name, within=within(hours), limit=limit)

    _, (found, queue, upcoming) = ask_in(pool, action)
    title = f"Upcoming Runs of Work Queue '{queue.name}' in Work Pool '{found.name}'"
    show_preview(title, upcoming, output, paused=paused_parts(found, [queue]), with_queue=False)


@app.command("read-runs", epilog=examples("penstock work-queue read-runs critical --pool etl"))
def read_runs(
    name: QueueName,
    pool: DefaultPoolOption = None,
    limit: ShownOption = SHOWN,
    output: OutputOption = Output.TABLE,
) -> None:
    """List the runs that wait in a work queue, whenever they are due, in the order of their handing out."""

    async def action(penstock: Penstock, where: str) -> tuple[Queue, Preview]:
        return await penstock.read_queue(where, name), await penstock.preview(where, queue=name, limit=limit)

    _, (queue, found) = ask_in(pool, action)
    show_runs(queue, found, output)


@app.command(
    epilog=examples(
        "penstock work-queue update low --pool etl --name background --priority 20",
        'penstock work-queue update critical -p etl --description "paged for" --concurrency-limit 2',
    )
)
def update(
    *,
    name: QueueName,
    pool: DefaultPoolOption = None,
    new_name: Annotated[str | None, typer.Option("--name", "-n", help="Rename it.", show_default=False)] = None,
    priority: PriorityOption = None,
    description: DescriptionOption = None,
    concurrency_limit: LimitOption = None,
) -> None:
    """Change fields of a work queue; what is not given stays as it is."""
    given = {
        "name": new_name,
        "priority": priority,
        "description": description,
        "concurrency_limit": concurrency_limit,
    }
    changes = {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("nothing to change: give at least one option (--help lists them)")
    _, queue = ask_in(pool, lambda penstock, where: penstock.update_queue(where, name, **changes))
    print(f"Updated work queue '{name}' in work pool '{queue.pool}'")
    if queue.name != name:
        print(f"It is called '{queue.name}' now.")


@app.command(epilog=examples("penstock work-queue pause low --pool etl"))
def pause(name: QueueName, pool: DefaultPoolOption = None) -> None:
    """Pause a work queue: once this has answered, nothing more of it is handed out."""
    found, _ = ask_in(pool, lambda penstock, where: penstock.pause_queue(where, name))
    print(f"Paused work queue '{name}' in work pool '{found}'")


@app.command(epilog=examples("penstock work-queue resume low --pool etl"))
def resume(name: QueueName, pool: DefaultPoolOption = None) -> None:
    """Resume a paused work queue."""
    found, _ = ask_in(pool, lambda penstock, where: penstock.resume_queue(where, name))
    print(f"Resumed work queue '{name}' in work pool '{found}'")


@app.command(
    "set-concurrency-limit",
    context_settings=EITHER_ORDER,
    epilog=examples(
        "penstock work-queue set-concurrency-limit critical 1 --pool etl",
        "penstock work-queue set-concurrency-limit 1 critical --pool etl",
    ),
)
def set_limit(
    name: Annotated[str, typer.Argument(metavar="QUEUE_NAME", show_default=False)],
    limit: Annotated[str, typer.Argument(metavar="LIMIT", help="0 or more.", show_default=False)],
    pool: DefaultPoolOption = None,
) -> None:
    """Limit how many runs of a work queue are in flight at the same time."""
    number, queue = limit_and_name(name, limit, limit_first=False)
    found, _ = ask_in(pool, lambda penstock, where: penstock.update_queue(where, queue, concurrency_limit=number))
    print(f"Set concurrency limit for work queue '{queue}' in work pool '{found}' to {number}")


@app.command(
    "clear-concurrency-limit", epilog=examples("penstock work-queue clear-concurrency-limit critical --pool etl")
)
def clear_limit(name: QueueName, pool: DefaultPoolOption = None) -> None:
    """Remove the concurrency limit of a work queue."""
    found, _ = ask_in(pool, lambda penstock, where: penstock.update_queue(where, name, concurrency_limit=None))
    print(f"Cleared concurrency limit for work queue '{name}' in work pool '{found}'")


@app.command(epilog=examples("penstock work-queue delete low --pool etl --yes"))
def delete(name: QueueName, pool: DefaultPoolOption = None, yes: YesOption = False) -> None:
    """Delete a work queue, never the default one.

    Its waiting runs become CANCELLED; runs in flight go on to their end.
    """
    if not yes and sys.stdin.isatty():
        pool, queue = ask_in(pool, lambda penstock, where: penstock.read_queue(where, name))
        print(
            f"This deletes the work queue '{queue.name}' of work pool '{pool}'. Its waiting runs become CANCELLED; "
            f"runs in flight go on to their end."
        )
        typer.confirm("Delete it?", abort=True)
    found, _ = ask_in(pool, lambda penstock, where: penstock.delete_queue(where, name))
    print(f"Deleted work queue '{name}' of work pool '{found}'")
    print("Runs that were waiting in it become CANCELLED; runs in flight go on to their end.")
