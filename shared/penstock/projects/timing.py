"""Schedules as they are written in project files and options, made into what is scheduled."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from penstock.client.admin import checked
from penstock.client.wording import did_you_mean
from penstock.contracts.deployments import ScheduleSpec, check_timezone
from penstock.durations import parse_duration
from penstock.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.projects.sections import Findings, Section

KINDS: Final = ("cron", "interval", "rrule")
KNOWN: Final = (*KINDS, "anchor_date", "timezone", "active", "parameters", "slug", "catch_up")
UNSUPPORTED: Final = ("day_or", "max_scheduled_runs", "max_active_runs", "replaces", "catchup")
_SECONDS: Final = re.compile(r"\d+(\.\d+)?")
_CLOCK: Final = re.compile(r"(?:(\d+):)?(\d+):(\d+)")


def interval_seconds(value: float | str) -> float:
    """Read an interval: a number is seconds, a text is ``90``, ``90s``, ``10m``, ``1h30m``, ``1d`` or ``01:30:00``.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    text = str(value).strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in clock.groups())
        return hours * 3600.0 + minutes * 60.0 + seconds
    duration = parse_duration(text)
    if duration is None:
        raise ValueError(f"{text!r} is no interval: give seconds, or 90s, 10m, 1h, 1d")
    return duration.total_seconds()


def anchor(text: str, timezone: str) -> datetime:
    """Read the moment a schedule is counted from: ISO 8601; without an offset it is the wall clock of the time zone.

    Raises:
        ValueError: it is none, or there is no such time zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as problem:
        raise ValueError(f"{text!r} is no date: give ISO 8601, such as 2030-01-31T08:00") from problem
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(check_timezone(timezone)))


def ensure(spec: ScheduleSpec, now: datetime) -> None:
    """Refuse a schedule that is wrong or never fires.

    Raises:
        Invalid: says why.
    """
    from penstock.schedules import check  # noqa: PLC0415 - a deployment without schedules needs none of its libraries

    check(spec, now)


def schedules_of(section: Section, now: datetime, findings: Findings) -> list[ScheduleSpec] | None:
    """Read the schedules of a deployment in a project file: a list at ``schedules``, or one at ``schedule``.

    Args:
        section: the deployment.
        now: what "never fires" is judged by.
        findings: gets each key that means nothing.

    Returns:
        None when neither key says anything: an existing deployment keeps its schedules.

    Raises:
        Invalid: names file and line.
    """
    several = section.sections("schedules")
    single = section.values.get("schedule")
    if single in (None, {}):
        found = several
    elif several is not None:
        raise section.wrong("give 'schedules' or 'schedule', not both", "schedule")
    else:
        found = [section.section("schedule")]
    if found is None:
        return None
    return [_schedule(one, now, findings) for one in found]


def _schedule(section: Section, now: datetime, findings: Findings) -> ScheduleSpec:
    unsupported = [key for key in UNSUPPORTED if not (key == "day_or" and section.values.get(key) is True)]
    section.review(findings, [*KNOWN, *(key for key in UNSUPPORTED if key not in unsupported)], unsupported)
    given = [key for key in KINDS if section.values.get(key) is not None]
    if len(given) != 1:
        told = " and ".join(given) or ", ".join(["none of them", *_mistyped(section)])
        raise section.wrong(f"a schedule has exactly one of cron, interval and rrule; this one has {told}")
    try:
        spec = checked(lambda: ScheduleSpec(**dict(_fields(section))))
        ensure(spec, now)
    except ValueError as problem:
        raise section.wrong(str(problem), given[0]) from problem
    except Invalid as problem:
        if problem.message.startswith(f"{section.document.name}:"):
            raise
        raise section.wrong(problem.message, given[0], problem.hint) from problem
    return spec


def _mistyped(section: Section) -> Iterator[str]:
    """Name the keys that are none, with what was meant."""
    for key in section.values:
        if key not in (*KNOWN, *UNSUPPORTED):
            meant = did_you_mean(key, KINDS)
            yield f"but '{key}'" + (f" ({meant})" if meant else "")


def _fields(section: Section) -> Iterator[tuple[str, Any]]:
    timezone = section.text("timezone") or "UTC"
    interval, start, active = section.values.get("interval"), section.text("anchor_date"), section.boolean("active")
    yield "timezone", timezone
    yield "cron", section.text("cron")
    yield "rrule", section.text("rrule")
    if interval is not None:
        yield "interval_seconds", interval_seconds(interval)
    if start is not None:
        if section.values.get("cron") is not None:
            raise section.wrong("'anchor_date' is for interval and rrule, a cron has none", "anchor_date")
        yield "anchor", anchor(start, timezone)
    if active is not None:
        yield "active", active
    yield "parameters", section.mapping("parameters") or {}
    yield "slug", section.text("slug") or ""
    if (catch_up := section.text("catch_up")) is not None:
        yield "catch_up", catch_up.lower()
