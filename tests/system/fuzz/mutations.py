"""How valid messages turn into bad ones: in their values, in their text, in the fields of their entry."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any, Final

from penstock.streams import MAX_MESSAGE_BYTES
from tests.system.fuzz.values import DEPTHS, ENVELOPE, HOSTILE, LONE_SURROGATES, NUMBERS, Raw, spell

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Fields = dict[bytes, bytes]

Path = tuple[str | int, ...]
_OTHERS: Final[tuple[Any, ...]] = (None, True, False, [], {}, [None], {"": ""}, [[]], ["a", 1], {"a": {"b": 1}})


def paths(value: Any, path: Path = ()) -> list[Path]:
    """All places inside a value."""
    found: list[Path] = []
    inside: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inside:
        found += [(*path, name), *paths(one, (*path, name))]
    return found


def _holder(message: Any, path: Path) -> Any:
    for name in path[:-1]:
        message = message[name]
    return message


class Mutator:
    """Makes entries out of messages.

    Args:
        chance: decides everything.
    """

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._changes: list[Callable[[dict[str, Any]], None]] = [
            *[self._replace] * 8,
            *[self._drop] * 3,
            *[self._rename] * 2,
            *[self._add] * 2,
            *[self._elements] * 3,
        ]
        self._texts: list[Callable[[str], bytes]] = [
            self._twice,
            self._cut,
            self._flip,
            self._insert,
            self._wrap,
            self._surround,
        ]

    def nasty(self) -> Any:
        """A value of any kind that somebody may not expect."""
        kind = self._chance.random()
        if kind < 0.45:
            return self._chance.choice(HOSTILE)
        if kind < 0.75:
            return self._chance.choice(NUMBERS)
        if kind < 0.80:
            return self._chance.choice(LONE_SURROGATES)
        return self._large(kind) if kind < 0.86 else copy.deepcopy(self._chance.choice(_OTHERS))

    def _large(self, kind: float) -> Any:
        """A value that is deep, long or wide."""
        if kind < 0.84:
            depth = self._chance.choice(DEPTHS)
            return (
                Raw("[" * depth + "]" * depth)
                if self._chance.random() < 0.5
                else Raw('{"a":' * depth + "1" + "}" * depth)
            )
        if kind < 0.85:
            return "x" * self._chance.choice((30_000, 200_000))
        return {f"k{number}": number for number in range(self._chance.choice((50, 2000)))}

    def changed(self, message: dict[str, Any], most: int = 3) -> dict[str, Any]:
        """Change values of a message; it may stay valid."""
        message = copy.deepcopy(message)
        for _ in range(self._chance.randint(1, most)):
            self._chance.choice(self._changes)(message)
        return message

    def text(self, message: dict[str, Any]) -> bytes:
        """Spell a message in a way that is no good."""
        return self._chance.choice(self._texts)(spell(message))

    def entry(self, message: dict[str, Any]) -> Fields:
        """Make one entry of a message, some way or other bad."""
        kind = str(message["type"]).encode()
        lot = self._chance.random()
        if lot < 0.60:
            return {b"type": kind, b"__data__": _bytes(self.changed(message))}
        if lot < 0.80:
            return {b"type": kind, b"__data__": self.text(message)}
        if lot < 0.82:
            return (
                {b"type": kind, b"__data__": self._oversized(message)} if self._chance.random() < 0.1 else self.noise()
            )
        return self._fields(kind, _bytes(message if self._chance.random() < 0.7 else self.changed(message, 1)))

    def valid(self, message: dict[str, Any]) -> Fields:
        """Make an entry of a message as it is."""
        return {b"type": str(message["type"]).encode(), b"__data__": _bytes(message)}

    def noise(self) -> Fields:
        """Make an entry of random bytes."""
        return {
            self._chance.choice((b"__data__", b"data", self._bytes(8), b"")): self._bytes(
                self._chance.choice((1, 30, 3000))
            )
            for _ in range(self._chance.randint(1, 3))
        }

    def _fields(self, kind: bytes, body: bytes) -> Fields:
        choice = self._chance.randrange(12)
        others: list[Fields] = [
            {b"__data__": body},
            {b"type": b"", b"__data__": body},
            {b"type": self._chance.choice(HOSTILE).encode(), b"__data__": body},
            {b"type": self._bytes(9), b"__data__": body},
            {b"type": kind},
            {b"type": kind, b"data": body},
            {b"type": kind, b"__data__": b""},
            {b"type": kind, b"__data__": body, b"extra": self._bytes(50), b"\xff\x00": b""},
            {b"type": kind, b"__data__": ENVELOPE + body},
            {b"type": kind, b"__data__": b'{"data":' + body + b',"headers":{"correlation_id":"1"}}'},
            {b"type": kind, b"__data__": body.decode(errors="replace").encode("utf-16")},
            {
                b"type": self._chance.choice((b"create_pool", b"worker.heartbeat", b"submit_runs", b"pool.deleted")),
                b"__data__": body,
            },
        ]
        return others[choice]

    def _oversized(self, message: dict[str, Any]) -> bytes:
        padded = spell({**message, "padding": "x" * (MAX_MESSAGE_BYTES - 10)})
        return (padded if self._chance.random() < 0.5 else spell(message) + " " * MAX_MESSAGE_BYTES).encode()

    def _bytes(self, most: int) -> bytes:
        return self._chance.randbytes(self._chance.randint(1, most))

    def _some(self, message: dict[str, Any]) -> Path:
        # The deeper parts are many, the upper ones matter more.
        found = paths(message)
        top = [path for path in found if len(path) == 1]
        return self._chance.choice(top if self._chance.random() < 0.4 else found) if found else ()

    def _replace(self, message: dict[str, Any]) -> None:
        if path := self._some(message):
            _holder(message, path)[path[-1]] = self.nasty()

    def _drop(self, message: dict[str, Any]) -> None:
        if path := self._some(message):
            del _holder(message, path)[path[-1]]

    def _rename(self, message: dict[str, Any]) -> None:
        path = self._some(message)
        if path and isinstance(holder := _holder(message, path), dict):
            value = holder.pop(path[-1])
            name = str(path[-1])
            holder[self._chance.choice((name.upper(), f"{name}s", f" {name}", name[:-1], *HOSTILE))] = value

    def _add(self, message: dict[str, Any]) -> None:
        path = self._some(message)
        holder = _holder(message, path) if path else message
        if isinstance(holder, dict):
            holder[self._chance.choice(("extra", "id", "deadline", "__class__", *HOSTILE))] = self.nasty()

    def _elements(self, message: dict[str, Any]) -> None:
        lists = [value for value in message.values() if isinstance(value, list) and value]
        if not lists:
            return self._replace(message)
        chosen = self._chance.choice(lists)
        lot = self._chance.random()
        if lot < 0.05:
            chosen += [self.nasty() for _ in range(self._chance.choice((25, 60)))]
        elif lot < 0.053:
            chosen *= 1001
        elif lot < 0.1:
            chosen.clear()
        else:
            for _ in range(self._chance.randint(1, 4)):
                chosen.insert(self._chance.randint(0, len(chosen)), self._element(chosen))
        return None

    def _element(self, among: list[Any]) -> Any:
        model = copy.deepcopy(self._chance.choice(among))
        if not isinstance(model, dict) or self._chance.random() < 0.3:
            return self.nasty()
        self._chance.choice((self._replace, self._drop, self._add))(model)
        return model

    def _twice(self, text: str) -> bytes:
        name = self._chance.choice(("type", "pool", "id", "runs", "x"))
        extra = f"{json.dumps(name)}:{spell(self.nasty())}"
        inside = text[1:-1]
        return ("{" + (f"{extra},{inside}" if self._chance.random() < 0.5 else f"{inside},{extra}") + "}").encode()

    def _cut(self, text: str) -> bytes:
        data = text.encode()
        return data[: self._chance.randrange(len(data))]

    def _flip(self, text: str) -> bytes:
        data = bytearray(text.encode())
        for _ in range(self._chance.randint(1, 4)):
            data[self._chance.randrange(len(data))] = self._chance.randrange(256)
        return bytes(data)

    def _insert(self, text: str) -> bytes:
        data = text.encode()
        at = self._chance.randrange(len(data) + 1)
        what = self._chance.choice(
            (b"\xff", b"\x00", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"//", b",", b"\\", b"\n")
        )
        return data[:at] + what + data[at:]

    def _wrap(self, text: str) -> bytes:
        wrapped = (
            f"[{text}]",
            json.dumps(text),
            "null",
            "0",
            '"x"',
            "[]",
            "{}",
            "true",
            f'{{"message":{text}}}',
            text.replace('"', "'"),
        )
        return self._chance.choice(wrapped).encode()

    def _surround(self, text: str) -> bytes:
        around = (
            f"\ufeff{text}",
            f"{text}{text}",
            f"{text}x",
            f"  \n{text}\t ",
            f"{text}\u0000",
            f"({text})",
            f"{text}// end",
        )
        return self._chance.choice(around).encode()


def _bytes(message: dict[str, Any]) -> bytes:
    return spell(message).encode()
