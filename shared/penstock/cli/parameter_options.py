"""Parameters and job variables as they are typed: ``--param``, ``--params``, ``--job-variable``. What is wrong is a usage error."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.parsing import pairs, parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.contracts.deployments import Deployment

ParamOption = Annotated[
    list[str] | None,
    typer.Option("--param", help="name=value; JSON if the value parses, else text. Repeatable.", show_default=False),
]
ParamsOption = Annotated[
    str | None,
    typer.Option(
        "--params", help="All at once: a JSON object, @FILE, or - for standard input. --param wins.", show_default=False
    ),
]
JobVariableOption = Annotated[
    list[str] | None,
    typer.Option(
        "--job-variable",
        help="name=value for the pool's template; JSON if the value parses, else text. env.NAME sets one. Repeatable.",
        show_default=False,
    ),
]


def given_parameters(param: Sequence[str] | None, params: str | None) -> dict[str, Any]:
    """Read ``--params``, overlaid by each ``--param``.

    Args:
        param: ``name=value`` texts.
        params: a JSON object, ``@`` and the path of a file with one, or ``-`` for standard input.
    """
    return {**(_params(params) if params is not None else {}), **parameters(param or [])}


def as_meant(values: dict[str, Any], param: Sequence[str] | None, deployment: Deployment) -> dict[str, Any]:
    """Take each ``--param`` as the text it was where the function wants a text: ``5`` for a name.

    Args:
        values: what :func:`given_parameters` made of it.
        param: ``name=value`` texts.
        deployment: whose function it is.
    """
    if not param or not deployment.parameter_schema:
        return values
    from penstock.projects import fitting  # noqa: PLC0415 - without a schema no schema library

    return fitting.as_meant(values, pairs(param, "--param"), deployment.parameter_schema)


def given_job_variables(job_variable: Sequence[str] | None) -> dict[str, Any]:
    """Read each ``--job-variable``."""
    pairs(job_variable or [], "--job-variable")  # tells a wrong one by the name of this option
    return parameters(job_variable or [])


def _params(given: str) -> dict[str, Any]:
    where, text = _source(given)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_number)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as problem:
        raise typer.BadParameter(f"{where} is nested too deeply") from problem
    except UnicodeEncodeError as problem:
        raise typer.BadParameter(f"{where} holds half of a surrogate pair, which is no text") from problem
    except ValueError as problem:
        raise typer.BadParameter(f"{where} is not JSON: {problem}") from problem
    if not isinstance(value, dict):
        raise typer.BadParameter(f'{where} is no JSON object: give {{"name": value, ...}}')
    return value


def _source(given: str) -> tuple[str, str]:
    """Say what is read, and read it."""
    if given != "-" and not given.startswith("@"):
        return "--params", given
    where = "--params - (standard input)" if given == "-" else f"--params {given!r}"
    try:
        raw = sys.stdin.buffer.read() if given == "-" else Path(given[1:]).read_bytes()
        return where, raw.decode("utf-8-sig")
    except OSError as problem:
        raise typer.BadParameter(f"{where}: {problem.strerror}") from problem
    except ValueError as problem:
        # A path with a null character, or a file that is no text.
        raise typer.BadParameter(f"{where} is not UTF-8 text: {problem}") from problem


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in members]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise ValueError(f"the key {twice!r} is there twice")
    return dict(members)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large a number")
    return number
