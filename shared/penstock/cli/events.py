"""``penstock events``: every transition, as it happens."""

from __future__ import annotations

import re
import unicodedata
from contextlib import aclosing
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Final

import typer

from penstock.cli.errors import say
from penstock.cli.options import AnyPoolOption, OutputOption, examples
from penstock.cli.output import Output, print_json_line, visible
from penstock.cli.session import ask
from penstock.client.wording import did_you_mean
from penstock.contracts.event_catalogue import EVENTS
from penstock.durations import parse_duration
from penstock.errors import NotFound

if TYPE_CHECKING:
    from datetime import timedelta

    from penstock.client import Penstock
    from penstock.contracts.events import Event

app = typer.Typer(
    help="Watch events.",
    no_args_is_help=True,
    epilog=examples(
        "penstock events tail",
        "penstock events tail --since 10m --no-follow",
    ),
)

_CURSOR: Final = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")
_NAME_WIDTH: Final = 30
_POOL: Final = "prefect.work-pool."


@app.callback()
def group() -> None:
    """Watch events."""


@app.command(
    epilog=examples(
        "penstock events tail",
        "penstock events tail --since 10m --no-follow",
        'penstock events tail --filter "prefect.work-pool.*" --filter "penstock.worker.*"',
        "penstock events tail --pool etl",
        "penstock events tail --since 0 --limit 100 --output json",
    )
)
def tail(
    since: Annotated[
        str | None,
        typer.Option("--since", help="10m ago, a cursor, or 0 for everything; now when not given.", show_default=False),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--filter", help="Only names that match this glob. Repeatable.", show_default=False),
    ] = None,
    pool: AnyPoolOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-l", min=1, help="Stop after so many.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", "-f", help="Wait for more at the end.")] = True,
    output: OutputOption = Output.TABLE,
) -> None:
    """Print events as they happen.

    With --output json each line is one event with its cursor; --since CURSOR reads on after it.
    """
    start = parse_since(since)
    for one in name or ():
        if warning := unknown_names(one):
            say(f"Warning: {warning}")

    async def action(penstock: Penstock) -> None:
        left = limit
        if pool is not None and (warning := await _unknown_pool(penstock, pool)):
            say(f"Warning: {warning}")
        async with aclosing(penstock.events(since=start, follow=follow, names=name or ())) as events:
            async for cursor, event in events:
                if pool is not None and not is_of(event, pool):
                    continue
                if output is Output.JSON:
                    print_json_line({"cursor": cursor, **event.model_dump(mode="json")})
                else:
                    print(describe(event), flush=True)
                left = left - 1 if left else None
                if left == 0:
                    return

    ask(action)


def unknown_names(pattern: str) -> str:
    """Say that a glob matches no event there is; '' when it does."""
    if any(fnmatchcase(known, pattern) for known in EVENTS):
        return ""
    hint = did_you_mean(pattern, EVENTS)
    return f"no event has a name that matches {pattern!r}" + (f"; {hint}" if hint else "")


def is_of(event: Event, pool: str) -> bool:
    """Say whether an event is about a work pool, or about something in it."""
    resources = [event.resource, *event.related]
    name = unicodedata.normalize("NFC", pool)
    return any(
        one.get("prefect.resource.id", "").startswith(_POOL) and one.get("prefect.resource.name") == name
        for one in resources
    )


async def _unknown_pool(penstock: Penstock, pool: str) -> str:
    """A pool that is gone still has events, so that a name nobody knows is no error."""
    try:
        await penstock.read_pool(pool)
    except NotFound as problem:
        return f"{problem}; {problem.hint}"
    return ""


def parse_since(text: str | None) -> str | timedelta | None:
    """Read ``--since``: a duration, a cursor, ``0``, or nothing."""
    if text is None:
        return None
    if duration := parse_duration(text):
        return duration
    if _CURSOR.fullmatch(text):
        return text
    raise typer.BadParameter(f"--since {text!r}: give a duration (10m, 1h30m), a cursor (1700000000000-0), or 0")


def describe(event: Event) -> str:
    """Say an event in one line: when, what, of what, and what changed."""
    try:
        at = datetime.fromisoformat(event.occurred).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except (ValueError, OverflowError):
        # No moment, or one that has no time in this zone, at either end of the calendar.
        at = event.occurred
    resource = event.resource
    what = resource.get("prefect.resource.name") or resource.get("prefect.resource.id", "")
    pool = next(
        (
            related.get("prefect.resource.name", "")
            for related in event.related
            if related.get("prefect.resource.role") == "work-pool"
        ),
        "",
    )
    details = [f"in '{pool}'"] if pool else []
    updates = event.payload.get("updates")
    # Anybody may write to the stream; what is no event of ours must not end who reads it.
    for field, change in updates.items() if isinstance(updates, dict) else ():
        details.append(f"{field}: {change.get('from')} -> {change.get('to')}" if isinstance(change, dict) else field)
    if message := resource.get("prefect.state-message"):
        details.append(message)
    elif reason := event.payload.get("reason"):
        details.append(str(reason))
    return visible(f"{at}  {event.event:<{_NAME_WIDTH}}  {what}  {'  '.join(details)}".rstrip())
