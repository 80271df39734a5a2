"""The Python SDK: submit, watch, administer.

::

    from penstock.client import NewRun, Penstock

    async with Penstock.connect() as penstock:
        await penstock.create_pool("etl", concurrency_limit=5, if_missing=True)
        ids = await penstock.submit_runs("etl", [NewRun(entrypoint="flows.py:load", parameters={"day": 1})])
        for run in await penstock.wait_for_runs(ids, timeout=60):
            print(run.name, run.state)

A program without an event loop of its own takes :mod:`penstock.client.sync`, the same with blocking methods.

``sdk`` is what a program calls. It is put together of parts, each building on the one before: ``admin`` (pools and queues),
``watching`` (what goes on inside), ``deployment_admin`` and ``deployments``, ``flow_runs`` (submit, list, cancel, delete,
retry), ``explaining`` (why a run waits). Below them ``store``, ``run_store``, ``waiting_store`` and ``deployment_store``
are the doors to state, and only read it; ``records`` makes records of hashes, ``runs`` a submission of what a caller wants
to run, ``deployed`` a run of a deployment; ``run_filter``, ``waiting`` and ``explanation`` are pure rules: which runs are
meant, in which order they will be handed out and why they wait; ``pool_notes`` says which names a pool does not know.
``events`` reads the event stream from a cursor, ``logs`` what a run printed, ``following`` both of one run;
``dead_letters`` is what operators do with dead entries; ``blocking`` runs an event loop for those who have none;
``wording`` words errors.
"""

from __future__ import annotations

from penstock.client.records import InFlight, Worker
from penstock.client.runs import NewRun
from penstock.client.sdk import Penstock

__all__ = ["InFlight", "NewRun", "Penstock", "Worker"]
