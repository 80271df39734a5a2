"""Hold what lies in ``dead`` and what was answered against what the oracle says; pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from penstock.bus.delivery import MAX_LETTERS_PER_ENTRY
from penstock.contracts.replies import Reply
from tests.system.fuzz.oracle import BAD, GOOD, IGNORED, PARTLY, Verdict, is_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.system.fuzz.mutations import Fields

OUR_ID: Final = re.compile(r"f-\d+")
"""Commands of these ids are asked about; the ids that somebody else's text became are shared by many."""
DOMAIN: Final = re.compile(
    r"work (pool|queue) '.*' does not exist|the id must end in|and \d+ more; the last: ", re.DOTALL
)
"""Why a message that says what it should is buried all the same: what it speaks of does not exist."""
SHOWN: Final = 40


@dataclass(frozen=True)
class Sent:
    """One entry, where it went, and what each reader must do with it."""

    stream: str
    id: str
    fields: Fields
    verdicts: Mapping[str, Verdict]

    def text(self) -> str:
        """Spell it for people, not all of it."""
        return f"{self.stream} {self.id} { ({name[:50]: value[:400] for name, value in self.fields.items()}) }"


@dataclass
class Tally:
    """What was sent, and what became of it."""

    entries: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    count_wrong: int = 0

    def say(self, text: str) -> None:
        """Note something that must not be."""
        self.count_wrong += 1
        if len(self.wrong) < SHOWN:
            self.wrong.append(text)

    def judge(self, sent: Sent, reader: str, letters: Sequence[dict[str, Any]]) -> None:
        """Judge what one reader has buried of one entry."""
        verdict = sent.verdicts[reader]
        self.verdicts[f"{sent.stream} {verdict.what}"] += 1
        self.letters[sent.stream] += len(letters)
        for text in problems(verdict, letters):
            self.say(f"{reader}: {text}; {verdict.what} {verdict.kind} {verdict.why[:200]}; {sent.text()}")

    def judge_answer(self, sent: Sent, verdict: Verdict, raw: bytes | None) -> None:
        """Judge the answer to a command whose sender can be told."""
        if raw is None:
            self.say(f"no answer to {verdict.command_id}: {verdict.what} {verdict.kind}; {sent.text()}")
            return
        reply = Reply.model_validate_json(raw)
        self.answered += reply.ok
        self.refused += not reply.ok
        if verdict.what == BAD and (reply.ok or not reply.error or not reply.error.message):
            self.say(f"a bad command was answered with {raw[:300]!r}; {verdict.why}; {sent.text()}")
        if len(raw) > 1_000_000:
            self.say(f"an answer of {len(raw)} bytes; {sent.text()}")


def wants_answer(verdict: Verdict) -> bool:
    """Say whether the sender of an entry must be answered."""
    return bool(OUR_ID.fullmatch(verdict.command_id)) and (
        is_command(verdict.kind) if verdict.what in (GOOD, PARTLY) else verdict.what == BAD
    )


def problems(verdict: Verdict, letters: Sequence[dict[str, Any]]) -> list[str]:
    """Say what is wrong with the letters of one entry."""
    found = [f"a letter without a reason: {letter}" for letter in letters if not letter.get("reason")]
    # What had to fail five times was understood by nobody: it must be refused at once, with the reason.
    found += [
        str(one["reason"])[:500] for one in letters if str(one.get("reason")).startswith(("failed ", "cannot be read"))
    ]
    if len(letters) > MAX_LETTERS_PER_ENTRY + 1:
        found.append(f"{len(letters)} letters of one entry")
    if verdict.what == BAD and not any("fields" in letter for letter in letters):
        found.append("bad, and not in dead")
    if verdict.what in (GOOD, IGNORED):
        found += [
            f"buried with {letter['reason'][:300]!r}" for letter in letters if not DOMAIN.search(str(letter["reason"]))
        ]
    if verdict.what == PARTLY:
        found += _elements(verdict, letters)
    return found


def _elements(verdict: Verdict, letters: Sequence[dict[str, Any]]) -> list[str]:
    wanted = verdict.bad[:MAX_LETTERS_PER_ENTRY]
    buried = [letter.get("element") for letter in letters[: len(wanted)]]
    if len(buried) < len(wanted):
        return [f"{len(wanted)} bad elements, {len(letters)} letters"]
    # An integer that no 64 bits hold is kept as the double that is next to it.
    same = all(
        one is None or _approximately(one) == _approximately(other) for one, other in zip(buried, wanted, strict=True)
    )
    return [] if same else [f"other elements are in dead: {str(buried)[:300]} instead of {str(wanted)[:300]}"]


def _approximately(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, list, dict)):
        return value
    if isinstance(value, list):
        return [_approximately(one) for one in value]
    return {name: _approximately(one) for name, one in value.items()} if isinstance(value, dict) else float(value)


def letters_of(entries: Sequence[tuple[bytes, Fields]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Sort what lies in ``dead`` by stream, entry and group."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for _, fields in entries:
        if fields.get(b"type") != b"dead.letter":
            continue
        letter = orjson.loads(fields[b"__data__"])
        found.setdefault((letter["stream"], letter["entry_id"], letter["group"]), []).append(letter)
    return found
