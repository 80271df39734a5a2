"""The output of a run, bytes to lines, and what a line costs."""

from __future__ import annotations

from typing import Final

import orjson

MAX_LINE_BYTES: Final = 8_192
"""Longer lines are cut: one line must fit into one entry many times."""
LINE_BYTES: Final = 64
"""What a line costs in Redis beside its text: time, source, quotes."""
_CUT: Final = " [line cut]"


class LineSplitter:
    """Bytes in, lines out; never keeps more than :data:`MAX_LINE_BYTES`.

    ``cut_lines`` and ``cut_bytes`` count what is missing of lines that were too long.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self.cut_lines = 0
        self.cut_bytes = 0

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes; answer the lines that are complete (or too long) now."""
        whole = self._rest + data
        if not self._skipping and whole.isascii() and b"\r" not in whole:
            # Nearly always so, and several times as fast.
            lines = whole.decode().split("\n")
            if max(map(len, lines)) <= MAX_LINE_BYTES:
                self._rest = lines.pop().encode()
                return lines
        *complete, rest = data.split(b"\n")
        lines = []
        for part in complete:
            if self._skipping:
                self.cut_bytes += len(part)
            else:
                lines.append(self._text(self._rest + part))
            self._rest, self._skipping = b"", False
        if self._skipping:
            self.cut_bytes += len(rest)
        else:
            self._rest += rest
            if len(self._rest) > MAX_LINE_BYTES:
                lines.append(self._text(self._rest))
                self._rest, self._skipping = b"", True
        return lines

    def end(self) -> list[str]:
        """Answer what came after the last line break."""
        rest, self._rest = self._rest, b""
        return [self._text(rest)] if rest else []

    def _text(self, line: bytes) -> str:
        if len(line) > MAX_LINE_BYTES:
            self.cut_lines += 1
            self.cut_bytes += len(line) - MAX_LINE_BYTES
            return line[:MAX_LINE_BYTES].decode(errors="replace") + _CUT
        return line.removesuffix(b"\r").decode(errors="replace")


def printed_bytes(lines: list[str]) -> int:
    """How many bytes lines were when they were printed: what was not UTF-8 counts as the one byte it replaces."""
    text = "\n".join(lines)
    size = len(text) if text.isascii() else len(text.encode(errors="replace")) - 2 * text.count("\ufffd")
    return size + 1 if lines else 0


def stored_bytes(text: str) -> int:
    """About how many bytes a line costs in Redis: a NUL takes six there."""
    return LINE_BYTES + len(orjson.dumps(text))


def spelt(text: str) -> str:
    """Replace what UTF-8 cannot spell; decoded output has none of it, a worker type's own lines may."""
    return text if text.isascii() else text.encode(errors="replace").decode()
