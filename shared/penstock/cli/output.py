"""What a command prints: tables for people, JSON for programs."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import BaseModel
from rich.console import Console
from rich.pretty import pretty_repr
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PIPE_WIDTH: Final = 240
"""Columns of a table that does not go to a terminal: nobody wants half an id in a file."""
NARROW: Final = 96
"""Below this many columns a table breaks words rather than dropping columns."""


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"


def print_json(value: Any) -> None:
    """Print one JSON document and nothing else; records may be nested anywhere."""
    print(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2).decode())


def print_json_line(value: Any) -> None:
    """Print one JSON document on one line, at once: somebody reads along."""
    print(orjson.dumps(value, default=_plain).decode(), flush=True)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> None:
    """Print a table. Cells are printed as they are: a name is never taken for markup."""
    table = Table(title=title, caption=caption or None, title_style="bold", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    _console().print(table)


def print_record(kind: str, fields: dict[str, Any]) -> None:
    """Print all fields of one thing, as ``WorkPool(name='etl', ...)``, a line each."""

    def fields_of(_: object) -> Iterable[tuple[str, Any]]:
        return fields.items()

    record = type(kind, (), {"__rich_repr__": fields_of})()
    print(pretty_repr(record, max_width=max(_console().width, NARROW), indent_size=4, expand_all=True))


def _console() -> Console:
    given = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    return Console(width=given, highlight=False, markup=False, emoji=False)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(type(value).__name__)
