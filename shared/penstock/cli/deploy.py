"""``penstock deploy``: from a function, a command or a project file to deployments."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args

import typer

from penstock.cli.completion import pool_names, queue_names
from penstock.cli.deployed import print_deployed
from penstock.cli.errors import say
from penstock.cli.options import OutputOption  # noqa: TC001 - typer reads it at run time
from penstock.cli.output import Output, print_json
from penstock.cli.parameter_options import (
    JobVariableOption,
    ParamOption,
    ParamsOption,
    given_job_variables,
    given_parameters,
)
from penstock.cli.parsing import choice, pairs, words
from penstock.cli.schedule_options import (
    DEFAULT_CATCH_UP,
    AnchorOption,
    CronOption,
    IntervalOption,
    RRuleOption,
    TimezoneOption,
    schedule_specs,
    seconds,
)
from penstock.cli.session import ask, find_pool
from penstock.client.deployed import laid_over
from penstock.contracts.deployments import CollisionStrategy
from penstock.errors import NotFound
from penstock.projects.drafts import FILES, Draft, absolute
from penstock.projects.timing import ensure

if TYPE_CHECKING:
    from penstock.client import Penstock
    from penstock.contracts.deployments import ScheduleSpec
    from penstock.projects.sending import Deployed

EXAMPLES: Final = [
    'penstock deploy hello.py:hello -n demo -p local --cron "* * * * *"',
    "penstock deploy etl.py:load -n nightly -p etl --cron '0 6 * * 1-5' --timezone Europe/Berlin --param day=1",
    "penstock deploy etl.py:load -n often -p etl --interval 10m --concurrency-limit 1 --collision-strategy cancel_new",
    'penstock deploy --command "python -m load" --flow load -n nightly -p etl --interval 1d',
    "penstock deploy                    the only deployment of penstock.yaml or prefect.yaml here",
    "penstock deploy -n nightly         one of several",
    "penstock deploy --all --file flows/penstock.yaml",
]


def _one(*names: str, help: str, **more: Any) -> Any:  # noqa: A002 - typer's own word
    return typer.Option(*names, help=help, show_default=False, **more)


def deploy(
    *,
    entrypoint: Annotated[
        str | None, typer.Argument(metavar="ENTRYPOINT", help="path/to/file.py:function", show_default=False)
    ] = None,
    name: Annotated[str | None, _one("--name", "-n", help="Name of the deployment.")] = None,
    flow: Annotated[str | None, _one("--flow", help="Name of the flow; the function's when not given.")] = None,
    command: Annotated[str | None, _one("--command", "-c", help="A command instead of a function.")] = None,
    pool: Annotated[
        str | None, _one("--pool", "-p", help="Where its runs go; it must exist.", autocompletion=pool_names)
    ] = None,
    queue: Annotated[
        str | None,
        _one("--queue", "-q", help="Where they wait; created when missing.", autocompletion=queue_names),
    ] = None,
    cron: CronOption = None,
    interval: IntervalOption = None,
    rrule: RRuleOption = None,
    anchor_date: AnchorOption = None,
    timezone: TimezoneOption = None,
    catch_up: Annotated[
        str | None, _one("--catch-up", help="What becomes of missed runs: all, latest or none.")
    ] = None,
    param: ParamOption = None,
    params: ParamsOption = None,
    job_variable: JobVariableOption = None,
    tag: Annotated[list[str] | None, _one("--tag", help="For people, on every run. Repeatable.")] = None,
    description: Annotated[
        str | None, _one("--description", help="What it is for; the docstring's beginning when not given.")
    ] = None,
    version: Annotated[str | None, _one("--version", help="Version of it, any text.")] = None,
    concurrency_limit: Annotated[
        int | None, _one("--concurrency-limit", help="How many of its runs are in flight at most.")
    ] = None,
    collision_strategy: Annotated[
        str | None, _one("--collision-strategy", help="What becomes of a run at the limit: enqueue or cancel_new.")
    ] = None,
    retries: Annotated[int | None, _one("--retries", help="How often a failed run is started again.")] = None,
    retry_delay: Annotated[
        str | None, _one("--retry-delay", help="How long it waits before: seconds, or 10s, 1m.")
    ] = None,
    working_dir: Annotated[
        str | None, _one("--working-dir", help="Where it runs, on the worker; the project's directory when not given.")
    ] = None,
    paused: Annotated[
        bool | None, _one("--paused/--no-paused", help="Whether its schedules rest; as it is when not given.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All deployments of the project file.")] = False,
    file: Annotated[
        Path | None, _one("--file", help=f"The project file; {' or '.join(FILES)} here when not given.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Deploy a function, a command, or what a project file lists.

    With ENTRYPOINT or --command the options say everything, unless --file is given, too. Without them the project file
    does, and options override it: lists are replaced, parameters and job variables merged. An existing deployment of
    the same name is updated; it keeps its schedules unless others are given. Everything is checked before anything is
    sent. The code is imported by a process of its own to learn what parameters the function takes.
    """
    if entrypoint is not None and command is not None:
        raise typer.BadParameter("give ENTRYPOINT or --command, not both")
    if everything and (entrypoint or command or name or flow):
        raise typer.BadParameter(
            "--all takes the deployments as the file lists them: no ENTRYPOINT, --command, --name, --flow"
        )
    now = datetime.now(UTC)
    given = _given(
        flow=flow,
        entrypoint=entrypoint,
        command=words(command) if command is not None else None,
        pool=pool,
        queue=queue,
        working_dir=str(absolute(Path(working_dir))) if working_dir else None,
        schedules=_schedules(cron, interval, rrule, anchor_date, timezone, catch_up),
        tags=tag,
        description=description,
        version=version,
        concurrency_limit=concurrency_limit,
        collision_strategy=choice(collision_strategy, get_args(CollisionStrategy), "--collision-strategy")
        if collision_strategy
        else None,
        retries=retries,
        retry_delay_seconds=seconds(retry_delay, "--retry-delay") if retry_delay is not None else None,
        paused=paused,
    )
    values = given_parameters(param, params)
    job_variables = given_job_variables(job_variable)
    for spec in given.get("schedules", ()):
        ensure(spec, now)
    drafts = _drafts(given, name, file, now, everything=everything)
    drafts = [
        replace(
            draft,
            **given,
            parameters={**draft.parameters, **values},
            texts=dict(pairs(param or [], "--param")),
            job_variables=laid_over(draft.job_variables, job_variables),
        )
        for draft in drafts
    ]
    from penstock.projects.preparation import prepare  # noqa: PLC0415 - other commands need no schema library

    prepared = prepare(drafts)
    for warning in (warning for one in prepared for warning in one.warnings):
        say(f"Warning: {warning}")

    async def action(penstock: Penstock) -> tuple[list[Deployed], int]:
        from penstock.projects.sending import send  # noqa: PLC0415 - the same

        async def default_pool() -> str:
            try:
                return await find_pool(penstock, None)
            except typer.BadParameter as problem:
                # Of several deployments of a file, the one that names no pool is meant.
                poolless = next(one for one in prepared if one.pool is None)
                raise typer.BadParameter(poolless.draft.told(problem.message)) from problem

        return await send(penstock, prepared, default_pool), await penstock.now_ms()

    deployed, now_ms = ask(action)
    if output is Output.JSON:
        found = [one.deployment for one in deployed]
        print_json(found if everything else found[0])
    print_deployed(deployed, now_ms, quiet=output is Output.JSON)


def _given(**options: Any) -> dict[str, Any]:
    return {field: value for field, value in options.items() if value is not None}


def _drafts(
    given: dict[str, Any], name: str | None, file: Path | None, now: datetime, *, everything: bool
) -> list[Draft]:
    """Find what the options are laid over: deployments of a file, or nothing."""
    from penstock.projects.files import find_file, read_project  # noqa: PLC0415 - other commands read no YAML

    directory = Path.cwd()
    work = {"entrypoint", "command"} & set(given)
    path = file if file is not None else (None if work else find_file(directory))
    if path is None and not work:
        raise NotFound(
            f"there is nothing to deploy: neither {' nor '.join(FILES)} is in {directory}",
            "give a function (penstock deploy hello.py:hello -n demo -p POOL), or --command with --flow",
        )
    if path is None:
        return [Draft(project=directory, name=name)]
    project = read_project(path.absolute(), os.environ, now)
    chosen = project.select(name, everything=everything)
    for number in (-1, *(number for number, _ in chosen)):
        for warning in project.warnings.get(number, ()):
            say(f"Warning: {warning}")
    # What the options run replaces what the file runs.
    cleared: dict[str, Any] = dict.fromkeys(("entrypoint", "command") if work else ())
    return [replace(draft, **cleared) for _, draft in chosen]


def _schedules(
    cron: list[str] | None,
    interval: list[str] | None,
    rrule: list[str] | None,
    anchor_date: str | None,
    timezone: str | None,
    catch_up: str | None,
) -> list[ScheduleSpec] | None:
    """None when no option says when: what there is stays."""
    options = {"--anchor-date": anchor_date, "--timezone": timezone, "--catch-up": catch_up}
    if not (cron or interval or rrule):
        for option in (option for option, value in options.items() if value is not None):
            needs = "--interval or --rrule" if option == "--anchor-date" else "--cron, --interval or --rrule"
            raise typer.BadParameter(f"{option} is about schedules given as options; give {needs}, too")
        return None
    return schedule_specs(
        cron or (),
        interval or (),
        rrule or (),
        anchor=anchor_date,
        timezone=timezone,
        catch_up=catch_up or DEFAULT_CATCH_UP,
    )
