"""Base job templates as the command line takes and shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from penstock.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES: Final = 1_048_576
"""More than any template has, however generously it is indented; no larger file is read."""


def read_template(file: Path, option: str) -> dict[str, Any]:
    """Read a base job template and check it, before anything is sent.

    Args:
        file: JSON in UTF-8.
        option: which named it; begins every message.

    Raises:
        Invalid: says what is wrong with the file or the template.
    """
    from penstock.templates import ensure  # noqa: PLC0415 - other commands need not load the schema library

    subject = f"{option} '{file}'"
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
    except OSError as problem:
        raise Invalid(f"{subject}: {problem.strerror}") from problem
    if len(content) > MAX_FILE_BYTES:
        raise Invalid(f"{subject} has more than {MAX_FILE_BYTES} bytes", "a template has at most 262144 bytes")
    try:
        template = orjson.loads(content.decode())
    except UnicodeDecodeError as problem:
        raise Invalid(f"{subject} is not UTF-8: {problem.reason} at byte {problem.start}") from problem
    except orjson.JSONDecodeError as problem:
        raise Invalid(f"{subject} is not JSON: {problem}") from problem
    try:
        ensure(template)
    except Invalid as problem:
        raise Invalid(
            f"{subject}: {problem.message}", f"`penstock template lint {file}` shows every problem"
        ) from problem
    return dict(template)


def written(template: dict[str, Any]) -> str:
    """Spell a template for a file or for people."""
    return orjson.dumps(template, option=orjson.OPT_INDENT_2).decode()


def compact(template: dict[str, Any]) -> str:
    """Name what a template lets people choose."""
    if not template:
        return "none"
    names = list(template.get("variables", {}).get("properties", {}))
    return f"variables {', '.join(names)} (--output json shows it)" if names else "no variables"
