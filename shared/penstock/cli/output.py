"""What a command prints: tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import re
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import orjson
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.pretty import pretty_repr
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PIPE_WIDTH: Final = 240
"""Columns of a table that does not go to a terminal: nobody wants half an id in a file."""
NARROW: Final = 96
"""Records are printed as if a terminal had at least so many columns."""
MARK: Final = "(**)"
"""Marks what is paused or late."""
IDS: Final = ("ID", "Run ID")
"""Headings of columns of ids."""
BORDER: Final = 3
"""Characters between two cells."""
_OBEYED: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but the line feed, and those that turn the direction of writing."""
NARROWEST: Final = 5
"""Characters to which a cell that may be broken shrinks at least."""


class Output(StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"


def print_json(value: Any) -> None:
    """Print one JSON document and nothing else; records may be nested anywhere."""
    print(_spelled(value, orjson.OPT_INDENT_2))


def print_json_line(value: Any) -> None:
    """Print one JSON document on one line, at once: somebody reads along."""
    print(_spelled(value, 0), flush=True)


def _spelled(value: Any, option: int) -> str:
    try:
        return orjson.dumps(value, default=_plain, option=option).decode()
    except orjson.JSONEncodeError:
        # An integer of more than 64 bits, which JSON allows; json is slower, and takes it.
        return json.dumps(value, default=_plain, ensure_ascii=False, indent=2 if option else None)


def visible(text: str) -> str:
    """Show control characters instead of having the terminal obey them: anybody may write names and messages.

    Args:
        text: one that people read; the lines of a longer one stay lines.
    """
    if text.isprintable():
        return text
    return _OBEYED.sub(lambda found: repr(found[0])[1:-1], text)


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    caption: str = "",
    *,
    optional: Sequence[str] = (),
    whole: Sequence[str] = (),
    empty: str = "",
) -> None:
    """Print a table. Cells are printed as they are: a name is never taken for markup.

    Args:
        title: above it.
        columns: their headings. Ids are never broken, however narrow the terminal: people paste them.
        rows: cells.
        caption: below it. One that explains :data:`MARK` is printed only if a cell has the mark.
        optional: columns that are left out, in this order, while the table is too wide for the terminal.
        whole: further columns whose cells are never broken.
        empty: printed instead of a table without rows.
    """
    cells = [[visible(str(cell)) for cell in row] for row in rows]
    if empty and not cells:
        print(empty)
        return
    console = _console()
    widths = [max(len(column), *(cell_len(row[place]) for row in cells), 0) for place, column in enumerate(columns)]
    shown = _fitting(columns, widths, optional, console.width)
    table = Table(title=title, caption=_explained(caption, cells), title_style="bold", header_style="bold")
    for place in shown:
        kept = columns[place] in (*IDS, *whole)
        table.add_column(columns[place], overflow="fold", no_wrap=kept, min_width=widths[place] if kept else None)
    for row in cells:
        table.add_row(*(Text(row[place]) for place in shown))
    # A terminal that is too narrow even so breaks the lines itself, and what is copied from it is still whole.
    least = sum(widths[place] if columns[place] in (*IDS, *whole) else NARROWEST for place in shown)
    console.width = max(console.width, least + BORDER * len(shown) + 1)
    console.print(table)


def _fitting(columns: Sequence[str], widths: Sequence[int], optional: Sequence[str], room: int) -> list[int]:
    shown = list(range(len(columns)))
    for column in optional:
        if sum(widths[place] + BORDER for place in shown) + 1 <= room:
            break
        shown = [place for place in shown if columns[place] != column]
    return shown


def _explained(caption: str, cells: Iterable[Sequence[str]]) -> str | None:
    if caption.startswith(MARK) and not any(MARK in cell for row in cells for cell in row):
        return None
    return caption or None


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
