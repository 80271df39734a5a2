"""Arguments as they are typed; pure but for files that are named. What is wrong is a usage error (exit 2)."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import typer

from penstock.client.runs import check_numbers
from penstock.client.wording import did_you_mean
from penstock.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NUMBER: Final = re.compile(r"[+-]?\d+")
_MAX_DIGITS: Final = 18
ENV_PREFIX: Final = "env."
SHOWN_POOLS: Final = 20
"""Names an error lists at most."""


def limit_and_name(first: str, second: str, *, limit_first: bool) -> tuple[int, str]:
    """Tell a limit from a name, in either order; when both could be the limit, the documented order counts.

    Args:
        first: as typed.
        second: as typed.
        limit_first: the documented order.
    """
    ordered = [(first, second), (second, first)] if limit_first else [(second, first), (first, second)]
    for limit, name in ordered:
        if _NUMBER.fullmatch(limit) and len(limit) <= _MAX_DIGITS:
            return int(limit), name
    raise typer.BadParameter(f"neither {first!r} nor {second!r} is a whole number, the limit")


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """Split ``name=value`` texts; a later one wins."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name):
            raise typer.BadParameter(f"{option} {text!r} is not of the form name=value")
        found[name] = value
    return found


def parameters(texts: Iterable[str]) -> dict[str, Any]:
    """Read ``name=value`` texts; a value that is JSON is taken as such, anything else as text.

    What would be JSON but for a number it does not have (``NaN``, ``Infinity``, ``1e999``) is refused: nobody means a text.
    """
    return {name: _json_or_text(name, value) for name, value in pairs(texts, "--param").items()}


def _json_or_text(name: str, value: str) -> Any:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    else:
        # A variable of the environment is a text whatever it looks like; null removes it.
        return value if name.startswith(ENV_PREFIX) and not isinstance(found, str | None) else found
    try:
        read = json.loads(value)
        check_numbers(read, f"'{name}'")
    except Invalid as problem:
        raise typer.BadParameter(f"{problem}; {problem.hint}") from problem
    except (ValueError, RecursionError):
        pass
    return value


def words(command: str) -> list[str]:
    """Split ``--command`` as a shell would."""
    try:
        found = shlex.split(command)
    except ValueError as problem:
        raise typer.BadParameter(f"--command {command!r}: {problem}") from problem
    if not found:
        raise typer.BadParameter("--command is empty")
    return found


def choice(text: str, known: Sequence[str], option: str) -> str:
    """Check a word of a closed set, in any case."""
    folded = {word.upper(): word for word in known}
    if text.upper() not in folded:
        hint = did_you_mean(text, known) or f"one of {', '.join(known)}"
        raise typer.BadParameter(f"{option} {text!r} is unknown; {hint}")
    return folded[text.upper()]


def choose_pool(given: str | None, default: str, existing: Sequence[str]) -> str:
    """Say which work pool a command is about.

    Args:
        given: with ``--pool``.
        default: what ``PENSTOCK_DEFAULT_POOL`` says; '' when it says nothing.
        existing: names of the pools there are.
    """
    if given is not None:
        return given
    if default:
        return default
    if len(existing) == 1:
        return existing[0]
    if not existing:
        raise typer.BadParameter("there is no work pool yet; `penstock work-pool create NAME` creates one")
    shown = ", ".join(existing[:SHOWN_POOLS]) + (", ..." if len(existing) > SHOWN_POOLS else "")
    raise typer.BadParameter(
        f"give --pool (or set PENSTOCK_DEFAULT_POOL): there are {len(existing)} work pools: {shown}"
    )


def json_file(path: Path, option: str) -> dict[str, Any]:
    """Read a JSON object from a file."""
    try:
        value = orjson.loads(path.read_bytes())
    except OSError as problem:
        raise typer.BadParameter(f"{option} {str(path)!r}: {problem.strerror}") from problem
    except orjson.JSONDecodeError as problem:
        raise typer.BadParameter(f"{option} {str(path)!r} is not JSON: {problem}") from problem
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{option} {str(path)!r} holds no JSON object")
    return value


def local_entrypoint(entrypoint: str) -> tuple[str, str]:
    """Make an entrypoint absolute when its file is here, so that a worker started elsewhere on this machine finds it.

    Returns:
        The entrypoint to send, and a warning ('' when there is none).
    """
    path, colon, function = entrypoint.rpartition(":")
    if not (colon and path):
        return entrypoint, ""
    try:
        if Path(path).is_file():
            return f"{Path(path).resolve()}:{function}", ""
    except (OSError, ValueError) as problem:
        return entrypoint, f"cannot look at '{path}': {problem}"
    return entrypoint, f"'{path}' does not exist here; the worker must find it (--working-dir says where to look)"
