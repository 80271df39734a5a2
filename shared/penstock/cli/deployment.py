"""``penstock deployment``: what is run where, with which parameters; and to run it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from penstock.cli import deployment_run, deployment_schedule, times
from penstock.cli.completion import queue_names
from penstock.cli.deployment_run import TagOption, say_unknown_variables
from penstock.cli.deployment_words import in_words, next_run, schedule_fields
from penstock.cli.errors import say
from penstock.cli.options import (
    AnyPoolOption,
    DeploymentName,
    DescriptionOption,
    LimitOption,
    OutputOption,
    YesOption,
    examples,
)
from penstock.cli.output import Output, print_json, print_record, print_table
from penstock.cli.parameter_options import (
    JobVariableOption,
    ParamOption,
    ParamsOption,
    as_meant,
    given_job_variables,
    given_parameters,
)
from penstock.cli.parsing import choice
from penstock.cli.schedule_options import seconds
from penstock.cli.session import ask
from penstock.cli.surplus import Unquoted
from penstock.cli.work_pool import marked
from penstock.client.pool_notes import new_queue
from penstock.contracts.deployments import CollisionStrategy

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.client import Penstock
    from penstock.client.deployment_store import DeploymentCounts
    from penstock.contracts.deployments import Deployment

app = typer.Typer(
    help="Run, change and watch deployments and their schedules.",
    no_args_is_help=True,
    epilog=examples(
        "penstock deployment ls --pool etl",
        "penstock deployment run hello/demo --param name=Ford --watch",
        "penstock deployment schedule create hello/demo --cron '0 6 * * 1-5' --timezone Europe/Berlin",
    ),
)
app.add_typer(deployment_schedule.app, name="schedule")

COLLISIONS = get_args(CollisionStrategy)


@app.command(
    "ls",
    epilog=examples(
        "penstock deployment ls", "penstock deployment ls --pool etl", "penstock deployment ls --output json"
    ),
)
def list_deployments(pool: AnyPoolOption = None, output: OutputOption = Output.TABLE) -> None:
    """List deployments: what is run where, and when next."""

    async def action(penstock: Penstock) -> tuple[list[Deployment], set[str], datetime]:
        pools = {one.name for one in await penstock.read_pools()}
        return await penstock.read_deployments(pool), pools, times.of_ms(await penstock.now_ms())

    found, pools, now = ask(action)
    upcoming = [next_run(one, now) if one.pool in pools else None for one in found]
    if output is Output.JSON:
        print_json(
            [
                one.model_dump(mode="json") | {"next_run": moment and moment.isoformat()}
                for one, moment in zip(found, upcoming, strict=True)
            ]
        )
        return
    print_table(
        "Deployments",
        ["Name", "Pool", "Queue", "Schedules", "Next Run", "Tags"],
        [
            [
                marked(one.name, is_paused=one.paused),
                one.pool if one.pool in pools else f"{one.pool} (deleted)",
                one.queue,
                in_words(one),
                times.ago(moment, now) if moment else "-",
                ", ".join(one.tags),
            ]
            for one, moment in zip(found, upcoming, strict=True)
        ],
        "(**) denotes a paused deployment",
        optional=["Tags", "Queue"],
        empty=f"No deployment uses work pool '{pool}'"
        if pool
        else "There is no deployment; `penstock deploy` makes one",
    )


@app.command(epilog=examples("penstock deployment inspect hello/demo", "penstock deployment inspect demo -o json"))
def inspect(name: DeploymentName, output: OutputOption = Output.TABLE) -> None:
    """Show everything about a deployment: also when its schedules fire next, and how many of its runs wait or are in flight."""
    found, counts, now = ask(lambda penstock: _looked_at(penstock, name))
    fields = found.model_dump(mode="json") | {
        "schedules": [schedule_fields(one, now) for one in found.schedules],
        "waiting": counts.waiting,
        "in_flight": counts.in_flight,
    }
    if output is Output.JSON:
        print_json(fields)
        return
    for moment in ("created", "updated"):
        fields[moment] = times.ago_iso(fields[moment], now)
    print_record("Deployment", fields)


app.command(epilog=examples(*deployment_run.EXAMPLES), cls=Unquoted)(deployment_run.run)


@app.command(
    epilog=examples(
        "penstock deployment update hello/demo --pool etl --queue critical",
        "penstock deployment update hello/demo --concurrency-limit 1 --collision-strategy cancel_new",
        "penstock deployment update hello/demo --param name=Ford --retries 3 --retry-delay 30s",
    )
)
def update(
    *,
    name: DeploymentName,
    pool: Annotated[
        str | None, typer.Option("--pool", "-p", help="Take another work pool.", show_default=False)
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", "-q", help="Created when missing.", show_default=False, autocompletion=queue_names),
    ] = None,
    param: ParamOption = None,
    params: ParamsOption = None,
    job_variable: JobVariableOption = None,
    tag: TagOption = None,
    description: DescriptionOption = None,
    version: Annotated[str | None, typer.Option("--version", help="For people.", show_default=False)] = None,
    concurrency_limit: LimitOption = None,
    no_concurrency_limit: Annotated[bool, typer.Option("--no-concurrency-limit", help="Remove the limit.")] = False,
    collision_strategy: Annotated[
        str | None,
        typer.Option("--collision-strategy", help=f"At the limit: {' or '.join(COLLISIONS)}.", show_default=False),
    ] = None,
    retries: Annotated[
        int | None, typer.Option("--retries", help="How often a failed run is started again.", show_default=False)
    ] = None,
    retry_delay: Annotated[
        str | None,
        typer.Option("--retry-delay", help="How long it waits before: seconds, or 10s, 1m.", show_default=False),
    ] = None,
) -> None:
    """Change a deployment; what is not given stays as it is.

    Parameters and job variables are added to those there are, tags replace them. With another pool, runs of its schedules that
    are not due yet go there, too.
    """
    if no_concurrency_limit and concurrency_limit is not None:
        raise typer.BadParameter("give one of --concurrency-limit and --no-concurrency-limit")
    fields: dict[str, Any] = {
        "pool": pool,
        "queue": queue,
        "tags": tag,
        "description": description,
        "version": version,
        "concurrency_limit": concurrency_limit,
        "collision_strategy": collision_strategy and choice(collision_strategy, COLLISIONS, "--collision-strategy"),
        "retries": retries,
        "retry_delay_seconds": None if retry_delay is None else seconds(retry_delay, "--retry-delay"),
    }
    changes = {field: value for field, value in fields.items() if value is not None}
    if no_concurrency_limit:
        changes["concurrency_limit"] = None
    added = {"parameters": given_parameters(param, params), "job_variables": given_job_variables(job_variable)}
    if not changes and not any(added.values()):
        raise typer.BadParameter("nothing to change: give at least one option (--help lists them)")

    async def action(penstock: Penstock) -> Deployment:
        before = await penstock.read_deployment(name)
        added["parameters"] = as_meant(added["parameters"], param, before)
        await say_unknown_variables(penstock, pool or before.pool, added["job_variables"])
        if queue is not None or pool is not None:
            await _say_new_queue(penstock, pool or before.pool, queue or before.queue)
        merged = {field: {**getattr(before, field), **values} for field, values in added.items() if values}
        return await penstock.update_deployment(name, **changes, **merged)

    changed = ask(action)
    print(f"Updated deployment '{changed.name}'")
    if pool is not None:
        print(f"Its runs go to work pool '{changed.pool}' (queue '{changed.queue}') now.")


@app.command(epilog=examples("penstock deployment pause hello/demo"))
def pause(name: DeploymentName) -> None:
    """Pause the schedules of a deployment: what they planned is removed. It can still be run."""
    print(f"Paused deployment '{ask(lambda penstock: penstock.pause_deployment(name)).name}'")


@app.command(epilog=examples("penstock deployment resume hello/demo"))
def resume(name: DeploymentName) -> None:
    """Resume the schedules of a deployment, from now."""
    print(f"Resumed deployment '{ask(lambda penstock: penstock.resume_deployment(name)).name}'")


@app.command(epilog=examples("penstock deployment delete hello/demo --yes"))
def delete(name: DeploymentName, yes: YesOption = False) -> None:
    """Delete a deployment with its schedules.

    Its waiting runs become CANCELLED; runs in flight go on to their end.
    """
    found, counts, _ = ask(lambda penstock: _looked_at(penstock, name))
    if not yes and sys.stdin.isatty():
        print(
            f"This deletes the deployment '{found.name}' with {_count(len(found.schedules), 'schedule')}. "
            f"{_count(counts.waiting, 'waiting run')} will be CANCELLED; {counts.in_flight} in flight go on to their end."
        )
        typer.confirm("Delete it?", abort=True)
    ask(lambda penstock: penstock.delete_deployment(found.name))
    print(f"Deleted deployment '{found.name}'")
    if counts.waiting:
        print(f"{_count(counts.waiting, 'waiting run')} of it will be CANCELLED; runs in flight go on to their end.")


async def _looked_at(penstock: Penstock, name: str) -> tuple[Deployment, DeploymentCounts, datetime]:
    found = await penstock.read_deployment(name)
    (counts,) = await penstock.read_deployment_counts([found])
    return found, counts, times.of_ms(await penstock.now_ms())


async def _say_new_queue(penstock: Penstock, pool: str, queue: str) -> None:
    for one in await penstock.read_pools():
        if one.name == pool:
            for note in new_queue(one, queue):
                say(f"Note: {note}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
