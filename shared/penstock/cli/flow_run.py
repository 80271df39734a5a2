"""``penstock flow-run``: the group; what its commands do stands in the modules named ``flow_run_...``."""

from __future__ import annotations

from typing import Any, Final

import typer
from typer.core import TyperGroup

from penstock.cli.flow_run_changes import cancel, delete, retry
from penstock.cli.flow_run_listing import inspect, list_runs
from penstock.cli.flow_run_submission import submit
from penstock.cli.flow_run_watching import explain, logs, watch
from penstock.cli.options import examples

OURS: Final = {
    "--state-type": "--state",
    "--flow-name": "--deployment",
    "--work-pool": "--pool",
    "--work-queue": "--queue",
    "--num-lines": "--tail",
    "--lines": "--tail",
    "--start-at": "--at",
    "--start-in": "--at",
    "--params": "--param",
    "--parameters": "--param",
    "--job-variables": "--job-variable",
}
"""Options as Prefect and others call them, and what they are called here."""


class Group(TyperGroup):
    """Suggests the option of this command for one that people know from elsewhere."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except Exception as problem:
            # Which class says that there is no such option depends on the version of typer.
            known = [
                name
                for one in getattr(getattr(problem, "ctx", None), "command", ctx.command).params
                for name in one.opts
            ]
            ours = OURS.get(str(getattr(problem, "option_name", "")))
            if ours in known:
                problem.possibilities = [ours]  # type: ignore[attr-defined]
            raise


app = typer.Typer(
    cls=Group,
    help="Submit, watch and cancel flow runs.",
    no_args_is_help=True,
    epilog=examples(
        "penstock flow-run submit --pool etl --entrypoint flows.py:load --param day=1 --wait",
        "penstock flow-run ls --pool etl --state RUNNING",
        "penstock flow-run explain 0198c0de-0000-7000-8000-000000000000",
        "penstock flow-run logs 0198c0de-0000-7000-8000-000000000000 --follow",
    ),
)

app.command(
    epilog=examples(
        "penstock flow-run submit --pool etl --entrypoint flows.py:load --param day=1",
        "penstock flow-run submit -p etl -q critical -e flows.py:load --wait --timeout 60",
        'penstock flow-run submit -p etl --command "python -m load --day 1" --count 10000',
        "penstock flow-run submit -p etl -e flows.py:load --watch",
        "penstock flow-run submit -p etl -e flows.py:load --at 2030-01-31T08:00",
        "penstock flow-run submit -p etl -e flows.py:load --at +90s --env STAGE=test",
        "penstock flow-run submit -p etl -e flows.py:load --job-variable stream_output=false",
    )
)(submit)
app.command(
    "ls",
    epilog=examples(
        "penstock flow-run ls --pool etl",
        "penstock flow-run ls --state RUNNING --state PENDING",
        "penstock flow-run ls --deployment hello/demo --state late",
        'penstock flow-run ls --pool etl --name "load-*" --limit 100 --page 2',
        "penstock flow-run ls --state FAILED --limit 100 --output json",
    ),
)(list_runs)
app.command(epilog=examples("penstock flow-run inspect 0198c0de-0000-7000-8000-000000000000"))(inspect)
app.command(
    epilog=examples(
        "penstock flow-run explain 0198c0de-0000-7000-8000-000000000000",
        "penstock flow-run explain 0198c0de-0000-7000-8000-000000000000 --output json",
    )
)(explain)
app.command(epilog=examples("penstock flow-run watch 0198c0de-0000-7000-8000-000000000000"))(watch)
app.command(
    epilog=examples(
        "penstock flow-run logs 0198c0de-0000-7000-8000-000000000000",
        "penstock flow-run logs 0198c0de-0000-7000-8000-000000000000 --follow",
        "penstock flow-run logs 0198c0de-0000-7000-8000-000000000000 --tail 20",
    )
)(logs)
app.command(
    epilog=examples(
        "penstock flow-run cancel 0198c0de-0000-7000-8000-000000000000",
        "penstock flow-run cancel 0198c0de-0000-7000-8000-000000000000 --force",
        "penstock flow-run cancel --pool etl --queue low --state scheduled",
        "penstock flow-run cancel --deployment hello/demo --yes",
        "penstock flow-run cancel --all --yes",
    )
)(cancel)
app.command(
    epilog=examples(
        "penstock flow-run retry 0198c0de-0000-7000-8000-000000000000",
        "penstock flow-run retry 0198c0de-0000-7000-8000-000000000000 --watch",
    )
)(retry)
app.command(epilog=examples("penstock flow-run delete 0198c0de-0000-7000-8000-000000000000 --yes"))(delete)
