"""One mapping of a project file: its keys, the kinds of its values, and errors that say where; pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from penstock.client.wording import did_you_mean
from penstock.errors import Invalid, Refused, refusal
from penstock.templates.json_values import kind_of
from penstock.templates.problems import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from penstock.projects.documents import Document, Place


@dataclass(slots=True)
class Findings:
    """What somebody should know of a part of a file.

    Attributes:
        strict: a key that nobody knows is a fault rather than a warning.
        warnings: it works, but not as one may think.
        faults: it cannot be used as it is.
    """

    strict: bool = False
    warnings: list[str] = field(default_factory=list)
    faults: list[Refused] = field(default_factory=list)


class Section:
    """A mapping and where it stands.

    Every method answers None for a key that is not there, or null.

    Args:
        document: the file.
        place: of the mapping.
        value: its values; anything but a mapping is refused.

    Raises:
        Invalid: a value is not of the kind that is asked for; names file and line.
    """

    def __init__(self, document: Document, place: Place, value: Any) -> None:
        self.document = document
        self.place = place
        if not isinstance(value, dict):
            raise self.wrong(
                f"{self.spelled() or 'the file'} has to be a mapping of keys and values, this is {kind_of(value)}"
            )
        self.values: dict[str, Any] = value

    def wrong(self, message: str, key: str | None = None, hint: str = "") -> Invalid:
        """Make an error about the section or one of its keys."""
        return Invalid(f"{self.at(key)}: {message}", hint)

    def at(self, key: str | None = None) -> str:
        """Spell where a key stands."""
        return self.document.at(self.place if key is None else (*self.place, key))

    def spelled(self, key: str | None = None) -> str:
        """Spell a key with what it is in: ``deployments[0].work_pool``."""
        return spelled(self.place if key is None else (*self.place, key))

    def review(
        self,
        findings: Findings,
        known: Collection[str],
        unsupported: Collection[str] = (),
        meanings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Name the keys that mean nothing here.

        Args:
            findings: gets what is found.
            known: keys that are read.
            unsupported: keys that mean something to Prefect; they are passed over in silence where they say nothing.
            meanings: how that is written here which somebody expects below an unknown key.
        """
        for key, value in self.values.items():
            if key in known or (key in unsupported and value in (None, [], {})):
                continue
            told = f"{self.at(key)}: '{self.spelled(key)}'"
            if key in unsupported:
                findings.warnings.append(f"{told} is Prefect's; Penstock does not support it and goes on without")
                continue
            meant = f"write {meanings[key]}" if key in meanings else did_you_mean(key, known)
            more = f"; {meant}" if meant else ""
            if findings.strict:
                findings.faults.append(Invalid(f"{told} is unknown{more}"))
            else:
                findings.warnings.append(f"{told} is unknown and ignored{more}")

    def text(self, key: str) -> str | None:
        """A text; a number or a date is taken as it was typed."""
        value = self.values.get(key)
        if value is None or isinstance(value, str):
            return self.document.written((*self.place, key)) or value
        written = self.document.written((*self.place, key))
        if written is None:
            raise self._kind(key, "a text")
        return written

    def integer(self, key: str) -> int | None:
        """A whole number; digits in a text will do, for an environment variable is nothing else."""
        value = self.values.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:  # noqa: PLR2004 - below 2^63
            return int(value)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise self._kind(key, "a whole number")

    def number(self, key: str) -> float | None:
        """A number."""
        value = self.values.get(key)
        if isinstance(value, bool) or not (value is None or isinstance(value, (int, float))):
            raise self._kind(key, "a number")
        return value

    def boolean(self, key: str) -> bool | None:
        """True or false."""
        value = self.values.get(key)
        if not (value is None or isinstance(value, bool)):
            raise self._kind(key, "true or false")
        return value

    def mapping(self, key: str) -> dict[str, Any] | None:
        """Names and values."""
        value = self.values.get(key)
        return None if value is None else self.section(key).values

    def section(self, key: str) -> Section:
        """A mapping inside; an empty one when there is none."""
        value = self.values.get(key)
        return Section(self.document, (*self.place, key), {} if value is None else value)

    def texts(self, key: str) -> list[str] | None:
        """A list of texts."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self._kind(key, "a list of texts")
        found = []
        for index, item in enumerate(value):
            written = item if isinstance(item, str) else self.document.written((*self.place, key, index))
            if written is None:
                where = self.document.at((*self.place, key, index))
                raise Invalid(f"{where}: '{self.spelled(key)}[{index}]' has to be a text, this is {kind_of(item)}")
            found.append(written)
        return found

    def sections(self, key: str) -> list[Section] | None:
        """A list of mappings."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self._kind(key, "a list")
        return [Section(self.document, (*self.place, key, index), item) for index, item in enumerate(value)]

    def _kind(self, key: str, wanted: str) -> Invalid:
        return self.wrong(f"'{self.spelled(key)}' has to be {wanted}, this is {kind_of(self.values[key])}", key)


def together(faults: Sequence[Refused]) -> Refused:
    """Make one error of some, a line each; it has the code of the last one."""
    hints = dict.fromkeys(fault.hint for fault in faults if fault.hint)
    return refusal(faults[-1].code, "\n".join(fault.message for fault in faults), "; ".join(hints))


def spelled(place: Place) -> str:
    """Spell a place: ``deployments[0].work_pool.name``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{printable(shortened(step, 60))}"
    return text.removeprefix(".")
