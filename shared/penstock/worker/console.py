"""Write lines to the worker's stdout without ever making the event loop wait for whoever reads it."""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_LINES: Final = 10_000
"""Lines kept for a slow reader (`penstock worker start | less`); heartbeats matter more than further ones."""
MAX_CHARACTERS: Final = 4_000_000
"""The same for long lines."""


class Console:
    """A thread that writes what it is given, in order.

    Args:
        stream: where to; None means the process's stdout at the moment of writing.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lines: deque[str] = deque()
        self._characters = 0
        self._dropped = 0
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def say(self, lines: Iterable[str]) -> None:
        """Queue lines, each without its line break. What is too much is dropped and counted."""
        with self._wake:
            for line in lines:
                if len(self._lines) < MAX_LINES and self._characters < MAX_CHARACTERS:
                    self._lines.append(line)
                    self._characters += len(line)
                else:
                    self._dropped += 1
            if self._thread is None and not self._closed:
                # Not a pool's thread: at exit Python would wait for it, and its reader may never read on.
                self._thread = threading.Thread(target=self._write_all, name="console", daemon=True)
                self._thread.start()
            self._wake.notify()

    def close(self, timeout_seconds: float = 1.0) -> None:
        """Write what is queued, for at most ``timeout_seconds``."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread:
            self._thread.join(timeout_seconds)

    def _write_all(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._lines or self._dropped or self._closed)
                lines, dropped = list(self._lines), self._dropped
                self._lines.clear()
                self._dropped = self._characters = 0
                if not lines and not dropped:
                    return
            if dropped:
                lines.append(f"({dropped} lines were not shown: stdout is read too slowly)")
            try:
                stream = self._stream or sys.stdout
                text = "".join(f"{line}\n" for line in lines)
                # A terminal that is not UTF-8 must not end the thread.
                encoding = stream.encoding or "utf-8"
                stream.write(text.encode(encoding, "replace").decode(encoding))
                stream.flush()
            except (OSError, ValueError):
                return
