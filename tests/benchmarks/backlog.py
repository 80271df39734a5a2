"""Put runs into queues as fast as Redis takes them, and see what handing some of them out costs it. For growth and memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from penstock import lua
from penstock.contracts.runs import MAX_RUNS_PER_MESSAGE, RunSpec, new_run_id
from services.dispatcher.settings import DispatcherSettings
from services.dispatcher.store import ANNOUNCE_WORKER, SUBMIT_RUNS, DispatchStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from redis.asyncio import Redis

    from penstock.lua import Value
    from tests.definitions import DefinedPool

PARAMETERS_BYTES: Final = 300
_MESSAGES_AT_ONCE: Final = 4


class Cost(NamedTuple):
    """What handing out one run costs, in microseconds: time Redis spent in scripts, and time the caller waited."""

    redis: float
    wall: float


def spec_json(parameters_bytes: int) -> str:
    """What a run carries, with parameters of so many bytes as JSON."""
    text = "x" * (parameters_bytes - len('{"text":""}'))
    return RunSpec(entrypoint="flows/etl.py:main", parameters={"text": text}).model_dump_json(exclude_defaults=True)


class Backlog:
    """The runs that wait in one pool.

    Args:
        client: of a Redis nobody else uses.
        pool: defined there.
        sizes: of the parameters, in bytes, taken in turn.
    """

    def __init__(self, client: Redis, pool: DefinedPool, sizes: Sequence[int] = (PARAMETERS_BYTES,)) -> None:
        self._client = client
        self._pool = pool
        self._specs = [spec_json(size) for size in sizes]
        self._store = DispatchStore(client, DispatcherSettings())
        self._workers = 0

    async def submit(self, count: int, queues: Sequence[str] = ("default",), deployment: str = "") -> None:
        """Submit runs by the dispatcher's script, spread over queues in turn; nothing is handed out."""
        while count > 0:
            calls: list[lua.Call] = []
            while count > 0 and len(calls) < _MESSAGES_AT_ONCE:
                part = min(count, MAX_RUNS_PER_MESSAGE)
                rest = self._runs(part, queues, deployment)
                message = {"command_id": "", "deadline": None, "pool": self._pool.name, "malformed": "", "final": True}
                calls.append(SUBMIT_RUNS.bind(0, home=0, rest=rest, **message))
                count -= part
            for words, refused in await lua.run_all(self._client, calls):
                assert set(words) == {b"accepted"}, refused

    async def hand_out(self, count: int, queues: Sequence[str] = ()) -> Cost:
        """Let a new worker with as many free slots claim that many runs.

        Args:
            count: a worker may have up to 10,000 slots.
            queues: the worker serves only these.

        Raises:
            AssertionError: so many were not there.
        """
        self._workers += 1
        about: dict[str, Any] = {"pool": self._pool.name, "pool_id": self._pool.id, "worker": f"w{self._workers}"}
        announcement = ANNOUNCE_WORKER.bind(
            0, **about, boot_id="b", seq=1, slots_now=count, prefetch_ms=0, retention=86_400, kept=20_000, rest=queues
        )
        await lua.run_all(self._client, [announcement])
        before, start = await self._script_microseconds(), time.perf_counter()
        claimed = await self._store.claim_runs(0, [self._pool.name])
        wall = time.perf_counter() - start
        spent = await self._script_microseconds() - before
        handed_out = sum(claim.runs for claim in claimed)
        assert handed_out == count, handed_out
        return Cost(spent / count, wall * 1e6 / count)

    async def _script_microseconds(self) -> int:
        about: Any = await self._client.info("commandstats")
        return int(about["cmdstat_evalsha"]["usec"])

    def _runs(self, count: int, queues: Sequence[str], deployment: str) -> Iterator[Value]:
        """Spell runs for submit_runs.lua."""
        for number in range(count):
            yield from (new_run_id(0), f"bench-{number}", queues[number % len(queues)], "")
            yield from (self._specs[number % len(self._specs)], deployment, "", "", "")
