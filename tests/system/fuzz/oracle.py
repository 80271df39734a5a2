"""What each entry is, judged without the services' own code: by Python's JSON reader, the catalogue and its models.

What a reader leaves to others on purpose, so that it is in nobody's ``dead`` because of it:

* **definitions** has three readers. ``heartbeat_monitor`` and ``scheduler`` ignore any type they do not know: the dispatcher, which
  knows all of them, is the one that buries what nobody knows.
* **inbox**: what is addressed to another life of the worker (``boot_id``) is not acted on, and never an error.
* **events** has no reader of ours that owns it: what is no event is skipped.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from penstock.contracts.base import Command
from penstock.contracts.catalogue import CHANNELS, MESSAGES, WORKER
from penstock.contracts.runs import MAX_RUNS_PER_MESSAGE, RunReport, SubmittedRun
from penstock.streams import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from pydantic import BaseModel

    from tests.system.fuzz.mutations import Fields

ARRAYS: Final[dict[str, tuple[str, type[BaseModel]]]] = {
    "submit_runs": ("runs", SubmittedRun),
    "report_runs": ("reports", RunReport),
}
"""Messages whose elements are judged one by one."""
IGNORES_UNKNOWN: Final = {("definitions", "heartbeat_monitor"), ("definitions", "scheduler")}
MAX_DEPTH: Final = 200
"""How deep pydantic reads; nothing here is between this and half of it."""
MAX_READABLE_DEPTH: Final = 900
"""How deep any reader of JSON reads, to see what type it is; nothing here is near it."""
GOOD, PARTLY, BAD, IGNORED = "good", "partly", "bad", "ignored"


@dataclass(frozen=True)
class Verdict:
    """What one reader must do with one entry.

    Attributes:
        what: ``good``, ``partly``, ``bad`` or ``ignored``.
        kind: type of the message, where it has one this reader knows.
        why: of a bad one.
        bad: elements that must be buried alone.
        body: what it says, where it is JSON.
    """

    what: str
    kind: str = ""
    why: str = ""
    bad: list[Any] = field(default_factory=list)
    body: Any = None

    @property
    def command_id(self) -> str:
        """Who waits for an answer."""
        ident = self.body.get("id") if isinstance(self.body, dict) else None
        return ident if isinstance(ident, str) else ""


class _NotJson(ValueError):
    pass


_TEXTS: Final = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def parse(data: bytes) -> tuple[Any, bool, int]:
    """Read JSON.

    Returns:
        The value; whether all its numbers are numbers: NaN, Infinity and what no double holds are read as Python reads them;
        and how deep it is nested.

    Raises:
        ValueError: it is no JSON, or nested deeper than anybody reads.
    """
    numbers = [True]
    overwritten: list[Any] = []

    def constant(text: str) -> float:
        numbers[0] = False
        return float(text)

    def real(text: str) -> float:
        number = float(text)
        numbers[0] = numbers[0] and math.isfinite(number)
        return number

    def integer(text: str) -> int:
        real(text)
        return int(text)

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        overwritten.extend(value for _, value in pairs)
        return dict(pairs)

    text = data.decode()
    depth = _depth(text)
    if depth > MAX_READABLE_DEPTH:
        raise _NotJson("nested too deeply")
    parsed = json.loads(text, parse_constant=constant, parse_float=real, parse_int=integer, object_pairs_hook=members)
    json.dumps([parsed, overwritten], ensure_ascii=False).encode()  # half of a surrogate pair is no text
    return parsed, numbers[0], depth


def _depth(text: str) -> int:
    """How deep brackets are nested, also in what a second key of the same name replaces; 0 where they are too few to matter."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    deepest = depth = 0
    for character in _TEXTS.sub("", text):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def readers_of(stream: str) -> dict[str, tuple[str, ...]]:
    """Who reads a stream, and which types."""
    return {WORKER: CHANNELS["inbox"].readers[WORKER]} if stream == "inbox" else dict(CHANNELS[stream].readers)


def judge(stream: str, reader: str, fields: Fields) -> Verdict:
    """Say what a reader must do with an entry."""
    types = readers_of(stream)[reader]
    named = fields.get(b"type", b"").decode(errors="replace")
    named = named if named in types else ""
    try:
        body, numbers, depth = _body(stream, fields)
    except ValueError as problem:
        return Verdict(BAD, named, str(problem))
    if not named and not numbers:
        return Verdict(BAD, why="a number that is none", body=body)
    kind = named or str(body.get("type"))
    if kind not in types:
        return Verdict(IGNORED if (stream, reader) in IGNORES_UNKNOWN else BAD, why="unknown type", body=body)
    if depth > MAX_DEPTH:
        return Verdict(BAD, kind, "nested too deeply")
    return _content(kind, body, numbers=numbers)


def _body(stream: str, fields: Fields) -> tuple[dict[str, Any], bool, int]:
    data = fields.get(b"__data__")
    if data is None:
        raise _NotJson("no __data__")
    if stream != "inbox" and len(data) > MAX_MESSAGE_BYTES:
        raise _NotJson("oversized")
    body, numbers, depth = parse(data)
    if not isinstance(body, dict):
        raise _NotJson("no object")
    return body, numbers, depth


def _content(kind: str, body: dict[str, Any], *, numbers: bool) -> Verdict:
    why = _problem(MESSAGES[kind], body)
    if not why:
        return Verdict(GOOD, kind, body=body)
    if not numbers:
        # Its elements cannot be told apart.
        return Verdict(BAD, kind, why, body=body)
    if kind not in ARRAYS:
        return Verdict(BAD, kind, why, body=body)
    name, model = ARRAYS[kind]
    elements = body.get(name)
    if not isinstance(elements, list) or len(elements) > MAX_RUNS_PER_MESSAGE:
        return Verdict(BAD, kind, why, body=body)
    bad = [element for element in elements if _problem(model, element)]
    good = [element for element in elements if not _problem(model, element)]
    if good and not _problem(MESSAGES[kind], {**body, name: good}):
        return Verdict(PARTLY, kind, why, bad, body)
    return Verdict(BAD, kind, why, body=body)


def _problem(model: type[BaseModel], value: Any) -> str:
    try:
        model.model_validate(value)
    except ValidationError as problem:
        return str(problem.errors(include_url=False, include_input=False)[:2])
    return ""


def is_command(kind: str) -> bool:
    """Say whether somebody may wait for the answer to a message."""
    return kind in MESSAGES and issubclass(MESSAGES[kind], Command)
