"""The Python SDK: submit, watch, administer.

::

    from penstock.client import NewRun, Penstock

    async with Penstock.connect() as penstock:
        await penstock.create_pool("etl", concurrency_limit=5, if_missing=True)
        ids = await penstock.submit_runs("etl", [NewRun(entrypoint="flows.py:load", parameters={"day": 1})])
        for run in await penstock.wait_for_runs(ids, timeout=60):
            print(run.name, run.state)

``sdk`` is what a program calls (with ``admin`` for pools and queues and ``watching`` for what goes on inside), ``store`` the
one read-only door to state, ``records`` how a hash becomes a record, ``waiting`` why work waits and in which order it will be
handed out, ``runs`` how a submission is made, ``events`` the event stream from a cursor, ``logs`` what a run printed,
``dead_letters`` what operators do with dead entries, ``wording`` how errors are worded.
"""

from __future__ import annotations

from penstock.client.records import InFlight, Worker
from penstock.client.runs import NewRun
from penstock.client.sdk import Penstock

__all__ = ["InFlight", "NewRun", "Penstock", "Worker"]
