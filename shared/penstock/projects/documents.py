"""YAML as plain data: JSON's types only, bounded in size, and every value knows its line; pure."""

from __future__ import annotations

import datetime as dt
import math
import re
from typing import Any, Final

import yaml

from penstock.errors import Invalid

Place = tuple[str | int, ...]
"""Keys and indexes from the root of a document."""

MAX_BYTES: Final = 1_000_000
MAX_VALUES: Final = 50_000
"""Values after every alias has been replaced by what it stands for: an alias of aliases of aliases can stand for billions."""
MAX_DEPTH: Final = 64
_MAX_INTEGER: Final = 2**63
_UNQUOTED_CRON: Final = re.compile(r"\bcron\s*:\s*([*@][^#}]*)")
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = f"{_TAG}merge"
_PLAIN: Final = {f"{_TAG}{kind}" for kind in ("str", "null", "bool", "int", "float", "timestamp", "value")}


class Document:
    """What a file says.

    Attributes:
        name: of the file, for messages.
        value: mappings, lists, texts, numbers, booleans and None.
    """

    def __init__(self, name: str, value: Any, lines: dict[Place, int], written: dict[Place, str]) -> None:
        self.name = name
        self.value = value
        self._lines = lines
        self._written = written

    def at(self, place: Place) -> str:
        """Spell where a value is: ``prefect.yaml:7``."""
        while place and place not in self._lines:
            place = place[:-1]
        return f"{self.name}:{self._lines.get(place, 1)}"

    def written(self, place: Place) -> str | None:
        """The text of a number or date as it was typed (``1.10`` is no 1.1 when it is a version); None of anything else."""
        return self._written.get(place)


def read_document(name: str, data: bytes) -> Document:
    """Read YAML.

    Args:
        name: of the file, for messages.
        data: its bytes.

    Raises:
        Invalid: no UTF-8, no YAML, a key twice, a value that contains itself, a type JSON has not, or too large; names the line.
    """
    if len(data) > MAX_BYTES:
        raise Invalid(f"{name} has {len(data):,} bytes; at most {MAX_BYTES:,} are read")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = data.count(b"\n", 0, problem.start) + 1
        raise Invalid(f"{name}:{line}: byte {problem.start} is not UTF-8", "save the file as UTF-8") from problem
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        raise _unreadable(name, text, problem) from problem
    except yaml.reader.ReaderError as problem:
        line = text.count("\n", 0, problem.position) + 1
        raise Invalid(f"{name}:{line}: a character that YAML does not allow ({problem.character!r})") from problem
    except RecursionError as problem:
        raise Invalid(f"{name}: it is nested deeper than {MAX_DEPTH} levels") from problem
    return _Builder(name).document(root)


def _unreadable(name: str, text: str, problem: yaml.MarkedYAMLError) -> Invalid:
    mark = problem.problem_mark or problem.context_mark
    why = problem.problem or problem.context or "it is no YAML"
    lines = text.splitlines()
    if mark and mark.line < len(lines) and (found := _UNQUOTED_CRON.search(lines[mark.line])):
        # YAML takes the star for an alias and keeps the at sign for itself.
        cron = found.group(1).strip()
        return Invalid(f"{name}:{mark.line + 1}: the cron {cron} has to be quoted", f"write cron: '{cron}'")
    hint = "indent with spaces" if "\\t" in why else ""
    return Invalid(f"{name}:{mark.line + 1 if mark else 1}: {'a tab where none may be' if hint else why}", hint)


class _Builder:
    """Turns YAML's nodes into values."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._scalars = yaml.constructor.SafeConstructor()
        self._left = MAX_VALUES
        self._above: set[int] = set()
        self._lines: dict[Place, int] = {}
        self._written: dict[Place, str] = {}

    def document(self, root: yaml.Node | None) -> Document:
        value = None if root is None else self._value(root, ())
        return Document(self._name, value, self._lines, self._written)

    def _wrong(self, node: yaml.Node, why: str, hint: str = "") -> Invalid:
        return Invalid(f"{self._name}:{node.start_mark.line + 1}: {why}", hint)

    def _value(self, node: yaml.Node, place: Place) -> Any:
        self._left -= 1
        if self._left < 0:
            raise self._wrong(node, f"with its aliases the file has more than {MAX_VALUES:,} values")
        self._lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if id(node) in self._above:
            raise self._wrong(
                node, "this value contains itself by an alias", "an alias must not stand inside its anchor"
            )
        if len(place) >= MAX_DEPTH:
            raise self._wrong(node, f"it is nested deeper than {MAX_DEPTH} levels")
        self._above.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode) and node.tag == f"{_TAG}seq":
                return [self._value(item, (*place, index)) for index, item in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode) and node.tag == f"{_TAG}map":
                return self._mapping(node, place)
        finally:
            self._above.discard(id(node))
        raise self._unknown_tag(node)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for name, item in self._merged(value, place).items():
                    merged.setdefault(name, item)
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise self._wrong(key, "a key has to be a text")
            # As it was typed: `on` is a name here, no boolean.
            name, line = self._text(key), key.start_mark.line + 1
            if name in first:
                raise self._wrong(key, f"the key {name!r} is here twice; it stands on line {first[name]} already")
            first[name] = line
            self._lines[(*place, name)] = line
            own[name] = self._value(value, (*place, name))
        return merged | own

    def _merged(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        value = self._value(node, (*place, "<<"))
        found: dict[str, Any] = {}
        for one in value if isinstance(value, list) else [value]:
            if not isinstance(one, dict):
                raise self._wrong(node, "'<<' takes a mapping or a list of mappings")
            for name, item in one.items():
                found.setdefault(name, item)
        return found

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        if node.tag not in _PLAIN:
            raise self._unknown_tag(node)
        if node.tag in {f"{_TAG}str", f"{_TAG}value"}:
            return self._text(node)
        try:
            value = self._scalars.construct_object(node)
        except (ValueError, KeyError, OverflowError, yaml.YAMLError) as problem:
            raise self._wrong(node, f"{node.value[:80]!r} is no {node.tag.removeprefix(_TAG)}") from problem
        if value is not None and not isinstance(value, bool):
            self._written[place] = node.value
        if isinstance(value, dt.date):
            return value.isoformat()
        if isinstance(value, float) and not math.isfinite(value):
            raise self._wrong(node, f"{node.value!r} is a number JSON does not have")
        if isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
            raise self._wrong(node, f"the number {node.value[:40]} does not fit 64 bits")
        return value

    def _text(self, node: yaml.ScalarNode) -> str:
        text = str(node.value)
        try:
            text.encode()
        except UnicodeEncodeError as problem:
            raise self._wrong(node, "half a surrogate pair is no text") from problem
        return text

    def _unknown_tag(self, node: yaml.Node) -> Invalid:
        tag = str(node.tag).replace(_TAG, "!!")
        return self._wrong(node, f"the tag {tag!r} is not taken: only plain values are read, no objects")
