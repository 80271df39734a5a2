"""Options that say which runs a command is about."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.completion import deployment_names, queue_names
from penstock.client.run_filter import check_states
from penstock.errors import Invalid

RunId = Annotated[str, typer.Argument(metavar="ID", help="Id of the run.", show_default=False)]
QueueOption = Annotated[
    str | None,
    typer.Option(
        "--queue", "-q", help="Only of work queues of this name.", show_default=False, autocompletion=queue_names
    ),
]
DeploymentOption = Annotated[
    str | None,
    typer.Option(
        "--deployment",
        "-d",
        help="Only of this deployment (flow/deployment).",
        show_default=False,
        autocompletion=deployment_names,
    ),
]
StatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        "-s",
        help="Only in this state, in any case; also Late and AwaitingRetry. Repeatable.",
        show_default=False,
    ),
]
NameOption = Annotated[
    str | None, typer.Option("--name", "-n", help="Only names that match this glob.", show_default=False)
]


def states_of(given: list[str] | None) -> frozenset[str]:
    """Read ``--state``; what is no state is a usage error."""
    try:
        return check_states(given or ())
    except Invalid as problem:
        raise typer.BadParameter(f"--state: {problem}; {problem.hint}") from problem
