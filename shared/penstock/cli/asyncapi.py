"""``penstock asyncapi``: the contracts of the bus, for programs: an AsyncAPI document, JSON Schemas."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import Annotated, Any, Final

import typer

from penstock import __version__
from penstock.cli.options import examples
from penstock.cli.output import print_json
from penstock.errors import Conflict, Invalid

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
EPILOG: Final = examples(
    "penstock asyncapi > penstock.asyncapi.json",
    "penstock asyncapi --schemas schemas/",
    "penstock asyncapi --snapshot contracts.json",
)


def asyncapi(
    schemas: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Write one JSON Schema file for each message into this directory instead.",
            show_default=False,
        ),
    ] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Write all schemas to one file instead; refused when that would break who relies on what it says now.",
            show_default=False,
        ),
    ] = None,
    breaking: Annotated[bool, typer.Option("--breaking", help="With --snapshot: write it in any case.")] = False,
) -> None:
    """Print what travels on the bus as an AsyncAPI 3.0 document: channels, messages, JSON Schemas, examples.

    It is made from the code and needs no Redis.
    """
    if breaking and snapshot is None:
        raise typer.BadParameter("--breaking goes with --snapshot")
    if schemas is not None and snapshot is not None:
        raise typer.BadParameter("give either --schemas or --snapshot")
    if schemas is not None:
        _write_schemas(schemas)
    elif snapshot is not None:
        _write_snapshot(snapshot, breaking=breaking)
    else:
        from penstock.contracts.asyncapi import document  # noqa: PLC0415 - making schemas takes a while

        print_json(document(__version__))


def _write_schemas(directory: Path) -> None:
    from penstock.contracts.catalogue import message_schema, names  # noqa: PLC0415 - making schemas takes a while

    for name in names():
        _write(directory / f"{name}.json", {"$schema": DIALECT, **message_schema(name)}, sort=False)
    print(f"Wrote {len(names())} schemas to {directory}")


def _write_snapshot(file: Path, *, breaking: bool) -> None:
    from penstock.contracts.catalogue import snapshot  # noqa: PLC0415 - making schemas takes a while

    new = snapshot()
    if file.exists() and not breaking and (problems := _problems(file, new)):
        raise Conflict(
            f"{file} was not written, this would break who relies on it:\n  " + "\n  ".join(problems),
            "make the change additive, or say --breaking and tell them",
        )
    _write(file, new, sort=True)
    print(f"Wrote {file}")


def _problems(file: Path, new: Any) -> list[str]:
    from penstock.contracts.compatibility import breaking_changes  # noqa: PLC0415 - only this option compares

    try:
        return breaking_changes(json.loads(file.read_text(encoding="utf-8")), new)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as problem:
        raise Invalid(
            f"{file} is no snapshot of contracts: {problem}", "name another file, or say --breaking"
        ) from problem


def _write(file: Path, content: Any, *, sort: bool) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=1, sort_keys=sort, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as problem:
        raise Invalid(f"{file} cannot be written: {problem.strerror}") from problem
