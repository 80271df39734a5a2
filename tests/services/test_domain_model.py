"""Random stories, told to the three services on a real Redis and to the model: both must end the same.

After every chapter everything is compared: events per resource, answers, what the services told each other, every inbox (who got
what), definitions and statuses, waiting and in-flight sets, offered slots, states of runs. Raise EXAMPLES and STEPS to look
longer.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from penstock.bus.connection import redis_now_ms
from penstock.contracts.runs import new_run_id
from tests.services.domain_model import COMMANDS, DISPATCH, FIRST, THEN, Model, Reader
from tests.services.domain_on_redis import Services
from tests.services.domain_world import HOUR_MS

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator, Sequence

    from tests.services.domain_world import Event, Wire

EXAMPLES = 80
STEPS = 40

SENT_BEFORE_MS = 2 * HOUR_MS
"""Heartbeats bear ids of two hours ago: with an interval of 10 minutes a worker is overdue, with one of an hour it is not."""
SOON_MS, LATE_MS = HOUR_MS // 6, 240 * HOUR_MS
"""Due within, and beyond, the hour that a worker may be given a run ahead of its time."""

POOLS = st.sampled_from(["etl"] * 6 + ["ml"])
QUEUES = st.sampled_from(["default", "default", "a", "a", "b", "c"])
WORKERS = st.sampled_from(["w1", "w1", "w2", "w3"])
LIMITS = st.sampled_from([None, None, None, 1, 1, 2, 3, 0])
POLICIES = st.sampled_from(["crash", "requeue", "keep"])
RARELY = st.sampled_from([False] * 7 + [True])
SOON = st.sampled_from([True, True, True, False])
"""Whether the services read at once, or only after the next step."""
INDEX = st.integers(0, 1000)

NEW_POOLS = st.fixed_dictionaries(
    {
        "worker_type": st.sampled_from(["process"] * 5 + ["docker"]),
        "is_paused": RARELY,
        "concurrency_limit": LIMITS,
        "on_worker_lost": POLICIES,
        "max_attempts": st.integers(1, 2),
        "if_missing": st.booleans(),
        "overwrite": st.booleans(),
    }
)
POOL_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "concurrency_limit": LIMITS,
        "on_worker_lost": POLICIES,
        "max_attempts": st.integers(1, 2),
        "description": st.sampled_from([None, "nightly"]),
    },
)
POOL_COMMANDS = st.one_of(
    *[st.fixed_dictionaries({"type": st.just("update_pool"), "changes": POOL_CHANGES})] * 3,
    *[st.just({"type": "resume_pool"})] * 2,
    st.just({"type": "pause_pool"}),
    *[NEW_POOLS.map(lambda new: {"type": "create_pool", **new})] * 2,
    st.just({"type": "delete_pool"}),
)
NEW_QUEUES = st.fixed_dictionaries(
    {
        "priority": st.none() | st.integers(1, 6),
        "concurrency_limit": LIMITS,
        "is_paused": RARELY,
        "if_missing": st.booleans(),
    }
)
QUEUE_CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "concurrency_limit": LIMITS,
        "priority": st.integers(1, 6),
        "name": st.sampled_from(["a", "b", "d"]),
    },
)
QUEUE_COMMANDS = st.one_of(
    *[NEW_QUEUES.map(lambda new: {"type": "create_queue", **new})] * 2,
    *[st.fixed_dictionaries({"type": st.just("update_queue"), "changes": QUEUE_CHANGES})] * 3,
    *[st.just({"type": "pause_queue"})] * 2,
    *[st.just({"type": "resume_queue"})] * 2,
    st.just({"type": "delete_queue"}),
)
BEATS = st.fixed_dictionaries(
    {
        "pool": POOLS,
        "worker": WORKERS,
        "worker_type": st.sampled_from(["process"] * 9 + ["docker"]),
        "boot_id": st.sampled_from(["b1", "b1", "b1", "b2", "b3"]),
        "interval_seconds": st.sampled_from([3600, 600]),
        "queues": st.just([]) | st.lists(QUEUES, unique=True, max_size=2),
        "slots": st.integers(0, 4),
        "prefetch_seconds": st.sampled_from([0, 0, 3600]),
        "draining": st.sampled_from([False, False, True]),
        "stopping": RARELY,
    }
)
SUBMITTED = st.lists(st.tuples(QUEUES, st.sampled_from([None, SOON_MS, LATE_MS, -1, -2])), min_size=1, max_size=4)


class Story(RuleBasedStateMachine):
    """One story, told twice."""

    redis_url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self.services = Services(self.redis_url)
        self.model = Model(self._do(self._begin()))
        self.world = self.model.world
        self._claims: dict[tuple[str, int], tuple[str, str]] = {}
        self._sent = 0
        self._told = 0
        self._parted = False
        self._messages = {"commands": 0, "dispatch": 0, "definitions": 0}

    async def _begin(self) -> int:
        await self.services.client.flushall()
        return await redis_now_ms(self.services.client)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def teardown(self) -> None:
        try:
            if not self._parted:
                self._settle()
                self._delete_everything()
        finally:
            self._do(self.services.close())
            self._runner.close()

    def _delete_everything(self) -> None:
        """What is gone leaves nothing behind: only streams, the numbers of the workers' events, and the last sweep."""
        for pool in sorted(self.world.pools):
            self._send("commands", {"type": "delete_pool", "pool": pool}, soon=True)
        left = self._do(self.services.left_for_ever())
        streams = {reader.stream for reader in (*FIRST, *THEN)} | {"events", "dead"}
        assert_same(left - streams - {"event-ledger", "liveness-tick"}, set())
        assert [run.id for run in self.world.runs.values() if run.state == "SCHEDULED" or run.holds] == []

    # What may happen.

    @initialize(new=NEW_POOLS, limits=st.tuples(LIMITS, LIMITS), slots=st.integers(1, 4))
    def work_goes_on(self, new: Wire, limits: tuple[int | None, int | None], slots: int) -> None:
        """A pool with two workers and two queues, and runs in both."""
        pool = {"type": "create_pool", **new, "worker_type": "process", "is_paused": False}
        self.command_about_a_pool(pool="etl", command=pool, soon=False)
        queue = {"type": "create_queue", "priority": 1, "is_paused": False, "if_missing": False}
        self.command_about_a_queue(pool="etl", queue="a", command={**queue, "concurrency_limit": limits[0]}, soon=False)
        limited = {"type": "update_queue", "changes": {"concurrency_limit": limits[1]}}
        self.command_about_a_queue(pool="etl", queue="default", command=limited, soon=True)
        self.a_plain_worker_comes_online(worker="w1", slots=slots, named=[], soon=True)
        self.a_plain_worker_comes_online(worker="w2", slots=1, named=["a"], soon=True)
        self._submit("etl", [("default", None), ("a", None)] * 2, soon=True)

    @rule(pool=POOLS, command=POOL_COMMANDS, soon=SOON)
    def command_about_a_pool(self, pool: str, command: Wire, soon: bool) -> None:
        self._send("commands", {**command, "pool": pool}, soon=soon)

    @rule(pool=POOLS, queue=QUEUES, command=QUEUE_COMMANDS, soon=SOON)
    def command_about_a_queue(self, pool: str, queue: str, command: Wire, soon: bool) -> None:
        self._send("commands", {**command, "pool": pool, "queue": queue}, soon=soon)

    @rule(beat=BEATS, soon=SOON)
    def heartbeat(self, beat: Wire, soon: bool) -> None:
        number = len(self.world.streams["heartbeats"])
        self._send("heartbeats", (number, self.world.now - SENT_BEFORE_MS + number, beat), soon=soon)

    @rule(worker=WORKERS, slots=st.integers(1, 4), named=st.sampled_from([[], [], ["a"]]), soon=SOON)
    def a_plain_worker_comes_online(self, worker: str, slots: int, named: list[str], soon: bool) -> None:
        about = {"pool": "etl", "worker": worker, "worker_type": "process", "boot_id": "b1", "interval_seconds": 3600}
        rest = {"queues": named, "slots": slots, "prefetch_seconds": 0, "draining": False, "stopping": False}
        self.heartbeat(beat={**about, **rest}, soon=soon)

    @rule(
        which=INDEX,
        changes=st.sampled_from([{}, {"stopping": True}, {"boot_id": "b2"}, {"slots": 3}, {"draining": True}]),
        soon=SOON,
    )
    def a_known_worker_beats(self, which: int, changes: Wire, soon: bool) -> None:
        """The same as before, or nearly."""
        beats = self.world.streams["heartbeats"]
        self.heartbeat(beat={**beats[-1 - which % len(beats)][2], **changes}, soon=soon)

    @precondition(lambda self: self._held())
    @rule(
        which=INDEX,
        kind=st.sampled_from(
            ["stop", "next life", "stop and return", "delete_queue", "pause_queue", "replace the pool"]
        ),
        soon=SOON,
    )
    def trouble_for_a_run_in_flight(self, which: int, kind: str, soon: bool) -> None:
        held = self._held()
        run_id, epoch = held[which % len(held)]
        pool, worker = self._claims[run_id, epoch]
        if kind == "replace the pool":
            self._replace_pool(pool, soon=soon)
        elif kind.endswith("_queue"):
            names = {queue.id: queue.name for pool in self.world.pools.values() for queue in pool.queues}
            queue = names.get(self.world.runs[run_id].queue_id, "a")
            self._send("commands", {"type": kind, "pool": pool, "queue": queue}, soon=False)
            self._submit(pool, [(queue, None)], soon=soon)
        else:
            beats = [beat for _, _, beat in self.world.streams["heartbeats"]]
            last = [beat for beat in beats if (beat["pool"], beat["worker"]) == (pool, worker)][-1]
            if kind.startswith("stop"):
                self.heartbeat(beat={**last, "stopping": True}, soon=soon and kind == "stop")
            if kind != "stop":
                boot = "b2" if kind == "next life" else last["boot_id"]
                self.heartbeat(beat={**last, "stopping": False, "boot_id": boot}, soon=soon)

    def _replace_pool(self, pool: str, *, soon: bool) -> None:
        """By another of its name, and the next submission is there before anybody has heard of it."""
        about = {"worker_type": "process", "is_paused": False, "concurrency_limit": None, "on_worker_lost": "requeue"}
        how = {"max_attempts": 1, "if_missing": False, "overwrite": False}
        self._send("commands", {"type": "delete_pool", "pool": pool}, soon=False)
        self._send("commands", {"type": "create_pool", "pool": pool, **about, **how}, soon=False)
        self._submit(pool, [("default", None), ("default", SOON_MS)], soon=soon)

    @rule(outage=st.sampled_from([False, False, True]))
    def sweep(self, outage: bool) -> None:
        self._settle()
        swept = self._do(self.services.sweep(self.world.now, outage=outage))
        lost = self.model.monitor.sweep(outage=outage)
        assert (swept.verdict, swept.lost) == ("extended" if outage else "judged", lost)
        self._settle()

    @rule(pool=POOLS, queue=QUEUES, count=st.integers(1, 4), soon=SOON)
    def submit(self, pool: str, queue: str, count: int, soon: bool) -> None:
        self._submit(pool, [(queue, None)] * count, soon=soon)

    @rule(pool=POOLS, runs=SUBMITTED, soon=SOON)
    def submit_for_other_times(self, pool: str, runs: list[tuple[str, int | None]], soon: bool) -> None:
        self._submit(pool, runs, soon=soon)

    @precondition(lambda self: self._held())
    @rule(soon=SOON)
    def everybody_works(self, soon: bool) -> None:
        """What was handed out starts, what runs completes."""
        held: dict[tuple[str, str, str], list[tuple[str, int]]] = defaultdict(list)
        for run_id, epoch in self._held():
            state = "RUNNING" if self.world.runs[run_id].state == "PENDING" else "COMPLETED"
            held[*self._claims[run_id, epoch], state].append((run_id, epoch))
        for (pool, worker, state), claims in held.items():
            told = [(run_id, epoch, f"{run_id}.{epoch}") for run_id, epoch in claims]
            self._report(pool, worker, told, state, 1, soon=False)
        if soon:
            self._settle()

    @precondition(lambda self: self._held())
    @rule(
        which=st.lists(INDEX, min_size=1, max_size=3),
        state=st.sampled_from(["RUNNING", "COMPLETED", "FAILED", "CRASHED", "SCHEDULED"]),
        started_ms=st.none() | st.just(1),
        soon=SOON,
    )
    def some_report(self, which: list[int], state: str, started_ms: int | None, soon: bool) -> None:
        self._report_held(which, state, started_ms, soon=soon)

    @precondition(lambda self: self._claims)
    @rule(
        which=INDEX,
        state=st.sampled_from(["RUNNING", "COMPLETED", "FAILED", "SCHEDULED"]),
        trick=st.sampled_from(["none", "wrong epoch", "forged token", "another worker"]),
        soon=SOON,
    )
    def somebody_reports(self, which: int, state: str, trick: str, soon: bool) -> None:
        """Of a claim of any age, or with what never was a claim."""
        claims = list(self._claims)
        run, epoch = claims[-1 - which % len(claims)]
        pool, worker = self._claims[run, epoch]
        token = "forged" if trick == "forged token" else f"{run}.{epoch}"
        epoch = epoch + 1 if trick == "wrong epoch" else epoch
        if trick == "another worker":
            worker = "w2" if worker == "w1" else "w1"
        self._report(pool, worker, [(run, epoch, token)], state, 1, soon=soon)

    @rule(reader=st.sampled_from([*FIRST, *THEN, DISPATCH]), which=INDEX)
    def deliver_again(self, reader: Reader, which: int) -> None:
        """What was read may be delivered once more, however late."""
        self._settle()
        sent = self.world.streams[reader.stream]
        place = len(sent) - 1 - which % len(sent) if sent else -1
        # A command without an id says of itself that it may be executed twice.
        if sent and (reader != COMMANDS or sent[place]["id"]):
            self._do(self.services.again(reader, place))
            self.model.again(reader, place)
            self._settle()

    # How it is told.

    def _next_id(self) -> str:
        self._sent += 1
        return f"sent-{self._sent}"

    def _send(self, stream: str, message: Any, *, soon: bool) -> None:
        if stream == "commands":
            message = {"id": self._next_id(), **message}
        self.model.send(stream, message)
        self._do(self.services.send(stream, message))
        if soon:
            self._settle()

    def _submit(self, pool: str, runs: Iterable[tuple[str, int | None]], *, soon: bool) -> None:
        told = [
            {"id": new_run_id(0), "queue": queue, "due": self.world.now + (later or 0), "at": later}
            for queue, later in runs
        ]
        self._send("dispatch", {"type": "submit_runs", "id": self._next_id(), "pool": pool, "runs": told}, soon=soon)

    def _report_held(self, which: Sequence[int], state: str, started_ms: int | None, *, soon: bool) -> None:
        """Reports of a worker that holds what it reports."""
        held = self._held()
        chosen = [held[index % len(held)] for index in which]
        pool, worker = self._claims[chosen[0]]
        mine = [claim for claim in chosen if self._claims[claim] == (pool, worker)]
        self._report(
            pool, worker, [(run, epoch, f"{run}.{epoch}") for run, epoch in mine], state, started_ms, soon=soon
        )

    def _report(
        self,
        pool: str,
        worker: str,
        claims: Sequence[tuple[str, int, str]],
        state: str,
        started_ms: int | None,
        *,
        soon: bool,
    ) -> None:
        about = {"state": state, "message": "as the worker says", "started_ms": started_ms}
        reports = [{"run": run, "epoch": epoch, "token": token, **about} for run, epoch, token in claims]
        message = {"type": "report_runs", "pool": pool, "worker": worker, "reports": reports}
        self._send("dispatch", message, soon=soon)

    def _held(self) -> list[tuple[str, int]]:
        held = [(run.id, run.epoch) for run in self.world.in_flight()]
        return [claim for claim in held if claim in self._claims]

    # What must be the same.

    def _settle(self) -> None:
        self.model.settle()
        self._parted = True
        self._do(self._compare())
        self._parted = False
        assert self.model.dispatcher.can_claim() == [], "a due run and a free slot were left apart"
        for name, inbox in self.world.inboxes.items():
            pool, _, worker = name.partition("/")
            self._claims.update({(said[1], said[2]): (pool, worker) for said in inbox if said[0] == "assigned"})

    async def _compare(self) -> None:
        await self.services.settle()
        told, self._told = self.world.events[self._told :], len(self.world.events)
        assert_same(_by_resource(await self.services.events()), _by_resource(told))
        answered = await self.services.replies()
        assert_same(answered, {command_id: self.world.answers[command_id] for command_id in answered})
        for stream, count in self._messages.items():
            expected = self.world.streams[stream][count:]
            self._messages[stream] += len(expected)
            assert_same([_essence(sent) for sent in await self.services.messages(stream)], [*map(_essence, expected)])
        real, model = await self.services.seen(), self.model.seen()
        # Waking up once too often harms nobody.
        assert model.pop("due") <= real.pop("due")
        assert_same(real, model)


def assert_same(real: Any, model: Any) -> None:
    """Say where two trees part, not only that they do."""
    apart = list(_apart(real, model, ""))
    assert not apart, "\n".join(apart)


def _apart(real: Any, model: Any, place: str) -> Iterator[str]:
    if isinstance(real, dict) and isinstance(model, dict):
        for name in dict.fromkeys([*real, *model]):
            yield from _apart(real.get(name), model.get(name), f"{place}/{name}")
    elif real != model:
        yield f"{place}:\n  services {real}\n  model    {model}"


def _by_resource(events: Iterable[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[event.resource].append(event)
    return dict(found)


def _essence(message: Wire) -> Wire:
    """What matters of a message: of one that was sent by a client, that it is there."""
    if message["type"] in ("submit_runs", "report_runs"):
        return {"type": message["type"]}
    if message["type"] == "create_queue":
        return {"type": "create_queue", "pool": message["pool"], "queue": message["queue"]}
    return {name: message[name] for name in message if name not in ("seq", "worker_type", "id")}


def test_services_and_model_tell_the_same_story(redis_url: str) -> None:
    run_state_machine_as_test(
        type("Story", (Story,), {"redis_url": redis_url}),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
