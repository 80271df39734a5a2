"""Random stories, told to the three services on a real Redis and to the model: both must end the same.

After every chapter everything is compared: events per resource, answers, what the services told each other, every inbox (who got
what), definitions and statuses, waiting and in-flight sets, offered slots, states of runs. Raise EXAMPLES and STEPS to look
longer.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from tests.services.domain_chances import (
    BEATS,
    DEPLOYMENT_COMMANDS,
    DEPLOYMENT_LIMITS,
    DEPLOYMENTS,
    INDEX,
    LATE_MS,
    LIMITS,
    NEW_POOLS,
    POOL_COMMANDS,
    POOLS,
    QUEUE_COMMANDS,
    QUEUES,
    RARELY,
    RETRIES,
    SCHEDULES,
    SENT_BEFORE_MS,
    SOON,
    SOON_MS,
    SUBMITTED,
    WORKERS,
)
from tests.services.domain_model import COMMANDS, DISPATCH, FIRST, THEN, Reader
from tests.services.domain_telling import ToldTwice

if TYPE_CHECKING:
    from tests.services.domain_world import Wire

EXAMPLES = 60
STEPS = 40


class Story(ToldTwice):
    """One story, told twice."""

    @initialize(
        new=NEW_POOLS,
        limits=st.tuples(LIMITS, LIMITS, DEPLOYMENT_LIMITS),
        slots=st.integers(1, 4),
        retries=RETRIES,
        one_by_one=st.sampled_from([False, False, True]),
    )
    def work_goes_on(
        self, new: Wire, limits: tuple[int | None, ...], slots: int, retries: tuple[int, int], one_by_one: bool
    ) -> None:
        """A pool with two workers and two queues, and runs in both, some of them of a deployment."""
        self.model.one_by_one = self.services.one_by_one = one_by_one
        pool = {"type": "create_pool", **new, "worker_type": "process", "is_paused": False}
        self.command_about_a_pool(pool="etl", command=pool, soon=False)
        queue = {"type": "create_queue", "priority": 1, "is_paused": False, "if_missing": False}
        self.command_about_a_queue(pool="etl", queue="a", command={**queue, "concurrency_limit": limits[0]}, soon=False)
        limited = {"type": "update_queue", "changes": {"concurrency_limit": limits[1]}}
        self.command_about_a_queue(pool="etl", queue="default", command=limited, soon=True)
        self.a_plain_worker_comes_online(worker="w1", slots=slots, named=[], soon=True)
        self.a_plain_worker_comes_online(worker="w2", slots=1, named=["a"], soon=True)
        self.create_deployment("hello/demo", concurrency_limit=limits[2])
        self._submit("etl", [("default", None), ("a", None)], soon=True)
        about = {"deployment": "deployment-1", "retries": retries[0], "delay": retries[1]}
        self._submit("etl", [("default", None), ("a", None), ("a", None)], soon=True, **about)

    @rule(pool=POOLS, command=POOL_COMMANDS, soon=SOON)
    def command_about_a_pool(self, pool: str, command: Wire, soon: bool) -> None:
        self._send("commands", {**command, "pool": pool}, soon=soon)

    @rule(pool=POOLS, queue=QUEUES, command=QUEUE_COMMANDS, soon=SOON)
    def command_about_a_queue(self, pool: str, queue: str, command: Wire, soon: bool) -> None:
        self._send("commands", {**command, "pool": pool, "queue": queue}, soon=soon)

    @rule(deployment=DEPLOYMENTS, command=DEPLOYMENT_COMMANDS, soon=SOON)
    def command_about_a_deployment(self, deployment: str, command: Wire, soon: bool) -> None:
        self._send("commands", {**command, "deployment": deployment}, soon=soon)

    @rule(
        deployment=DEPLOYMENTS,
        pool=POOLS,
        queue=QUEUES,
        times=st.lists(st.sampled_from([None, None, None, SOON_MS, -1]), min_size=1, max_size=4),
        retries=RETRIES,
        key=st.sampled_from([None, None, None, "k1", "k2"]),
        soon=SOON,
    )
    def submit_runs_of_a_deployment(
        self,
        deployment: str,
        pool: str,
        queue: str,
        times: list[int | None],
        retries: tuple[int, int],
        key: str | None,
        soon: bool,
    ) -> None:
        about = {"deployment": self._last_id(deployment), "key": key, "retries": retries[0], "delay": retries[1]}
        self._submit(pool, [(queue, later) for later in times], soon=soon, **about)

    @rule(
        deployment=DEPLOYMENTS,
        schedule=SCHEDULES,
        catch_up=st.sampled_from(["all", "all", "latest"]),
        times=st.lists(st.sampled_from([SOON_MS, SOON_MS, LATE_MS, -1, -2, -3]), min_size=1, max_size=3, unique=True),
        ahead=st.sampled_from([0, 0, 0, 0, 1, -1]),
        retries=RETRIES,
        soon=SOON,
    )
    def a_schedule_makes_runs(
        self,
        deployment: str,
        schedule: str,
        catch_up: str,
        times: list[int],
        ahead: int,
        retries: tuple[int, int],
        soon: bool,
    ) -> None:
        """In the pool and queue of the deployment, under the revision it has, or nearly."""
        if known := self.world.deployments.get(deployment):
            by = (schedule, max(1, known.revision + ahead), catch_up)
            for later in times:
                about = {"deployment": known.id, "by": by, "retries": retries[0], "delay": retries[1]}
                self._submit(known.pool, [(known.queue, later)], soon=soon, key=f"{schedule}:{later}", **about)

    @precondition(lambda self: self._known)
    @rule(which=st.lists(INDEX, min_size=1, max_size=4), force=RARELY, soon=SOON)
    def cancel_runs(self, which: list[int], force: bool, soon: bool) -> None:
        """Of any age and in any state."""
        self._cancel([self._known[-1 - index % len(self._known)] for index in which], force=force, soon=soon)

    @precondition(lambda self: self._held())
    @rule(which=st.lists(INDEX, min_size=1, max_size=3), force=st.booleans(), soon=SOON)
    def cancel_runs_in_flight(self, which: list[int], force: bool, soon: bool) -> None:
        held = self._held()
        self._cancel([held[index % len(held)][0] for index in which], force=force, soon=soon)

    @precondition(lambda self: self._known)
    @rule(which=st.lists(INDEX, min_size=1, max_size=4, unique=True), soon=SOON)
    def delete_runs(self, which: list[int], soon: bool) -> None:
        runs = [self._known[-1 - index % len(self._known)] for index in which]
        self._send("dispatch", {"type": "delete_runs", "id": self._next_id(), "runs": runs}, soon=soon)

    @precondition(lambda self: any(run.state == "CANCELLING" for run in self.world.runs.values()))
    @rule()
    def no_worker_ends_in_time_what_was_cancelled(self) -> None:
        self._settle()
        self._do(self.services.give_up_waiting())
        self.model.dispatcher.give_up_waiting()
        self._settle()

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
    @rule(soon=SOON, fails=st.booleans())
    def everybody_works(self, soon: bool, fails: bool) -> None:
        """What was handed out starts, what runs completes or fails, what was cancelled is stopped."""
        held: dict[tuple[str, str, str], list[tuple[str, int]]] = defaultdict(list)
        for run_id, epoch in self._held():
            before = self.world.runs[run_id].state
            state = {"PENDING": "RUNNING", "RUNNING": "FAILED" if fails else "COMPLETED"}.get(before, "CANCELLED")
            held[*self._claims[run_id, epoch], state].append((run_id, epoch))
        for (pool, worker, state), claims in held.items():
            told = [(run_id, epoch, f"{run_id}.{epoch}") for run_id, epoch in claims]
            self._report(pool, worker, told, state, 1, soon=False)
        if soon:
            self._settle()

    @precondition(lambda self: self._held())
    @rule(
        which=st.lists(INDEX, min_size=1, max_size=3),
        state=st.sampled_from(["RUNNING", "COMPLETED", "FAILED", "FAILED", "CRASHED", "SCHEDULED", "CANCELLED"]),
        started_ms=st.none() | st.just(1),
        soon=SOON,
    )
    def some_report(self, which: list[int], state: str, started_ms: int | None, soon: bool) -> None:
        self._report_held(which, state, started_ms, soon=soon)

    @precondition(lambda self: self._claims)
    @rule(
        which=INDEX,
        state=st.sampled_from(["RUNNING", "COMPLETED", "FAILED", "SCHEDULED", "CANCELLED"]),
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
        # A command without an id says of itself that it may be executed twice; a run that was deleted is made anew.
        if sent and (reader != COMMANDS or sent[place]["id"]) and not self._submits_deleted(reader, sent[place]):
            self._do(self.services.again(reader, place))
            self.model.again(reader, place)
            self._settle()


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
