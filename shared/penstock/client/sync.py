"""The SDK for programs without an event loop of their own: scripts, threads, notebooks.

::

    from penstock.client.sync import NewRun, Penstock

    with Penstock.connect() as penstock:
        ids = penstock.submit_runs("etl", [NewRun(entrypoint="flows.py:load", parameters={"day": 1})])
        for run in penstock.wait_for_runs(ids, timeout=60):
            print(run.name, run.state)

Every method is the one of :class:`penstock.client.Penstock` with the same arguments, answers and errors; it returns when that has
been answered. The work is done by an event loop in a thread of its own, so that it does not matter whether one runs in the
caller's; one object may be used by many threads. Ctrl-C interrupts a call, which is cancelled.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.client import NewRun
from penstock.client.blocking import Background, Face, blocking, iterating
from penstock.client.dead_letters import DeadLetters as AsyncDeadLetters
from penstock.client.sdk import Penstock as AsyncPenstock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.settings import Settings

__all__ = ["DeadLetters", "NewRun", "Penstock"]


class DeadLetters(Face[AsyncDeadLetters]):
    """What could not be handled; see :class:`penstock.client.dead_letters.DeadLetters`."""

    read = blocking(AsyncDeadLetters.read)
    find = blocking(AsyncDeadLetters.find)
    retry = blocking(AsyncDeadLetters.retry)
    drop = blocking(AsyncDeadLetters.drop)


class Penstock(Face[AsyncPenstock]):
    """One installation of Penstock, for programs without an event loop; see :class:`penstock.client.Penstock`."""

    @classmethod
    @contextmanager
    def connect(cls, settings: Settings | None = None) -> Iterator[Penstock]:
        """Connect, make sure Redis answers, and close at the end.

        Args:
            settings: None reads the environment; without PENSTOCK_REDIS_URL there, a running ``penstock up`` is found.

        Raises:
            Unavailable: Redis does not answer.
            BadSettings: PENSTOCK_PARTITIONS is set and this installation was started with another number.
        """
        with Background() as background, background.entered(AsyncPenstock.connect(settings)) as behind:
            yield cls(behind, background)

    @property
    def dead(self) -> DeadLetters:
        """What could not be handled."""
        return DeadLetters(self._behind.dead, self._background)

    # Pools and queues

    create_pool = blocking(AsyncPenstock.create_pool)
    update_pool = blocking(AsyncPenstock.update_pool)
    pause_pool = blocking(AsyncPenstock.pause_pool)
    resume_pool = blocking(AsyncPenstock.resume_pool)
    delete_pool = blocking(AsyncPenstock.delete_pool)
    read_pool = blocking(AsyncPenstock.read_pool)
    read_pools = blocking(AsyncPenstock.read_pools)
    create_queue = blocking(AsyncPenstock.create_queue)
    update_queue = blocking(AsyncPenstock.update_queue)
    pause_queue = blocking(AsyncPenstock.pause_queue)
    resume_queue = blocking(AsyncPenstock.resume_queue)
    delete_queue = blocking(AsyncPenstock.delete_queue)
    read_queue = blocking(AsyncPenstock.read_queue)
    read_queues = blocking(AsyncPenstock.read_queues)

    # Deployments

    create_deployment = blocking(AsyncPenstock.create_deployment)
    update_deployment = blocking(AsyncPenstock.update_deployment)
    pause_deployment = blocking(AsyncPenstock.pause_deployment)
    resume_deployment = blocking(AsyncPenstock.resume_deployment)
    delete_deployment = blocking(AsyncPenstock.delete_deployment)
    read_deployment = blocking(AsyncPenstock.read_deployment)
    read_deployments = blocking(AsyncPenstock.read_deployments)
    read_deployment_counts = blocking(AsyncPenstock.read_deployment_counts)
    create_schedule = blocking(AsyncPenstock.create_schedule)
    update_schedule = blocking(AsyncPenstock.update_schedule)
    delete_schedule = blocking(AsyncPenstock.delete_schedule)
    run_deployment = blocking(AsyncPenstock.run_deployment)
    submit_deployment = blocking(AsyncPenstock.submit_deployment)

    # Runs

    submit_runs = blocking(AsyncPenstock.submit_runs)
    read_run = blocking(AsyncPenstock.read_run)
    read_runs = blocking(AsyncPenstock.read_runs)
    count_planned = blocking(AsyncPenstock.count_planned)
    cancel_runs = blocking(AsyncPenstock.cancel_runs)
    delete_runs = blocking(AsyncPenstock.delete_runs)
    retry_run = blocking(AsyncPenstock.retry_run)
    explain_run = blocking(AsyncPenstock.explain_run)
    wait_for_runs = blocking(AsyncPenstock.wait_for_runs)
    follow_run = iterating(AsyncPenstock.follow_run)
    logs = iterating(AsyncPenstock.logs)

    # What goes on

    now_ms = blocking(AsyncPenstock.now_ms)
    preview = blocking(AsyncPenstock.preview)
    explain_slots = blocking(AsyncPenstock.explain_slots)
    read_slots = blocking(AsyncPenstock.read_slots)
    read_worker = blocking(AsyncPenstock.read_worker)
    read_workers = blocking(AsyncPenstock.read_workers)
    read_held = blocking(AsyncPenstock.read_held)
    drain_worker = blocking(AsyncPenstock.drain_worker)
    wait_for_worker_end = blocking(AsyncPenstock.wait_for_worker_end)
    events = iterating(AsyncPenstock.events)
