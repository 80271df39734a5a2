"""Type commands in the tests' own process."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from typer.testing import CliRunner

from penstock.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., Any]

DONE, REFUSED, USAGE, UNAVAILABLE = 0, 1, 2, 3


def typing_commands() -> Command:
    """Make what runs one command and answers its result; output and errors are kept apart."""
    runner = CliRunner()

    def run(*arguments: str, code: int = DONE) -> Any:
        result = runner.invoke(app, arguments)
        assert result.exit_code == code, result.output
        return result

    return run


def new_pool(penstock: Command) -> str:
    """Create a pool of a name nobody else has."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    penstock("work-pool", "create", name)
    return name


def rows(output: str) -> list[list[str]]:
    """The cells of a printed table."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if "│" in line]
