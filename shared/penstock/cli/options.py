"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.completion import deployment_names, pool_names, queue_names
from penstock.cli.output import Output

MAX_HOURS = 24 * 366 * 100
"""A century: what is due later means nothing."""
PoolOption = Annotated[
    str, typer.Option("--pool", "-p", help="The work pool.", show_default=False, autocompletion=pool_names)
]
DefaultPoolOption = Annotated[
    str | None,
    typer.Option(
        "--pool",
        "-p",
        help="The work pool; when not given, PENSTOCK_DEFAULT_POOL or the only one there is.",
        show_default=False,
        autocompletion=pool_names,
    ),
]
AnyPoolOption = Annotated[
    str | None,
    typer.Option(
        "--pool",
        "-p",
        help="Only this work pool; all of them when not given.",
        show_default=False,
        autocompletion=pool_names,
    ),
]
OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="'json' prints JSON for programs and nothing else.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
PoolName = Annotated[str, typer.Argument(help="Name of the work pool.", show_default=False, autocompletion=pool_names)]
QueueName = Annotated[
    str, typer.Argument(help="Name of the work queue.", show_default=False, autocompletion=queue_names)
]
DeploymentName = Annotated[
    str,
    typer.Argument(
        help="flow/deployment; the second part will do when it is unique.",
        show_default=False,
        autocompletion=deployment_names,
    ),
]
HoursOption = Annotated[
    float, typer.Option("--hours", min=0, max=MAX_HOURS, help="Look so far ahead.", show_default=True)
]
LimitOption = Annotated[
    int | None,
    typer.Option("--concurrency-limit", help="Most runs in flight at the same time; no limit when not given."),
]
DescriptionOption = Annotated[str | None, typer.Option("--description", help="What it is for.", show_default=False)]
EITHER_ORDER = {"ignore_unknown_options": True}
"""Lets a negative limit reach the rule that refuses it, instead of being taken for an option."""


def examples(*lines: str) -> str:
    """Make the end of a command's help: what one types. The control character keeps the lines apart."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
