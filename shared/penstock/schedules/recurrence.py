"""Recurrence rules (RFC 5545), walked by python-dateutil.

What dateutil would search for until the year 9999 is kept short: rules whose search is long by nature are refused by name, and
dates are moved 7600 years ahead, where the end of its calendar is near. The calendar repeats every 400 years to the weekday, so
nothing else changes.
"""

from __future__ import annotations

import contextlib
import math
import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, cast
from zoneinfo import ZoneInfo, available_timezones

from dateutil.rrule import rrule, rruleset, rrulestr

from penstock.errors import Invalid
from penstock.schedules.wall_clock import Change, moments, start

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RULES: Final = 5
MAX_COUNT: Final = 10_000
"""A rule with COUNT is counted from its start, each time."""
MAX_TIMES_A_DAY: Final = 1440
_AHEAD: Final = timedelta(days=19 * 146_097)
_FIXED: Final = {
    "WEEKLY": timedelta(weeks=1),
    "DAILY": timedelta(days=1),
    "HOURLY": timedelta(hours=1),
    "MINUTELY": timedelta(minutes=1),
    "SECONDLY": timedelta(seconds=1),
}
_FREQUENCIES: Final = ("YEARLY", "MONTHLY", *_FIXED)
_OFTEN: Final = ("HOURLY", "MINUTELY", "SECONDLY")
_MONTHS: Final = {"YEARLY": 12, "MONTHLY": 1}
_TIMES: Final = ("BYHOUR", "BYMINUTE", "BYSECOND")
_DATE: Final = re.compile(r"(\d{8})(?:T(\d{4}(?:\d{2})?)(Z?))?")
_HINT: Final = "RFC 5545, as in 'FREQ=WEEKLY;BYDAY=MO,TH;BYHOUR=6;BYMINUTE=0;BYSECOND=0'"
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
EARLIEST_YEAR: Final = 1900
LATEST_YEAR: Final = 2200
"""Of the dates in rules."""


class _Text(NamedTuple):
    """A rule taken apart; times are wall-clock times of the schedule's zone."""

    begin: datetime | None
    rules: list[dict[str, str]]
    dates: list[datetime]
    exceptions: list[datetime]


def fire_times(text: str, anchor: datetime, timezone: str, after: datetime) -> Iterator[datetime]:
    """Enumerate when a rule fires.

    Args:
        text: one or several ``RRULE``, with or without ``DTSTART``, ``RDATE`` and ``EXDATE`` lines. Times without a zone are
            wall-clock times of the schedule's.
        anchor: in UTC; stands in for a DTSTART.
        timezone: IANA name.
        after: in UTC.

    Yields:
        Moments in UTC, ascending; the first few may not be after ``after``.

    Raises:
        Invalid: the rule is wrong or costs too much.
    """
    zone = ZoneInfo(timezone)
    parts = _parse(text, zone)
    begin = parts.begin or anchor.astimezone(zone).replace(tzinfo=None, fold=0, microsecond=0)
    if not all(EARLIEST_YEAR <= date.year <= LATEST_YEAR for date in (begin, *parts.dates, *parts.exceptions)):
        raise Invalid(f"rrule {text!r}: dates are between {EARLIEST_YEAR} and {LATEST_YEAR}", _HINT)
    often = any(rule["FREQ"] in _OFTEN for rule in parts.rules)
    walls = _walls(text, parts, begin, start(after, zone))
    yield from moments(walls, zone, Change.BOTH_TIMES if often else Change.AS_MUCH_LATER)


def _walls(text: str, parts: _Text, begin: datetime, wall: datetime) -> Iterator[datetime]:
    found = rruleset()
    try:
        for rule in parts.rules:
            first = begin if "COUNT" in rule else _nearer(rule, begin, wall)
            spelt = ";".join(f"{name}={value}" for name, value in rule.items())
            found.rrule(cast("rrule", rrulestr(f"DTSTART:{_spell(first)}\nRRULE:{spelt}")))
        for date in parts.dates:
            found.rdate(date + _AHEAD)
        for date in parts.exceptions:
            found.exdate(date + _AHEAD)
        for each in found.xafter(wall + _AHEAD, inc=True):
            yield each - _AHEAD
    except OverflowError:
        return
    except Exception as problem:
        # dateutil answers nonsense with whatever it stumbles over.
        raise Invalid(f"rrule {text!r} is wrong: {problem}", _HINT) from problem


def _spell(wall: datetime) -> str:
    return f"{wall + _AHEAD:%Y%m%dT%H%M%S}"


def _nearer(rule: dict[str, str], begin: datetime, wall: datetime) -> datetime:
    """Move the beginning of a rule closer to what is asked for, by whole periods, so that nothing else changes."""
    interval = int(rule.get("INTERVAL", "1"))
    if rule["FREQ"] in _FIXED:
        period = interval * _FIXED[rule["FREQ"]]
        # Two periods before: dateutil's first week begins in the middle.
        return begin + max(0, (wall - begin) // period - 2) * period
    months = interval * _MONTHS[rule["FREQ"]]
    passed = (wall.year - begin.year) * 12 + wall.month - begin.month
    return _months_later(begin, max(0, passed // months - 1) * months, months)


def _months_later(begin: datetime, months: int, period: int) -> datetime:
    """Go so many months ahead, or as many periods fewer as it takes to meet a month that has the day."""
    while months > 0:
        year, month = divmod(begin.year * 12 + begin.month - 1 + months, 12)
        if begin.day <= monthrange(year, month + 1)[1]:
            return begin.replace(year=year, month=month + 1)
        months -= period
    return begin


def _parse(text: str, zone: ZoneInfo) -> _Text:
    begin: list[datetime] = []
    rules: list[dict[str, str]] = []
    dates: dict[str, list[datetime]] = {"RDATE": [], "EXDATE": []}
    for line in filter(None, map(str.strip, re.sub(r"\r?\n[ \t]", "", text).upper().splitlines())):
        head, colon, value = line.partition(":")
        name, *options = (head if colon else "RRULE").split(";")
        value = value if colon else line
        if name == "RRULE":
            rules.append(_rule(text, value, zone))
        elif name == "DTSTART" and not begin:
            begin += _dates(text, value, options, zone)
        elif name in dates:
            dates[name] += _dates(text, value, options, zone)
        else:
            raise Invalid(f"rrule {text!r}: {name[:50]!r} is not expected here", _HINT)
    if not rules or len(rules) > MAX_RULES:
        raise Invalid(f"rrule {text!r} has {len(rules)} rules; one to {MAX_RULES} are possible", _HINT)
    return _Text(begin[0] if begin else None, rules, dates["RDATE"], dates["EXDATE"])


def _rule(text: str, value: str, zone: ZoneInfo) -> dict[str, str]:
    """Take one rule apart and refuse what is wrong or absurd."""
    pairs = [pair.partition("=") for pair in value.split(";") if pair]
    rule = {name.strip(): setting.strip() for name, _, setting in pairs}
    reason = next(_objections(rule), None)
    if reason:
        raise Invalid(f"rrule {text!r}: {reason}", _HINT)
    until = rule.pop("UNTIL", "")
    if until and not until.startswith("9"):  # the year 9999 means that there is no end
        rule["UNTIL"] = _spell(_dates(text, until, (), zone)[0])
    return rule


def _objections(rule: dict[str, str]) -> Iterator[str]:
    frequency = rule.get("FREQ", "")
    if frequency not in _FREQUENCIES:
        yield f"FREQ is one of {', '.join(_FREQUENCIES)}"
    for name, most in (("INTERVAL", 10**9), ("COUNT", MAX_COUNT)):
        if name in rule and not (_NUMBER.fullmatch(rule[name]) and 1 <= int(rule[name]) <= most):
            yield f"{name} is a whole number from 1 to {most}"
    if "BYEASTER" in rule:
        yield "BYEASTER is not part of RFC 5545"
    if "BYSETPOS" in rule and frequency in _OFTEN:
        yield f"BYSETPOS does not go with FREQ={frequency}"
    if frequency in _OFTEN[1:] and any(name in rule for name in _TIMES):
        yield f"BYHOUR, BYMINUTE and BYSECOND do not go with FREQ={frequency}; use a slower one, or a cron"
    times = math.prod(len(set(rule.get(name, "0").split(","))) for name in _TIMES)
    if frequency == "HOURLY" and "BYHOUR" not in rule:
        times *= 24
    if times > MAX_TIMES_A_DAY:
        yield f"{times} times a day; at most {MAX_TIMES_A_DAY} are possible"


def _dates(text: str, value: str, options: list[str] | tuple[str, ...], zone: ZoneInfo) -> list[datetime]:
    """Read dates as wall-clock times of the schedule's zone, wherever they come from."""
    source = zone
    for option in options:
        name, _, setting = option.partition("=")
        if name == "TZID":
            source = _named(text, setting)
    found = []
    for one in value.split(","):
        match = _DATE.fullmatch(one.strip())
        wall = None
        with contextlib.suppress(ValueError):
            wall = match and datetime.strptime(f"{match[1]}{(match[2] or '0000').ljust(6, '0')}", "%Y%m%d%H%M%S")  # noqa: DTZ007 - wall clock
        if not match or not wall:
            raise Invalid(f"rrule {text!r}: {one[:50]!r} is no date like 20270131T060000", _HINT)
        aware = wall.replace(tzinfo=UTC if match[3] else source)
        found.append(aware.astimezone(zone).replace(tzinfo=None, fold=0))
    return found


@cache
def _zones() -> dict[str, str]:
    """Time zones by their names in capital letters, as rules are read."""
    return {name.upper(): name for name in available_timezones()}


def _named(text: str, name: str) -> ZoneInfo:
    if name not in _zones():
        raise Invalid(f"rrule {text!r}: unknown time zone {name!r}", _HINT)
    return ZoneInfo(_zones()[name])
