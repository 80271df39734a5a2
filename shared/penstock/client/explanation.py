"""Why a run is where it is, in words and for programs; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, Field

from penstock.client.records import iso_of_ms
from penstock.client.waiting import Blocker
from penstock.contracts.runs import RunState  # noqa: TC001 - pydantic reads it

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.client.waiting import Reason
    from penstock.client.waiting_store import Holders
    from penstock.contracts.deployments import Deployment
    from penstock.contracts.runs import Run

Code = (
    Blocker
    | Literal[
        "awaiting_retry",
        "queue_deleted",
        "being_handed_out",
        "pending",
        "running",
        "cancelling",
        "completed",
        "failed",
        "crashed",
        "cancelled",
    ]
)
"""Why a run is where it is: what stops it while it waits, else its state."""
SHOWN_HOLDERS: Final = 10


class Holder(BaseModel):
    """A run that holds a slot."""

    id: str
    name: str
    state: RunState
    worker: str | None


class Obstacle(BaseModel):
    """One reason.

    Attributes:
        code: for programs.
        text: in words.
        command: what one may do about it.
        holders: runs that hold the slots it waits for, the longest claimed first, at most :data:`SHOWN_HOLDERS`;
            ``holders_total`` how many there are.
    """

    code: Code
    text: str
    command: str
    holders: list[Holder] = Field(default_factory=list)
    holders_total: int = 0


class Explanation(Obstacle):
    """Why a run is where it is. Itself it is the first reason, the one that stops the claim.

    Attributes:
        run: its id.
        position: how many waiting runs come before it if nothing stops them; None for one that does not wait.
        further: what else would stop it.
    """

    run: str
    name: str
    pool: str
    queue: str
    state: RunState
    state_name: str
    position: int | None = None
    further: list[Obstacle] = Field(default_factory=list)


def of_waiting(run: Run, obstacles: Sequence[Obstacle], position: int) -> Explanation:
    """Explain a run that waits.

    Args:
        run: as it is.
        obstacles: everything that stops it, in the order in which the claim looks at it.
        position: how many waiting runs come before it.
    """
    first, *further = obstacles or [_nothing_stops(run, position)]
    return Explanation(**first.model_dump(), **_about(run), position=position, further=further)


def of_other(run: Run) -> Explanation:
    """Explain a run that does not wait: what its worker does with it, or how it ended."""
    worker = f"worker '{run.worker}'" if run.worker else "its worker"
    since = run.states[-1].at_ms
    look = f"penstock worker inspect {quoted(run.worker or '')} --pool {quoted(run.pool)}"
    match run.state:
        case "PENDING":
            what = Obstacle(
                code="pending", text=f"handed to {worker} at {iso_of_ms(since)}, not started yet", command=look
            )
        case "RUNNING":
            attempt = f", attempt {run.run_count}" if run.run_count > 1 else ""
            follow = f"penstock flow-run watch {run.id}"
            what = Obstacle(
                code="running", text=f"running on {worker} since {iso_of_ms(since)}{attempt}", command=follow
            )
        case "CANCELLING":
            force = f"penstock flow-run cancel {run.id} --force"
            what = Obstacle(code="cancelling", text=f"{worker} ends it since {iso_of_ms(since)}", command=force)
        case _:
            what = _of_ended(run)
    return Explanation(**what.model_dump(), **_about(run))


def _of_ended(run: Run) -> Obstacle:
    ended = f"{run.state} at {iso_of_ms(run.ended_ms or run.states[-1].at_ms)}"
    command = f"penstock flow-run {'logs' if run.state == 'COMPLETED' else 'retry'} {run.id}"
    codes: dict[str, Code] = {
        "COMPLETED": "completed",
        "FAILED": "failed",
        "CRASHED": "crashed",
        "CANCELLED": "cancelled",
    }
    return Obstacle(code=codes[run.state], text=f"{ended}: {run.message}" if run.message else ended, command=command)


def obstacle(run: Run, reason: Reason, holders: Holders | None) -> Obstacle:
    """Say what one may do about a reason, and who holds the slots it is about."""
    pool, queue = quoted(run.pool), quoted(run.queue)
    worker = f"penstock worker start --pool {pool} --work-queue {queue}"
    watch = f"penstock flow-run watch {run.id}"
    commands: dict[str, str] = {
        "pool_paused": f"penstock work-pool resume {pool}",
        "queue_paused": f"penstock work-queue resume {queue} --pool {pool}",
        "pool_limit": f"penstock work-pool clear-concurrency-limit {pool}",
        "queue_limit": f"penstock work-queue clear-concurrency-limit {queue} --pool {pool}",
        "no_worker": worker,
        "draining": worker,
        "workers_full": worker,
    }
    code: Code = reason.blocker
    text = reason.text
    if code == "not_due" and run.state_name == "AwaitingRetry":
        code, text = "awaiting_retry", f"waits for its next attempt, {text}"
    return Obstacle(code=code, text=text, command=commands.get(code, watch), **_held(holders))


def deployment_obstacle(deployment: Deployment, holders: Holders) -> Obstacle | None:
    """Say whether the limit of a deployment stops its runs."""
    limit = deployment.concurrency_limit
    if limit is None or holders.total < limit:
        return None
    fate = "; it is CANCELLED when its turn comes" if deployment.collision_strategy == "cancel_new" else ""
    return Obstacle(
        code="deployment_limit",
        text=f"limit of deployment '{deployment.name}' {holders.total}/{limit}{fate}",
        command=f"penstock deployment inspect {quoted(deployment.name)}",
        **_held(holders),
    )


def of_deleted_queue(run: Run) -> Explanation:
    """Explain a run whose queue was deleted this moment."""
    text = "its work queue was deleted; it is about to be CANCELLED"
    command = f"penstock flow-run inspect {run.id}"
    return Explanation(code="queue_deleted", text=text, command=command, **_about(run))


def _nothing_stops(run: Run, position: int) -> Obstacle:
    ahead = f" after {position} that come{'s' if position == 1 else ''} before it" if position else ""
    command = f"penstock flow-run watch {run.id}"
    return Obstacle(code="being_handed_out", text=f"being handed out{ahead}", command=command)


def _held(holders: Holders | None) -> dict[str, Any]:
    if holders is None:
        return {}
    shown = [Holder(id=one.id, name=one.name, state=one.state, worker=one.worker) for one in holders.runs]
    return {"holders": shown[:SHOWN_HOLDERS], "holders_total": holders.total}


def _about(run: Run) -> dict[str, Any]:
    about = run.model_dump(include={"name", "pool", "queue", "state", "state_name"})
    return {"run": run.id, **about}


def quoted(name: str) -> str:
    """Spell a name so that a shell takes it as one word."""
    return "'" + name.replace("'", "'\\''") + "'"
