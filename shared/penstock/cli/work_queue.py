"""``penstock work-queue``: who is served first within a work pool."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import times
from penstock.cli.options import (
    EITHER_ORDER,
    DescriptionOption,
    LimitOption,
    OutputOption,
    PoolOption,
    QueueName,
    YesOption,
    examples,
)
from penstock.cli.output import Output, print_json, print_record, print_table
from penstock.cli.parsing import limit_and_name
from penstock.cli.session import ask
from penstock.cli.work_pool import marked

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.client import Penstock
    from penstock.contracts.pools import Queue

app = typer.Typer(help="Create, change and watch work queues.", no_args_is_help=True)


@app.command(
    epilog=examples(
        "penstock work-queue create critical --pool etl --priority 1 --concurrency-limit 1",
        "penstock work-queue create low -p etl --priority 10",
    )
)
def create(
    *,
    name: QueueName,
    pool: PoolOption,
    priority: Annotated[
        int | None,
        typer.Option(
            "--priority", "-q", help="1 is served first; a taken number shifts the others.", show_default=False
        ),
    ] = None,
    concurrency_limit: LimitOption = None,
    description: DescriptionOption = None,
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused.")] = False,
    if_missing: Annotated[bool, typer.Option("--if-missing", help="Leave an existing queue as it is.")] = False,
) -> None:
    """Create a work queue."""
    queue = ask(
        lambda penstock: penstock.create_queue(
            pool,
            name,
            priority=priority,
            description=description,
            concurrency_limit=concurrency_limit,
            is_paused=paused,
            if_missing=if_missing,
        )
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
def list_queues(pool: PoolOption, output: OutputOption = Output.TABLE) -> None:
    """List the work queues of a pool, the one that is served first at the top."""
    queues = ask(lambda penstock: penstock.read_queues(pool))
    if output is Output.JSON:
        print_json(queues)
        return
    print_table(
        f"Work Queues in Work Pool '{pool}'",
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
        "(**) denotes a paused queue",
    )


@app.command(epilog=examples("penstock work-queue inspect critical --pool etl"))
def inspect(name: QueueName, pool: PoolOption, output: OutputOption = Output.TABLE) -> None:
    """Show everything about a work queue."""

    async def action(penstock: Penstock) -> tuple[Queue, int, datetime]:
        queue = await penstock.read_queue(pool, name)
        in_flight = (await penstock.read_slots(pool)).queues.get(queue.name, 0)
        return queue, in_flight, times.of_ms(await penstock.now_ms())

    queue, in_flight, now = ask(action)
    fields = queue.model_dump(mode="json") | {"active_slots": in_flight}
    if output is Output.JSON:
        print_json(fields)
        return
    print_record(
        "WorkQueue", fields | {moment: times.ago_iso(fields[moment], now) for moment in ("created", "updated")}
    )


@app.command(epilog=examples("penstock work-queue pause low --pool etl"))
def pause(name: QueueName, pool: PoolOption) -> None:
    """Pause a work queue: once this has answered, nothing more of it is handed out."""
    ask(lambda penstock: penstock.pause_queue(pool, name))
    print(f"Paused work queue '{name}' in work pool '{pool}'")


@app.command(epilog=examples("penstock work-queue resume low --pool etl"))
def resume(name: QueueName, pool: PoolOption) -> None:
    """Resume a paused work queue."""
    ask(lambda penstock: penstock.resume_queue(pool, name))
    print(f"Resumed work queue '{name}' in work pool '{pool}'")


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
    pool: PoolOption,
) -> None:
    """Limit how many runs of a work queue are in flight at the same time."""
    number, queue = limit_and_name(name, limit, limit_first=False)
    ask(lambda penstock: penstock.update_queue(pool, queue, concurrency_limit=number))
    print(f"Set concurrency limit for work queue '{queue}' in work pool '{pool}' to {number}")


@app.command(
    "clear-concurrency-limit", epilog=examples("penstock work-queue clear-concurrency-limit critical --pool etl")
)
def clear_limit(name: QueueName, pool: PoolOption) -> None:
    """Remove the concurrency limit of a work queue."""
    ask(lambda penstock: penstock.update_queue(pool, name, concurrency_limit=None))
    print(f"Cleared concurrency limit for work queue '{name}' in work pool '{pool}'")


@app.command(epilog=examples("penstock work-queue delete low --pool etl --yes"))
def delete(name: QueueName, pool: PoolOption, yes: YesOption = False) -> None:
    """Delete a work queue, never the default one.

    Its waiting runs become CANCELLED; runs in flight go on to their end.
    """
    if not yes and sys.stdin.isatty():
        queue = ask(lambda penstock: penstock.read_queue(pool, name))
        print(
            f"This deletes the work queue '{queue.name}' of work pool '{pool}'. Its waiting runs become CANCELLED; "
            f"runs in flight go on to their end."
        )
        typer.confirm("Delete it?", abort=True)
    ask(lambda penstock: penstock.delete_queue(pool, name))
    print(f"Deleted work queue '{name}' of work pool '{pool}'")
    print("Runs that were waiting in it become CANCELLED; runs in flight go on to their end.")
