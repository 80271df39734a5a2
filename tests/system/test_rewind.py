"""Redis forgets what it had acknowledged a moment ago: whoever counted on it notices by himself, and everything goes on."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import connect, redis_now_ms
from penstock.bus.requests import publish
from penstock.client import NewRun, Penstock
from penstock.contracts.deployments import DeploymentChanged
from penstock.contracts.queues import QueueChanges, UpdateQueue
from penstock.errors import NotFound
from penstock.streams import COMMANDS, DEFINITIONS
from tests.definitions import define_deployment, define_pool
from tests.rewinding import RewindableRedis
from tests.scheduling import define_schedule, made_runs
from tests.support import read_events, wait_until
from tests.system.service_processes import Services
from tests.system.worker_process import worker
from tests.worker_rig import gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

ALL = ["pool_registry", "heartbeat_monitor", "dispatcher"]
WITHIN_SECONDS = 10.0
"""Promise 7."""
USUAL_BOOT_SECONDS = 3.0
"""These services on two idle cores; what a busy machine takes longer is allowed for."""
PATIENCE_SECONDS = 60.0


class Scene:
    """An installation of real processes whose Redis can be rewound, and runs that wait for a file."""

    def __init__(self, server: RewindableRedis, client: Redis, folder: Path, services: Services) -> None:
        self.server, self.client, self.folder, self.services = server, client, folder, services
        self.penstock = Penstock(client, 1, timeout_seconds=PATIENCE_SECONDS)
        self._rewound = 0.0
        self._within = WITHIN_SECONDS

    async def begin(self) -> None:
        """Wait until the services answer."""
        began = time.monotonic()
        await self.penstock.create_pool("etl")
        self._within = WITHIN_SECONDS + max(0.0, time.monotonic() - began - USUAL_BOOT_SECONDS)

    async def submit(self, name: str, pool: str = "etl") -> str:
        """A run that notes its beginning, waits for the file of its name, and notes its end."""
        notes, gate = self.folder / f"{name}.notes", self.folder / f"{name}.gate"
        line = f"sh -c 'echo begun $$ >> {notes}; while ! test -e {gate}; do sleep 0.05; done; echo done >> {notes}'"
        (run_id,) = await self.penstock.submit_runs(pool, [NewRun(command=line, name=name)])
        return run_id

    def open(self, name: str) -> None:
        """Let a run end."""
        (self.folder / f"{name}.gate").touch()

    def notes(self, name: str) -> list[str]:
        """What a run has noted: that it has begun, under which process id, and that it is done."""
        notes = self.folder / f"{name}.notes"
        return notes.read_text().split() if notes.exists() else []

    def steps(self, name: str) -> list[str]:
        """The same without process ids."""
        return [word for word in self.notes(name) if not word.isdigit()]

    async def state(self, run_id: str, *states: str) -> Any:
        """Wait until a run is in one of some states; after a rewind no longer than promised."""

        async def there() -> Any:
            with contextlib.suppress(NotFound):
                run = await self.penstock.read_run(run_id)
                return run if run.state in states else None

        left = self._rewound + self._within - time.monotonic()
        timeout = max(1.0, left) if self._rewound else PATIENCE_SECONDS
        return await wait_until(there, what=f"{run_id} to be {states}", timeout=timeout)

    def rewind(self) -> None:
        """Lose what has been acknowledged since the moment that was saved."""
        self.server.rewind()
        self._rewound = time.monotonic()

    async def told(self, run_id: str) -> list[str]:
        """Names of the states in a run's events, which are numbered without a gap."""
        resource = f"prefect.flow-run.{run_id}"
        events = [one for one in await read_events(self.client) if one["resource"]["prefect.resource.id"] == resource]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        return [event["event"].rpartition(".")[2] for event in events]

    def signal(self, number: signal.Signals) -> None:
        """Send every service a signal."""
        for process in self.services.processes:
            process.send_signal(number)

    async def acknowledged(self) -> bool:
        """Say whether no command is in hand."""
        (group,) = await self.client.xinfo_groups(keys.key(0, COMMANDS.name))
        return bool(group["pending"] == 0)

    async def holds_nothing(self) -> None:
        """Nothing is in flight."""
        assert (await self.penstock.read_slots("etl")).pool == 0


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    with RewindableRedis(tmp_path) as server, Services(server.url, tmp_path, ALL) as services:
        client = connect(server.url)
        scene = Scene(server, client, tmp_path, services)
        try:
            await scene.begin()
            yield scene
        finally:
            await client.aclose()


async def test_an_end_that_was_accepted_and_lost_is_said_again(scene: Scene, tmp_path: Path) -> None:
    with worker(scene.server.url, "etl", tmp_path, "w1", interval=30):
        begun, pending = await scene.submit("begun"), ""
        await scene.state(begun, "RUNNING")
        scene.server.save()
        pending = await scene.submit("pending")
        await scene.state(pending, "RUNNING")
        scene.open("begun")
        await scene.state(begun, "COMPLETED")

        scene.rewind()

        await scene.state(begun, "COMPLETED")
        assert await scene.told(begun) == ["Scheduled", "Pending", "Running", "Completed"]
        assert scene.steps("begun") == ["begun", "done"], "it was carried out once"
        with pytest.raises(NotFound):
            await scene.penstock.read_run(pending)
        await scene.holds_nothing()


async def test_a_beginning_that_was_lost_is_said_again(scene: Scene, tmp_path: Path) -> None:
    """Else its worker's death would send it back to its queue, as if it had not begun."""
    with worker(scene.server.url, "etl", tmp_path, "w1", interval=30) as process:
        first = await scene.submit("first")
        await scene.state(first, "RUNNING")
        # It reads nothing, so the run is still PENDING at the moment that is saved.
        process.send_signal(signal.SIGSTOP)
        run = await scene.submit("run")
        await scene.state(run, "PENDING")
        scene.server.save()
        process.send_signal(signal.SIGCONT)
        await scene.state(run, "RUNNING")

        scene.rewind()

        await scene.state(run, "RUNNING")
        scene.open("run")
        await scene.state(run, "COMPLETED")
        assert await scene.told(run) == ["Scheduled", "Pending", "Running", "Completed"]
        assert scene.steps("run") == ["begun", "done"]


async def test_a_claim_that_was_lost_is_dropped_and_the_run_handed_out_again(scene: Scene, tmp_path: Path) -> None:
    with worker(scene.server.url, "etl", tmp_path, "w1", interval=30):
        probe = await scene.submit("probe")
        scene.open("probe")
        await scene.state(probe, "COMPLETED")
        await scene.penstock.pause_pool("etl")
        run = await scene.submit("run")
        scene.server.save()
        await scene.penstock.resume_pool("etl")
        await scene.state(run, "RUNNING")
        await wait_until(lambda: _noted(scene, "run", 1), what="it has begun")
        (pid,) = (int(word) for word in scene.notes("run") if word.isdigit())

        scene.rewind()

        await scene.state(run, "SCHEDULED")
        await wait_until(lambda: gone(pid), what="its process is ended, which nobody waits for")
        await scene.penstock.resume_pool("etl")
        await scene.state(run, "RUNNING")
        await wait_until(lambda: _noted(scene, "run", 2), what="it has begun again")
        scene.open("run")
        await scene.state(run, "COMPLETED")
        assert scene.steps("run") == ["begun", "begun", "done"], "the first one was killed"
        assert await scene.told(run) == ["Scheduled", "Pending", "Running", "Completed"]


async def _noted(scene: Scene, name: str, count: int) -> bool:
    return scene.notes(name).count("begun") == count


async def test_a_worker_that_redis_has_forgotten_says_at_once_who_it_is(scene: Scene, tmp_path: Path) -> None:
    waiting = await scene.submit("waiting")
    with worker(scene.server.url, "etl", tmp_path, "w1", interval=1):
        other = await scene.submit("other")
        await scene.state(other, "RUNNING")
    # An earlier life of the same name is what Redis remembers.
    scene.server.save()
    with worker(scene.server.url, "etl", tmp_path, "w1", interval=60):
        await wait_until(lambda: _lives(scene, 2), what="the second life is known")

        scene.rewind()

        scene.open("waiting")
        await scene.state(waiting, "COMPLETED", "CRASHED")
        late = await scene.submit("late")
        scene.open("late")
        await scene.state(late, "COMPLETED")
        await scene.state(other, "CRASHED")


async def _lives(scene: Scene, count: int) -> bool:
    started = [one for one in await read_events(scene.client) if one["event"] == "prefect.worker.started"]
    return len(started) == count


async def test_a_claim_whose_inbox_entry_was_lost_is_handed_out_again(scene: Scene, tmp_path: Path) -> None:
    """Without any outage: somebody has deleted it, so the worker never hears of it."""
    with worker(scene.server.url, "etl", tmp_path, "w1", interval=30) as process:
        probe = await scene.submit("probe")
        scene.open("probe")
        await scene.state(probe, "COMPLETED")
        process.send_signal(signal.SIGSTOP)
        # The read that is waiting takes the first entry, whether the worker goes on or not.
        bait = await scene.submit("bait")
        await scene.state(bait, "PENDING")
        run = await scene.submit("run")
        await scene.state(run, "PENDING")
        await scene.client.delete(keys.key(0, "inbox", "etl/w1"))
        process.send_signal(signal.SIGCONT)
        # Its turn is every 30 seconds; that it is now does not change what happens.
        found: Any = await scene.client.zrange(keys.key(0, "audits"), 0, -1)
        await scene.client.zadd(keys.key(0, "audits"), {member.decode(): 0 for member in found})

        scene.open("run")
        completed = await scene.state(run, "COMPLETED")

        assert completed.epoch == 2
        assert scene.steps("run") == ["begun", "done"]
        scene.open("bait")
        assert (await scene.state(bait, "COMPLETED")).epoch == 1


async def test_whoever_had_an_answer_looks_and_whoever_waits_gets_one(scene: Scene, tmp_path: Path) -> None:
    scene.server.save()
    await scene.penstock.create_pool("forgotten")
    # Until the registry has heard that it is made, a lost connection has it made again.
    await wait_until(scene.acknowledged, what="the command to be acknowledged")
    asking = asyncio.create_task(scene.penstock.create_queue("etl", "asked"))

    scene.rewind()

    assert (await asking).name == "asked"
    assert [pool.name for pool in await scene.penstock.read_pools()] == ["etl"]
    with worker(scene.server.url, "etl", tmp_path, "w1", interval=30):
        await scene.penstock.create_pool("forgotten")
        run = await scene.submit("run")
        scene.open("run")
        await scene.state(run, "COMPLETED")


async def limits_of_which_one_is_forgotten(scene: Scene) -> None:
    """An older command is in the hands of somebody who is gone, at the moment that is saved; the services are stopped."""
    bait, older = (
        UpdateQueue(id=f"limit-{limit}", pool="etl", queue="default", changes=QueueChanges(concurrency_limit=limit))
        for limit in (9, 3)
    )
    scene.signal(signal.SIGSTOP)
    # The read that is waiting takes the first entry, whether the registry goes on or not.
    await publish(scene.client, COMMANDS, 0, bait)
    await publish(scene.client, COMMANDS, 0, older)
    await scene.client.xreadgroup("pool_registry", "gone", {keys.key(0, COMMANDS.name): ">"})
    scene.server.save()


async def test_a_command_that_redis_hands_out_again_does_not_undo_a_newer_one(scene: Scene) -> None:
    """Whoever had it in hand may be gone: its turn would come seconds later, by the reclaimer."""
    await limits_of_which_one_is_forgotten(scene)
    scene.signal(signal.SIGCONT)

    scene.rewind()

    await scene.penstock.update_queue("etl", "default", concurrency_limit=7)
    await wait_until(scene.acknowledged, what="the older command to be acknowledged", timeout=PATIENCE_SECONDS)
    assert (await scene.penstock.read_queue("etl", "default")).concurrency_limit == 7


async def test_nor_does_it_when_redis_was_full_as_its_turn_came(scene: Scene) -> None:
    await limits_of_which_one_is_forgotten(scene)
    scene.rewind()
    await scene.client.config_set("maxmemory", 1)
    scene.signal(signal.SIGCONT)

    async def tried_in_vain() -> bool:
        waiting: Any = await scene.client.xpending_range(keys.key(0, COMMANDS.name), "pool_registry", "-", "+", 1)
        (one,) = waiting
        return bool(one["consumer"] != b"gone" and one["time_since_delivered"] > 1000)

    await wait_until(tried_in_vain, what="the registry to catch up", timeout=PATIENCE_SECONDS)
    await scene.client.config_set("maxmemory", 0)

    await scene.penstock.update_queue("etl", "default", concurrency_limit=7)
    await wait_until(scene.acknowledged, what="the older command to be acknowledged", timeout=PATIENCE_SECONDS)
    assert (await scene.penstock.read_queue("etl", "default")).concurrency_limit == 7


async def test_a_schedule_leaves_out_no_fire_time_and_makes_none_twice(tmp_path: Path) -> None:
    services = Services("", tmp_path, ["scheduler", "scheduler", "dispatcher"])
    with RewindableRedis(tmp_path) as server:
        services._environment |= {"PENSTOCK_REDIS_URL": server.url, "PENSTOCK_SCHEDULER_MAX_RUNS": "6"}
        client = connect(server.url)
        with services:
            await define_pool(client, "etl")
            deployment = await define_deployment(client, revised_ms=await redis_now_ms(client))
            await define_schedule(client, deployment, interval_seconds=1, anchor="2026-01-01T00:00:00Z")
            message = DeploymentChanged(deployment_id=deployment, deployment="hello/demo", pool="etl", revision=1)
            await publish(client, DEFINITIONS, 0, message)

            async def until_more_than(count: int) -> None:
                async def there() -> bool:
                    return await client.zcard(keys.key(0, "deployment_waiting", deployment)) > count

                await wait_until(there, what=services.log(), timeout=PATIENCE_SECONDS)

            await until_more_than(5)
            for _ in range(4):
                server.save()
                count = await client.zcard(keys.key(0, "deployment_waiting", deployment))
                await until_more_than(count)
                server.rewind()
                await until_more_than(count + 3)
        made = [run.due_ms for run in await made_runs(client, deployment)]
        await client.aclose()
    assert {later - earlier for earlier, later in pairwise(made)} == {1000}
