"""``penstock deployment schedule``: when a deployment runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import times
from penstock.cli.completion import schedule_names
from penstock.cli.deployment_words import next_times, schedule_fields
from penstock.cli.options import DeploymentName, OutputOption, examples
from penstock.cli.output import Output, print_json, print_table
from penstock.cli.parameter_options import ParamOption, ParamsOption, given_parameters
from penstock.cli.schedule_options import (
    DEFAULT_CATCH_UP,
    AnchorOption,
    CatchUpOption,
    CronOption,
    IntervalOption,
    RRuleOption,
    TimezoneOption,
    schedule_specs,
)
from penstock.cli.session import ask
from penstock.schedules import describe

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.client import Penstock
    from penstock.contracts.deployments import Deployment, Schedule

app = typer.Typer(
    help="Say when a deployment runs.",
    no_args_is_help=True,
    epilog=examples(
        "penstock deployment schedule ls hello/demo",
        "penstock deployment schedule create hello/demo --cron '0 6 * * 1-5' --timezone Europe/Berlin",
        "penstock deployment schedule create hello/demo --interval 10m --slug often",
    ),
)
ScheduleName = Annotated[
    str,
    typer.Argument(metavar="SCHEDULE", help="Its id or slug.", show_default=False, autocompletion=schedule_names),
]


@app.command("ls", epilog=examples("penstock deployment schedule ls hello/demo"))
def list_schedules(name: DeploymentName, output: OutputOption = Output.TABLE) -> None:
    """List the schedules of a deployment."""

    async def action(penstock: Penstock) -> tuple[Deployment, datetime]:
        return await penstock.read_deployment(name), times.of_ms(await penstock.now_ms())

    found, now = ask(action)
    if output is Output.JSON:
        print_json([schedule_fields(one, now) for one in found.schedules])
        return
    paused = "; the deployment is paused" if found.paused else ""
    print_table(
        f"Schedules of '{found.name}'",
        ["ID", "Slug", "When", "Active", "Catch Up", "Next"],
        [
            [one.id, one.slug, describe(one), "yes" if one.active else "no", one.catch_up, _next(found, one, now)]
            for one in found.schedules
        ],
        f"{len(found.schedules)} in all{paused}",
    )


@app.command(
    epilog=examples(
        "penstock deployment schedule create hello/demo --cron '0 6 * * 1-5' --timezone Europe/Berlin",
        "penstock deployment schedule create hello/demo --interval 10m --anchor-date 2030-01-01T00:05 --slug often",
        "penstock deployment schedule create hello/demo --rrule 'FREQ=MONTHLY;BYDAY=-1FR' --catch-up latest",
        "penstock deployment schedule create hello/demo --cron @hourly --param name=Ford --paused",
    )
)
def create(
    *,
    name: DeploymentName,
    cron: CronOption = None,
    interval: IntervalOption = None,
    rrule: RRuleOption = None,
    timezone: TimezoneOption = None,
    anchor_date: AnchorOption = None,
    catch_up: CatchUpOption = DEFAULT_CATCH_UP,
    param: ParamOption = None,
    params: ParamsOption = None,
    slug: Annotated[
        str | None, typer.Option("--slug", help="Names it within the deployment.", show_default=False)
    ] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Create it paused.")] = False,
) -> None:
    """Add a schedule to a deployment."""
    specs = schedule_specs(
        cron or (),
        interval or (),
        rrule or (),
        anchor=anchor_date,
        timezone=timezone,
        catch_up=catch_up,
        parameters=given_parameters(param, params),
        slug=slug,
        active=not paused,
    )
    if not specs:
        raise typer.BadParameter("say when: give --cron, --interval or --rrule")

    async def action(penstock: Penstock) -> None:
        deployment = await penstock.read_deployment(name)
        for spec in specs:
            known = {one.id for one in deployment.schedules}
            deployment = await penstock.create_schedule(deployment.name, spec)
            for one in deployment.schedules:
                if one.id not in known:
                    print(f"Created schedule of deployment '{deployment.name}': {describe(one)}\n    id - {one.id}")
        if deployment.paused:
            print(f"The deployment is paused; `penstock deployment resume '{deployment.name}'` lets it run.")

    ask(action)


@app.command(epilog=examples("penstock deployment schedule pause hello/demo often"))
def pause(name: DeploymentName, schedule: ScheduleName) -> None:
    """Pause a schedule: what it planned is removed."""
    found = ask(lambda penstock: penstock.update_schedule(name, schedule, active=False))
    print(f"Paused schedule '{schedule}' of deployment '{found.name}'")


@app.command(epilog=examples("penstock deployment schedule resume hello/demo often"))
def resume(name: DeploymentName, schedule: ScheduleName) -> None:
    """Resume a schedule, from now."""
    found = ask(lambda penstock: penstock.update_schedule(name, schedule, active=True))
    print(f"Resumed schedule '{schedule}' of deployment '{found.name}'")
    if found.paused:
        print(f"The deployment is paused; `penstock deployment resume '{found.name}'` lets it run.")


@app.command(epilog=examples("penstock deployment schedule delete hello/demo often"))
def delete(name: DeploymentName, schedule: ScheduleName) -> None:
    """Delete a schedule: what it planned is removed."""
    found = ask(lambda penstock: penstock.delete_schedule(name, schedule))
    print(f"Deleted schedule '{schedule}' of deployment '{found.name}'")


def _next(deployment: Deployment, schedule: Schedule, now: datetime) -> str:
    moments = next_times(schedule, now, 1) if schedule.active and not deployment.paused else []
    return times.ago(moments[0], now) if moments else "-"
