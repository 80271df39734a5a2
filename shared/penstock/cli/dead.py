"""``penstock dead``: messages that could not be handled, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import orjson
import typer

from penstock.cli import times
from penstock.cli.options import OutputOption, examples
from penstock.cli.output import Output, print_json, print_record, print_table
from penstock.cli.session import ask

if TYPE_CHECKING:
    from datetime import datetime

    from penstock.client import Penstock
    from penstock.client.dead_letters import DeadEntry

app = typer.Typer(
    help="Look at messages that could not be handled.",
    no_args_is_help=True,
    epilog=examples(
        "penstock dead ls",
        "penstock dead show 0/1700000000000-0",
        "penstock dead retry 0/1700000000000-0",
    ),
)

SHOWN: Final = 60
"""Characters of a message that the table shows; JSON output has all that was kept."""
MAX_LISTED: Final = 10_000
Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="As `dead ls` shows them.", show_default=False)
]


@app.command("ls", epilog=examples("penstock dead ls", "penstock dead ls --limit 10 --output json"))
def list_dead(
    limit: Annotated[int, typer.Option("--limit", "-l", min=1, max=MAX_LISTED, help="How many at most.")] = 50,
    output: OutputOption = Output.TABLE,
) -> None:
    """List dead messages, the latest first."""

    async def action(penstock: Penstock) -> tuple[list[DeadEntry], datetime]:
        return await penstock.dead.read(limit), times.of_ms(await penstock.now_ms())

    entries, now = ask(action)
    if output is Output.JSON:
        print_json(entries)
        return
    print_table(
        "Dead Messages",
        ["ID", "Stream", "Reason", "Deliveries", "When", "Message"],
        [
            [
                entry.id,
                entry.stream.rpartition("}:")[2],
                entry.reason,
                entry.deliveries,
                times.ago_iso(entry.died, now),
                glimpse(entry.content),
            ]
            for entry in entries
        ],
    )


@app.command(epilog=examples("penstock dead show 0/1700000000000-0", "penstock dead show 0/1700000000000-0 -o json"))
def show(
    ident: Annotated[str, typer.Argument(metavar="ID", help="As `dead ls` shows it.", show_default=False)],
    output: OutputOption = Output.TABLE,
) -> None:
    """Show everything that is kept of a dead message."""

    async def action(penstock: Penstock) -> tuple[DeadEntry, datetime]:
        (entry,) = await penstock.dead.find([ident])
        return entry, times.of_ms(await penstock.now_ms())

    entry, now = ask(action)
    if output is Output.JSON:
        print_json(entry)
        return
    print_record("DeadMessage", entry.model_dump(mode="json") | {"died": times.ago_iso(entry.died, now)})


@app.command(epilog=examples("penstock dead retry 0/1700000000000-0", "penstock dead retry --all"))
def retry(
    ids: Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were kept whole.")] = False,
) -> None:
    """Send dead messages to the stream they came from again."""
    _one_of(ids, everything=everything)

    async def action(penstock: Penstock) -> int:
        chosen = ids or [entry.id for entry in await penstock.dead.read(MAX_LISTED) if entry.whole]
        return len(await penstock.dead.retry(chosen))

    print(f"Sent {ask(action)} dead message(s) again")


@app.command(epilog=examples("penstock dead drop 0/1700000000000-0", "penstock dead drop --all"))
def drop(
    ids: Ids = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
) -> None:
    """Forget dead messages."""
    _one_of(ids, everything=everything)

    async def action(penstock: Penstock) -> int:
        chosen = ids or [entry.id for entry in await penstock.dead.read(MAX_LISTED)]
        await penstock.dead.drop(chosen)
        return len(chosen)

    print(f"Dropped {ask(action)} dead message(s)")


def _one_of(ids: list[str] | None, *, everything: bool) -> None:
    if bool(ids) == everything:
        raise typer.BadParameter("give either ids (`penstock dead ls` shows them) or --all")


def glimpse(content: dict[str, Any]) -> str:
    """The beginning of a dead message."""
    if "element" in content:
        text = orjson.dumps(content["element"]).decode()
    else:
        kept = content.get("fields") or {}
        body: dict[str, str] = kept.get("__data__") or next(iter(kept.values()), {})
        text = body.get("text") or body.get("base64") or ""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
