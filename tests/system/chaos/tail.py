"""Follows the event stream from the first event on, into the record; knows who is not finished."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import orjson
from redis.exceptions import RedisError

from penstock import keys
from penstock.contracts.runs import TERMINAL

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from tests.system.history import Recorder

LOOKS_BACK_MS = 10_000


class Tail:
    """Reads every event once.

    Args:
        client: of its own.
        recorder: told of each.
    """

    def __init__(self, client: Redis, recorder: Recorder) -> None:
        self._client = client
        self._recorder = recorder
        self._last = "0"
        self._recent: deque[tuple[int, str, dict[str, Any]]] = deque(maxlen=100_000)
        self.states: dict[str, str] = {}
        self.open: set[str] = set()
        self._followed: Counter[str] = Counter()
        self.finished = 0

    async def run(self) -> None:
        """Read for ever."""
        while True:
            try:
                answer: Any = await self._client.xread({keys.key(0, "events"): self._last}, count=1000, block=500)
            except (RedisError, OSError):
                await asyncio.sleep(0.1)
                continue
            for entry_id, fields in answer[0][1] if answer else []:
                self._take(entry_id.decode(), orjson.loads(fields[b"__data__"]))

    async def until_one_finished(self) -> None:
        """Wait until a run has ended."""
        while True:
            if self.finished:
                return
            await asyncio.sleep(0.02)

    def _take(self, entry_id: str, event: dict[str, Any]) -> None:
        self._last = entry_id
        self._recorder.write("event", id=entry_id, event=event)
        self._recent.append((int(entry_id.partition("-")[0]), entry_id, event))
        if event["event"].startswith("prefect.flow-run."):
            self._follow(event)

    def _follow(self, event: dict[str, Any]) -> None:
        run_id = event["resource"]["prefect.resource.id"].removeprefix("prefect.flow-run.")
        state = event["resource"]["prefect.state-type"]
        self.states[run_id] = state
        self._followed[run_id] += 1
        if state in TERMINAL:
            self.finished += run_id in self.open
            self.open.discard(run_id)
        else:
            self.open.add(run_id)

    async def after_outage(self, ended: int) -> tuple[int, int]:
        """Find out which events Redis has forgotten.

        Args:
            ended: ms, when Redis was gone; no event of before came later.

        Returns:
            How many, and the moment (ms) of the last one it still knows: its file is a prefix of what it did, so it knows all that
            came before.
        """
        begin = ended - LOOKS_BACK_MS
        while True:
            with contextlib.suppress(RedisError, OSError):
                kept: Any = await self._client.xrange(keys.key(0, "events"), min=str(begin))
                break
            await asyncio.sleep(0.1)
        there = {entry_id.decode() for entry_id, _ in kept}
        moments = (int(entry_id.partition("-")[0]) for entry_id in there)
        known = max((at for at in moments if at <= ended), default=begin)
        gone = [
            (at, entry_id, event)
            for at, entry_id, event in self._recent
            if begin <= at <= ended and entry_id not in there
        ]
        if gone:
            self._recorder.write("rewound", ids=[entry_id for _, entry_id, _ in gone])
            forgotten = {entry_id for _, entry_id, _ in gone}
            self._recent = deque((one for one in self._recent if one[1] not in forgotten), maxlen=self._recent.maxlen)
            await self._look_again({event["resource"]["prefect.resource.id"] for _, _, event in gone})
        return len(gone), known

    async def _look_again(self, resources: set[str]) -> None:
        """What was read and forgotten does not count: ask Redis where those runs are."""
        for resource in resources:
            run_id = resource.removeprefix("prefect.flow-run.")
            if run_id == resource:
                continue
            followed = self._followed[run_id]
            found: Any = await self._client.hmget(keys.key(0, "run", run_id), ["name", "state"])
            known, state = found
            if self._followed[run_id] != followed:
                continue  # an event that was read meanwhile knows more
            self.open.discard(run_id)
            self.states.pop(run_id, None)
            if known is not None:
                self.states[run_id] = (state or b"SCHEDULED").decode()
                if self.states[run_id] not in TERMINAL:
                    self.open.add(run_id)
