"""End tasks for certain.

Before Python 3.12 ``asyncio.wait_for`` swallows a cancellation that arrives in the moment its own work is done, and
redis-py sends commands through it (large ones, those to a cluster, those on a new connection): a task cancelled once may
simply go on, and whoever waits for its end waits for ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

AGAIN_SECONDS: Final = 0.2


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, again and again until every one has ended; what they raise stays in them and counts as seen."""
    every = list(tasks)
    left = {task for task in every if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_SECONDS)
    await asyncio.gather(*every, return_exceptions=True)
