"""``penstock flow-run cancel``, ``retry`` and ``delete``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from penstock.cli.errors import REFUSED, say
from penstock.cli.following import show_run
from penstock.cli.options import AnyPoolOption, OutputOption, YesOption  # noqa: TC001 - typer reads them
from penstock.cli.output import Output, print_json
from penstock.cli.run_options import DeploymentOption, NameOption, QueueOption, RunId, StatesOption, states_of
from penstock.cli.session import ask
from penstock.contracts.results import Cancellation
from penstock.contracts.runs import IN_FLIGHT, TERMINAL

if TYPE_CHECKING:
    from penstock.client import Penstock
    from penstock.contracts.results import Deletion

PAGE: Final = 5000
"""Runs of a bulk that are read at once, to learn their ids."""
ROUNDS: Final = 10
"""Looks at what there is to cancel at most: somebody may submit as fast as this cancels."""
SHOWN_IDS: Final = 20

RunIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of runs.", show_default=False)]


def cancel(
    run_ids: RunIds = None,
    *,
    pool: AnyPoolOption = None,
    queue: QueueOption = None,
    deployment: DeploymentOption = None,
    state: StatesOption = None,
    name: NameOption = None,
    every: Annotated[bool, typer.Option("--all", help="All runs that have not ended.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="CANCELLED at once, whatever the process of the run does.")
    ] = False,
    message: Annotated[str, typer.Option("--message", "-m", help="Why, for people.", show_default=False)] = "",
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Cancel flow runs: what waits at once, what runs by ending its process (SIGTERM, then SIGKILL).

    Give ids, or say which of the runs that have not ended (all conditions count), or --all.
    """
    conditions: dict[str, Any] = {"pool": pool, "queue": queue, "deployment": deployment, "name": name}
    if bool(run_ids) == (every or bool(state) or any(conditions.values())):
        raise typer.BadParameter(
            "give either ids or conditions (--pool, --queue, --deployment, --state, --name), or --all"
        )
    conditions["states"] = _cancellable(state, force=force)

    async def action(penstock: Penstock) -> Cancellation | None:
        if run_ids:
            return await penstock.cancel_runs(run_ids, force=force, message=message)
        return await _cancel_all(penstock, conditions, force=force, message=message, yes=yes)

    done = ask(action)
    if output is Output.JSON:
        print_json(done or {"cancelled": [], "cancelling": [], "ended": [], "unknown": []})
    elif done is None:
        print("No flow run that has not ended matches")
    else:
        print(_told(done))
    if done and run_ids and (done.unknown or not (done.cancelled or done.cancelling or _are_cancelled(done))):
        raise typer.Exit(REFUSED)


def retry(
    run_id: RunId,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end; exit 1 unless it completed.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Submit a flow run that has ended again, as a new one with the same specification."""

    async def action(penstock: Penstock) -> bool:
        again = await penstock.retry_run(run_id)
        if output is Output.JSON:
            print_json({"run": again, "retry_of": run_id})
        else:
            print(f"Submitted flow run {again}, a retry of {run_id}", flush=True)
            if not watch:
                print(f"\nWatch it:\n    penstock flow-run watch {again}")
        return not watch or (await show_run(penstock, again, output)).state == "COMPLETED"

    if not ask(action):
        raise typer.Exit(REFUSED)


def delete(
    run_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of runs.", show_default=False)],
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Forget flow runs that have ended, and their output."""
    _confirm(f"Delete {_count(len(run_ids))} and what they printed?", yes=yes)
    done: Deletion = ask(lambda penstock: penstock.delete_runs(run_ids))
    if output is Output.JSON:
        print_json(done)
    else:
        print(f"Deleted {_count(len(done.deleted))}")
        if done.unfinished:
            say(f"Error: {_count(len(done.unfinished))} not deleted, for they have not ended: {_ids(done.unfinished)}")
            say("Hint: `penstock flow-run cancel ID` ends one; delete it then")
        if done.unknown:
            say(f"Error: there is no run {_ids(done.unknown)}")
    if done.unfinished or done.unknown:
        raise typer.Exit(REFUSED)


def _cancellable(state: list[str] | None, *, force: bool) -> frozenset[str]:
    states = states_of(state)
    if states & TERMINAL:
        raise typer.BadParameter("--state: a run that has ended cannot be cancelled")
    # Who was told to end a run needs not be told again, but can be overruled.
    return states or frozenset({"SCHEDULED"}) | (IN_FLIGHT if force else IN_FLIGHT - {"CANCELLING"})


async def _cancel_all(
    penstock: Penstock, conditions: dict[str, Any], *, force: bool, message: str, yes: bool
) -> Cancellation | None:
    done: Cancellation | None = None
    told: set[str] = set()
    for _ in range(ROUNDS):
        # A run that is handed out while the list is read may be missing in it, so there is a second look.
        ids = [run_id for run_id in await _matching(penstock, conditions) if run_id not in told]
        if not ids:
            break
        ids = list(dict.fromkeys(ids))
        if not told:
            _confirm(f"Cancel {_count(len(ids))}?", yes=yes)
        told.update(ids)
        done = _together(done, await penstock.cancel_runs(ids, force=force, message=message))
    return done


async def _matching(penstock: Penstock, conditions: dict[str, Any]) -> list[str]:
    ids: list[str] = []
    while page := await penstock.read_runs(**conditions, limit=PAGE, offset=len(ids)):
        ids += [run.id for run in page]
    return ids


def _together(before: Cancellation | None, now: Cancellation) -> Cancellation:
    if before is None:
        return now
    return Cancellation(
        cancelled=[*before.cancelled, *now.cancelled],
        cancelling=[*before.cancelling, *now.cancelling],
        ended=[*before.ended, *now.ended],
        unknown=[*before.unknown, *now.unknown],
    )


def _are_cancelled(done: Cancellation) -> bool:
    """Say whether what was asked for is so already."""
    return bool(done.ended) and all(one.state == "CANCELLED" for one in done.ended)


def _told(done: Cancellation) -> str:
    states = [one.state for one in done.ended]
    ended = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    if done.ended and not (done.cancelled or done.cancelling or done.unknown) and _are_cancelled(done):
        return f"{_count(len(states))} {'was' if len(states) == 1 else 'were'} CANCELLED already"
    parts = [f"{len(done.cancelled)} cancelled"]
    if done.cancelling:
        parts.append(f"{len(done.cancelling)} cancelling (their workers end them)")
    if done.ended:
        parts.append(f"{len(done.ended)} had ended ({ended})")
    if done.unknown:
        parts.append(f"{len(done.unknown)} unknown ({_ids(done.unknown)})")
    return ", ".join(parts)


def _confirm(question: str, *, yes: bool) -> None:
    if not yes and sys.stdin.isatty():
        typer.confirm(question, abort=True)


def _count(number: int) -> str:
    return f"{number} flow run" if number == 1 else f"{number} flow runs"


def _ids(ids: list[str]) -> str:
    more = f", and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    return ", ".join(ids[:SHOWN_IDS]) + more
