"""What will be handed out next: the ``preview`` of pools and queues, and the runs of a queue."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from penstock.cli import times
from penstock.cli.output import MARK, Output, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.client.watching import Preview
    from penstock.contracts.pools import Pool, Queue
    from penstock.contracts.runs import Run

MAX_SHOWN: Final = 100_000
LimitOption = Annotated[int, typer.Option("--limit", "-l", min=1, max=MAX_SHOWN, help="How many at most.")]


def within(hours: float) -> timedelta:
    """How far ahead ``--hours`` looks."""
    return timedelta(hours=hours)


def is_late(run: Run, now_ms: int) -> bool:
    """Say whether a waiting run should have been handed out already."""
    return datetime.fromisoformat(run.scheduled_time) < times.of_ms(now_ms)


def show_preview(title: str, preview: Preview, output: Output, *, paused: Iterable[str], with_queue: bool) -> None:
    """Print runs in the order in which they will be handed out.

    Args:
        title: of the table.
        preview: what to print.
        output: how.
        paused: names of paused pools and queues among those that were asked for, as ``work pool 'etl'``.
        with_queue: they are of several queues.
    """
    if output is Output.JSON:
        rows = [run.model_dump(mode="json") | {"late": is_late(run, preview.now_ms)} for run in preview.runs]
        print_json(rows)
        return
    print_table(
        title,
        ["Scheduled Start Time", "Run ID", "Name", *(["Queue"] if with_queue else [])],
        [[_start(run, preview.now_ms), run.id, run.name, *([run.queue] if with_queue else [])] for run in preview.runs],
        f"{MARK} denotes a late run",
        optional=["Queue"],
        empty="No flow run is due within that time",
    )
    _say_what_is_missing(preview)
    for what in paused:
        print(f"The {what} is paused: nothing of it is handed out.")


def show_runs(queue: Queue, preview: Preview, output: Output) -> None:
    """Print the runs that wait in a queue."""
    if output is Output.JSON:
        print_json(preview.runs)
        return
    noun = "run" if preview.total == 1 else "runs"
    print(f"Read {preview.total} {noun} for work queue '{queue.name}' in work pool '{queue.pool}'")
    now = times.of_ms(preview.now_ms)
    for run in preview.runs:
        print(f"    {run.id}  {run.name}  {_start(run, preview.now_ms)}, {times.ago_iso(run.scheduled_time, now)}")
    _say_what_is_missing(preview)


def paused_parts(pool: Pool, queues: Iterable[Queue]) -> list[str]:
    """Name what is paused of a pool and some of its queues."""
    parts = [f"work pool '{pool.name}'"] if pool.is_paused else []
    return parts + [f"work queue '{queue.name}'" for queue in queues if queue.is_paused]


def _start(run: Run, now_ms: int) -> str:
    """To the second: with more in the line, a terminal would break the id beside it."""
    late = f" {MARK}" if is_late(run, now_ms) else ""
    return f"{datetime.fromisoformat(run.scheduled_time):%Y-%m-%d %H:%M:%SZ}{late}"


def _say_what_is_missing(preview: Preview) -> None:
    if preview.total > len(preview.runs):
        print(f"... and {preview.total - len(preview.runs)} more; --limit shows them")
