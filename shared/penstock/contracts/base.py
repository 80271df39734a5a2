"""What every message shares: a ``type``, names, limits, times."""

from __future__ import annotations

import math
import re
import sys
import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)

from penstock.keys import partition_of_run

FORBIDDEN_IN_NAMES: Final = "/%&><"
"""Prefect's rule for pool and queue names; a slash also separates a pool from a worker in keys."""
MAX_NAME_LENGTH: Final = 200
RESERVED_PREFIX: Final = "prefect"
MAX_LIMIT: Final = 2**31 - 1
MAX_INTEGER: Final = 2**53
"""Lua's numbers and JSON's are exact up to here."""
MAX_NUMBER: Final = int(sys.float_info.max)
MAX_DEPTH: Final = 100
"""How deep values may be nested: half of what readers of messages can take, for they travel inside other ones."""
_SHOWN_LEVELS: Final = 5
_EARLIEST: Final = datetime(1, 1, 3, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 29, tzinfo=UTC)
COMMAND_ID: Final = re.compile(r"[!#-\[\]-~]{1,64}")
"""Printable ASCII without quotes and backslash: ids stand in keys and in JSON that scripts put together."""
_PLAIN = re.compile(r"[!#-$'-.0-;=?-~](?:[ !#-$'-.0-;=?-~]{0,198}[!#-$'-.0-;=?-~])?")
"""Printable ASCII without what is forbidden: nothing to normalise, nothing to refuse. Most names are of this kind."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def check_name(name: str) -> str:
    """Normalise (NFC) and check the name of a pool, queue or worker.

    Raises:
        ValueError: blank, too long, or with a character that is not allowed.
    """
    if _PLAIN.fullmatch(name):
        return name
    name = unicodedata.normalize("NFC", name)
    if not name.strip():
        raise ValueError("a name must not be blank")
    if len(name) > MAX_NAME_LENGTH:
        raise ValueError(f"a name has at most {MAX_NAME_LENGTH} characters, this one {len(name)}")
    found = sorted(set(name) & set(FORBIDDEN_IN_NAMES))
    if found:
        raise ValueError(
            f"the name {name!r} contains {' '.join(found)}; none of {' '.join(FORBIDDEN_IN_NAMES)} is allowed"
        )
    if _CONTROL.search(name):
        raise ValueError(f"the name {name!r} contains a character that is no text")
    return name


def check_id(ident: str) -> str:
    """Check an id that stands in a key: not its shape, which is its maker's, but that it can.

    Raises:
        ValueError: it is empty, or longer than a name may be.
    """
    if not 1 <= len(ident) <= MAX_NAME_LENGTH:
        raise ValueError(f"an id has 1 to {MAX_NAME_LENGTH} characters, this one {len(ident)}")
    return ident


def check_run_id(run_id: str) -> str:
    """Check that this is a run id of ours.

    Raises:
        ValueError: it is none.
    """
    partition_of_run(run_id)
    return run_id


def check_moment(moment: datetime) -> datetime:
    """Refuse a moment that has no date in UTC, or none on the clock of somebody in another zone who reads it.

    Raises:
        ValueError: it is in the first or the last days of the calendar.
    """
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError(f"a moment is between {_EARLIEST.date()} and {_LATEST.date()}")
    return moment


def check_due(due_ms: int) -> int:
    """Check milliseconds since 1970 as :func:`check_moment` checks a moment."""
    if not _EARLIEST.timestamp() * 1000 <= due_ms <= _LATEST.timestamp() * 1000:
        raise ValueError(f"a moment is between {_EARLIEST.date()} and {_LATEST.date()}")
    return due_ms


def is_reserved(name: str) -> bool:
    """Say whether a name belongs to the system (starts with ``prefect``, any case)."""
    return name.lower().startswith(RESERVED_PREFIX)


def check_values(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse what would not arrive as it was written.

    Raises:
        ValueError: a number JSON cannot spell, which would become null; one no double holds, which most readers of JSON refuse
            or make infinite; or nested so deep that the message which carries it on could not be read.
    """
    if fault := _fault(values, 1):
        raise ValueError(fault.removeprefix("."))
    return values


def _fault(value: Any, depth: int) -> str:
    """Say what :func:`check_values` refuses, where first; a function of its own because a good run must cost next to nothing."""
    if isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            return f" is nested more than {MAX_DEPTH} levels deep"
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            if type(one) is not str and (fault := _fault(one, depth + 1)):
                return f".{name}{fault}" if depth <= _SHOWN_LEVELS else fault
    elif isinstance(value, float):
        if not math.isfinite(value):
            return f" is {value}; JSON has no such number"
    elif isinstance(value, int) and abs(value) > MAX_NUMBER:
        return f" is a number beyond {sys.float_info.max:g}"
    return ""


_NAME_CHARACTER: Final = rf"[^{FORBIDDEN_IN_NAMES}\x00-\x1f\x7f]"
Name = Annotated[
    str,
    AfterValidator(check_name),
    WithJsonSchema(
        {"type": "string", "pattern": rf"^{_NAME_CHARACTER}*[^{FORBIDDEN_IN_NAMES}\x00-\x1f\x7f\s]{_NAME_CHARACTER}*$"}
    ),
]
"""What a schema cannot say: at most :data:`MAX_NAME_LENGTH` characters after normalising."""
Limit = Annotated[int, Field(ge=0, le=MAX_LIMIT, strict=True)]
"""A concurrency limit; 0 hands out nothing, None (no limit) is spelled ``Limit | None``."""
Priority = Annotated[int, Field(ge=1, le=MAX_LIMIT, strict=True)]
"""1 is the highest; unique within a pool."""
Ident = Annotated[str, Field(max_length=64, pattern=r"^[!#-\[\]-~]*$")]
"""What a client makes up to be recognised by; see :data:`COMMAND_ID`."""
Epoch = Annotated[int, Field(ge=1, le=MAX_INTEGER)]
"""Counts the claims of one run."""
Id = Annotated[str, AfterValidator(check_id)]
"""Made up by a service, for keys."""
RunId = Annotated[str, AfterValidator(check_run_id)]
Moment = Annotated[AwareDatetime, AfterValidator(check_moment)]
DueMilliseconds = Annotated[int, AfterValidator(check_due)]
Milliseconds = Annotated[int, Field(ge=0, le=MAX_INTEGER)]
Json = Annotated[dict[str, Any], AfterValidator(check_values)]
"""Values somebody else makes sense of. They reach their reader as they were written, or are refused."""


class Message(BaseModel):
    """A message on a stream. Unknown fields are ignored, so that an older reader understands a newer writer."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="utf8")

    def wire(self) -> bytes:
        """Serialise to the bare JSON object that goes into ``__data__``; fields that were not given stay out."""
        return self.model_dump_json(exclude_unset=False).encode()


class Command(Message):
    """A request somebody waits for. Unknown fields are an error: a mistyped option must not be ignored.

    Attributes:
        id: names the command and its reply list; a re-delivered command is recognised by it. '' means nobody waits. One that is
            answered with ``overtaken`` may be sent again under the same id; one without an id goes to ``dead`` then.
        deadline: milliseconds of Redis TIME after which the command must not be executed; None means never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="utf8")

    id: Ident = ""
    deadline: Milliseconds | None = None


class Changes(BaseModel):
    """Fields to set; one that is not given stays as it is, therefore it also stays out of the message."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_serializer(mode="wrap")
    def _given_only(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if name in self.model_fields_set}
