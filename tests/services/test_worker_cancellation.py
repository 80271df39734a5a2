"""What a worker does when it is told to stop a run: real processes, the test plays the dispatcher."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from penstock.contracts.workers import AcceptWorker
from penstock.worker import runtime
from penstock.worker.job import Outcome
from tests.support import wait_until
from tests.worker_rig import Rig, claim, gone, working

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from penstock.worker.job import Job, Watcher

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]
COUNTING = ["sh", "-c", "n=0; trap 'n=$((n+1)); echo term $n' TERM; echo ready; while :; do sleep 0.05; done"]
FLOWS = """
import os, signal, sys, time

def sleep():
    print("ready", flush=True)
    time.sleep(60)

def finish_when_asked():
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
    print("ready", flush=True)
    while not asked:
        time.sleep(0.01)

def raise_when_asked():
    def stop(*_):
        raise RuntimeError("asked to stop")
    signal.signal(signal.SIGTERM, stop)
    print("ready", flush=True)
    time.sleep(60)

def exit_when_asked():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("ready", flush=True)
    time.sleep(60)

def fail_and_linger():
    import atexit
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    atexit.register(time.sleep, 1.5)
    raise ValueError("by itself")
"""


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    (tmp_path / "etl.py").write_text(FLOWS)
    return tmp_path / "etl.py"


async def test_a_running_run_is_ended_by_sigterm_and_reported_cancelled(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command=SLEEP)
        await rig.assign(run)
        running = await rig.report(run, "RUNNING")
        await rig.cancel(run)
        report = await rig.report(run)
        assert (report["state"], report["message"]) == (
            "CANCELLED",
            "Flow run was cancelled. It ended after SIGTERM.",
        )
        assert report["started_ms"] == running["started_ms"] <= report["ended_ms"]
        assert (report["token"], report["epoch"]) == (run.token, 1)
        assert await rig.states(run) == ["RUNNING", "CANCELLED"]


async def test_what_ignores_sigterm_is_killed_after_the_grace(client: Redis) -> None:
    async with working(client, cancel_grace_seconds=0.4) as rig:
        run = claim(command=STUBBORN)
        await rig.assign(run)
        await wait_until(partial(rig.printed, run, "ready"), what="a shell that ignores SIGTERM")
        await rig.cancel(run)
        report = await rig.report(run)
        assert (report["state"], report["message"]) == (
            "CANCELLED",
            "Flow run was cancelled. It was killed 0.4 s after SIGTERM.",
        )


async def test_every_process_of_the_group_gets_sigterm_and_the_grace(client: Redis, tmp_path: Path) -> None:
    done = tmp_path / "done"
    child = f"trap 'sleep 0.5; touch {done}; exit' TERM; echo ready; while :; do sleep 0.05; done"
    async with working(client) as rig:
        run = claim(command=["sh", "-c", f'sh -c "{child}" & wait'])
        await rig.assign(run)
        await wait_until(partial(rig.printed, run, "ready"), what="the child's trap")
        await rig.cancel(run)
        report = await rig.report(run)
        assert (report["state"], report["message"][-14:]) == ("CANCELLED", "after SIGTERM.")
        assert await asyncio.to_thread(done.exists), "the shell had ended at once, its child was given its time"


async def test_a_claim_that_has_not_begun_is_cancelled_without_being_started(client: Redis) -> None:
    async with working(client, limit=1) as rig:
        first, second, third = claim(command=SLEEP), claim(command="echo begun"), claim(command="true")
        await rig.assign(first, second, third)
        await rig.report(first, "RUNNING")
        await rig.cancel(second)
        report = await rig.report(second)
        assert (report["state"], report["message"]) == ("CANCELLED", "Flow run was cancelled. It had not begun.")
        assert (report["started_ms"], await rig.states(second)) == (None, ["CANCELLED"])
        assert await rig.states(first) == ["RUNNING"]
        await rig.cancel(first)
        await rig.completed(third)
        assert await rig.output(second) == []


async def test_a_prefetched_run_is_ended_at_once_whatever_it_does_with_sigterm(client: Redis, tmp_path: Path) -> None:
    source = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('loaded', flush=True)\ndef main(): ..."
    )
    (tmp_path / "early.py").write_text(source)
    async with working(client) as rig:
        run = claim(due_in_seconds=60, entrypoint=f"{tmp_path}/early.py:main")
        await rig.assign(run)
        await wait_until(partial(rig.printed, run, "loaded"), what="the loaded module")
        await rig.cancel(run)
        report = await rig.report(run)
        assert (report["state"], report["message"]) == ("CANCELLED", "Flow run was cancelled. It had not begun.")
        assert await rig.states(run) == ["CANCELLED"]


async def test_told_twice_it_does_the_same_as_told_once(client: Redis) -> None:
    async with working(client, cancel_grace_seconds=0.8) as rig:
        run = claim(command=COUNTING)
        await rig.assign(run)
        await wait_until(partial(rig.printed, run, "ready"), what="the trap")
        await rig.cancel(run)
        await wait_until(partial(rig.printed, run, "term 1"), what="SIGTERM")
        await rig.cancel(run)
        report = await rig.report(run)
        assert report["message"] == "Flow run was cancelled. It was killed 0.8 s after SIGTERM."
        await rig.cancel(run)
        await wait_until(rig.inbox_empty, what="an empty inbox")
        assert await rig.states(run) == ["RUNNING", "CANCELLED"]
        assert not await rig.printed(run, "term 2")


async def test_other_runs_and_other_claims_of_the_same_run_are_left_alone(client: Redis) -> None:
    async with working(client) as rig:
        run, unknown = claim(command=["sh", "-c", "echo ready; sleep 0.6"]), claim(command=SLEEP)
        run = run.model_copy(update={"epoch": 3})
        await rig.assign(run)
        await wait_until(partial(rig.printed, run, "ready"), what="the run")
        await rig.cancel(unknown, *[run.model_copy(update={"epoch": epoch}) for epoch in (1, 2, 4)])
        await rig.completed(run)
        assert await rig.reports(unknown) == []


async def test_its_slot_stays_taken_until_nothing_of_it_is_alive(client: Redis) -> None:
    async with working(client, limit=1, cancel_grace_seconds=0.5) as rig:
        stubborn, after = claim(command=STUBBORN), claim(command="true")
        await rig.assign(stubborn, after)
        await wait_until(partial(rig.printed, stubborn, "ready"), what="a shell that ignores SIGTERM")
        await rig.cancel(stubborn)
        await rig.completed(after)
        states = [(report["run"], report["state"]) for report in await rig.reports()]
        assert states.index((stubborn.id, "CANCELLED")) < states.index((after.id, "RUNNING"))


@pytest.mark.parametrize(
    ("function", "state", "message"),
    [
        ("sleep", "CANCELLED", "Flow run was cancelled. It ended after SIGTERM."),
        ("finish_when_asked", "COMPLETED", ""),
        ("raise_when_asked", "CANCELLED", "Flow run was cancelled. It ended after SIGTERM."),
        ("exit_when_asked", "CANCELLED", "Flow run was cancelled. It ended after SIGTERM."),
    ],
)
async def test_only_a_function_that_returns_all_the_same_is_not_cancelled(
    client: Redis, flows: Path, function: str, state: str, message: str
) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:{function}")
        await rig.assign(run)
        await wait_until(partial(rig.printed, run, "ready"), what="the function")
        await rig.cancel(run)
        report = await rig.report(run)
        assert (report["state"], report["message"]) == (state, message)


async def test_a_function_that_had_failed_before_is_reported_as_failed(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:fail_and_linger")
        await rig.assign(run)
        await wait_until(partial(rig.printed, run, "ValueError: by itself"), what="the traceback")
        await rig.cancel(run)
        report = await rig.report(run)
        assert (report["state"], report["message"]) == (
            "FAILED",
            "Flow run encountered an exception: ValueError: by itself",
        )


async def test_a_revocation_silences_a_run_that_is_being_cancelled(client: Redis) -> None:
    async with working(client) as rig:
        run, marker = claim(command=STUBBORN), claim(command="true")
        await rig.assign(run)
        await wait_until(partial(rig.printed, run, "ready"), what="a shell that ignores SIGTERM")
        await rig.cancel(run)
        await rig.revoke(run)
        await wait_until(partial(rig.holds, 0), what="the end of the run")
        await rig.assign(marker)
        await rig.completed(marker)
        assert await rig.states(run) == ["RUNNING"]


async def test_a_draining_worker_finishes_what_it_was_told_to_cancel(client: Redis) -> None:
    rig = Rig(client, cancel_grace_seconds=0.5)
    await rig.start()
    stubborn, prefetched = claim(command=STUBBORN), claim(due_in_seconds=60, command="true")
    await rig.assign(stubborn, prefetched)
    await wait_until(partial(rig.printed, stubborn, "ready"), what="a shell that ignores SIGTERM")
    await rig.cancel(stubborn, prefetched)
    await rig.report(prefetched, "CANCELLED")
    rig.worker.drain()
    assert await rig.task == 0
    assert await rig.states(stubborn) == ["RUNNING", "CANCELLED"]
    assert await rig.states(prefetched) == ["CANCELLED"]


async def test_when_the_drain_time_is_over_a_cancelled_run_is_killed_and_reported(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "TERMINATE_SECONDS", 0.2)
    rig = Rig(client, drain_seconds=0.1, cancel_grace_seconds=60)
    await rig.start()
    run = claim(command=COUNTING)
    await rig.assign(run)
    await wait_until(partial(rig.printed, run, "ready"), what="the trap")
    await rig.cancel(run)
    await wait_until(partial(rig.printed, run, "term 1"), what="SIGTERM")
    rig.worker.drain()
    assert await rig.task == 0
    assert not await rig.printed(run, "term 2")
    report = await rig.report(run)
    assert report["state"] == "CANCELLED"
    assert re.fullmatch(r"Flow run was cancelled. It was killed [\d.]+ s after SIGTERM.", report["message"])


async def test_a_run_told_to_stop_while_it_is_handed_back_is_cancelled(client: Redis) -> None:
    kind = SlowToStart()
    kind.may_end.clear()
    kind.may_start.set()
    rig = Rig(client, kind=kind)
    await rig.start()
    run = claim(due_in_seconds=60, command="x")
    await rig.assign(run)
    await wait_until(partial(kind.has, "began"), what="the start")
    rig.worker.drain()
    await wait_until(partial(kind.has, "killed"), what="the hand-back")
    await rig.cancel(run)
    await wait_until(rig.inbox_empty, what="an empty inbox")
    kind.may_end.set()
    assert await rig.task == 0
    assert await rig.states(run) == ["CANCELLED"]


async def test_a_run_told_to_stop_while_it_is_being_started_is_ended_as_soon_as_it_has(client: Redis) -> None:
    kind = SlowToStart()
    async with working(client, kind=kind) as rig:
        run = claim(command="x")
        await rig.assign(run)
        await wait_until(partial(kind.has, "began"), what="the start")
        await rig.cancel(run)
        await wait_until(rig.inbox_empty, what="an empty inbox")
        assert await rig.reports() == []
        kind.may_start.set()
        report = await rig.report(run)
        assert (report["state"], report["message"]) == ("CANCELLED", "Flow run was cancelled. It had not begun.")
        assert kind.happened == ["began", "killed"]


async def test_a_run_that_began_before_its_start_was_over_is_asked_first(client: Redis) -> None:
    kind = SlowToStart(begins_early=True)
    async with working(client, kind=kind, cancel_grace_seconds=0.3) as rig:
        run = claim(command="x")
        await rig.assign(run)
        await rig.report(run, "RUNNING")
        await rig.cancel(run)
        await wait_until(rig.inbox_empty, what="an empty inbox")
        kind.may_start.set()
        report = await rig.report(run)
        assert report["message"] == "Flow run was cancelled. It was killed 0.3 s after SIGTERM."
        assert kind.happened == ["began", "terminated", "killed"]


async def test_a_run_told_to_stop_in_preparation_is_never_started(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = SlowToStart()
    async with working(client, kind=kind) as rig:
        preparing, go_on = asyncio.Event(), asyncio.Event()
        prepare = rig.worker._preparation.prepare

        async def slowly(spec: object) -> object:
            preparing.set()
            await go_on.wait()
            return await prepare(spec)  # type: ignore[arg-type]

        monkeypatch.setattr(rig.worker._preparation, "prepare", slowly)
        run = claim(command="x")
        await rig.assign(run)
        await preparing.wait()
        await rig.cancel(run)
        await wait_until(rig.inbox_empty, what="an empty inbox")
        go_on.set()
        report = await rig.report(run)
        assert (report["state"], report["message"]) == ("CANCELLED", "Flow run was cancelled. It had not begun.")
        assert kind.happened == []


async def test_a_worker_whose_name_was_taken_over_stops_its_runs_and_leaves_the_message_for_the_other(
    client: Redis,
) -> None:
    async with working(client) as rig:
        run = claim(command=SLEEP)
        await rig.assign(run)
        await rig.report(run, "RUNNING")
        await rig.send(AcceptWorker(boot_id="later", slots=4))
        await rig.cancel(run)
        await rig.report(run, "CANCELLED")

        async def two_left() -> bool:
            return await rig.inbox_length() == 2

        await wait_until(two_left, what="the later life's two entries")


async def test_a_claim_delivered_again_while_it_is_being_cancelled_is_not_taken_twice(client: Redis) -> None:
    async with working(client, cancel_grace_seconds=0.5) as rig:
        run = claim(command=STUBBORN)
        await rig.assign(run)
        await wait_until(partial(rig.printed, run, "ready"), what="a shell that ignores SIGTERM")
        await rig.cancel(run)
        await rig.assign(run)
        await wait_until(rig.inbox_empty, what="an empty inbox")
        assert rig.worker._hands.count == 1
        await rig.report(run, "CANCELLED")
        await wait_until(partial(rig.holds, 0), what="empty hands")
        assert await rig.states(run) == ["RUNNING", "CANCELLED"]


async def test_forked_children_are_ended_wherever_they_went(client: Redis, tmp_path: Path) -> None:
    (tmp_path / "forks.py").write_text(FORKS)
    async with working(client, cancel_grace_seconds=0.5) as rig:
        run, bystander = claim(entrypoint=f"{tmp_path}/forks.py:main"), claim(entrypoint=f"{tmp_path}/forks.py:main")
        await rig.assign(run, bystander)
        mine, others = [await rig.pids(one, 4) for one in (run, bystander)]
        await rig.cancel(run)
        await rig.report(run, "CANCELLED")
        assert [pid for pid in mine if not await gone(pid)] == [], "all of it is over when it is reported"
        assert [pid for pid in others if await gone(pid)] == []
        await rig.revoke(bystander)
        for pid in others:
            await wait_until(partial(gone, pid), what=f"the end of process {pid}")


FORKS = """
import os, subprocess, sys, time

SLEEP = [sys.executable, "-S", "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"]

def main(forever=True):
    beside = subprocess.Popen(SLEEP)
    apart = subprocess.Popen(SLEEP, start_new_session=True)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        second = os.fork()
        if second:
            print(second, flush=True)
            os._exit(0)
        os.execv(SLEEP[0], SLEEP)
    os.wait()
    print(os.getpid(), flush=True)
    print(beside.pid, flush=True)
    print(apart.pid, flush=True)
    if forever:
        time.sleep(60)
"""


async def test_children_that_left_the_group_do_not_outlive_a_run_that_ends_by_itself(
    client: Redis, tmp_path: Path
) -> None:
    (tmp_path / "forks.py").write_text(FORKS)
    async with working(client) as rig:
        run = claim(entrypoint=f"{tmp_path}/forks.py:main", parameters={"forever": False})
        await rig.assign(run)
        report = await rig.completed(run)
        assert report["message"] == ""
        for pid in await rig.pids(run, 4):
            assert await gone(pid), "nothing of a run is alive when its end is reported"


class SlowToStart:
    """A worker type whose runs take as long to start and to die as the test says."""

    def __init__(self, *, begins_early: bool = False) -> None:
        self.happened: list[str] = []
        self.may_start = asyncio.Event()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self._begins_early = begins_early

    async def has(self, what: str) -> bool:
        return what in self.happened

    async def open(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to clean up."""

    async def start(self, job: Job, watcher: Watcher) -> Execution:  # noqa: ARG002 - the protocol gives it
        self.happened.append("began")
        if self._begins_early:
            watcher.started(time.time_ns() // 1_000_000)
        await self.may_start.wait()
        return Execution(self)


class Execution:
    """Over when it was killed, and may be."""

    def __init__(self, kind: SlowToStart) -> None:
        self._kind = kind
        self._killed = asyncio.Event()

    async def wait(self) -> Outcome:
        await self._killed.wait()
        await self._kind.may_end.wait()
        return Outcome("CRASHED", "killed")

    def terminate(self) -> None:
        self._kind.happened.append("terminated")

    def kill(self) -> None:
        self._kind.happened.append("killed")
        self._killed.set()
