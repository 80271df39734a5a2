"""Follow one run: its states and its output, in the order in which they happened."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.client.events import EventStream
from penstock.client.logs import RunOutput
from penstock.contracts.runs import TERMINAL
from penstock.errors import CursorExpired, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redis.asyncio import Redis

    from penstock.client.run_store import RunStore
    from penstock.contracts.events import Event
    from penstock.contracts.logs import LogLine
    from penstock.contracts.runs import PastState

RUN_EVENTS = "prefect.flow-run."
BEFORE_RUNNING = frozenset({"SCHEDULED", "PENDING"})


class RunFollower:
    """Follows a run; one object serves one reader.

    Events only ring: which states there were is read from the run itself, so that none is missed when events were trimmed.

    Args:
        client: reads only.
        runs: reads the run.
        run_id: which.
    """

    def __init__(self, client: Redis, runs: RunStore, run_id: str) -> None:
        self._client = client
        self._runs = runs
        self._run_id = run_id
        self._output = RunOutput(client, run_id)
        self._last: PastState | None = None
        self._early: list[LogLine] = []

    async def follow(self) -> AsyncGenerator[PastState | LogLine, None]:
        """Hand out states and lines until the run has ended; a line is never behind the state that ended its attempt.

        Raises:
            NotFound: the run was deleted meanwhile.
            Unavailable: Redis does not answer.
        """
        while True:
            stream = EventStream(self._client, [keys.partition_of_run(self._run_id)], [f"{RUN_EVENTS}*"])
            # First the position, then the look: a move in between is seen by both rather than by neither.
            await stream.start(None)
            for step in await self._news():
                yield step
            if self._ended:
                return
            try:
                async with aclosing(self._live(stream)) as steps:
                    async for step in steps:
                        yield step
            except CursorExpired:
                continue
            else:
                return

    async def _live(self, stream: EventStream) -> AsyncGenerator[PastState | LogLine, None]:
        async with aclosing(stream.read(follow=True)) as events:
            ring = asyncio.create_task(self._ring(events))
            lines = asyncio.create_task(self._output.more())
            try:
                while not self._ended:
                    await asyncio.wait({ring, lines}, return_when=asyncio.FIRST_COMPLETED)
                    if ring.done():
                        ring.result()
                        # Nobody else may read on while this looks for what came before the state.
                        await end_tasks([lines])
                    if lines.done() and not lines.cancelled():
                        for line in self._in_place(lines.result()):
                            yield line
                    if ring.done():
                        for step in await self._news():
                            yield step
                        ring = asyncio.create_task(self._ring(events))
                    if lines.done():
                        lines = asyncio.create_task(self._output.more())
            finally:
                await end_tasks([ring, lines])

    def _in_place(self, lines: list[LogLine]) -> list[LogLine]:
        """Keep back what was printed by a run that is not known to be running yet: output travels faster than reports."""
        if self._last is None or self._last.state in BEFORE_RUNNING:
            self._early += lines
            return []
        return lines

    async def _ring(self, events: AsyncGenerator[tuple[str, Event], None]) -> None:
        """Wait for the next event of this run."""
        mine = f"{RUN_EVENTS}{self._run_id}"
        async for _, event in events:
            if event.resource.get("prefect.resource.id") == mine:
                return

    @property
    def _ended(self) -> bool:
        return self._last is not None and self._last.state in TERMINAL

    async def _news(self) -> list[PastState | LogLine]:
        """New states and lines in order; the terminal state comes after everything that was printed."""
        found = await self._runs.read_runs([self._run_id])
        if not found:
            raise NotFound(
                f"run '{self._run_id}' does not exist any more", "it was deleted, or its schedule was changed"
            )
        states = self._new(found[0].states)
        lines = [*self._early, *await self._output.available()]
        self._early = []
        if states:
            self._last = states[-1]
        end = states[-1:] if self._ended else []
        steps, left = _merged(states[: len(states) - len(end)], lines)
        return [*steps, *(left if end else self._in_place(left)), *end]

    def _new(self, states: list[PastState]) -> list[PastState]:
        if self._last is None:
            return states
        if self._last in states:
            return states[len(states) - states[::-1].index(self._last) :]
        # Of a very long history the beginning is forgotten.
        return [state for state in states[1:] if state.at_ms >= self._last.at_ms]


def _merged(states: list[PastState], lines: list[LogLine]) -> tuple[list[PastState | LogLine], list[LogLine]]:
    """Put lines before the states that end an attempt, by their time; what is left comes after all of the states.

    A worker notes the time of a line when it reads it, the time of a state is when the dispatcher heard of it: what a quick run
    printed is older than the news that it runs.
    """
    steps: list[PastState | LogLine] = []
    left = list(lines)
    for state in states:
        while state.state not in ("PENDING", "RUNNING") and left and left[0].at_ms <= state.at_ms:
            steps.append(left.pop(0))
        steps.append(state)
    return steps, left
