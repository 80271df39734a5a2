"""The commands of the command line, as they are registered: for tests of help, examples and documents."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import typer.main

from penstock.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Any = typer.main.get_command(app)


def commands(command: Any = ROOT, path: tuple[str, ...] = ("penstock",)) -> Iterator[tuple[str, Any]]:
    """Every command and group: what one types, and what is called."""
    yield " ".join(path), command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


def parse(line: str) -> str:
    """Parse a command line as typed, without running it.

    Returns:
        The command it calls, e.g. ``penstock work-pool ls``.

    Raises:
        Exception: of the parser: no such command, no such option, a wrong value, something missing.
    """
    words = shlex.split(line, comments=True)
    command, path = ROOT, words[:1]
    context = command.make_context("penstock", words[1:])
    while getattr(command, "commands", None):
        rest = [*context._protected_args, *context.args]
        if not rest and getattr(command, "invoke_without_command", False):
            break
        name, command, rest = command.resolve_command(context, rest)
        path.append(name)
        context = command.make_context(name, rest, parent=context)
    return " ".join(path)


def problem_with(line: str) -> str:
    """What is wrong with a command line that need not be complete: placeholders may stand for values.

    Returns:
        '' when its commands and options exist.
    """
    words = shlex.split(line, comments=True)[1:]
    command, known = ROOT, options(ROOT)
    while words and getattr(command, "commands", None) and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"{line}: no command {words[0]!r}"
        command = command.commands[words.pop(0)]
        known = options(command)
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"{line}: no option {unknown}" if unknown else ""


def options(command: Any) -> set[str]:
    return {"--help", "-h"}.union(*(set(param.opts) | set(param.secondary_opts) for param in command.params))
