"""Options that say when: ``--cron``, ``--interval``, ``--rrule`` and what goes with them, shared by all who make schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, get_args
from zoneinfo import available_timezones

import typer
from pydantic import ValidationError

from penstock.cli.parsing import choice
from penstock.client.wording import did_you_mean, why
from penstock.contracts.deployments import (
    MAX_INTERVAL_SECONDS,
    MIN_INTERVAL_SECONDS,
    ScheduleSpec,
    check_timezone,
)
from penstock.contracts.runs import CatchUp
from penstock.projects import timing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from penstock.contracts.deployments import Schedule

DEFAULT_TIMEZONE: Final = "UTC"
DEFAULT_CATCH_UP: Final = "all"
CATCH_UPS: Final = get_args(CatchUp)


def timezone_names(incomplete: str) -> list[str]:
    """Time zones that begin as typed, for the shell's completion."""
    return sorted(name for name in available_timezones() if name.lower().startswith(incomplete.lower()))


CronOption = Annotated[
    list[str] | None,
    typer.Option("--cron", help="When, as cron: '0 6 * * 1-5', or @hourly. Repeatable.", show_default=False),
]
IntervalOption = Annotated[
    list[str] | None,
    typer.Option("--interval", help="How often: seconds, or 90s, 10m, 1d. Repeatable.", show_default=False),
]
RRuleOption = Annotated[
    list[str] | None,
    typer.Option("--rrule", help="When, as RFC 5545: 'FREQ=DAILY;BYHOUR=6'. Repeatable.", show_default=False),
]
TimezoneOption = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        help="IANA name, such as Europe/Berlin; UTC when not given.",
        show_default=False,
        autocompletion=timezone_names,
    ),
]
AnchorOption = Annotated[
    str | None,
    typer.Option("--anchor-date", help="ISO 8601: what an interval or rule is counted from.", show_default=False),
]
_CATCH_UP_HELP: Final = "Missed fire times after an outage: all run, only the latest, or none."
CatchUpOption = Annotated[str, typer.Option("--catch-up", help=_CATCH_UP_HELP, autocompletion=lambda: list(CATCH_UPS))]

# For one schedule, of which what is not given stays.
OneCronOption = Annotated[str | None, typer.Option("--cron", help="When, as cron.", show_default=False)]
OneIntervalOption = Annotated[
    str | None, typer.Option("--interval", help="How often: seconds, or 90s, 10m, 1d.", show_default=False)
]
OneRRuleOption = Annotated[str | None, typer.Option("--rrule", help="When, as RFC 5545.", show_default=False)]
NewCatchUpOption = Annotated[
    str | None,
    typer.Option("--catch-up", help=_CATCH_UP_HELP, show_default=False, autocompletion=lambda: list(CATCH_UPS)),
]


def schedule_specs(
    crons: Sequence[str],
    intervals: Sequence[str],
    rrules: Sequence[str],
    *,
    anchor: str | None = None,
    timezone: str | None = None,
    catch_up: str = DEFAULT_CATCH_UP,
    parameters: Mapping[str, Any] | None = None,
    slug: str | None = None,
    active: bool = True,
) -> list[ScheduleSpec]:
    """Turn what was typed into schedules; pure. What is wrong is a usage error (exit 2) that names the option.

    Args:
        crons: one schedule each, before the others.
        intervals: one schedule each: a duration, or seconds.
        rrules: one schedule each, the last ones.
        anchor: ISO 8601; without a zone it is meant in ``timezone``.
        timezone: of all of them; None means UTC.
        catch_up: in any case.
        parameters: of all of them.
        slug: only for a single one.
        active: False creates them paused.

    Returns:
        None of them for nothing that says when: that is the caller's to refuse or not.
    """
    zone = _timezone(timezone or DEFAULT_TIMEZONE)
    number = len(crons) + len(intervals) + len(rrules)
    if slug and number > 1:
        raise typer.BadParameter(f"--slug {slug!r} can name one schedule only, and there are {number}")
    if anchor is not None and number and not intervals and not rrules:
        raise typer.BadParameter("--anchor-date goes with --interval or --rrule; cron counts from nothing")
    shared: dict[str, Any] = {
        "timezone": zone,
        "catch_up": choice(catch_up, CATCH_UPS, "--catch-up"),
        "parameters": dict(parameters or {}),
        "slug": slug or "",
        "active": active,
    }
    counted = shared | {"anchor": _anchor(anchor, zone)}
    return [
        *(_spec("--cron", text, cron=text.strip(), **shared) for text in crons),
        *(_spec("--interval", text, interval_seconds=_interval(text), **counted) for text in intervals),
        *(_spec("--rrule", text, rrule=text.replace("\\n", "\n").strip(), **counted) for text in rrules),
    ]


def changed_schedule(
    before: Schedule,
    *,
    cron: str | None = None,
    interval: str | None = None,
    rrule: str | None = None,
    anchor: str | None = None,
    timezone: str | None = None,
    catch_up: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    slug: str | None = None,
) -> ScheduleSpec:
    """Turn what was typed into what a schedule becomes; pure. What is not given stays, another kind takes the place of the old.

    Args:
        before: as it is.
        cron: at most one of this and the next two.
        interval: a duration, or seconds.
        rrule: RFC 5545.
        anchor: ISO 8601; an interval or rule that had one keeps it.
        timezone: of all of it.
        catch_up: in any case.
        parameters: added to those it has.
        slug: None keeps it.
    """
    if sum(one is not None for one in (cron, interval, rrule)) > 1:
        raise typer.BadParameter("a schedule has one of --cron, --interval and --rrule")
    if cron is None and interval is None and rrule is None:
        cron, rrule = before.cron, before.rrule
        interval = None if before.interval_seconds is None else repr(before.interval_seconds)
    if anchor is None and cron is None and before.anchor is not None:
        anchor = before.anchor.isoformat()
    (spec,) = schedule_specs(
        [] if cron is None else [cron],
        [] if interval is None else [interval],
        [] if rrule is None else [rrule],
        anchor=anchor,
        timezone=timezone or before.timezone,
        catch_up=catch_up or before.catch_up,
        parameters={**before.parameters, **(parameters or {})},
        slug=before.slug if slug is None else slug,
        active=before.active,
    )
    return spec


def _spec(option: str, text: str, **values: Any) -> ScheduleSpec:
    if not text.strip():
        raise typer.BadParameter(f"{option} is empty")
    try:
        return ScheduleSpec(**values)
    except ValidationError as problem:
        raise typer.BadParameter(f"{option} {text!r}: {why(problem)}") from problem


def seconds(text: str, option: str) -> float:
    """Read how long: seconds, or ``90s``, ``10m``, ``1h30m``.

    Args:
        text: as typed.
        option: names it when it is none.
    """
    try:
        return timing.interval_seconds(text)
    except ValueError as problem:
        raise typer.BadParameter(f"{option} {problem}") from problem


def _interval(text: str) -> float:
    found = seconds(text, "--interval")
    if not MIN_INTERVAL_SECONDS <= found <= MAX_INTERVAL_SECONDS:
        raise typer.BadParameter(f"--interval {text!r} is {found:g} s; it must be from 1 second to 366 days")
    return found


def _timezone(name: str) -> str:
    try:
        return check_timezone(name)
    except ValueError as problem:
        meant = did_you_mean(name, available_timezones())
        raise typer.BadParameter(f"--timezone: {problem}" + (f"; {meant}" if meant else "")) from problem


def _anchor(text: str | None, zone: str) -> datetime | None:
    try:
        return None if text is None else timing.anchor(text, zone)
    except ValueError as problem:
        raise typer.BadParameter(f"--anchor-date {problem}") from problem
