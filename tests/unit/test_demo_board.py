from __future__ import annotations

import io

from rich.console import Console

from penstock.cli.demo_board import Board
from penstock.cli.demo_history import History, Lane
from penstock.contracts.events import Event


def history_of(runs: int) -> History:
    history = History([Lane("critical", 1, 1), Lane("low", 10, None)], Lane("demo", 0, 2))
    for number in range(runs):
        for second, state in enumerate(("SCHEDULED", "PENDING", "RUNNING", "COMPLETED")):
            history.observe(
                Event(
                    id="",
                    occurred=f"2026-11-21T10:00:{second:02}Z",
                    event=f"prefect.flow-run.{state.title()}",
                    resource={"prefect.resource.id": f"prefect.flow-run.{number}", "prefect.state-type": state},
                    related=[{"prefect.resource.role": "work-queue", "prefect.resource.name": "low"}],
                )
            )
    return history


def shown(history: History, *, terminal: bool) -> str:
    stream = io.StringIO()
    board = Board(history, 10, Console(file=stream, force_terminal=terminal, width=100, highlight=False))
    with board:
        board.refresh()
    board.close()
    return stream.getvalue()


def test_in_a_terminal_the_board_shows_slots_order_and_throughput() -> None:
    text = shown(history_of(3), terminal=True)
    assert "Slots held" in text
    assert "Handed out, latest right" in text
    assert "runs/s" in text


def test_elsewhere_a_line_is_printed_for_every_ten_completed_runs() -> None:
    assert "10/10 completed  slots held: critical 0/1, low 0, demo 0/2" in shown(history_of(10), terminal=False)
    assert "slots held" not in shown(history_of(9), terminal=False)


def test_the_closing_table_has_a_row_for_every_queue_and_the_pool() -> None:
    text = shown(history_of(10), terminal=False)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in text.splitlines() if line.startswith("│")]
    assert rows == [
        ["critical", "1", "1", "0", "0", "0"],
        ["low", "10", "none", "10", "10", "1"],
        ["pool demo", "", "2", "10", "10", "1"],
    ]
    assert "Handed out in this order: LLLLLLLLLL" in text
    assert "10 runs in 3.0 s, 3.3 runs/s; median from submission to running 2000 ms" in text
