"""What ``penstock demo`` shows: a live board in a terminal, plain lines elsewhere, a closing table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import RenderableType

    from penstock.cli.demo_history import History, Lane

REFRESH_SECONDS: Final = 0.1
LINE_EVERY: Final = 10
"""Without a terminal: one line every so many completed runs."""
COLOURS: Final = ("red", "yellow", "cyan", "green", "magenta")
BAR_WIDTH: Final = 20
ORDER_SHOWN: Final = 60


class Board:
    """Progress of one history.

    Args:
        history: read, never changed.
        total: how many runs there will be.
        console: where to show it.
    """

    def __init__(self, history: History, total: int, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._history = history
        self._total = total
        self._began = time.monotonic()
        self._shown_at = 0.0
        self._shown = 0
        self._line_due = False
        # No refreshing thread: children are started and tied to this one (see penstock.cli.processes).
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._print_line_due()
        if self._live:
            self._live.update(self._render(), refresh=True)
            self._live.stop()

    def refresh(self) -> None:
        """Show the present state; cheap to call for every event."""
        if self._live:
            if time.monotonic() - self._shown_at >= REFRESH_SECONDS:
                self._shown_at = time.monotonic()
                self._live.update(self._render(), refresh=True)
            return
        self._print_line_due()
        completed = self._history.pool.completed
        if completed != self._shown and (completed % LINE_EVERY == 0 or completed == self._total):
            # Shown with the next event, which hands the freed slot out again.
            self._shown = completed
            self._line_due = True

    def _print_line_due(self) -> None:
        if self._line_due:
            self._line_due = False
            self.console.print(self._line(), soft_wrap=True)

    def _line(self) -> str:
        lanes = ", ".join(f"{lane.name} {_of(lane)}" for lane in (*self._history.queues, self._history.pool))
        return (
            f"{self._elapsed():5.1f} s  {self._history.pool.completed:3}/{self._total} completed  slots held: {lanes}"
        )

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _rate(self) -> float:
        return self._history.pool.completed / self._history.seconds if self._history.seconds else 0.0

    def _render(self) -> RenderableType:
        history = self._history
        table = Table("Queue", "Priority", "Slots held", "", "Waiting", "Completed")
        for lane, colour in zip(history.queues, COLOURS, strict=False):
            bar = Text("■" * lane.in_flight + "·" * ((lane.limit or lane.in_flight) - lane.in_flight), style=colour)
            table.add_row(
                Text(lane.name, style=colour),
                str(lane.priority),
                _of(lane),
                bar,
                str(lane.waiting),
                str(lane.completed),
            )
        table.add_section()
        pool = history.pool
        done = round(BAR_WIDTH * pool.completed / self._total) if self._total else 0
        waiting = sum(lane.waiting for lane in history.queues)
        bar = Text("█" * done + "░" * (BAR_WIDTH - done), style="green")
        table.add_row(f"pool {pool.name}", "", _of(pool), bar, str(waiting), f"{pool.completed}/{self._total}")
        return Group(
            table,
            Text("Handed out, latest right: ").append_text(self._order()),
            Text(f"{self._elapsed():.1f} s, {self._rate():.1f} runs/s"),
        )

    def _order(self) -> Text:
        text = Text()
        colours = {lane.name: colour for lane, colour in zip(self._history.queues, COLOURS, strict=False)}
        for lane in self._history.handed_out[-ORDER_SHOWN:]:
            text.append(lane.name[:1].upper(), style=colours[lane.name])
        return text

    def close(self) -> None:
        """Show the closing table."""
        history = self._history
        table = Table("Queue", "Priority", "Limit", "Runs", "Completed", "Peak in flight", title="What the events say")
        for lane in history.queues:
            table.add_row(lane.name, str(lane.priority), *_figures(lane))
        table.add_section()
        table.add_row(f"pool {history.pool.name}", "", *_figures(history.pool))
        self.console.print(table)
        order = "".join(lane.name[:1].upper() for lane in history.handed_out)
        self.console.print(f"Handed out in this order: {order}", soft_wrap=True)
        again = f", {history.returned} returned to their queue and handed out again" if history.returned else ""
        self.console.print(
            f"{history.pool.completed} runs in {history.seconds:.1f} s, {self._rate():.1f} runs/s; "
            f"median from submission to running {history.median_start_ms:.0f} ms{again}",
            soft_wrap=True,
        )


def _of(lane: Lane) -> str:
    return str(lane.in_flight) if lane.limit is None else f"{lane.in_flight}/{lane.limit}"


def _figures(lane: Lane) -> tuple[str, str, str, str]:
    return "none" if lane.limit is None else str(lane.limit), str(lane.submitted), str(lane.completed), str(lane.peak)
