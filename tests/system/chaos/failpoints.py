"""Named points in a service or worker at which it dies when told so. The product has no such hook: this wraps it from outside.

=========  =========================================================
read       entries have been read, nothing has been done
script     a script is about to be sent
ran        a script has run, nothing of its answer has been used
reply      an answer is about to be left for a caller
replied    it has been left, the entry is not acknowledged
handled    a batch has been handled, nothing is acknowledged
ack        entries are about to be acknowledged
acked      they have been
take       a worker has read an assignment, and not taken it over
taken      it has
report     a report is about to be sent
reported   it has been
=========  =========================================================

A process is armed by a file whose path is in ``CHAOS_FAILPOINT``: ``ran 3`` means dead at the third time it comes by ``ran``.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from penstock import lua
from penstock.bus import delivery, reclaim, service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

VARIABLE = "CHAOS_FAILPOINT"
POINTS = ("read", "script", "ran", "reply", "replied", "handled", "ack", "acked")
FIRED = ".fired"
"""Ending of a file that says at which points a process and its successors have died."""
WORKER_POINTS = ("take", "taken", "report", "reported")


class Failpoints:
    """Counts how often each point is passed, and ends the process at the one that is armed.

    Args:
        file: arms; gone after it has struck.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._armed = ("", 0)

    def reach(self, point: str) -> None:
        """Pass a point, perhaps for the last time."""
        try:
            words = self._file.read_text().split()
        except FileNotFoundError:
            self._armed = ("", 0)
            return
        if len(words) != 2 or words[0] != point:  # half written, or another point
            return
        if self._armed[0] != point:
            self._armed = (point, int(words[1]))
        self._armed = (point, self._armed[1] - 1)
        if self._armed[1] <= 0:
            self._file.unlink(missing_ok=True)
            with self._file.with_suffix(FIRED).open("a") as fired:
                fired.write(f"{point}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, before: str, after: str, function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Wrap a function with a point in front and one behind."""

        async def wrapped(*args: Any, **options: Any) -> Any:
            self.reach(before)
            answer = await function(*args, **options)
            self.reach(after)
            return answer

        return wrapped


def fired(folder: Path) -> Counter[str]:
    """Count at which points processes have died."""
    return Counter(word for file in folder.glob(f"*{FIRED}") for word in file.read_text().split())


def install(name: str) -> None:
    """Wrap what the service of this name is made of; nothing without the variable."""
    file = os.environ.pop(VARIABLE, "")
    if not file:
        return
    points = Failpoints(Path(file))
    for module in (service, reclaim):
        module.deliver = points.around("read", "handled", module.deliver)  # type: ignore[attr-defined]
    answer = points.around("reply", "replied", delivery.answer)
    modules: list[Any] = [importlib.import_module(f"services.{name}.{room}") for room in ("handlers", "store")]
    for module in (delivery, *modules):
        if hasattr(module, "answer"):
            module.answer = answer
    lua.run_all = points.around("script", "ran", lua.run_all)  # type: ignore[assignment]
    Redis.xack = points.around("ack", "acked", Redis.xack)  # type: ignore[method-assign,assignment]
