"""What a soak asks of Penstock: runs of every fate, cancellations, commands to the registry; and the tally of what came of it."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from penstock import keys
from penstock.bus.connection import connect
from penstock.bus.requests import request
from penstock.client.sdk import Penstock
from penstock.contracts.deployments import ScheduleSpec
from penstock.contracts.runs import TERMINAL, CancelRuns, RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.streams import DISPATCH
from tests.benchmarks.soak_worker import SLOTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from redis.asyncio import Redis

POOLS = {"soak-open": ("critical", "default", "low"), "soak-narrow": ("default", "low"), "soak-third": ("default",)}
CHUNK = 500
SUBMITTERS = 2
"""Of each pool."""
WINDOW = 3 * SLOTS
"""Accepted runs of a pool that have not ended: enough to keep everybody busy, few enough that nothing piles up."""
COMMAND_EVERY_SECONDS = 0.5
ANSWER_SECONDS = 60.0
EVENTS = keys.key(0, "events")
IDLE_GROUP = "soak-idle"
"""Never reads."""
CARELESS_GROUP = "soak-careless"
"""Reads and never acknowledges."""
COUNTING_GROUP = "soak-tally"
_NAME = re.compile(rb'"prefect\.resource\.name":"soak-(\d+)"')
_ENDS = {f"prefect.flow-run.{state.title()}".encode(): state for state in TERMINAL}
_BEGIN = b"prefect.flow-run.Scheduled"


def submitted(number: int, queues: Sequence[str], limited: str) -> SubmittedRun:
    """Make run ``number``; what becomes of it follows from the number, so that every soak has the same shares.

    Of a hundred runs two fail, two fail once and are tried again, one prints, four take a while, two of these are to be cancelled,
    four are due later, two have an idempotency key, ten are of a deployment with a limit.
    """
    share = number % 100
    does: dict[str, Any] = {"text": "x" * 200}
    more: dict[str, Any] = {}
    match share:
        case 1 | 51:
            does["fails"] = 1000
        case 2 | 52:
            does["fails"] = 1
            more = {"retries": 2, "retry_delay_seconds": 0.05}
        case 3:
            does["prints"] = True
        case 4 | 54:
            does["holds"] = 1.0
        case 5 | 55:
            does["holds"] = 0.1
        case 6 | 36 | 56 | 86:
            more = {"scheduled_time": datetime.now(UTC) + timedelta(seconds=1)}
        case 8 | 58:
            more = {"idempotency_key": f"key-{number}"}
        case _ if share % 10 == 9:
            more = {"deployment": limited}
    return SubmittedRun(
        id=new_run_id(0),
        name=f"soak-{number}",
        queue=queues[number % len(queues)],
        spec=RunSpec(entrypoint="flows/etl.py:main", parameters=does),
        **more,
    )


def to_be_cancelled(number: int) -> bool:
    """Say whether somebody cancels run ``number``; whether that comes in time is another matter."""
    return number % 100 in (4, 54, 56, 86)


class Tally:
    """Counts births and ends of runs from the events while they come, run by run; a group of its own that acknowledges.

    Args:
        client: where from.
        runs: how many numbers there may be.
    """

    def __init__(self, client: Redis, runs: int) -> None:
        self._client = client
        self.born, self.ended = bytearray(runs), bytearray(runs)
        self.ends: Counter[str] = Counter()
        self.finished = 0
        self.others_born = self.others_ended = self.events = 0

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            found: Any = await self._client.xreadgroup(COUNTING_GROUP, "one", {EVENTS: ">"}, count=2000, block=500)
            entries = found[0][1] if found else []
            for _, fields in entries:
                self._count(fields)
            if entries:
                await self._client.xack(EVENTS, COUNTING_GROUP, *(entry_id for entry_id, _ in entries))
                self.events += len(entries)

    def _count(self, fields: dict[bytes, bytes]) -> None:
        kind = fields[b"type"]
        state = _ENDS.get(kind)
        body = fields[b"__data__"]
        # A run that returned to its queue is Scheduled again, but not new.
        if state is None and (kind != _BEGIN or b'"initial_state":null' not in body):
            return
        name = _NAME.search(body)
        number = int(name[1]) if name else -1
        if state is None:
            self.others_born += number < 0
            if number >= 0:
                self.born[number] += 1
            return
        self.others_ended += number < 0
        if number >= 0:
            self.ended[number] += 1
            self.ends[state] += 1
            self.finished += 1


class Load:
    """Submits runs of every fate to three pools, cancels some, and sends commands to the registry beside it.

    Args:
        url: of Redis.
        runs: how many in all; what the commands submit beside them counts, too, and comes on top.
    """

    def __init__(self, url: str, runs: int) -> None:
        self._client = connect(url)
        self._penstock = Penstock(self._client, 1, timeout_seconds=ANSWER_SECONDS)
        self._url, self._runs = url, runs
        self._numbers = itertools.count()
        self._limited: dict[str, str] = {}
        self.tally = Tally(self._client, runs + 200_000)
        self.accepted = self.same = self.commands = 0
        self.cancellations: Counter[str] = Counter()
        self.done = False
        self.going = asyncio.Event()
        self.going.set()

    async def prepare(self) -> None:
        """Define pools, queues and deployments as people do, and the groups that read the events."""
        for group in (IDLE_GROUP, CARELESS_GROUP, COUNTING_GROUP):
            await self._client.xgroup_create(EVENTS, group, id="0", mkstream=True)
        for pool, queues in POOLS.items():
            await self._penstock.create_pool(pool, concurrency_limit=400 if pool == "soak-narrow" else None)
            for queue in queues:
                await self._penstock.create_queue(pool, queue, if_missing=True)
            deployment = await self._penstock.create_deployment(
                f"limited/{pool}", pool=pool, entrypoint="flows/etl.py:main", concurrency_limit=50
            )
            self._limited[pool] = deployment.id
        await self._penstock.update_queue("soak-open", "critical", priority=1)
        await self._penstock.update_queue("soak-open", "low", concurrency_limit=100)
        await self._penstock.create_deployment(
            "tick/soak",
            pool="soak-third",
            entrypoint="flows/etl.py:main",
            schedules=[ScheduleSpec(interval_seconds=10)],
        )

    async def read_carelessly(self) -> None:
        """Read all events and acknowledge none, until cancelled."""
        while True:
            await self._client.xreadgroup(CARELESS_GROUP, "one", {EVENTS: ">"}, count=2000, block=500)

    @property
    def open(self) -> int:
        """Accepted runs whose end has not been counted yet."""
        return self.accepted - self.tally.finished

    async def submit(self) -> None:
        """Submit all runs; pauses while ``going`` is not set."""
        await asyncio.gather(
            *(self._submit_to(pool, queues) for pool, queues in POOLS.items() for _ in range(SUBMITTERS))
        )
        self.done = True

    async def _submit_to(self, pool: str, queues: Sequence[str]) -> None:
        client = connect(self._url)
        cancelled: list[str] = []
        again: list[SubmittedRun] = []
        for numbers in self._chunks():
            await self.going.wait()
            while self.open > WINDOW * len(POOLS):
                await asyncio.sleep(0.005)
            runs = [submitted(number, queues, self._limited[pool]) for number in numbers]
            await self._submit(client, pool, [*runs, *again])
            if cancelled:
                await self._cancel(client, cancelled)
            # Sent a second time under another id: the answer names the first.
            keyed = [run for run in runs if run.idempotency_key][:1]
            again = [run.model_copy(update={"id": new_run_id(0), "name": "again"}) for run in keyed]
            cancelled = [run.id for number, run in zip(numbers, runs, strict=True) if to_be_cancelled(number)]
        await client.aclose()

    def _chunks(self) -> Iterator[list[int]]:
        while numbers := [number for number in itertools.islice(self._numbers, CHUNK) if number < self._runs]:
            yield numbers

    async def _submit(self, client: Redis, pool: str, runs: Sequence[SubmittedRun]) -> None:
        result = await request(client, DISPATCH, 0, SubmitRuns(pool=pool, runs=list(runs)), ANSWER_SECONDS)
        if result["refused"]:
            raise RuntimeError(f"refused: {result['refused'][:3]}")
        self.accepted += len(result["accepted"])
        self.same += len(result["same"])

    async def _cancel(self, client: Redis, runs: Sequence[str]) -> None:
        result = await request(client, DISPATCH, 0, CancelRuns(runs=list(runs)), ANSWER_SECONDS)
        self.cancellations.update({word: len(found) for word, found in result.items()})

    # What people do beside it

    async def command(self) -> None:
        """Send commands until all runs have been submitted, each kind in its turn."""
        for turn in itertools.count():
            await asyncio.sleep(COMMAND_EVERY_SECONDS)
            await self.going.wait()
            if self.done:
                return
            steps: list[Callable[[int], Awaitable[None]]] = [
                self._pause_a_queue,
                self._change_limits,
                self._pass_a_queue,
                self._pass_a_pool,
                self._pause_a_schedule,
            ]
            await steps[turn % len(steps)](turn)
            self.commands += 1

    async def _pause_a_queue(self, _: int) -> None:
        await self._penstock.pause_queue("soak-open", "low")
        await self._penstock.resume_queue("soak-open", "low")

    async def _change_limits(self, turn: int) -> None:
        await self._penstock.update_queue("soak-open", "low", concurrency_limit=80 + turn % 40)
        await self._penstock.update_pool("soak-narrow", concurrency_limit=350 + turn % 100)
        await self._penstock.update_deployment("limited/soak-open", concurrency_limit=30 + turn % 40)

    async def _pass_a_queue(self, turn: int) -> None:
        """Create a queue whose runs wait for tomorrow, and delete it."""
        queue = f"passing-{turn}"
        await self._penstock.create_queue("soak-narrow", queue, priority=1)
        await self._submit(self._client, "soak-narrow", self._extra(queue, tomorrow=True))
        await self._penstock.delete_queue("soak-narrow", queue)

    async def _pass_a_pool(self, turn: int) -> None:
        """Create a pool nobody works for, with a deployment, and delete both."""
        pool = f"passing-{turn}"
        await self._penstock.create_pool(pool)
        deployment = await self._penstock.create_deployment(
            f"passing/{pool}", pool=pool, entrypoint="flows/etl.py:main", concurrency_limit=1
        )
        await self._submit(self._client, pool, self._extra("default", deployment=deployment.id))
        await self._penstock.delete_deployment(f"passing/{pool}")
        await self._penstock.delete_pool(pool)

    async def _pause_a_schedule(self, turn: int) -> None:
        await self._penstock.pause_deployment("tick/soak")
        await self._penstock.update_deployment("tick/soak", parameters={"turn": turn})
        await self._penstock.resume_deployment("tick/soak")

    def _extra(self, queue: str, *, tomorrow: bool = False, **more: Any) -> list[SubmittedRun]:
        when = datetime.now(UTC) + timedelta(days=1) if tomorrow else None
        # Numbers beyond those of the load, in its tally.
        first = self._runs + self.commands * 10
        spec = RunSpec(entrypoint="flows/etl.py:main")
        return [
            SubmittedRun(
                id=new_run_id(0), name=f"soak-{first + n}", queue=queue, scheduled_time=when, spec=spec, **more
            )
            for n in range(10)
        ]

    async def finish(self) -> None:
        """Delete the schedule, so that nothing waits any more."""
        await self._penstock.delete_deployment("tick/soak")
