"""Who holds the slots of a pool, what waits for one, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.cli import times
from penstock.cli.output import Output, print_json, print_table

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.client.watching import Slots
    from penstock.contracts.runs import Run


def show_slots(slots: Slots, output: Output) -> None:
    """Print who holds each slot and what waits."""
    if output is Output.JSON:
        print_json(_document(slots))
        return
    now = times.of_ms(slots.now_ms)
    print_table(
        f"Slots of Work Pool '{slots.pool.name}' ({_used(slots.in_flight.pool, slots.pool.concurrency_limit)} in use)",
        ["Run ID", "Name", "Queue", "State", "Worker", "Since"],
        [[run.id, run.name, run.queue or "-", run.state, run.worker or "", _since(run, now)] for run in slots.holders],
        _missing(slots),
        optional=["Queue", "Since", "Worker"],
        empty=f"No flow run holds a slot of work pool '{slots.pool.name}'",
    )
    limits = {queue.name: queue.concurrency_limit for queue in slots.pool.queues}
    print_table(
        "Waiting",
        ["Queue", "Priority", "In use", "Waiting", "Due", "Oldest", "Why"],
        [
            [
                one.queue,
                one.priority,
                _used(slots.in_flight.queues.get(one.queue, 0), limits[one.queue]),
                one.waiting,
                one.due,
                times.ago_iso(one.first_due, now),
                one.reason,
            ]
            for one in slots.waiting
        ],
        optional=["Priority", "Oldest"],
        empty="No flow run waits",
    )


def _document(slots: Slots) -> dict[str, object]:
    return {
        "pool": slots.pool.name,
        "concurrency_limit": slots.pool.concurrency_limit,
        "active_slots": slots.in_flight.pool,
        "queues": [
            {
                "name": queue.name,
                "concurrency_limit": queue.concurrency_limit,
                "active_slots": slots.in_flight.queues.get(queue.name, 0),
            }
            for queue in slots.pool.queues
        ],
        "holders": slots.holders,
        "waiting": slots.waiting,
    }


def _used(used: int, limit: int | None) -> str:
    return str(used) if limit is None else f"{used}/{limit}"


def _since(run: Run, now: datetime) -> str:
    return times.ago(times.of_ms(run.claimed_ms), now) if run.claimed_ms else "-"


def _missing(slots: Slots) -> str:
    hidden = slots.in_flight.pool - len(slots.holders)
    return f"... and {hidden} more; --limit shows them" if hidden > 0 else ""
