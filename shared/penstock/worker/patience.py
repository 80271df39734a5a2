"""How long the runs of a draining worker may go on; whoever asks it to end may shorten that, or grant more."""

from __future__ import annotations

import asyncio


class Patience:
    """A deadline that may be moved while somebody waits for it; without one it is never over."""

    def __init__(self) -> None:
        self._over = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def give(self, seconds: float, *, at_most: bool = False) -> None:
        """Set the deadline; once it is over it stays so.

        Args:
            seconds: from now.
            at_most: keep an earlier one that is set already.
        """
        when = asyncio.get_running_loop().time() + seconds
        if self._timer:
            if at_most and self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._over.set)

    async def over(self) -> None:
        """Wait for the deadline, wherever it is moved meanwhile."""
        await self._over.wait()

    def forget(self) -> None:
        """Leave no timer behind."""
        if self._timer:
            self._timer.cancel()
