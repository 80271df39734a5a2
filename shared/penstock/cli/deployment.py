"""``penstock deployment``: what is run where, with which parameters; and to run it."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from penstock.cli import deployment_schedule, times
from penstock.cli.completion import queue_names
from penstock.cli.deployment_words import in_words, next_run, schedule_fields
from penstock.cli.errors import REFUSED
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
    given_job_variables,
    given_parameters,
)
from penstock.cli.parsing import choice
from penstock.cli.session import ask
from penstock.cli.work_pool import marked
from penstock.contracts.deployments import CollisionStrategy

if TYPE_CHECKING:
    from penstock.client import Penstock
    from penstock.client.deployment_store import DeploymentCounts
    from penstock.contracts.deployments import Deployment
    from penstock.contracts.runs import Run

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
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="For people. Repeatable.", show_default=False)]


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


@app.command(
    epilog=examples(
        "penstock deployment run hello/demo",
        "penstock deployment run hello/demo --param name=Ford --watch",
        "penstock deployment run hello/demo --params @parameters.json --in 10m",
        "penstock deployment run hello/demo --at 2030-01-31T08:00 --idempotency-key january",
        "penstock deployment run hello/demo --job-variable env.STAGE=test --tag trial -o json",
    )
)
def run(
    *,
    name: DeploymentName,
    param: ParamOption = None,
    params: ParamsOption = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Not before: ISO 8601, or a delay (+90s, 10m).", show_default=False)
    ] = None,
    delay: Annotated[
        str | None, typer.Option("--in", help="After a delay: 90s, 10m, 1h30m.", show_default=False)
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show states and output to the end; exit 1 unless it completed.")
    ] = False,
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", help="Two runs of it with the same key are one.", show_default=False),
    ] = None,
    job_variable: JobVariableOption = None,
    run_name: Annotated[
        str | None, typer.Option("--name", "-n", help="Of the run; made up when not given.", show_default=False)
    ] = None,
    tag: TagOption = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Run a deployment, paused or not."""
    given = given_parameters(param, params)
    job_variables = given_job_variables(job_variable)
    _moment(at, delay, datetime.now().astimezone())

    async def action(penstock: Penstock) -> Run:
        run_id = await penstock.run_deployment(
            name,
            given,
            job_variables=job_variables,
            scheduled_time=_moment(at, delay, times.of_ms(await penstock.now_ms())),
            idempotency_key=idempotency_key,
            run_name=run_name,
            tags=tag or (),
        )
        submitted = await penstock.read_run(run_id)
        if output is Output.JSON:
            return (await penstock.wait_for_runs([run_id]))[0] if watch else submitted
        _print_run(submitted, idempotency_key, times.of_ms(await penstock.now_ms()), watch=watch)
        return await _watched(penstock, run_id) if watch else submitted

    ended = ask(action)
    if output is Output.JSON:
        print_json(ended)
    if watch and ended.state != "COMPLETED":
        raise typer.Exit(REFUSED)


@app.command(
    epilog=examples(
        "penstock deployment update hello/demo --pool etl --queue critical",
        "penstock deployment update hello/demo --concurrency-limit 1 --collision-strategy cancel_new",
        "penstock deployment update hello/demo --param name=Ford --retries 3 --retry-delay 30",
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
        float | None, typer.Option("--retry-delay", help="Seconds before it is.", show_default=False)
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
        "retry_delay_seconds": retry_delay,
    }
    changes = {field: value for field, value in fields.items() if value is not None}
    if no_concurrency_limit:
        changes["concurrency_limit"] = None
    added = {"parameters": given_parameters(param, params), "job_variables": given_job_variables(job_variable)}
    if not changes and not any(added.values()):
        raise typer.BadParameter("nothing to change: give at least one option (--help lists them)")

    async def action(penstock: Penstock) -> Deployment:
        before = await penstock.read_deployment(name)
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


async def _watched(penstock: Penstock, run_id: str) -> Run:
    from penstock.cli.following import show_run  # noqa: PLC0415 - only those who watch need it

    return await show_run(penstock, run_id)


def _moment(at: str | None, delay: str | None, now: datetime) -> datetime | None:
    if at is not None and delay is not None:
        raise typer.BadParameter("give one of --at and --in")
    if delay is not None:
        duration = times.parse_duration(delay.removeprefix("+"))
        if duration is None:
            raise typer.BadParameter(f"--in {delay!r} is no delay: give 90s, 10m or 1h30m")
        return now + duration
    try:
        return None if at is None else times.parse_moment(at, now)
    except ValueError as problem:
        raise typer.BadParameter(f"--at {problem}") from problem


def _print_run(found: Run, idempotency_key: str | None, now: datetime, *, watch: bool) -> None:
    # With a key nobody can say whether the run is new or was there: it is the same one.
    said = "Created flow run" if idempotency_key is None else f"Flow run with idempotency key '{idempotency_key}':"
    print(
        f"{said} '{found.name}'\n"
        f"    id - {found.id}\n"
        f"    deployment - '{found.deployment}'\n"
        f"    work pool - '{found.pool}' (queue '{found.queue}')\n"
        f"    due - {times.ago_iso(found.scheduled_time, now)}",
        flush=True,
    )
    if not watch:
        print(f"\nWatch it:\n    penstock flow-run watch {found.id}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
