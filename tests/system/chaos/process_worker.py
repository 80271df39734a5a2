"""``python -m tests.system.chaos.process_worker RECORDS worker start ...``: the worker users start.

From outside it is made to write down what it does, and given failpoints.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.bus import requests
from penstock.worker import reports
from penstock.worker.hands import Hands
from penstock.worker.inbox import Inbox
from tests.system.chaos.failpoints import VARIABLE, Failpoints
from tests.system.history import Recorder

if TYPE_CHECKING:
    from penstock.contracts.runs import RunReport
    from penstock.contracts.workers import AssignedRun
    from penstock.worker.identity import Identity

TOKEN = re.compile(rb'"token":"([^"]+)"')


def install(records: Path, points: Failpoints) -> None:
    """Write a record: a claim before it is taken over, a report before it is sent."""
    recorders: dict[str, Recorder] = {}
    entered: dict[str, int] = {}
    begin, take, send = Hands.__init__, Hands.take, reports.Reporter.send
    take_over = Inbox._take_over

    async def taken_over(self: Inbox, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        for entry_id, fields in entries:
            for token in TOKEN.findall(fields.get(b"__data__", b"")):
                # An audit names what was assigned before.
                entered.setdefault(token.decode(), int(entry_id.partition(b"-")[0]))
        await take_over(self, entries)

    def begun(self: Hands, **parts: Any) -> None:
        identity: Identity = parts["identity"]
        recorder = recorders[identity.boot_id] = Recorder(records / f"{identity.name}-{os.getpid()}.jsonl")
        recorder.write(
            "worker",
            worker=identity.name,
            boot=identity.boot_id,
            queues=list(identity.queues),
            slots=parts["limit"],
        )
        begin(self, **parts)

    def taken(self: Hands, run: AssignedRun) -> None:
        identity = self._identity
        claim = {"run": run.id, "epoch": run.epoch, "token": run.token, "assigned": entered[run.token]}
        recorders[identity.boot_id].write("claim", worker=identity.name, boot=identity.boot_id, **claim)
        points.reach("take")
        take(self, run)
        points.reach("taken")

    def sent(self: reports.Reporter, report: RunReport) -> None:
        said = {"run": report.run, "epoch": report.epoch, "token": report.token, "state": report.state}
        recorders[self._identity.boot_id].write("report", worker=self._identity.name, **said)
        send(self, report)

    Hands.__init__, Hands.take, reports.Reporter.send = begun, taken, sent  # type: ignore[method-assign]
    Inbox._take_over = taken_over  # type: ignore[method-assign]
    reporting: Any = reports
    reporting.publish = points.around("report", "reported", requests.publish)


if __name__ == "__main__":
    install(Path(sys.argv.pop(1)), Failpoints(Path(os.environ.pop(VARIABLE))))
    from penstock.cli import main

    main()
