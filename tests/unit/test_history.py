"""The judge of histories itself: each promise is broken on purpose, one by one, and a good history breaks none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.system.history import Recorder, Verdict, check, load, parse
from tests.system.history.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

START = 1_800_000_000_000
LIFE = ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED")


class Story:
    """Makes the lines of a history; time passes by 10 ms with every step."""

    def __init__(self, *, pool_limit: int | None = 2) -> None:
        self.lines: list[dict[str, Any]] = []
        self._at = START
        self._seqs: dict[str, int] = {}
        self._states: dict[str, str] = {}
        self._epochs: dict[str, int] = {}
        self._queues: dict[str, str] = {}
        self._deployments: dict[str, str] = {}
        self._lives: dict[str, int] = {}
        self.set("limit", "pool", pool_limit)
        self.set("limit", "queue/high", 1)
        self.set("limit", "deployment/demo", 1)
        self.set("priority", "queue/high", 1)
        self.set("priority", "queue/low", 2)

    def line(self, kind: str, **facts: Any) -> Story:
        self._at += 10
        self.lines.append({"kind": kind, "at": self._at, **facts})
        return self

    def set(self, what: str, of: str, value: Any, *, ok: bool | None = True, patience_ms: int = 0) -> Story:
        sent, self._at = self._at + 10, self._at + 20
        facts = {"what": what, "of": of, "value": value, "sent": sent, "until": sent + patience_ms}
        return self.line("setting", **facts, answered=self._at if ok else None, ok=ok)

    def submit(
        self, run: str, queue: str = "low", deployment: str | None = None, *, wait_ms: int | None = None
    ) -> Story:
        self._queues[run], self._deployments[run] = queue, deployment or ""
        due = None if wait_ms is None else self._at + wait_ms
        self.line("submit", runs=[{"id": run, "queue": queue, "deployment": deployment, "due": due, "delay": 0}])
        self.move(run, "SCHEDULED")
        return self.line("accepted", runs=[run])

    def event(self, resource: str, name: str, seq: int | None = None, **more: Any) -> Story:
        self._seqs[resource] = seq or self._seqs.get(resource, 0) + 1
        self._at += 10
        event = {
            "id": f"{resource}-{self._seqs[resource]}",
            "event": name,
            "occurred": f"2027-01-15T08:00:{(self._at - START) / 1000:09.6f}Z",
            "resource": {"prefect.resource.id": resource, "prefect.resource.name": resource, **more.pop("also", {})},
            "related": [],
            "seq": self._seqs[resource],
            **more,
        }
        return self.line("event", id=f"{self._at}-0", event=event)

    def move(self, run: str, to: str, *, name: str = "") -> Story:
        self._states[run] = to
        self._epochs[run] = self._epochs.get(run, 0) + (to == "PENDING")
        of = self._deployments.get(run)
        deployment = [{"prefect.resource.role": "deployment", "prefect.resource.name": of}] if of else []
        queue = {"prefect.resource.role": "work-queue", "prefect.resource.name": self._queues.get(run, "low")}
        return self.event(
            f"prefect.flow-run.{run}",
            f"prefect.flow-run.{name or to.title()}",
            related=[*deployment, queue],
            also={"prefect.state-type": to},
        )

    def worker(self, name: str, *queues: str, slots: int = 9, life: int = 1) -> Story:
        self._lives[name] = life
        return self.line("worker", worker=name, boot=f"{name}-{life}", queues=list(queues), slots=slots)

    def claim(
        self,
        run: str,
        worker: str = "w1",
        epoch: int = 1,
        token: str = "",
        life: int = 0,
        late_ms: int = 0,
    ) -> Story:
        token = token or f"{run}-{epoch}"
        boot = f"{worker}-{life or self._lives.get(worker, 1)}"
        facts = {"run": run, "epoch": epoch, "token": token, "worker": worker, "boot": boot}
        return self.line("claim", **facts, assigned=self._at - late_ms)

    def report(self, run: str, state: str, worker: str = "w1", epoch: int = 1, token: str = "") -> Story:
        token = token or f"{run}-{epoch}"
        return self.line("report", run=run, epoch=epoch, token=token, worker=worker, state=state)

    def hand_out(self, run: str, worker: str = "w1") -> Story:
        return self.move(run, "PENDING").claim(run, worker, self._epochs[run])

    def run(self, run: str, end: str = "COMPLETED", worker: str = "w1") -> Story:
        epoch = self._epochs[run]
        self.report(run, "RUNNING", worker, epoch).move(run, "RUNNING")
        return self.report(run, end, worker, epoch).move(run, end)

    def expire(self, run: str, epoch: int) -> Story:
        return self.event(f"penstock.claim.{run}.{epoch}", "penstock.run.claim-expired")

    def end(self, **wrong: Any) -> Story:
        """What is stored at the end; by default what the events say."""
        runs = {
            run: [state, self._seqs[f"prefect.flow-run.{run}"], self._epochs[run]]
            for run, state in self._states.items()
        }
        return self.line("state", **{"runs": runs, "ledger": {}, "held": {}, "workers": {}, **wrong})

    def judged(self) -> Verdict:
        return check(parse(self.lines))

    def breaks(self, promise: int, text: str) -> None:
        """It breaks this promise, and only this one."""
        verdict = self.judged()
        assert [number for number, texts in verdict.violations.items() if texts] == [promise], verdict.broken
        assert text in verdict.violations[promise][0]

    def holds(self) -> Verdict:
        verdict = self.judged()
        assert verdict.broken == []
        return verdict


def good() -> Story:
    """Two runs with a whole life each, and a worker lost in between."""
    story = Story().worker("w1").worker("w2").submit("a").submit("b")
    story.hand_out("a").run("a")
    story.hand_out("b", "w1").report("b", "RUNNING").move("b", "RUNNING").expire("b", 1).move("b", "SCHEDULED")
    return story.hand_out("b", "w2").run("b", worker="w2")


def test_a_good_history_breaks_nothing() -> None:
    verdict = good().end().holds()

    assert verdict.states == {"a": "COMPLETED", "b": "COMPLETED"}
    assert verdict.counts["claims"] == 3
    assert verdict.peak["pool"] == 1
    assert "promise 1 held" in verdict.text()


# Promise 1


def test_a_passed_pool_limit_is_seen() -> None:
    story = Story().submit("a").submit("b").submit("c")
    story.move("a", "PENDING").move("b", "PENDING").move("c", "PENDING")
    assert "3 in flight in pool, limit 2" in story.judged().violations[1][0]


def test_a_passed_queue_limit_is_seen() -> None:
    story = Story().submit("a", "high").submit("b", "high").move("a", "PENDING").move("b", "PENDING")
    assert "2 in flight in queue/high, limit 1" in story.judged().violations[1][0]


def test_a_passed_deployment_limit_is_seen() -> None:
    story = Story().submit("a", "low", "demo").submit("b", "low", "demo").move("a", "PENDING").move("b", "PENDING")
    assert "2 in flight in deployment/demo, limit 1" in story.judged().violations[1][0]


def test_a_run_that_is_being_cancelled_still_holds_its_slots() -> None:
    story = (
        Story(pool_limit=1).submit("a").submit("b").move("a", "PENDING").move("a", "CANCELLING").move("b", "PENDING")
    )
    assert "2 in flight in pool, limit 1" in story.judged().violations[1][0]


def test_a_lowered_limit_counts_from_its_answer() -> None:
    story = good().set("limit", "pool", 1).submit("c").submit("d").hand_out("c").hand_out("d")
    story.run("c").run("d").breaks(1, "2 in flight in pool, limit 1")


def test_a_lowered_limit_does_not_count_before_its_answer() -> None:
    story = good().submit("c").submit("d").hand_out("c")
    late = story._at + 1000
    story.lines.append(
        {
            "kind": "setting",
            "at": late,
            "what": "limit",
            "of": "pool",
            "value": 1,
            "sent": story._at,
            "answered": late,
            "ok": True,
        }
    )
    story.hand_out("d").run("c").run("d").holds()


def test_a_limit_below_what_is_in_flight_stops_only_what_comes_after() -> None:
    story = good().submit("c").submit("d").hand_out("c").hand_out("d").set("limit", "pool", 1)
    story.run("c").run("d").holds()


def test_a_worker_that_holds_more_than_its_slots_is_seen() -> None:
    story = Story().worker("w1", slots=1).submit("a").submit("b").hand_out("a").hand_out("b").run("a").run("b")
    story.breaks(1, "2 in the hand of w1, 1 slots")


def test_a_worker_may_get_the_next_run_as_soon_as_a_slot_is_free() -> None:
    story = Story().worker("w1", slots=1).submit("a").submit("b").hand_out("a").expire("a", 1).move("a", "SCHEDULED")
    story.hand_out("a").run("a").hand_out("b").run("b").holds()


def test_a_raised_limit_that_was_refused_never_counts() -> None:
    story = Story(pool_limit=1).worker("w1").submit("a").submit("b").set("limit", "pool", 9, ok=False)
    story.hand_out("a").hand_out("b").run("a").run("b").breaks(1, "limit 1")


def test_a_change_that_nobody_answered_may_have_happened() -> None:
    story = Story(pool_limit=1).worker("w1").submit("a").submit("b").set("limit", "pool", 9, ok=None)
    story.hand_out("a").hand_out("b").run("a").run("b").holds()


def changed_twice(*, patience_ms: int) -> Story:
    """Nobody answers the first change in time; the second one is answered before the first one's deadline, if it has one."""
    story = Story(pool_limit=1).worker("w1").submit("a").submit("b")
    story.set("limit", "pool", 9, ok=None, patience_ms=patience_ms).set("limit", "pool", 1)
    return story.hand_out("a").hand_out("b").run("a").run("b")


def test_until_its_deadline_a_change_that_nobody_answered_may_come_after_a_newer_one() -> None:
    changed_twice(patience_ms=500).holds()


def test_past_its_deadline_a_change_is_not_made_any_more() -> None:
    changed_twice(patience_ms=5).breaks(1, "limit 1")


def test_an_answered_change_that_redis_forgot_does_not_come_back_after_a_newer_one() -> None:
    story = Story(pool_limit=1).worker("w1").submit("a").submit("b")
    story.set("limit", "pool", 9, patience_ms=500).line("outage", since=story._at, lossy=True)
    story._at += 10
    story.set("limit", "pool", 1)
    story.hand_out("a").hand_out("b").run("a").run("b").breaks(1, "limit 1")


def test_an_answered_change_that_redis_forgot_may_be_made_again_until_a_newer_one() -> None:
    story = Story(pool_limit=1).worker("w1").submit("a").submit("b")
    story.set("limit", "pool", 9, patience_ms=500).line("outage", since=story._at, lossy=True)
    story.hand_out("a").hand_out("b").run("a").run("b").holds()


def test_a_priority_that_may_still_be_changed_is_not_known() -> None:
    story = Story().worker("w1").set("priority", "queue/low", None, ok=None, patience_ms=500)
    story.set("priority", "queue/low", 1).set("priority", "queue/high", 5).submit("a").submit("b", "high")
    story.hand_out("b").hand_out("a").run("a").run("b").holds()


# Promise 2


def test_two_terminal_states_are_seen() -> None:
    good().report("a", "FAILED").move("a", "FAILED").breaks(2, "COMPLETED -> FAILED")


def test_a_run_without_an_end_is_seen() -> None:
    good().submit("c").hand_out("c").breaks(2, "ended as PENDING")


def test_an_accepted_run_that_nobody_heard_of_is_seen() -> None:
    good().line("accepted", runs=["lost"]).breaks(2, "never heard of")


def test_an_accepted_run_that_redis_forgot_in_an_outage_is_counted_and_is_no_breach() -> None:
    story = good().line("accepted", runs=["lost"])
    story.line("outage", since=story._at + 5, lossy=True)
    assert story.holds().counts["accepted in Redis' last moments and lost with them"] == 1


def test_what_happened_before_the_last_event_that_redis_still_knows_is_not_forgotten() -> None:
    story = good().line("accepted", runs=["lost"])
    accepted = story._at
    story.line("outage", since=accepted + 5, lossy=True, knows=accepted + 1).breaks(2, "never heard of")


def test_an_outage_of_a_redis_that_writes_always_excuses_nothing() -> None:
    story = good().line("accepted", runs=["lost"])
    story.line("outage", since=story._at + 5, lossy=False).breaks(2, "never heard of")


def test_one_claim_in_two_hands_is_seen() -> None:
    good().claim("a", "w2", 1, "a-1").breaks(2, "claim 1 in the hands of")


def test_a_report_of_an_old_claim_that_was_accepted_is_seen() -> None:
    story = Story().worker("w1").worker("w2").submit("a").hand_out("a", "w1").expire("a", 1).move("a", "SCHEDULED")
    story.hand_out("a", "w2").report("a", "RUNNING", "w2", 2).move("a", "RUNNING")
    story.report("a", "COMPLETED", "w1", 1).move("a", "COMPLETED")
    story.breaks(2, "RUNNING -> Completed by no report of claim 2 (others: [1]")


def test_a_report_with_another_token_that_was_accepted_is_seen() -> None:
    story = Story().worker("w1").submit("a").hand_out("a").report("a", "RUNNING", token="guessed").move("a", "RUNNING")
    story.report("a", "COMPLETED").move("a", "COMPLETED").breaks(2, "PENDING -> Running by no report")


def test_a_report_in_the_name_of_another_worker_that_was_accepted_is_seen() -> None:
    story = Story().worker("w1").worker("w2").submit("a").hand_out("a", "w1").report("a", "RUNNING", "w2")
    story.move("a", "RUNNING").report("a", "COMPLETED").move("a", "COMPLETED")
    story.breaks(2, "PENDING -> Running by no report")


def test_a_run_that_is_handed_to_a_life_that_was_replaced_is_seen() -> None:
    story = Story().worker("w1").submit("a").submit("b").hand_out("a").run("a").worker("w1", life=2)
    story.hand_out("b").run("b").submit("c").move("c", "PENDING").claim("c", life=1).run("c")
    story.breaks(2, "run c was handed to a life of w1 that another had replaced")


def test_a_life_that_redis_may_have_forgotten_replaces_nobody() -> None:
    story = Story().worker("w1").submit("a").submit("b").hand_out("a").run("a").worker("w1", life=2)
    story.hand_out("b").line("outage", since=story._at + 5, lossy=True)
    story.run("b").submit("c").move("c", "PENDING").claim("c", life=1).run("c").holds()


def test_when_a_promise_broke_for_the_first_time_is_told() -> None:
    story = good().report("a", "FAILED").move("a", "FAILED")
    after_ms, runs = story.judged().first[2]
    assert after_ms
    assert runs == 2
    assert good().line("accepted", runs=["lost"]).judged().first == {2: (None, 2)}


def test_a_run_that_is_handed_out_while_it_is_in_a_hand_is_seen() -> None:
    story = Story().worker("w1").submit("a").hand_out("a").hand_out("a").run("a")
    story.breaks(2, "PENDING -> PENDING")


def test_a_claim_that_vanishes_without_having_expired_is_seen() -> None:
    story = Story().worker("w1").submit("a").hand_out("a").move("a", "SCHEDULED").hand_out("a").run("a")
    story.breaks(2, "PENDING -> Scheduled by no report")


def test_a_cancellation_that_nobody_asked_for_is_seen() -> None:
    Story().worker("w1").submit("a").hand_out("a").move("a", "CANCELLED").breaks(2, "PENDING -> Cancelled by no report")


def test_a_cancellation_that_somebody_asked_for_is_not() -> None:
    story = Story().worker("w1").submit("a").hand_out("a").line("cancel", runs=["a"])
    story.move("a", "CANCELLING").report("a", "CANCELLED").move("a", "CANCELLED").holds()


def test_a_run_that_is_being_cancelled_cannot_run_again() -> None:
    story = Story().submit("a").move("a", "PENDING").move("a", "CANCELLING").move("a", "SCHEDULED")
    assert "CANCELLING -> SCHEDULED" in story.judged().violations[2][0]


def test_a_slot_that_is_still_held_at_the_end_is_seen() -> None:
    good().end(held={"pool": ["a"]}).breaks(2, "pool still holds ['a']")


def test_a_worker_that_is_online_and_that_the_dispatcher_does_not_know_is_seen() -> None:
    good().end(workers={"w1": [["b", "3"], ["b", "3"]]}).holds()
    good().end(workers={"w1": [["b", "3"], ["a", "3"]]}).breaks(2, "work would be handed to ['a', '3']")


# Promise 3


def test_a_lower_run_before_a_waiting_higher_one_is_seen() -> None:
    story = good().submit("c", "high").submit("d").hand_out("d").hand_out("c").run("c").run("d")
    story.breaks(3, "of low before c, which waits in high")


def test_a_later_run_before_an_earlier_one_of_its_queue_is_seen() -> None:
    good().submit("c").submit("d").hand_out("d").hand_out("c").run("c").run("d").breaks(3, "d of low before c")


@pytest.mark.parametrize("blocked", ["limit", "deployment", "pause", "future", "worker"])
def test_a_lower_run_passes_a_higher_one_that_is_blocked(blocked: str) -> None:
    story = good()
    if blocked == "limit":
        story.submit("x", "high").hand_out("x").submit("c", "high")
    elif blocked == "deployment":
        story.submit("x", "low", "demo").hand_out("x").submit("c", "high", "demo")
    elif blocked == "pause":
        story.set("paused", "queue/high", value=True).submit("c", "high")
    elif blocked == "future":
        story.submit("c", "high", wait_ms=500)
    else:
        story.worker("w1", "low").submit("c", "high")
    story.submit("d").hand_out("d").run("d")
    if blocked in ("limit", "deployment"):
        story.run("x")
    if blocked == "pause":
        story.set("paused", "queue/high", value=False)
    story.hand_out("c", "w2").run("c", worker="w2").holds()


def test_a_priority_counts_from_its_answer() -> None:
    story = good().set("priority", "queue/low", 1).set("priority", "queue/high", 2)
    story.submit("c").submit("d", "high").hand_out("d").hand_out("c").run("c").run("d")
    story.breaks(3, "d of high before c")


# Promise 4


@pytest.mark.parametrize("of", ["pool", "queue/low"])
def test_a_run_handed_out_in_a_pause_is_seen(of: str) -> None:
    story = good().submit("c").set("paused", of, value=True).hand_out("c").run("c")
    story.set("paused", of, value=False).breaks(4, f"while {of} was paused")


def test_a_run_handed_out_after_the_resume_was_sent_is_right() -> None:
    story = good().submit("c").set("paused", "pool", value=True)
    story.set("paused", "pool", value=False, ok=None).hand_out("c").run("c").holds()


def test_a_pause_that_redis_forgot_stops_nothing() -> None:
    story = good().submit("c").set("paused", "pool", value=True)
    story.line("outage", since=story._at, lossy=True).hand_out("c").run("c").holds()


# Promise 5


def test_a_missing_event_is_seen() -> None:
    story = Story().worker("w1").submit("a").hand_out("a").run("a").end()
    del story.lines[
        next(i for i, line in enumerate(story.lines) if line.get("event", {}).get("event", "").endswith("Running"))
    ]
    assert any("seq 4 after 2" in text for text in story.judged().violations[5])


def test_a_missing_last_event_is_seen_by_the_state() -> None:
    story = good().end()
    story.lines.remove(next(line for line in reversed(story.lines) if line["kind"] == "event"))
    assert any("is COMPLETED, its last event says RUNNING" in text for text in story.judged().violations[5])


def test_a_claim_without_an_event_is_seen() -> None:
    good().claim("a", "w2", 2).breaks(5, "claim 2 without an event")


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_claim_that_redis_forgot_may_be_written_down_by_a_worker_that_was_frozen_meanwhile(epoch: int) -> None:
    story = good()
    story.line("outage", since=story._at, lossy=True)
    story._at += 60_000
    story.claim("a", "w2", epoch, "forgotten", late_ms=60_000).holds()


def test_a_claim_that_was_made_after_an_outage_is_none_that_redis_forgot() -> None:
    story = good()
    story.line("outage", since=story._at, lossy=True)
    story._at += 60_000
    story.claim("a", "w2", 2, late_ms=30_000).breaks(5, "claim 2 without an event")


def test_an_event_id_used_twice_is_seen() -> None:
    story = good()
    story.event("prefect.work-pool.x", "prefect.work-pool.ready")
    story.event("prefect.work-pool.x", "prefect.work-pool.paused", id="prefect.work-pool.x-1")
    story.breaks(5, "event id prefect.work-pool.x-1 twice")


def test_a_status_told_twice_is_seen() -> None:
    story = good().event("prefect.work-pool.x", "prefect.work-pool.ready")
    story.event("prefect.work-pool.x", "prefect.work-pool.ready").breaks(5, "ready told twice")


def test_a_ledger_that_counts_more_than_was_told_is_seen() -> None:
    story = good().event("prefect.work-pool.x", "prefect.work-pool.ready")
    story.end(ledger={"prefect.work-pool.x": 2}).breaks(5, "counts 2 events, there are 1")


def test_an_event_that_redis_forgot_is_not_in_the_history() -> None:
    story = good()
    story.event("prefect.work-pool.x", "prefect.work-pool.ready")
    story.line("rewound", ids=[story.lines[-1]["id"]])
    story.event("prefect.work-pool.x", "prefect.work-pool.ready", 1).holds()


# On disk


def test_a_record_is_read_again_and_judged_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = good().line("accepted", runs=["lost"])
    (tmp_path / "one.jsonl").write_text("".join(json.dumps(line) + "\n" for line in story.lines) + '{"kind": "half')

    assert main([str(tmp_path)]) == 1
    assert "promise 2 BROKEN" in capsys.readouterr().out
    assert main([]) == 64


def test_what_is_written_is_read(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "one.jsonl")
    recorder.write("claim", run="a", epoch=1, token="t", worker="w1", boot="b", assigned=1)
    recorder.write("report", run="a", epoch=1, token="t", worker="w1", state="RUNNING")
    recorder.close()

    record = load([recorder.file])
    assert record.claims["a", 1][0].worker == "w1"
    assert record.reports["a", 1][0].state == "RUNNING"
