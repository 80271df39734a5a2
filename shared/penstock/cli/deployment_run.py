"""``penstock deployment run``: one run of a deployment, now or later."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from penstock.cli import times
from penstock.cli.errors import REFUSED, say
from penstock.cli.options import DeploymentName, OutputOption  # noqa: TC001 - typer reads them at run time
from penstock.cli.output import Output, print_json
from penstock.cli.parameter_options import (
    JobVariableOption,
    ParamOption,
    ParamsOption,
    as_meant,
    given_job_variables,
    given_parameters,
)
from penstock.cli.session import ask
from penstock.client.pool_notes import unknown_variables
from penstock.durations import parse_duration
from penstock.errors import NotFound

if TYPE_CHECKING:
    from penstock.client import Penstock
    from penstock.client.runs import Submitted
    from penstock.contracts.deployments import Deployment
    from penstock.contracts.runs import Run

EXAMPLES: Final = [
    "penstock deployment run hello/demo",
    "penstock deployment run hello/demo --param name=Ford --watch",
    "penstock deployment run hello/demo --params @parameters.json --in 10m",
    "penstock deployment run hello/demo --at 2030-01-31T08:00 --idempotency-key january",
    "penstock deployment run hello/demo --job-variable env.STAGE=test --tag trial -o json",
]
TagOption = Annotated[list[str] | None, typer.Option("--tag", help="For people. Repeatable.", show_default=False)]


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

    async def action(penstock: Penstock) -> tuple[Run, Submitted]:
        deployment = await penstock.read_deployment(name)
        await say_unknown_variables(penstock, deployment.pool, job_variables)
        parameters = as_meant(given, param, deployment)
        submitted = await penstock.submit_deployment(
            deployment.name,
            parameters,
            job_variables=job_variables,
            scheduled_time=_moment(at, delay, times.of_ms(await penstock.now_ms())),
            idempotency_key=idempotency_key,
            run_name=run_name,
            tags=tag or (),
        )
        found = await penstock.read_run(submitted.id)
        if not submitted.created:
            _say_other_parameters(found, deployment, parameters)
        if output is Output.JSON:
            return await _ended(penstock, found.id) if watch else found, submitted
        known_by = None if submitted.created else idempotency_key
        _print_run(found, known_by, times.of_ms(await penstock.now_ms()), is_timed=at is not None or delay is not None)
        if not watch:
            print(f"\nWatch it:\n    penstock flow-run watch {found.id}")
            return found, submitted
        return await _watched(penstock, found.id), submitted

    ended, submitted = ask(action)
    if output is Output.JSON:
        print_json(ended.model_dump(mode="json") | {"created": submitted.created})
    if watch and ended.state != "COMPLETED":
        raise typer.Exit(REFUSED)


async def say_unknown_variables(penstock: Penstock, pool: str, job_variables: dict[str, Any]) -> None:
    """Warn of job variables that the template of a pool does not declare; of a pool that is gone others speak."""
    if not job_variables:
        return
    try:
        found = await penstock.read_pool(pool)
    except NotFound:
        return
    for warning in unknown_variables(found, job_variables):
        say(f"Warning: {warning}")


async def _watched(penstock: Penstock, run_id: str) -> Run:
    from penstock.cli.following import show_run  # noqa: PLC0415 - only those who watch need it

    return await show_run(penstock, run_id)


async def _ended(penstock: Penstock, run_id: str) -> Run:
    from penstock.cli.following import attended  # noqa: PLC0415 - only those who watch need it

    async with attended(penstock, [run_id]):
        return (await penstock.wait_for_runs([run_id]))[0]


def _moment(at: str | None, delay: str | None, now: datetime) -> datetime | None:
    if at is not None and delay is not None:
        raise typer.BadParameter("give one of --at and --in")
    if delay is not None:
        duration = parse_duration(delay.removeprefix("+"))
        if duration is None:
            raise typer.BadParameter(f"--in {delay!r} is no delay: give 90s, 10m or 1h30m")
        return now + duration
    try:
        return None if at is None else times.parse_moment(at, now)
    except ValueError as problem:
        raise typer.BadParameter(f"--at {problem}") from problem


def _say_other_parameters(found: Run, deployment: Deployment, parameters: dict[str, Any]) -> None:
    """Warn that the run there is does not do what was asked for now."""
    wanted, has = {**deployment.parameters, **parameters}, found.spec.get("parameters", {})
    other = sorted(
        name for name in {*wanted, *has} if name not in wanted or name not in has or wanted[name] != has[name]
    )
    if other:
        names = ", ".join(f"'{name}'" for name in other)
        say(f"Warning: the run that was submitted before has other parameters ({names}); it stays as it is")


def _print_run(found: Run, known_by: str | None, now: datetime, *, is_timed: bool) -> None:
    due = datetime.fromisoformat(found.scheduled_time)
    told = times.ago(due, now)
    if is_timed or known_by is not None:
        told = times.due(due, now)
    if is_timed and due <= now and known_by is None:
        told += ": this is past, it starts as soon as it can"
    said = "Created" if known_by is None else f"Already submitted with idempotency key '{known_by}':"
    print(
        f"{said} flow run '{found.name}'\n"
        f"    id - {found.id}\n"
        f"    deployment - '{found.deployment}'\n"
        f"    work pool - '{found.pool}' (queue '{found.queue}')\n"
        f"    due - {told}" + ("" if known_by is None else f"\n    state - {found.state_name}"),
        flush=True,
    )
