"""Heartbeats, inbox, limits, drain, outages: a real worker, the test plays monitor and dispatcher."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from penstock import keys
from penstock.bus.cancellation import end_tasks
from penstock.bus.connection import connect
from penstock.bus.entries import entry_fields
from penstock.cli.embedded_redis import EmbeddedRedis, free_port
from penstock.contracts.replies import Reply
from penstock.contracts.workers import AcceptWorker, RefuseWorker
from penstock.errors import BadSettings, Conflict, NoReply
from penstock.worker import runtime
from penstock.worker.healthcheck import Healthcheck
from penstock.worker.inbox import Inbox
from penstock.worker.job import Outcome
from tests.support import read_messages, wait_until
from tests.worker_rig import INBOX, Remote, Rig, claim, start_process, working

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from penstock.worker.job import Job, Watcher

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]


async def test_the_first_heartbeat_says_everything_and_the_last_that_it_stops(client: Redis) -> None:
    rig = Rig(client, limit=7)
    await rig.start()
    rig.worker.drain()
    assert await rig.task == 0
    first, *between, last = await rig.heartbeats()
    assert first == {
        "type": "worker.heartbeat",
        "pool": "etl",
        "worker": "w1",
        "worker_type": "process",
        "boot_id": rig.identity.boot_id,
        "seq": 1,
        "interval_seconds": 30.0,
        "queues": [],
        "slots": 7,
        "prefetch_seconds": 10.0,
        "version": first["version"],
        "host": first["host"],
        "pid": os.getpid(),
        "draining": False,
        "stopping": False,
    }
    # With nothing in hand it may be over before there is anything to say of the draining.
    assert [(beat["seq"], beat["draining"], beat["stopping"]) for beat in between] in ([], [(2, True, False)])
    assert (last["seq"], last["draining"], last["stopping"]) == (2 + len(between), True, True)


async def test_heartbeats_repeat_every_interval(client: Redis) -> None:
    async with working(client, heartbeat_seconds=0.1) as rig:

        async def three() -> bool:
            return len(await rig.heartbeats()) >= 3

        await wait_until(three, what="three heartbeats", timeout=5)
        assert [beat["seq"] for beat in (await rig.heartbeats())[:3]] == [1, 2, 3]


async def test_acceptance_is_said_once_per_life(client: Redis) -> None:
    async with working(client) as rig:
        await rig.send(AcceptWorker(boot_id=rig.identity.boot_id, slots=4))
        await wait_until(lambda: _empty(rig), what="an empty inbox")
        assert rig.console.lines == ["Worker 'w1' started!"]


async def test_never_more_runs_than_slots_whatever_is_assigned(client: Redis) -> None:
    async with working(client, limit=2) as rig:
        runs = [claim(command=SLEEP) for _ in range(5)]
        await rig.assign(*runs)
        for run in runs[:2]:
            await rig.report(run, "RUNNING")
        await rig.revoke(runs[0])
        await rig.report(runs[2], "RUNNING")
        assert {report["run"] for report in await rig.reports()} == {run.id for run in runs[:3]}
        await wait_until(lambda: _empty(rig), what="an empty inbox")


async def test_a_claim_delivered_twice_is_executed_once(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command=["sh", "-c", "echo begun; sleep 0.4; echo done"])
        await rig.assign(run, run)
        await rig.report(run, "RUNNING")
        await rig.assign(run)
        await rig.completed(run)
        assert await rig.states(run) == ["RUNNING", "COMPLETED"]
        assert await rig.output(run) == [("stdout", "begun"), ("stdout", "done")]


async def test_a_newer_claim_of_the_same_run_replaces_the_older(client: Redis) -> None:
    async with working(client) as rig:
        old = claim(command=SLEEP)
        new = old.model_copy(update={"token": "new", "epoch": 2, "spec": {"command": "true"}})
        await rig.assign(old)
        await rig.report(old, "RUNNING")
        await rig.assign(new)
        await rig.report(new, "COMPLETED")
        assert [(report["epoch"], report["state"]) for report in await rig.reports()] == [
            (1, "RUNNING"),
            (2, "RUNNING"),
            (2, "COMPLETED"),
        ]


@pytest.mark.parametrize("revoked", [False, True])
async def test_a_newer_claim_begins_when_the_older_one_s_process_is_over(client: Redis, revoked: bool) -> None:
    kind = SlowToDie()
    async with working(client, kind=kind) as rig:
        old = claim(command="x")
        await rig.assign(old)
        await rig.report(old, "RUNNING")
        if revoked:
            await rig.revoke(old)
        await rig.assign(old.model_copy(update={"token": "new", "epoch": 2}))
        await wait_until(partial(kind.has, "began 2"), what="the second execution")
        assert kind.happened == ["began 1", "killed 1", "over 1", "began 2"]


async def test_a_run_revoked_while_it_is_being_started_is_killed_when_it_has(client: Redis) -> None:
    kind = SlowToDie()
    kind.may_start.clear()
    async with working(client, kind=kind) as rig:
        run = claim(command="x")
        await rig.assign(run)
        await wait_until(partial(kind.has, "began 1"), what="the start")
        await rig.revoke(run)
        await wait_until(lambda: _empty(rig), what="an empty inbox")
        kind.may_start.set()
        await wait_until(partial(kind.has, "over 1"), what="the end of the execution")
        assert kind.happened == ["began 1", "killed 1", "over 1"]
        assert await rig.reports() == []


class SlowToDie:
    """A worker type whose runs take a moment to start and to die, e.g. containers."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.may_start = asyncio.Event()
        self.may_start.set()

    async def has(self, what: str) -> bool:
        return what in self.happened

    async def open(self) -> None:
        """Nothing to prepare."""

    async def close(self) -> None:
        """Nothing to clean up."""

    async def start(self, job: Job, watcher: Watcher) -> SlowExecution:
        self.happened.append(f"began {job.attempt}")
        await self.may_start.wait()
        watcher.started(time.time_ns() // 1_000_000)
        return SlowExecution(self.happened, job.attempt)


class SlowExecution:
    """Over a while after it was killed."""

    def __init__(self, happened: list[str], attempt: int) -> None:
        self._happened = happened
        self._attempt = attempt
        self._killed = asyncio.Event()

    async def wait(self) -> Outcome:
        await self._killed.wait()
        self._happened.append(f"killed {self._attempt}")
        await asyncio.sleep(0.2)
        self._happened.append(f"over {self._attempt}")
        return Outcome("CRASHED", "killed")

    def terminate(self) -> None:
        self._killed.set()

    def kill(self) -> None:
        self._killed.set()


async def test_claims_of_an_earlier_life_are_dropped(client: Redis) -> None:
    rig = Rig(client)
    await rig.assign(claim(command="true"), boot_id="earlier")
    await rig.start()
    mine = claim(command="true")
    await rig.assign(mine)
    await rig.completed(mine)
    assert {report["run"] for report in await rig.reports()} == {mine.id}
    await wait_until(lambda: _empty(rig), what="an empty inbox")
    await rig.stop()


async def test_claims_of_a_later_life_are_left_for_it(client: Redis) -> None:
    async with working(client) as rig:
        mine = claim(command="true")
        await rig.send(AcceptWorker(boot_id="later", slots=4))
        await rig.assign(claim(command="true"), boot_id="later")
        await rig.assign(mine)
        await rig.completed(mine)

        async def two_left() -> bool:
            return await rig.inbox_length() == 2

        await wait_until(two_left, what="the later life's two entries")
        assert {report["run"] for report in await rig.reports()} == {mine.id}


async def test_a_revoked_run_is_killed_with_its_whole_group_and_not_reported(client: Redis, tmp_path: Path) -> None:
    async with working(client) as rig:
        pids = tmp_path / "pids"
        run = claim(command=["sh", "-c", f"sleep 60 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait"])
        await rig.assign(run)
        await wait_until(lambda: _exists(pids), what="both processes")
        await rig.revoke(run)
        for pid in map(int, pids.read_text().split()):
            await wait_until(partial(_gone, pid), what=f"the end of process {pid}")
        marker = claim(command="true")
        await rig.assign(marker)
        await rig.completed(marker)
        assert await rig.states(run) == ["RUNNING"]


async def test_a_refused_worker_ends_with_the_reason(client: Redis) -> None:
    rig = Rig(client)
    await rig.start()
    run = claim(command=SLEEP)
    await rig.assign(run)
    await rig.report(run, "RUNNING")
    refusal = RefuseWorker(boot_id=rig.identity.boot_id, code="conflict", reason="pool 'etl' takes docker workers")
    await rig.send(refusal)
    with pytest.raises(Conflict, match="worker 'w1' was refused: pool 'etl' takes docker workers"):
        await rig.task
    assert await rig.states(run) == ["RUNNING"]
    assert (await rig.heartbeats())[-1]["stopping"]


async def test_a_refusal_of_an_earlier_life_does_not_concern_this_one(client: Redis) -> None:
    rig = Rig(client)
    await rig.send(RefuseWorker(boot_id="earlier", code="conflict", reason="superseded"))
    await rig.start()
    run = claim(command="true")
    await rig.assign(run)
    await rig.completed(run)
    await rig.stop()


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"type":"assign_runs"}', b'{"type":"what"}', b"\xff"])
async def test_what_is_no_message_goes_to_dead_and_the_next_is_read(client: Redis, body: bytes) -> None:
    async with working(client) as rig:
        await client.xadd(keys.key(0, "inbox", INBOX), {"__data__": body})
        run = claim(command="true")
        await rig.assign(run)
        await rig.completed(run)
        (letter,) = await read_messages(client, "dead")
        assert letter["stream"] == keys.key(0, "inbox", INBOX)
        assert letter["reason"]


async def test_drain_hands_back_what_has_not_begun_and_lets_the_rest_finish(client: Redis, tmp_path: Path) -> None:
    rig = Rig(client, limit=2)
    await rig.start()
    go = tmp_path / "go"
    running = claim(command=["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done"])
    prefetched = claim(due_in_seconds=60, command="true")
    queued = claim(command="true")
    await rig.assign(running, prefetched, queued)
    await rig.report(running, "RUNNING")
    rig.worker.drain()
    await rig.report(prefetched, "SCHEDULED")
    await rig.report(queued, "SCHEDULED")
    late = claim(command="true")
    await rig.assign(late)
    await rig.report(late, "SCHEDULED")
    assert (await rig.heartbeats())[-1]["draining"]
    assert not rig.task.done()
    go.touch()
    assert await rig.task == 0
    assert await rig.states(running) == ["RUNNING", "COMPLETED"]
    assert await rig.states(prefetched) == ["SCHEDULED"]
    assert await rig.states(queued) == ["SCHEDULED"]
    assert [beat["stopping"] for beat in await rig.heartbeats()] == [False, False, True]


async def test_after_the_drain_time_runs_are_killed_and_not_reported(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "TERMINATE_SECONDS", 0.3)
    rig = Rig(client, drain_seconds=0.2)
    await rig.start()
    polite = claim(command=SLEEP)
    stubborn = claim(command=["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
    await rig.assign(polite, stubborn)
    await rig.report(polite, "RUNNING")
    await wait_until(lambda: rig.output(stubborn), what="a shell that ignores SIGTERM")
    rig.worker.drain()
    assert await rig.task == 0
    assert await rig.states(polite) == ["RUNNING"]
    assert await rig.states(stubborn) == ["RUNNING"]


async def test_run_once_takes_what_is_due_now_and_ends(client: Redis) -> None:
    rig = Rig(client, run_once=True)
    await rig.start()
    asked = await wait_until(lambda: _claim_command(client), what="claim_runs")
    assert asked["pool"] == "etl"
    runs = [claim(command="true") for _ in range(6)]
    await rig.assign(*runs)
    await client.rpush(
        keys.key(0, "reply", asked["id"]), Reply(id=asked["id"], ok=True, result={"claimed": 6}).model_dump_json()
    )
    assert await asyncio.wait_for(rig.task, 20) == 0
    for run in runs:
        assert await rig.states(run) == ["RUNNING", "COMPLETED"]
    assert [beat["draining"] for beat in await rig.heartbeats()] == [False, True, True]


async def test_run_once_with_nothing_due_ends(client: Redis) -> None:
    rig = Rig(client, run_once=True)
    await rig.start()
    asked = await wait_until(lambda: _claim_command(client), what="claim_runs")
    await client.rpush(
        keys.key(0, "reply", asked["id"]), Reply(id=asked["id"], ok=True, result={"claimed": 0}).model_dump_json()
    )
    assert await asyncio.wait_for(rig.task, 20) == 0


async def test_run_once_that_nobody_accepts_says_which_services_to_look_at(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "ACCEPT_SECONDS", 0.1)
    with pytest.raises(NoReply, match="are heartbeat_monitor and dispatcher running"):
        await Rig(client, run_once=True).worker.run()


async def test_caught_up_means_that_every_entry_was_taken_over(client: Redis) -> None:
    rig = Rig(client)
    await rig.assign(*[claim(command="true") for _ in range(3)])
    accept = entry_fields(AcceptWorker(boot_id=rig.identity.boot_id, slots=1))
    pipe = client.pipeline()
    for _ in range(5000):
        pipe.xadd(keys.key(0, "inbox", INBOX), {**accept})
    await pipe.execute()
    seen: list[Any] = []
    inbox = Inbox(client, rig.identity, seen.append, rig.health)
    reading = asyncio.create_task(inbox.run())
    await asyncio.wait_for(inbox.caught_up(), 10)
    assert len(seen) == 5001
    await wait_until(lambda: _empty(rig), what="an empty inbox")
    await asyncio.wait_for(inbox.caught_up(), 10)
    await end_tasks([reading])


async def test_an_outage_of_redis_ends_no_run_and_loses_no_report(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    client = connect(own_redis.url)
    async with working(client, heartbeat_seconds=0.5) as rig:
        go = tmp_path / "go"
        run = claim(command=["sh", "-c", f"echo before; while [ ! -e {go} ]; do sleep 0.05; done; echo during"])
        await rig.assign(run)
        await wait_until(lambda: rig.output(run), what="the first line")
        await rig.report(run, "RUNNING")
        await asyncio.to_thread(own_redis.kill)
        go.touch()
        child = {process.pid for process in psutil.Process().children() if process.name() == "sh"}
        for pid in child:
            await wait_until(partial(_gone, pid), what="the end of the run during the outage")
        assert not rig.task.done()
        await asyncio.to_thread(own_redis.start)
        await rig.completed(run)
        await wait_until(lambda: _printed(rig, run, "during"), what="output of the outage")
        later = claim(command="true")
        await rig.assign(later)
        await rig.completed(later)
        assert rig.health.live() == []
    await client.aclose()


async def test_sigterm_drains_a_worker_process_to_exit_code_0(client: Redis, redis_url: str) -> None:
    process = await start_process(redis_url)
    rig = Remote(client)
    await rig.adopt()
    run = claim(command="sleep 0.5")
    await rig.assign(run)
    await rig.report(run, "RUNNING")
    process.send_signal(signal.SIGTERM)
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.decode() == "Worker 'w1' started!\n"
    await rig.completed(run)
    assert (await rig.heartbeats())[-1]["stopping"]


async def test_a_second_signal_ends_a_worker_process_at_once(client: Redis, redis_url: str) -> None:
    process = await start_process(redis_url, drain=60)
    rig = Remote(client)
    await rig.adopt()
    run = claim(command=SLEEP)
    await rig.assign(run)
    await rig.report(run, "RUNNING")
    process.send_signal(signal.SIGINT)

    async def draining() -> bool:
        return bool((await rig.heartbeats())[-1]["draining"])

    await wait_until(draining, what="the draining heartbeat")
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == 0
    assert await rig.states(run) == ["RUNNING"]


@pytest.mark.parametrize("guarded", [True, False])
async def test_a_worker_killed_with_9_leaves_no_process_behind(
    client: Redis, redis_url: str, tmp_path: Path, guarded: bool
) -> None:
    process = await start_process(redis_url)
    rig = Remote(client)
    await rig.adopt()
    pids = tmp_path / "pids"
    (tmp_path / "flow.py").write_text("import time\ndef sleep():\n    time.sleep(60)\n")
    begin = f"sleep 60 & echo $! > {pids}.new; setsid sleep 60 & mv {pids}.new {pids}; wait"
    command = claim(command=["sh", "-c", begin])
    function = claim(entrypoint=f"{tmp_path}/flow.py:sleep")
    waiting = claim(due_in_seconds=60, command="true")
    await rig.assign(command, function, waiting)
    await rig.report(command, "RUNNING")
    await rig.report(function, "RUNNING")
    await wait_until(lambda: _exists(pids), what="the grandchild")

    async def all_there() -> list[psutil.Process] | None:
        found = psutil.Process(process.pid).children(recursive=True)
        sleeping = [child for child in found if child.name() == "sleep"]
        return found if len(found) == 6 and len(sleeping) == 2 else None

    family = await wait_until(
        all_there, what="guardian, three children, a grandchild in its group and one that left it"
    )
    grandchildren = [member for member in family if member.name() == "sleep"]
    assert len({os.getpgid(member.pid) for member in grandchildren}) == 2
    if not guarded:
        # Without the guardian the kernel still ends the children.
        next(member for member in family if "guardian.py" in " ".join(member.cmdline())).kill()
        family = [member for member in family if member not in grandchildren]
    process.kill()
    await process.communicate()
    for member in family:
        await wait_until(partial(_gone, member.pid), what=f"the end of {member}", timeout=5)
    if not guarded:
        for member in grandchildren:
            member.kill()


async def test_the_healthcheck_tells_live_and_ready_apart(client: Redis) -> None:
    rig = Rig(client)
    port = free_port()
    server = Healthcheck(rig.health, "127.0.0.1", port)
    serving = asyncio.create_task(server.run())
    await rig.start()
    await wait_until(lambda: _serves(port), what="the health server")
    status, body = await _get(port, "/health")
    assert (status, '"service":"worker"' in body) == (200, True)
    assert (await _get(port, "/readyz"))[0] == 200
    assert "penstock_" in (await _get(port, "/metrics"))[1]
    rig.worker.drain()
    await rig.task
    assert (await _get(port, "/livez"))[0] == 200
    assert (await _get(port, "/readyz"))[1] == '{"service":"worker","ok":false,"reasons":["stopping"]}'
    with pytest.raises(BadSettings, match=f"127.0.0.1:{port}"):
        await Healthcheck(rig.health, "127.0.0.1", port).run()
    server.stop()
    await serving


async def _claim_command(client: Redis) -> dict[str, Any] | None:
    return next((found for found in await read_messages(client, "dispatch") if found["type"] == "claim_runs"), None)


async def _empty(rig: Rig) -> bool:
    return await rig.inbox_length() == 0


async def _exists(path: Path) -> bool:
    return await asyncio.to_thread(path.exists)


async def _printed(rig: Rig, run: Any, text: str) -> bool:
    return ("stdout", text) in await rig.output(run)


async def _gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def _serves(port: int) -> bool:
    try:
        return bool(await _get(port, "/livez"))
    except OSError:
        return False


async def _get(port: int, path: str) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


async def test_a_revocation_of_an_older_claim_leaves_the_newer_one_alone(client: Redis) -> None:
    async with working(client) as rig:
        old = claim(command=SLEEP)
        new = old.model_copy(update={"token": "new", "epoch": 2, "spec": {"command": "sleep 0.5"}})
        await rig.assign(new)
        await rig.report(new, "RUNNING")
        await rig.revoke(old)
        await rig.report(new, "COMPLETED")
