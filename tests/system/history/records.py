"""What is written down of a run of the system, line by line, and read again.

Every line is a JSON object with ``kind`` and ``at``, the moment in ms of Redis time. Harness, workers and Redis share one machine
and so one clock; what a worker *says* about the time (a fault turns it by an hour) is in none of these.

=========== ==========================================================================================================
kind        says
=========== ==========================================================================================================
setting     ``what`` (limit, paused, priority) ``of`` (``pool``, ``queue/NAME``, ``deployment/NAME``) became ``value``: ``sent``
            and ``answered`` ms, ``ok`` true, false (refused) or null (nobody knows: no answer came); ``until`` its deadline:
            as long as nobody has answered, it may still be made, also after a newer one; one that was answered and that Redis
            has forgotten may be made again, but not after a newer one
submit      ``runs``: id, queue, deployment or null, due ms or null (at once), delay ms of a retry
accepted    ``runs``: ids a reply called accepted
cancel      ``runs``: ids somebody asked to cancel; also written before ``delete`` commands of pools and queues: ids null
worker      a life of a worker begins: worker, boot, queues it serves (empty: all), slots
claim       as the worker read it in its inbox: run, epoch, token, worker, boot, and the ms at which it had been ``assigned``
report      as the worker is about to send it: run, epoch, token, worker, state
event       ``id`` of the stream entry (its first part is Redis time) and the event
outage      Redis was away from ``since`` to ``at``; ``lossy`` when it may have forgotten its last moments: those from ``knows`` on
rewound     ``ids`` of events that Redis forgot in an outage, after somebody had read them
state       at the end: ``runs`` id -> [state, seq, epoch], ``ledger`` resource -> seq, ``held`` what is still in flight,
            ``workers`` name -> [boot, slots] as the monitor knows an ONLINE one, and as the dispatcher does
fault, note for people
=========== ==========================================================================================================
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FORGETS_MS = 2500
"""Redis syncs once a second and may put off writing for two when the disk is slow; what is older survives a kill. Where nobody has
looked what it still knows."""


def now_ms() -> int:
    """Redis time, see above."""
    return time.time_ns() // 1_000_000


class Recorder:
    """Writes a record; a line is in the file when the call returns, so that a killed process leaves what it did.

    Args:
        file: appended to.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._stream = file.open("ab", buffering=0)

    def write(self, kind: str, **facts: Any) -> None:
        """Append one line, now."""
        if not self._stream.closed:
            self._stream.write(orjson.dumps({"kind": kind, "at": now_ms(), **facts}) + b"\n")

    def close(self) -> None:
        """Write no more."""
        self._stream.close()


class Submitted(NamedTuple):
    """What was asked for."""

    queue: str
    deployment: str | None
    due: int | None
    delay: int


class Claim(NamedTuple):
    """A run in a worker's hand.

    Attributes:
        at: when the worker wrote it down, which one that was frozen does late.
        assigned: when it was put into its inbox.
    """

    at: int
    assigned: int
    worker: str
    boot: str
    token: str


class Report(NamedTuple):
    """What a worker is about to say."""

    at: int
    state: str
    token: str
    worker: str


@dataclass
class Change:
    """A definition changed; ``ok`` None means that it may have, any time from ``sent`` to ``until``."""

    value: Any
    sent: int
    answered: int | None
    ok: bool | None
    until: int


class Outage(NamedTuple):
    """Redis was away.

    Attributes:
        knows: ms up to which it knows everything.
    """

    since: int
    until: int
    lossy: bool
    knows: int

    def may_have_forgotten(self, at: int) -> bool:
        """Say whether something Redis did then may not have happened afterwards."""
        return self.lossy and self.knows <= at <= self.until


@dataclass
class Record:
    """All that was written down."""

    changes: dict[str, list[Change]] = field(default_factory=lambda: defaultdict(list))
    submitted: dict[str, Submitted] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    cancels: dict[str, int] = field(default_factory=dict)
    all_cancelled: int | None = None
    serves: dict[str, list[str]] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    claims: dict[tuple[str, int], list[Claim]] = field(default_factory=lambda: defaultdict(list))
    reports: dict[tuple[str, int], list[Report]] = field(default_factory=lambda: defaultdict(list))
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    state: dict[str, Any] | None = None

    def may_have_forgotten(self, at: int) -> bool:
        """Say whether an outage may have undone what happened then."""
        return any(outage.may_have_forgotten(at) for outage in self.outages)


def _note(record: Record, line: dict[str, Any]) -> None:  # noqa: C901, PLR0912 - one case for each kind
    match line["kind"]:
        case "setting":
            until = line.get("until", line["sent"])
            change = Change(line["value"], line["sent"], line["answered"], line["ok"], until)
            record.changes[f"{line['what']} of {line['of']}"].append(change)
        case "submit":
            for run in line["runs"]:
                record.submitted[run["id"]] = Submitted(run["queue"], run["deployment"], run["due"], run["delay"])
        case "accepted":
            record.accepted.update(dict.fromkeys(line["runs"], line["at"]))
        case "cancel" if line["runs"] is None:
            record.all_cancelled = min(line["at"], record.all_cancelled or line["at"])
        case "cancel":
            for run in line["runs"]:
                record.cancels.setdefault(run, line["at"])
        case "worker":
            record.serves[line["worker"]] = line["queues"]
            record.slots[line["worker"]] = line["slots"]
        case "claim":
            claim = Claim(line["at"], line["assigned"], line["worker"], line["boot"], line["token"])
            record.claims[line["run"], line["epoch"]].append(claim)
        case "report":
            report = Report(line["at"], line["state"], line["token"], line["worker"])
            record.reports[line["run"], line["epoch"]].append(report)
        case "event":
            record.events.append((line["id"], line["event"]))
        case "outage":
            knows = line.get("knows", line["since"] - FORGETS_MS)
            record.outages.append(Outage(line["since"], line["at"], line["lossy"], knows))
        case "state":
            record.state = line


def parse(lines: Iterable[dict[str, Any]]) -> Record:
    """Make a record of its lines, in any order."""
    record = Record()
    rewound: set[str] = set()
    for line in lines:
        if line["kind"] == "rewound":
            rewound.update(line["ids"])
        _note(record, line)
    kept = {entry_id: event for entry_id, event in record.events if entry_id not in rewound}
    record.events = sorted(kept.items(), key=lambda entry: _order(entry[0]))
    for changes in record.changes.values():
        changes.sort(key=lambda change: change.sent)
        for change in changes:
            if change.ok and change.answered is not None and record.may_have_forgotten(change.answered):
                change.ok, change.until = None, change.sent
    return record


def load(files: Iterable[Path]) -> Record:
    """Read a record; it may lie in several files, one for each process that wrote it."""
    lines: list[dict[str, Any]] = []
    for file in files:
        # A killed process may leave half a line at the end of its file, and only there.
        whole = file.read_bytes().split(b"\n")[:-1]
        lines += [orjson.loads(line) for line in whole if line]
    return parse(lines)


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)
