"""``penstock template``: look at a base job template before a pool has it. Needs no Redis."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from penstock.cli import errors
from penstock.cli.options import OutputOption, examples
from penstock.cli.output import Output, print_json
from penstock.cli.parsing import json_file, pairs, parameters

if TYPE_CHECKING:
    from penstock.templates import Problem

app = typer.Typer(
    help="Check and try base job templates.",
    no_args_is_help=True,
    epilog=examples(
        "penstock template lint template.json",
        "penstock template render template.json --var stream_output=false",
    ),
)

TemplateFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="JSON file with the base job template.", show_default=False)
]


@app.command(
    epilog=examples("penstock template lint template.json", "penstock template lint template.json --output json")
)
def lint(file: TemplateFile, output: OutputOption = Output.TABLE) -> None:
    """Tell everything that is wrong with a template: where, why, and which rule; exit 1 when anything is."""
    from penstock.templates import check  # noqa: PLC0415 - other commands need not load the schema library

    problems = check(_read(file))
    if output is Output.JSON:
        print_json({"valid": not problems, "problems": [_row(problem) for problem in problems]})
    else:
        for problem in problems:
            print(problem)
        print(f"'{file}' has {_counted(len(problems))}" if problems else f"'{file}' is a valid base job template")
    if problems:
        raise typer.Exit(errors.REFUSED)


def _row(problem: Problem) -> dict[str, str]:
    return {"path": problem.path, "rule": problem.rule, "message": problem.message}


@app.command(
    epilog=examples(
        "penstock template render template.json",
        "penstock template render template.json --var stream_output=false --var 'env.PORT=\"8080\"'",
        "penstock template render template.json --vars deployment.json --var 'command=\"python run.py\"'",
    )
)
def render(
    file: TemplateFile,
    variables: Annotated[
        list[str] | None,
        typer.Option(
            "--var",
            metavar="NAME=VALUE",
            help="A job variable of the run; the value as JSON, or as text when it is none. May be repeated.",
            show_default=False,
        ),
    ] = None,
    variables_file: Annotated[
        Path | None,
        typer.Option("--vars", metavar="FILE", help="JSON file with the job variables of the deployment."),
    ] = None,
) -> None:
    """Print the job configuration a worker would be given, as JSON.

    Template defaults, then --vars, then --var; the later wins, env is merged by name, and env.NAME sets one of them.
    """
    from penstock.templates import job_configuration  # noqa: PLC0415 - see above

    given = variables or []
    pairs(given, "--var")  # tells a wrong one by the name of this option
    deployment = json_file(variables_file, "--vars") if variables_file else None
    print_json(job_configuration(_read(file), deployment, parameters(given)))


def _counted(problems: int) -> str:
    return "1 problem" if problems == 1 else f"{problems} problems"


def _read(file: Path) -> Any:
    """Read any JSON: what is no object is the template's problem, not the command's."""
    try:
        return orjson.loads(file.read_bytes())
    except OSError as problem:
        raise typer.BadParameter(f"FILE {str(file)!r}: {problem.strerror}") from problem
    except orjson.JSONDecodeError as problem:
        raise typer.BadParameter(f"FILE {str(file)!r} is not JSON: {problem}") from problem
