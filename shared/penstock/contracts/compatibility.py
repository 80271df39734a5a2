"""Judge a change of the contracts: additive, or breaking for somebody.

Additive is: a new message, a new channel, a new field that may be left out, a wider type, range or enum. Everything else breaks
somebody who was built against the earlier contracts, among it: a field that is gone, newly required, narrower or of another
default, and a field that readers were promised and that may now be missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from penstock.contracts.base import Json

_UPPER: Final = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_LOWER: Final = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_CONDITIONS: Final = {"pattern", "format", "multipleOf", "uniqueItems"}
"""Conditions of which one cannot tell which of two is wider: a new one narrows, one less widens."""
_KNOWN: Final = {
    *_UPPER,
    *_LOWER,
    *_CONDITIONS,
    *("type", "anyOf", "enum", "const", "$ref", "$defs", "default"),
    *("properties", "required", "additionalProperties", "items"),
    *("title", "description", "examples"),
}
_NOTHING: Final = object()


def breaking_changes(old: Json, new: Json) -> list[str]:
    """Compare two snapshots (see :func:`penstock.contracts.catalogue.snapshot`).

    Args:
        old: what others were built against.
        new: what is to replace it.

    Returns:
        One line for every breaking change, empty when the change is additive.
    """
    problems = []
    promised = set()
    for name, before in old["channels"].items():
        if not before["from_outside"]:
            promised.update(before["messages"])
        after = new["channels"].get(name)
        if after is None:
            problems.append(f"channel {name}: removed")
            continue
        if after["address"] != before["address"]:
            problems.append(f"channel {name}: the address {before['address']} became {after['address']}")
        if before["from_outside"] and not after["from_outside"]:
            problems.append(f"channel {name}: only services may write there now")
        gone = sorted(set(before["messages"]) - set(after["messages"]))
        problems += [f"channel {name}: no longer carries {message}" for message in gone]
    for section, word in (("messages", "message"), ("results", "result of")):
        for name, before in old[section].items():
            if name not in new[section]:
                problems.append(f"{word} {name}: removed")
                continue
            compared = Comparison(before, new[section][name], promised=section == "results" or name in promised)
            problems += [f"{word} {name}: {problem}" for problem in compared.problems]
    return problems


class Comparison:
    """One schema and its successor.

    Args:
        old: a JSON Schema, complete in itself.
        new: its successor.
        promised: True where readers build on it: what was required must stay.

    Attributes:
        problems: what breaks, one line each, with the path of the field.
    """

    def __init__(self, old: Json, new: Json, *, promised: bool = False) -> None:
        self._old = old
        self._new = new
        self._promised = promised
        self._inside: set[tuple[str, str]] = set()
        self.problems = self._compare(old, new, "")

    def _compare(self, old: Any, new: Any, path: str) -> list[str]:
        pair = (_reference(old), _reference(new))
        if not all(pair):
            return self._compare_parts(old, new, path)
        if pair in self._inside:
            # A definition that contains itself: the comparison further out decides.
            return []
        self._inside.add(pair)
        try:
            return self._compare_parts(old, new, path)
        finally:
            self._inside.remove(pair)

    def _compare_parts(self, old: Any, new: Any, path: str) -> list[str]:
        before, after = _alternatives(old, self._old), _alternatives(new, self._new)
        problems = _default(old, new, path)
        for alternative in before:
            found = [self._alternative(alternative, other, path) for other in after]
            if all(found):
                told = found[0] if len(before) == len(found) == 1 else self._closest(alternative, after, path)
                problems += told or [f"{_at(path)}no longer accepts {_describe(alternative)}"]
        return problems

    def _closest(self, alternative: Json, after: list[Json], path: str) -> list[str]:
        """Compare with the one alternative that is of the same type, where there is exactly one; else with none."""
        same = [other for other in after if other.get("type") == alternative.get("type") is not None]
        return self._alternative(alternative, same[0], path) if len(same) == 1 else []

    def _alternative(self, old: Json, new: Json, path: str) -> list[str]:
        problems = []
        problems += _type(old, new, path)
        problems += _values(old, new, path)
        problems += _bounds(old, new, path)
        problems += _unknown(old, new, path)
        if not problems and old.get("type", "object") == "object":
            problems += self._fields(old, new, path)
        if not problems and "items" in new:
            problems += self._compare(old.get("items", {}), new["items"], f"{path}[]")
        return problems

    def _fields(self, old: Json, new: Json, path: str) -> list[str]:
        fields, now = old.get("properties", {}), new.get("properties", {})
        required, required_now = set(old.get("required", ())), set(new.get("required", ()))
        problems = [f"{_at(_join(path, name))}newly required" for name in sorted(required_now - required)]
        if self._promised:
            gone = sorted((required - required_now) & set(now))
            problems += [f"{_at(_join(path, name))}may be missing now" for name in gone]
        for name, field in fields.items():
            if name not in now:
                problems.append(f"{_at(_join(path, name))}removed")
            else:
                problems += self._compare(field, now[name], _join(path, name))
        return [*problems, *self._unnamed_fields(old, new, path)]

    def _unnamed_fields(self, old: Json, new: Json, path: str) -> list[str]:
        before, after = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if before is False or after in (True, {}):
            return []
        if after is False:
            return [f"{_at(path)}refuses unknown fields now"]
        return self._compare(before, after, _join(path, "*"))


def _reference(schema: Any) -> str:
    return str(schema.get("$ref", "")) if isinstance(schema, dict) else ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _at(path: str) -> str:
    return f"{path}: " if path else ""


def _alternatives(schema: Any, root: Json) -> list[Json]:
    """Everything a schema accepts, as a list of schemas without references and alternatives of their own."""
    if schema is False:
        return []
    if schema is True or not schema:
        return [{}]
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return _alternatives(target, root)
    if "anyOf" in schema:
        return [alternative for part in schema["anyOf"] for alternative in _alternatives(part, root)]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": one} for one in schema["type"]]
    return [schema]


def _describe(schema: Json) -> str:
    words = {word: value for word, value in schema.items() if word in {"type", "enum", "const"}}
    return ", ".join(f"{word} {value}" for word, value in words.items()) or "everything"


def _default(old: Any, new: Any, path: str) -> list[str]:
    if not (isinstance(old, dict) and isinstance(new, dict)) or "default" not in old:
        return []
    after = new.get("default", _NOTHING)
    if after is _NOTHING or after != old["default"] or isinstance(after, bool) is not isinstance(old["default"], bool):
        return [f"{_at(path)}the default {old['default']!r} became {'none' if after is _NOTHING else repr(after)}"]
    return []


def _type(old: Json, new: Json, path: str) -> list[str]:
    before, after = _type_of(old), _type_of(new)
    if after is None or before == after or (before, after) == ("integer", "number"):
        return []
    return [f"{_at(path)}the type {before or 'anything'} became {after}"]


def _type_of(schema: Json) -> str | None:
    found = schema.get("type")
    return None if found is None else str(found)


def _values(old: Json, new: Json, path: str) -> list[str]:
    before, after = _enumerated(old), _enumerated(new)
    if after is None:
        return []
    if before is None:
        # Without a type an enum narrows it, and _type has nothing to compare.
        return [f"{_at(path)}only {after} are accepted now"]
    gone = [value for value in before if value not in after]
    return [f"{_at(path)}the values {gone} are gone"] if gone else []


def _enumerated(schema: Json) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    found = schema.get("enum")
    return list(found) if found is not None else None


def _bounds(old: Json, new: Json, path: str) -> list[str]:
    narrower = []
    for word in sorted((_UPPER | _LOWER) & set(new)):
        before, after = old.get(word), new[word]
        if before is None or (after < before if word in _UPPER else after > before):
            narrower.append(f"{_at(path)}{word} {before} became {after}")
    other = [word for word in sorted(_CONDITIONS & set(new)) if new[word] != old.get(word)]
    return [*narrower, *(f"{_at(path)}{word} {old.get(word)} became {new[word]}" for word in other)]


def _unknown(old: Json, new: Json, path: str) -> list[str]:
    """What this module cannot compare must not change."""
    words = sorted((set(old) | set(new)) - _KNOWN)
    return [f"{_at(path)}{word} has changed" for word in words if old.get(word) != new.get(word)]
