"""Thousands of entries to every stream somebody reads, in chunks that are judged one by one."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import connect
from penstock.cli.embedded_redis import EmbeddedRedis
from penstock.contracts.catalogue import WORKER
from penstock.streams import ALL
from tests.system.fuzz import aftermath
from tests.system.fuzz.crew import Crew
from tests.system.fuzz.messages import HAND, HANDS, Messages
from tests.system.fuzz.mutations import Mutator
from tests.system.fuzz.oracle import BAD, judge, readers_of
from tests.system.fuzz.verdicts import Sent, Tally, letters_of, wants_answer
from tests.system.fuzz.work import GoodWork

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.system.fuzz.mutations import Fields
    from tests.system.fuzz.oracle import Verdict

    Letters = dict[tuple[str, str, str], list[dict[str, Any]]]

T = TypeVar("T")
CHUNK: Final = 1000
"""Entries that are judged together: their letters, 21 of each at most and seldom more than one, fit into ``dead``."""
PATIENCE_SECONDS: Final = 60.0
START_SECONDS: Final = 240.0
"""Far above what starting takes, for machines that do much else."""
VALID: Final = 0.15
"""Of the entries, sent as they are."""
LOG_BYTES_AN_ENTRY: Final = 2500
MEMORY_MB: Final = 400
INBOX: Final = keys.key(0, "inbox", f"{HANDS}/{HAND}")
PROGRESS: Final = 4 * CHUNK
THOROUGH: Final = 10_000
"""Entries after which every reading command is typed, and not only some."""
LAST_SECONDS: Final = 5.0
AT_ONCE: Final = 100
NO_GROUPS: Final = ("events", "logs")
"""Streams whose readers bury nothing: what is no message there is passed over."""
READ: Final = ("commands", "heartbeats", "dispatch", "definitions")
_CAPS: Final = {stream.name: stream.max_length for stream in ALL}


@dataclass
class StreamResult:
    """What a run of entries proves."""

    tally: Tally
    wrong: list[str]
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def broken(self) -> list[str]:
        """All that must not be."""
        return [*self.wrong, *self.tally.wrong]


class StreamFuzz:
    """One run.

    Args:
        seed: decides everything but the speed of the machine.
        folder: for data and logs.
        entries: how many.
    """

    def __init__(self, seed: int, folder: Path, entries: int) -> None:
        self._chance = random.Random(seed)
        self._messages, self._mutator = Messages(self._chance), Mutator(self._chance)
        self._folder, self._entries = folder, entries
        self._server = EmbeddedRedis(folder / "redis", durable=False)
        self._crew = Crew(folder, self._server.url)
        self._clients: list[Redis] = []
        self._tally = Tally()
        self._wrong: list[str] = []
        self._dead = "-"
        self._answers: dict[str, bytes] = {}

    def _client(self) -> Redis:
        self._clients.append(connect(self._server.url))
        return self._clients[-1]

    async def run(self) -> StreamResult:
        """Send everything, and judge it."""
        began = time.monotonic()
        with self._server:
            client = self._client()
            try:
                async with self._everything() as work:
                    before = self._crew.memory()
                    for first in range(0, self._entries, CHUNK):
                        await self._chunk(client, min(CHUNK, self._entries - first))
                        self._progress(first, began)
                    await self._finish(client, work)
                    figures = await self._figures(client, work, began, before)
            finally:
                self._crew.end()
                for one in self._clients:
                    await one.aclose()
        return StreamResult(self._tally, self._wrong + self._crew.wrong, figures)

    async def _step(self, name: str, step: Awaitable[T]) -> T:
        began = time.monotonic()
        answer = await step
        sys.stderr.write(f"{time.monotonic() - began:5.0f} s  for {name}\n")
        return answer

    def _progress(self, first: int, began: float) -> None:
        if first % PROGRESS == 0:
            wrong = len(self._wrong) + self._tally.count_wrong
            sys.stderr.write(f"{time.monotonic() - began:5.0f} s  after {first + CHUNK} entries  {wrong} wrong\n")
            sys.stderr.writelines(f"    {text[:500]}\n" for text in [*self._wrong, *self._tally.wrong][-3:])

    @contextlib.asynccontextmanager
    async def _everything(self) -> AsyncIterator[GoodWork]:
        self._crew.start_services()
        await self._crew.until_ready()
        work = GoodWork(self._client(), self._server.url, random.Random(self._chance.random()))
        await work.define()
        self._messages.logged = await work.submit_logged()
        self._crew.start_others()
        await self._meet_worker()
        async with contextlib.AsyncExitStack() as stack:
            for worker in work.workers:
                await stack.enter_async_context(worker)
            tasks = [asyncio.ensure_future(body) for body in (work.submit(), work.follow(), self._crew.watch())]
            try:
                yield work
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                await end_tasks(tasks)

    async def _meet_worker(self) -> None:
        """Learn which life of the real worker its inbox is for."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                pool_id: Any = await self._clients[0].hget(keys.key(0, "pools"), HANDS)
                ident = keys.worker_ident(pool_id.decode(), HAND)
                boot_id: Any = await self._clients[0].hget(keys.key(0, "worker", ident), "boot_id")
                if boot_id:
                    self._messages.boot_id = boot_id.decode()
                    return
                await asyncio.sleep(0.05)

    async def _chunk(self, client: Redis, count: int) -> None:
        pools: Any = await client.hgetall(keys.key(0, "pools"))
        ids = [ident.decode() for name, ident in pools.items() if name.decode().startswith("victim")]
        self._messages.pool_ids = [*ids, "5c8f0a46-54a1-4b36-9d8f-1f9f4a2a7c11"]
        sent: list[Sent] = []
        for first in range(0, count, AT_ONCE):
            sent += await self._send(client, [self._entry() for _ in range(min(AT_ONCE, count - first))])
            # On a busy machine the first answers would have expired when the last entry is sent.
            await self._collect(client, set(_asked(sent)) - set(self._answers))
        asked = _asked(sent)
        found = await self._until_done(client, sent, set(asked))
        for one in sent:
            self._tally.entries[one.stream] += 1
            for reader in one.verdicts:
                group = f"worker {HAND}" if reader == WORKER else reader
                self._tally.judge(one, reader, found.get((self._key(one.stream), one.id, group), []))
        for ident, (one, verdict) in asked.items():
            self._tally.judge_answer(one, verdict, self._answers.pop(ident, None))

    def _entry(self) -> tuple[str, Fields]:
        stream = self._messages.stream()
        if self._chance.random() < 0.02:
            return stream, self._mutator.noise()
        message = self._messages.make(stream)
        if self._chance.random() < VALID:
            return stream, self._mutator.valid(message)
        return stream, self._mutator.entry(message)

    async def _send(self, client: Redis, entries: list[tuple[str, Fields]]) -> list[Sent]:
        pipe = client.pipeline(transaction=False)
        for stream, fields in entries:
            given: Any = fields
            pipe.xadd(self._key(stream), given, maxlen=_CAPS.get(stream, 20_000), approximate=True)
        sent = []
        for (stream, fields), entry_id in zip(entries, await pipe.execute(), strict=True):
            readers = () if stream in NO_GROUPS else readers_of(stream)
            verdicts = {reader: judge(stream, reader, fields) for reader in readers}
            sent.append(Sent(stream, entry_id.decode(), fields, verdicts))
        return sent

    def _key(self, stream: str) -> str:
        if stream == "logs":
            return keys.key(0, "logs", self._messages.logged)
        return INBOX if stream == "inbox" else keys.key(0, stream)

    async def _until_done(self, client: Redis, sent: list[Sent], asked: set[str]) -> Letters:
        """Wait until every group has acknowledged everything, answers have come, and the worker has buried what is bad."""
        letters: Letters = {}
        expected = {
            (INBOX, one.id, f"worker {HAND}")
            for one in sent
            if one.stream == "inbox" and one.verdicts[WORKER].what == BAD
        }
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            left = await self._left(client)
            await self._collect(client, asked - set(self._answers))
            await self._read_dead(client, letters)
            if not left:
                if expected <= set(letters) and asked <= set(self._answers):
                    return letters
                # All has been read: what is not there by now is hardly on its way.
                end = min(end, time.monotonic() + LAST_SECONDS)
            await asyncio.sleep(0.1)
        if left:
            self._wrong.append(f"not done after {PATIENCE_SECONDS:g} s: {left}")
        return letters

    async def _left(self, client: Redis) -> list[str]:
        """Say which groups have not read everything, or not acknowledged it."""
        found: list[str] = []
        for stream in READ:
            about: Any = await client.xinfo_stream(self._key(stream))
            found += [
                f"{stream} {group['name'].decode()}: {group['pending']} pending"
                for group in await client.xinfo_groups(self._key(stream))
                if group["pending"] or group["last-delivered-id"] != about["last-generated-id"]
            ]
        return found

    async def _collect(self, client: Redis, asked: set[str]) -> None:
        """Take what has been answered: an answer expires after a minute."""
        idents = sorted(asked)
        pipe = client.pipeline(transaction=False)
        for ident in idents:
            pipe.lpop(keys.key(0, "reply", ident))
        for ident, raw in zip(idents, await pipe.execute() if idents else [], strict=True):
            if raw is not None:
                self._answers[ident] = raw

    async def _read_dead(self, client: Redis, letters: Letters) -> None:
        while True:
            entries: Any = await client.xrange(keys.key(0, "dead"), min=self._dead, count=1000)
            for where, found in letters_of(entries).items():
                letters.setdefault(where, []).extend(found)
            if not entries:
                return
            self._dead = f"({entries[-1][0].decode()}"

    async def _finish(self, client: Redis, work: GoodWork) -> None:
        """Let all that is good end, then look at what is left."""
        work.on = False
        await self._step("good runs", work.settle())
        await self._crew.until_ready()
        self._wrong += work.wrong()
        self._wrong += await self._step("runs", aftermath.unfinished(client, work))
        self._wrong += await self._step("keys", aftermath.strange_keys(client))
        # Heartbeats of the good workers are always on their way.
        for _ in range(50):
            if not (left := await self._left(client)):
                break
            await asyncio.sleep(0.1)
        else:
            self._wrong.append(f"left in the end: {left}")
        self._wrong += await self._step(
            "reading", aftermath.readers_fail(self._server.url, self._folder, few=self._entries < THOROUGH)
        )
        self._wrong += await self._step(
            "output", aftermath.output_fails(client, self._server.url, self._folder, self._messages.logged)
        )
        self._wrong += await self._step("tails", aftermath.tails_behind(self._crew, work))
        self._crew.look()
        self._wrong += self._crew.judge_logs()

    async def _figures(self, client: Redis, work: GoodWork, began: float, before: dict[str, int]) -> dict[str, Any]:
        after, logs = self._crew.memory(), self._crew.log_bytes()
        self._wrong += [
            f"{name} has {size} MB, {before[name]} before" for name, size in after.items() if size > MEMORY_MB
        ]
        # What a start and the good runs write has nothing to do with the entries.
        if sum(logs.values()) > LOG_BYTES_AN_ENTRY * self._entries + 5_000_000:
            self._wrong.append(f"logs of {logs} bytes for {self._entries} entries")
        about: Any = await client.info("memory")
        return {
            "entries": dict(self._tally.entries),
            "verdicts": dict(sorted(self._tally.verdicts.items())),
            "dead letters": dict(self._tally.letters),
            "commands answered": self._tally.answered,
            "commands refused": self._tally.refused,
            "good runs completed": len(work.submitted) + len(work.by_hand),
            "runs ended": len(work.ended),
            "events read": work.events,
            "memory MB": {name: f"{before[name]}-{size}" for name, size in after.items()},
            "log MB": {name: round(size / 1e6, 1) for name, size in logs.items()},
            "redis MB": about["used_memory"] // 1_000_000,
            "seconds": round(time.monotonic() - began),
        }


def _asked(sent: list[Sent]) -> dict[str, tuple[Sent, Verdict]]:
    """Who must be answered."""
    return {
        verdict.command_id: (one, verdict)
        for one in sent
        for verdict in one.verdicts.values()
        if one.stream in ("commands", "dispatch") and wants_answer(verdict)
    }
