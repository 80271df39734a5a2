"""The formats that are checked; any other is a remark for people, as JSON Schema has it."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import re
import uuid
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_DATE: Final = r"\d{4}-\d\d-\d\d"
_TIME: Final = r"\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)"
_DATE_SHAPE: Final = re.compile(_DATE, re.ASCII)
_TIME_SHAPE: Final = re.compile(_TIME, re.ASCII)
_MOMENT_SHAPE: Final = re.compile(_DATE + "[Tt ]" + _TIME, re.ASCII)
_UUID_SHAPE: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EMAIL_SHAPE: Final = re.compile(r"[^\s@]++@[^\s@]++")
_URI_SHAPE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*+:[^\s<>\"{}|\\^`]*+")
_HOST_SHAPE: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


def _parses(read: Callable[[str], object], text: str) -> bool:
    with contextlib.suppress(ValueError):
        read(text)
        return True
    return False


def _date(text: str) -> bool:
    return bool(_DATE_SHAPE.fullmatch(text)) and _parses(dt.date.fromisoformat, text)


def _time(text: str) -> bool:
    return bool(_TIME_SHAPE.fullmatch(text)) and _parses(dt.time.fromisoformat, text.upper())


def _moment(text: str) -> bool:
    return bool(_MOMENT_SHAPE.fullmatch(text)) and _parses(dt.datetime.fromisoformat, text.upper())


def _path(text: str) -> bool:
    return bool(text) and "\0" not in text


FORMATS: Final[dict[str, Callable[[str], bool]]] = {
    "date": _date,
    "date-time": _moment,
    "email": lambda text: bool(_EMAIL_SHAPE.fullmatch(text)),
    "hostname": lambda text: bool(_HOST_SHAPE.fullmatch(text)),
    "ipv4": lambda text: _parses(ipaddress.IPv4Address, text),
    "ipv6": lambda text: _parses(ipaddress.IPv6Address, text),
    "path": _path,
    "time": _time,
    "uri": lambda text: bool(_URI_SHAPE.fullmatch(text)),
    "uuid": lambda text: bool(_UUID_SHAPE.fullmatch(text)) and _parses(uuid.UUID, text),
}
"""Format -> whether a text has it. Dates and times as RFC 3339 spells them; a path is any text a file can be called by."""
