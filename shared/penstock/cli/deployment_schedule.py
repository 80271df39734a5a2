"""``penstock deployment schedule``: when a deployment runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import times
from penstock.cli.completion import schedule_names
from penstock.cli.deployment_words import chosen_schedule, next_times, schedule_fields
from penstock.cli.options import DeploymentName, OutputOption, examples
from penstock.cli.output import Output, print_json, print_table
from penstock.cli.parameter_options import ParamOption, ParamsOption, as_meant, given_parameters
from penstock.cli.schedule_options import (
    DEFAULT_CATCH_UP,
    AnchorOption,
    CatchUpOption,
    CronOption,
    IntervalOption,
    NewCatchUpOption,
    OneCronOption,
    OneIntervalOption,
    OneRRuleOption,
    RRuleOption,
    TimezoneOption,
    changed_schedule,
    schedule_specs,
)
from penstock.cli.session import ask
from penstock.cli.surplus import Unquoted
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
    str | None,
    typer.Argument(
        metavar="SCHEDULE",
        help="Its slug, its id, or its number in `ls`; not needed for the only one.",
        show_default=False,
        autocompletion=schedule_names,
    ),
]
SlugOption = Annotated[str | None, typer.Option("--slug", help="Names it within the deployment.", show_default=False)]


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
        ["No.", "Slug", "When", "Active", "Catch Up", "Next", "ID"],
        [
            [
                number,
                one.slug,
                describe(one),
                "yes" if one.active else "no",
                one.catch_up,
                _next(found, one, now),
                one.id,
            ]
            for number, one in enumerate(found.schedules, 1)
        ],
        f"{len(found.schedules)} in all{paused}",
        optional=["Catch Up", "ID"],
        whole=["When"],
        empty=f"Deployment '{found.name}' has no schedule; `penstock deployment schedule create '{found.name}'` makes one",
    )


@app.command(
    epilog=examples(
        "penstock deployment schedule create hello/demo --cron '0 6 * * 1-5' --timezone Europe/Berlin",
        "penstock deployment schedule create hello/demo --interval 10m --anchor-date 2030-01-01T00:05 --slug often",
        "penstock deployment schedule create hello/demo --rrule 'FREQ=MONTHLY;BYDAY=-1FR' --catch-up latest",
        "penstock deployment schedule create hello/demo --cron @hourly --param name=Ford --paused",
    ),
    cls=Unquoted,
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
    slug: SlugOption = None,
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
        for made in specs:
            spec = made.model_copy(update={"parameters": as_meant(made.parameters, param, deployment)})
            known = {one.id for one in deployment.schedules}
            deployment = await penstock.create_schedule(deployment.name, spec)
            for one in deployment.schedules:
                if one.id not in known:
                    print(f"Created schedule of deployment '{deployment.name}': {describe(one)}\n    id - {one.id}")
        _say_paused(deployment)

    ask(action)


@app.command(
    epilog=examples(
        "penstock deployment schedule update hello/demo --cron '0 7 * * 1-5'",
        "penstock deployment schedule update hello/demo often --interval 5m --catch-up latest",
        "penstock deployment schedule update hello/demo 2 --param name=Ford --slug mornings",
    ),
    cls=Unquoted,
)
def update(
    *,
    name: DeploymentName,
    schedule: ScheduleName = None,
    cron: OneCronOption = None,
    interval: OneIntervalOption = None,
    rrule: OneRRuleOption = None,
    timezone: TimezoneOption = None,
    anchor_date: AnchorOption = None,
    catch_up: NewCatchUpOption = None,
    param: ParamOption = None,
    params: ParamsOption = None,
    slug: SlugOption = None,
) -> None:
    """Change a schedule; what is not given stays as it is. Parameters are added to those it has."""
    given = given_parameters(param, params)
    options = (cron, interval, rrule, timezone, anchor_date, catch_up, slug)
    if not given and all(option is None for option in options):
        raise typer.BadParameter("nothing to change: give at least one option (--help lists them)")

    async def action(penstock: Penstock) -> tuple[Deployment, Schedule]:
        deployment, before = await _chosen(penstock, name, schedule)
        spec = changed_schedule(
            before,
            cron=cron,
            interval=interval,
            rrule=rrule,
            anchor=anchor_date,
            timezone=timezone,
            catch_up=catch_up,
            parameters=as_meant(given, param, deployment),
            slug=slug,
        )
        found = await penstock.update_schedule(deployment.name, before.id, schedule=spec)
        return found, next(one for one in found.schedules if one.id == before.id)

    found, now = ask(action)
    print(f"Updated schedule of deployment '{found.name}': {describe(now)}\n    id - {now.id}")
    _say_paused(found, now)


@app.command(epilog=examples("penstock deployment schedule pause hello/demo often"))
def pause(name: DeploymentName, schedule: ScheduleName = None) -> None:
    """Pause a schedule: what it planned is removed."""
    found, one = _switched(name, schedule, active=False)
    print(f"Paused schedule {_named(one)} of deployment '{found.name}'")


@app.command(epilog=examples("penstock deployment schedule resume hello/demo often"))
def resume(name: DeploymentName, schedule: ScheduleName = None) -> None:
    """Resume a schedule, from now."""
    found, one = _switched(name, schedule, active=True)
    print(f"Resumed schedule {_named(one)} of deployment '{found.name}'")
    _say_paused(found)


@app.command(epilog=examples("penstock deployment schedule delete hello/demo often"))
def delete(name: DeploymentName, schedule: ScheduleName = None) -> None:
    """Delete a schedule: what it planned is removed."""

    async def action(penstock: Penstock) -> tuple[Deployment, Schedule]:
        deployment, one = await _chosen(penstock, name, schedule)
        return await penstock.delete_schedule(deployment.name, one.id), one

    found, one = ask(action)
    print(f"Deleted schedule {_named(one)} of deployment '{found.name}'")


def _switched(name: str, given: str | None, *, active: bool) -> tuple[Deployment, Schedule]:
    async def action(penstock: Penstock) -> tuple[Deployment, Schedule]:
        deployment, one = await _chosen(penstock, name, given)
        return await penstock.update_schedule(deployment.name, one.id, active=active), one

    return ask(action)


async def _chosen(penstock: Penstock, name: str, given: str | None) -> tuple[Deployment, Schedule]:
    deployment = await penstock.read_deployment(name)
    return deployment, chosen_schedule(deployment, given)


def _named(schedule: Schedule) -> str:
    return f"'{schedule.slug}'" if schedule.slug else f"'{schedule.id}' ({describe(schedule)})"


def _say_paused(deployment: Deployment, schedule: Schedule | None = None) -> None:
    if deployment.paused:
        print(f"The deployment is paused; `penstock deployment resume '{deployment.name}'` lets it run.")
    elif schedule is not None and not schedule.active:
        name = schedule.slug or schedule.id
        print(f"It is paused; `penstock deployment schedule resume '{deployment.name}' '{name}'` lets it run.")


def _next(deployment: Deployment, schedule: Schedule, now: datetime) -> str:
    moments = next_times(schedule, now, 1) if schedule.active and not deployment.paused else []
    return times.ago(moments[0], now) if moments else "-"
