"""``penstock health``: is what runs here ready? Exit code 0 when it is, 1 when not; a container's health check."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Annotated, Any, Final, Literal, NamedTuple, NoReturn

import typer

from penstock.cli.probe import Report, redis_reasons, report_of
from penstock.client import local_state

DEFAULT_PORT: Final = 8090
"""Of :class:`penstock.settings.Settings`, which is not imported here: a container asks every few seconds."""


class Verdict(NamedTuple):
    """What one process answered."""

    name: str
    url: str
    reasons: list[str]
    dead_letters: int | None = None


def health(
    url: Annotated[str | None, typer.Option(help="Ask this one, e.g. http://10.0.0.7:8090.")] = None,
    service: Annotated[str | None, typer.Option(help="Ask only this process of a running `penstock up`.")] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask whether it makes progress, not whether it is ready.")
    ] = False,
    output: Annotated[Literal["table", "json"], typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Ask whether what runs here is ready, and why not.

    Without options: every process of a running `penstock up`, else the service of this container. A given Redis (--redis-url
    or PENSTOCK_REDIS_URL) leaves a `penstock up` aside that uses another one.


    Where the heartbeat monitor is among them, it also tells how many messages could not be handled (`penstock dead ls`).

    Exit code 0: all ready; 1: one is not. Dead messages change nothing about it.

    Example: penstock health --service dispatcher
    """
    verdicts = asyncio.run(_ask(url, service, "livez" if live else "readyz"))
    ok = all(not verdict.reasons for verdict in verdicts)
    if output == "json":
        services = [{"name": v.name, "url": v.url, "ok": not v.reasons, "reasons": v.reasons} for v in verdicts]
        print(json.dumps({"ok": ok, "services": services, "dead_letters": _dead_letters(verdicts)}))
    else:
        _show(verdicts, "live" if live else "ready")
        if dead := _dead_letters(verdicts):
            print(f"{dead} dead message(s); `penstock dead ls` shows them")
    raise typer.Exit(0 if ok else 1)


def run_alone(arguments: list[str]) -> NoReturn:
    """Run as a program of its own, without the other commands.

    Args:
        arguments: what follows ``penstock health``.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(health)
    app(args=arguments, prog_name="penstock health")
    sys.exit(0)


def _dead_letters(verdicts: list[Verdict]) -> int | None:
    counts = [verdict.dead_letters for verdict in verdicts if verdict.dead_letters is not None]
    return max(counts, default=None)


async def _ask(url: str | None, service: str | None, path: str) -> list[Verdict]:
    state = None if url else _local_state()
    if state is None:
        base = (url or f"http://127.0.0.1:{os.environ.get('PENSTOCK_HEALTH_PORT', DEFAULT_PORT)}").rstrip("/")
        asked = base if base.endswith(("/readyz", "/livez")) else f"{base}/{path}"
        return [Verdict(service or "service", asked, *await report_of(asked))]
    services: dict[str, Any] = state.get("services", {})
    if service is not None and service not in services:
        known = ", ".join(sorted(services)) or "nothing"
        return [Verdict(service, "", [f"`penstock up` does not run it; it runs {known}"])]
    chosen = [service] if service else list(services)
    reports = await asyncio.gather(*(_ask_local(state, name, path) for name in chosen))
    return [
        Verdict(name, services[name].get("health_url") or "", *report)
        for name, report in zip(chosen, reports, strict=True)
    ]


def _local_state() -> dict[str, Any] | None:
    """Of the running `penstock up`; None where it uses another Redis than the one that was given."""
    given = os.environ.get(local_state.REDIS_URL_VARIABLE)
    state = local_state.read_state()
    return None if state is None or (given and state.get("redis_url") != given) else state


async def _ask_local(state: dict[str, Any], name: str, path: str) -> Report:
    about = state["services"][name]
    if about.get("health_url"):
        return await report_of(f"{about['health_url']}/{path}")
    return Report(await redis_reasons(int(about["port"])))


def _show(verdicts: list[Verdict], word: str) -> None:
    if len(verdicts) == 1:
        (verdict,) = verdicts
        print(
            f"{verdict.name}: {word}"
            if not verdict.reasons
            else f"{verdict.name}: not {word}: {'; '.join(verdict.reasons)}"
        )
        return
    from rich.console import Console  # noqa: PLC0415 - a container's check never gets here
    from rich.table import Table  # noqa: PLC0415 - the same

    table = Table("Process", word.capitalize(), "Why not", "URL")
    for verdict in verdicts:
        table.add_row(verdict.name, "no" if verdict.reasons else "yes", "; ".join(verdict.reasons), verdict.url)
    Console().print(table)
