"""How messages become the arguments of scripts; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.bus.dead_letters import DeadLetter
    from penstock.contracts.base import Command
    from penstock.contracts.pools import QueueGone
    from penstock.contracts.runs import ReportRuns, SubmitRuns, SubmittedRun
    from penstock.contracts.workers import AnnounceWorker, LoseWorker
    from penstock.lua import Value


def command(message: Command) -> dict[str, Any]:
    """What every script takes that answers a command."""
    return {"command_id": message.id, "deadline": message.deadline}


def life(message: AnnounceWorker | LoseWorker) -> dict[str, Any]:
    """Which life of a worker is meant, and how much of it its sender knew."""
    return {
        "pool": message.pool,
        "pool_id": message.pool_id,
        "worker": message.worker,
        "boot_id": message.boot_id,
        "seq": message.seq,
    }


def submitted(message: SubmitRuns) -> Iterable[Value]:
    """Spell runs for submit_runs.lua, 9 values each."""
    for run in message.runs:
        due = "" if run.scheduled_time is None else round(run.scheduled_time.timestamp() * 1000)
        yield from (run.id, run.name, run.queue, due, run.spec.model_dump_json(exclude_defaults=True))
        yield from (run.deployment, _scheduled_by(run), run.idempotency_key, _retries(run))


def malformed(letters: Iterable[DeadLetter]) -> bytes:
    """Spell elements of a submission that were no runs, for its answer."""
    rows = (
        {
            "run": str(letter.element.get("id") or "") if isinstance(letter.element, dict) else "",
            "code": "invalid",
            "message": letter.reason,
        }
        for letter in letters
    )
    return orjson.dumps(list(rows))[1:-1]


def _scheduled_by(run: SubmittedRun) -> str:
    by = run.scheduled_by
    return f"{by.schedule} {by.revision} {by.catch_up}" if by and run.deployment else ""


def _retries(run: SubmittedRun) -> str:
    return f"{run.retries} {round(run.retry_delay_seconds * 1000)}" if run.retries else ""


def reported(message: ReportRuns) -> Iterable[Value]:
    """Spell reports for report_runs.lua, 7 values each."""
    for report in message.reports:
        yield from (
            report.run,
            report.token,
            report.epoch,
            report.state,
            report.message,
            report.started_ms,
            report.ended_ms,
        )


def related(pool_id: str, pool: str, worker_type: str, queue: QueueGone) -> bytes:
    """Spell what the events of runs are related to whose queue is not defined any more."""
    return orjson.dumps(
        [
            {
                "prefect.resource.id": f"prefect.work-queue.{queue.id}",
                "prefect.resource.role": "work-queue",
                "prefect.resource.name": queue.name,
            },
            {
                "prefect.resource.id": f"prefect.work-pool.{pool_id}",
                "prefect.resource.role": "work-pool",
                "prefect.resource.name": pool,
                "prefect.work-pool.type": worker_type,
            },
        ]
    )
