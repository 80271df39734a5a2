"""Decide promises 1 to 5 for a whole history. Pure: a record in, what is broken out.

The order of the event stream is the order of what happened: every event is appended by the script that makes the transition.
Promises are numbered as in the README.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock.contracts.runs import IN_FLIGHT, TERMINAL
from tests.system.history.holders import Holders
from tests.system.history.moves import ALLOWED, said
from tests.system.history.numbering import Numbering
from tests.system.history.order import Order, Waiting
from tests.system.history.timeline import Definitions

if TYPE_CHECKING:
    from tests.system.history.records import Record

PROMISES = {
    1: "in flight never exceeds a limit",
    2: "one terminal state, never lost, never two valid claims",
    3: "queue order",
    4: "nothing is handed out after pause has answered",
    5: "one event for each transition",
}
SHOWN = 10
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Found(NamedTuple):
    """When a promise broke for the first time.

    Attributes:
        after_ms: since the first event; None where only the end shows it.
        runs: how many there were by then.
    """

    after_ms: int | None
    runs: int


@dataclass
class Verdict:
    """What the history proves, and what breaks it."""

    violations: dict[int, list[str]] = field(default_factory=lambda: {number: [] for number in PROMISES})
    counts: Counter[str] = field(default_factory=Counter)
    peak: Counter[str] = field(default_factory=Counter)
    states: dict[str, str] = field(default_factory=dict)
    first: dict[int, Found] = field(default_factory=dict)

    @property
    def broken(self) -> list[str]:
        """Every violation, with the number of its promise."""
        return [f"promise {number}: {text}" for number, texts in self.violations.items() for text in texts]

    def text(self) -> str:
        """Spell it for people."""
        lines = []
        for number, texts in self.violations.items():
            lines.append(f"promise {number} {'BROKEN' if texts else 'held'}: {PROMISES[number]}")
            lines += [f"    {text}" for text in texts[:SHOWN]]
            if len(texts) > SHOWN:
                lines.append(f"    and {len(texts) - SHOWN} more")
        for name, counter in (("counts", self.counts), ("most in flight", self.peak)):
            lines.append(f"{name}: " + ", ".join(f"{what} {count}" for what, count in sorted(counter.items())))
        return "\n".join(lines)


def check(record: Record) -> Verdict:
    """Judge a history."""
    return _Replay(record).judge()


class _Replay:
    """Replays the events and keeps what they say of every run."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._definitions = Definitions(record)
        self._numbering = Numbering()
        self._order = Order(record, self._definitions)
        self._holders = Holders(record)
        self.verdict = Verdict()
        self._states = self.verdict.states
        self._place: dict[str, tuple[str, str | None]] = {}
        self._epochs: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self._expired: set[tuple[str, int]] = set()
        self._due: dict[str, int | None] = {}
        self._after: int | None = None
        self._broken: dict[int, dict[str, None]] = defaultdict(dict)

    def judge(self) -> Verdict:
        began: int | None = None
        for entry_id, event in self._record.events:
            at = int(entry_id.partition("-")[0])
            began = at if began is None else began
            self._after = at - began
            for text in self._numbering.take(event):
                self._break(5, text)
            if event["event"].startswith("prefect.flow-run."):
                self._move(at, event)
            elif event["event"] == "penstock.run.claim-expired":
                _, _, claim = event["resource"]["prefect.resource.id"].partition("penstock.claim.")
                run_id, _, epoch = claim.rpartition(".")
                self._expired.add((run_id, int(epoch)))
        self._after = None
        self._judge_ends()
        self._judge_claims()
        self._judge_state()
        self._count()
        return self.verdict

    def _break(self, promise: int, text: str) -> None:
        if text not in self._broken[promise]:
            self._broken[promise][text] = None
            self.verdict.first.setdefault(promise, Found(self._after, len(self._states)))
            self.verdict.violations[promise].append(text)

    # One move

    def _move(self, at: int, event: dict[str, Any]) -> None:
        run_id = event["resource"]["prefect.resource.id"].removeprefix("prefect.flow-run.")
        name = event["event"].removeprefix("prefect.flow-run.")
        to, before = event["resource"]["prefect.state-type"], self._states.get(run_id)
        if to not in ALLOWED.get(before, ()):
            self._break(2, f"run {run_id}: {before} -> {to}")
        self._place.setdefault(run_id, _place(event))
        if to == "PENDING":
            self._epochs[run_id] += 1
        elif before in IN_FLIGHT and self._record.serves:
            self._explain(at, run_id, before, name)
        self._hold(run_id, (to in IN_FLIGHT) - (before in IN_FLIGHT))
        if before in IN_FLIGHT and to not in IN_FLIGHT:
            self._holders.release(run_id)
        if to == "PENDING":
            self._hand_out(at, run_id)
        self._states[run_id] = to
        self._wait(at, run_id, name, event)
        self.verdict.counts[f"events {name}"] += 1

    def _hold(self, run_id: str, more: int) -> None:
        for of in self._gates(run_id):
            self._held[of] += more
            self.verdict.peak[of] = max(self.verdict.peak[of], self._held[of])

    def _gates(self, run_id: str) -> list[str]:
        queue, deployment = self._place[run_id]
        return ["pool", f"queue/{queue}", *([f"deployment/{deployment}"] if deployment else [])]

    def _hand_out(self, at: int, run_id: str) -> None:
        for of in self._gates(run_id):
            most = self._definitions.most(of, at)
            if self._held[of] > most:
                self._break(1, f"{self._held[of]} in flight in {of}, limit {most:g} (at {at}, run {run_id})")
            if not of.startswith("deployment") and self._definitions.surely_paused(of, at):
                self._break(4, f"run {run_id} was handed out at {at} while {of} was paused")
        for promise, text in self._holders.take(at, run_id, self._epochs[run_id]):
            self._break(promise, text)
        claims = self._record.claims.get((run_id, self._epochs[run_id]), ())
        worker = claims[0].worker if claims else None
        before = {of: self._held[of] - (of in self._gates(run_id)) for of in self._held}
        for text in self._order.overtaken(at, run_id, worker, before):
            self._break(3, text)

    def _wait(self, at: int, run_id: str, name: str, event: dict[str, Any]) -> None:
        """Keep who waits, and since when it is due."""
        if self._states[run_id] != "SCHEDULED":
            self._order.waiting.pop(run_id, None)
            return
        asked = self._record.submitted.get(run_id)
        occurred = _milliseconds(event["occurred"])
        explicit = False
        if name == "AwaitingRetry":
            explicit = bool(asked and asked.delay)
            self._due[run_id] = occurred + asked.delay if asked else None
        elif run_id not in self._due:
            explicit = bool(asked and asked.due is not None)
            self._due[run_id] = (occurred if asked.due is None else asked.due) if asked else None
        queue, deployment = self._place[run_id]
        self._order.waiting[run_id] = Waiting(queue, deployment, self._due[run_id], explicit, at)

    def _explain(self, at: int, run_id: str, before: str | None, name: str) -> None:
        """A move of a run in a worker's hand needs a reason: the newest claim's report, its end, or a cancellation."""
        claim = (run_id, self._epochs[run_id])
        wanted = said(before, name)
        if not wanted:
            return
        given = {(one.worker, one.token) for one in self._record.claims.get(claim, ())}
        for report in self._record.reports.get(claim, ()):
            if report.at <= at + 1 and report.state in wanted and (not given or (report.worker, report.token) in given):
                return
        if "EXPIRED" in wanted and claim in self._expired:
            return
        asked = self._record.cancels.get(run_id, self._record.all_cancelled)
        if "CANCEL" in wanted and asked is not None and asked <= at + 1:
            return
        others = sorted({epoch for run, epoch in self._record.reports if run == run_id and epoch != claim[1]})
        self._break(2, f"run {run_id}: {before} -> {name} by no report of claim {claim[1]} (others: {others}, at {at})")

    # The end

    def _judge_ends(self) -> None:
        for run_id, at in self._record.accepted.items():
            if run_id in self._states:
                continue
            if self._record.may_have_forgotten(at):
                self.verdict.counts["accepted in Redis' last moments and lost with them"] += 1
            else:
                self._break(2, f"run {run_id} was accepted at {at} and never heard of")
        for run_id, state in self._states.items():
            if state not in TERMINAL:
                self._break(2, f"run {run_id} ended as {state}")

    def _judge_claims(self) -> None:
        for (run_id, epoch), claims in self._record.claims.items():
            hands = {(claim.worker, claim.boot, claim.token) for claim in claims}
            if len(hands) > 1 and not any(self._record.may_have_forgotten(claim.assigned) for claim in claims):
                self._break(2, f"run {run_id}: claim {epoch} in the hands of {sorted(hands)}")
            if epoch > self._epochs[run_id] and not any(
                self._record.may_have_forgotten(claim.assigned) for claim in claims
            ):
                self._break(5, f"run {run_id}: claim {epoch} without an event")

    def _judge_state(self) -> None:
        """Events against state: what the last event says is what is stored."""
        state = self._record.state
        if state is None:
            return
        for run_id, (stored, seq, epoch) in state["runs"].items():
            told = self._states.get(run_id)
            if told != stored:
                self._break(5, f"run {run_id} is {stored}, its last event says {told}")
            if self._numbering.last(f"prefect.flow-run.{run_id}") != seq:
                self._break(5, f"run {run_id} counts {seq} moves, its events do not")
            if self._epochs[run_id] != epoch:
                self._break(5, f"run {run_id} was handed out {epoch} times, its events say {self._epochs[run_id]}")
        for resource, seq in state["ledger"].items():
            if self._numbering.last(resource) != seq:
                self._break(5, f"{resource} counts {seq} events, there are {self._numbering.last(resource)}")
        self._judge_hands(state)

    def _judge_hands(self, state: dict[str, Any]) -> None:
        for holder, held in state["held"].items():
            self._break(2, f"{holder} still holds {held} after the end")
        for worker, (online, offered) in state["workers"].items():
            if online != offered:
                self._break(2, f"worker {worker} is ONLINE as {online}, work would be handed to {offered}")

    def _count(self) -> None:
        counts = self.verdict.counts
        counts["runs"] = len(self._states)
        counts["accepted"] = len(self._record.accepted)
        counts["claims"] = sum(self._epochs.values())
        counts["claims taken back"] = len(self._expired)
        counts["reports"] = sum(map(len, self._record.reports.values()))
        counts["events"] = len(self._record.events)


def _place(event: dict[str, Any]) -> tuple[str, str | None]:
    related = {one.get("prefect.resource.role"): one["prefect.resource.name"] for one in event["related"]}
    return related["work-queue"], related.get("deployment")


def _milliseconds(occurred: str) -> int:
    return (datetime.fromisoformat(occurred) - EPOCH) // timedelta(milliseconds=1)
