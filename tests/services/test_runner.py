"""The runner with a toy service as a real process: it survives what Redis does to it, and says the truth about itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from penstock import keys, streams
from penstock.bus.connection import connect
from penstock.bus.entries import entry_fields
from penstock.bus.reclaim import IDLE_MS
from penstock.bus.requests import publish
from penstock.cli.embedded_redis import EmbeddedRedis, free_port
from penstock.contracts.workers import Heartbeat
from tests.services.toy_service import LOOP_FAILS, SEEN, SETUPS
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

pytestmark = pytest.mark.system

HEARTBEATS = keys.key(0, "heartbeats")
BACK_WITHIN_SECONDS = 10.0


class Toy:
    """One process of the toy service."""

    def __init__(self, redis_url: str, folder: Path, **variables: str) -> None:
        self.port = free_port()
        self.log_file = folder / f"toy-{self.port}.log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        environment |= {
            "PENSTOCK_REDIS_URL": redis_url,
            "PENSTOCK_HEALTH_PORT": str(self.port),
            "PENSTOCK_HEALTH_HOST": "127.0.0.1",
            **variables,
        }
        with self.log_file.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.services.toy_service"],
                env=environment,
                cwd=Path(__file__).parents[2],
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as problem:
            return problem.code, problem.read().decode()
        except OSError:
            return 0, ""

    async def answers(self, path: str, status: int, timeout: float = 20.0) -> str:
        async def asked() -> str:
            assert self.process.poll() is None, self.log
            found, body = await asyncio.to_thread(self.get, path)
            return body if found == status else ""

        body: str = await wait_until(asked, what=f"{path} answers {status}", timeout=timeout, every=0.1)
        return body

    async def ends(self, timeout: float = 20.0) -> int:
        return await asyncio.to_thread(self.process.wait, timeout)


@contextmanager
def toy(redis_url: str, folder: Path, **variables: str) -> Iterator[Toy]:
    running = Toy(redis_url, folder, **variables)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()


async def send(client: Redis, worker: str) -> None:
    await publish(client, streams.HEARTBEATS, 0, Heartbeat(pool="etl", worker=worker, worker_type="process"))


async def handled(client: Redis, worker: str, timeout: float = 20.0) -> int:
    async def count() -> Any:
        return await client.hget(SEEN, worker)

    return int(await wait_until(count, what=f"the message of {worker} is handled", timeout=timeout))


async def test_a_message_sent_before_any_start_is_delivered(client: Redis, redis_url: str, tmp_path: Path) -> None:
    await send(client, "early")
    with toy(redis_url, tmp_path):
        assert await handled(client, "early") == 1


async def test_sigterm_ends_it_with_0_after_the_batch_in_hand(client: Redis, redis_url: str, tmp_path: Path) -> None:
    with toy(redis_url, tmp_path) as service:
        await service.answers("/readyz", 200)
        await send(client, "slow")

        async def taken() -> bool:
            return bool((await client.xpending(HEARTBEATS, "toy"))["pending"])

        await wait_until(taken, what="the batch is in hand")
        service.process.send_signal(signal.SIGTERM)
        assert "stopping" in await service.answers("/readyz", 503)
        assert await service.ends() == 0
        assert await handled(client, "slow", timeout=0.1) == 1
        assert (await client.xpending(HEARTBEATS, "toy"))["pending"] == 0, "what was handled is acknowledged"


async def test_a_second_signal_ends_it_at_once_and_leaves_what_is_in_hand_to_others(
    client: Redis, redis_url: str, tmp_path: Path
) -> None:
    with toy(redis_url, tmp_path) as service:
        await service.answers("/readyz", 200)
        await send(client, "slow")

        async def taken() -> bool:
            return bool((await client.xpending(HEARTBEATS, "toy"))["pending"])

        await wait_until(taken, what="the batch is in hand")
        service.process.send_signal(signal.SIGTERM)
        assert "stopping" in await service.answers("/readyz", 503)
        service.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(service.process.wait, 1) == -signal.SIGTERM
    assert await client.hget(SEEN, "slow") is None
    assert (await client.xpending(HEARTBEATS, "toy"))["pending"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_under_load_sigterm_ends_it_with_0_and_it_has_handled_all_it_was_given_once(
    client: Redis, redis_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    beat = entry_fields(Heartbeat(pool="etl", worker="busy", worker_type="process"))
    sent = 0

    async def load() -> None:
        nonlocal sent
        while not enough.is_set():
            pipe = client.pipeline(transaction=False)
            for _ in range(100):
                pipe.xadd(HEARTBEATS, {**beat})
            await pipe.execute()
            sent += 100
            await asyncio.sleep(0.02)

    for _ in range(4):
        enough = asyncio.Event()
        before = await client.hget(SEEN, "busy")
        with toy(redis_url, tmp_path) as service:
            await service.answers("/readyz", 200)
            loading = asyncio.create_task(load())

            async def busy(before: Any = before) -> bool:
                return bool(await client.hget(SEEN, "busy") != before)

            await wait_until(busy, what="it is at work", every=0.001)
            service.process.send_signal(number)
            assert await service.ends() == 0, service.log
            enough.set()
            await loading
        assert (await client.xpending(HEARTBEATS, "toy"))["pending"] == 0, "everything it took is acknowledged"
    (group,) = await client.xinfo_groups(HEARTBEATS)
    unread: Any = await client.xrange(HEARTBEATS, f"({group['last-delivered-id'].decode()}")
    assert int(await client.hget(SEEN, "busy") or 0) == sent - len(unread), "nothing twice, nothing lost"


async def test_sigterm_while_redis_is_missing_ends_it_with_0(tmp_path: Path) -> None:
    with toy(f"redis://127.0.0.1:{free_port()}/0", tmp_path) as service:
        assert "Redis" in await service.answers("/readyz", 503)
        assert (await asyncio.to_thread(service.get, "/livez"))[0] == 200
        service.process.send_signal(signal.SIGTERM)
        assert await service.ends() == 0


async def test_it_waits_for_a_redis_that_starts_later(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path / "late", durable=False)
    with toy(server.url, tmp_path) as service:
        await service.answers("/readyz", 503)
        with server:
            await service.answers("/readyz", 200)
            late = connect(server.url)
            await send(late, "late")
            assert await handled(late, "late") == 1
            await late.aclose()


async def test_after_a_flush_the_group_comes_back_and_nothing_sent_since_is_skipped(
    client: Redis, redis_url: str, tmp_path: Path
) -> None:
    with toy(redis_url, tmp_path) as service:
        await service.answers("/readyz", 200)
        await send(client, "before")
        assert await handled(client, "before") == 1
        await client.flushall()
        await send(client, "meanwhile")
        assert await handled(client, "meanwhile", BACK_WITHIN_SECONDS) == 1
        await send(client, "after")
        assert await handled(client, "after", BACK_WITHIN_SECONDS) == 1
        await service.answers("/readyz", 200)
        assert await client.get(SETUPS) == b"1", "setup runs once for the lost data, not once a subscriber"
        assert await client.get(keys.PARTITIONS_KEY) == b"1", "the number of partitions is fixed again"


async def test_a_killed_redis_that_comes_back_is_used_within_10_seconds(
    own_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    client = connect(own_redis.url)
    with toy(own_redis.url, tmp_path) as service:
        await service.answers("/readyz", 200)
        own_redis.kill()
        assert "Redis does not answer" in await service.answers("/readyz", 503)
        assert (await asyncio.to_thread(service.get, "/livez"))[0] == 200, "a restart would not bring Redis back"
        own_redis.start()
        await send(client, "after the outage")
        assert await handled(client, "after the outage", BACK_WITHIN_SECONDS) == 1
        await service.answers("/readyz", 200, BACK_WITHIN_SECONDS)
        assert service.process.poll() is None
    await client.aclose()


async def test_what_a_killed_process_had_in_hand_is_handled_within_10_seconds(
    client: Redis, redis_url: str, tmp_path: Path
) -> None:
    with toy(redis_url, tmp_path) as service:
        await service.answers("/readyz", 200)
        await send(client, "slow")
        await send(client, "slow")

        async def taken() -> bool:
            return bool((await client.xpending(HEARTBEATS, "toy"))["pending"])

        await wait_until(taken, what="the batch is in hand")
        service.process.kill()
        await service.ends()
    assert await client.hget(SEEN, "slow") is None
    with toy(redis_url, tmp_path):

        async def claimed() -> bool:
            waiting: Any = await client.xpending_range(HEARTBEATS, "toy", "-", "+", 10)
            return any(entry["times_delivered"] > 1 for entry in waiting)

        await wait_until(claimed, what="the pending entry is taken over", timeout=BACK_WITHIN_SECONDS)
        assert await handled(client, "slow") >= 1


async def test_one_poisonous_message_does_not_hold_up_its_batch(client: Redis, redis_url: str, tmp_path: Path) -> None:
    with toy(redis_url, tmp_path) as service:
        await service.answers("/readyz", 200)
        pipe = client.pipeline(transaction=True)
        for worker in ("first", "poison", "last"):
            pipe.xadd(HEARTBEATS, entry_fields(Heartbeat(pool="etl", worker=worker, worker_type="process")))
        await pipe.execute()
        in_good_time = IDLE_MS / 1000 - 1
        assert await handled(client, "last", in_good_time) == 1, "before the reclaimer would take it over"
        assert await handled(client, "first", in_good_time) == 1

        async def poison_alone_is_pending() -> bool:
            return bool((await client.xpending(HEARTBEATS, "toy"))["pending"] == 1)

        await wait_until(poison_alone_is_pending, what="only the poisonous entry stays pending")


async def test_probes_have_exact_paths_and_metrics_count(client: Redis, redis_url: str, tmp_path: Path) -> None:
    await send(client, "x-health")
    with toy(redis_url, tmp_path) as service:
        report = json.loads(await service.answers("/readyz", 200))
        assert report == {"service": "toy", "ok": True, "reasons": []}
        assert await handled(client, "x-health") == 1
        await service.answers("/livez", 200)
        for path in ("/", "/health", "/livez/", "/x-health", "/metrics/"):
            assert (await asyncio.to_thread(service.get, path))[0] == 404, path
        metrics = await service.answers("/metrics", 200)
        assert 'penstock_messages_total{stream="heartbeats",type="worker.heartbeat"} 1.0' in metrics
        assert 'penstock_stream_behind_seconds{stream="heartbeats/0"} 0.0' in metrics


async def test_a_loop_that_raises_ends_the_process_with_70(client: Redis, redis_url: str, tmp_path: Path) -> None:
    with toy(redis_url, tmp_path) as service:
        await service.answers("/readyz", 200)
        await client.set(LOOP_FAILS, 1)
        assert await service.ends() == 70
        assert "the loop is told to fail" in service.log


async def test_a_key_of_the_wrong_type_ends_it_with_70_and_says_which(
    client: Redis, redis_url: str, tmp_path: Path
) -> None:
    await client.set(HEARTBEATS, "not a stream")
    with toy(redis_url, tmp_path) as service:
        assert await service.ends() == 70
        assert HEARTBEATS in service.log
        assert "WRONGTYPE" in service.log


async def test_a_stream_that_turns_into_another_type_ends_it_with_70(
    client: Redis, redis_url: str, tmp_path: Path
) -> None:
    with toy(redis_url, tmp_path) as service:
        await service.answers("/readyz", 200)
        await client.delete(HEARTBEATS)
        await client.set(HEARTBEATS, "not a stream")
        before: Any = await client.info("commandstats")
        assert await service.ends() == 70
        after: Any = await client.info("commandstats")
        assert "WRONGTYPE" in service.log
        reads = [int(found.get("cmdstat_xreadgroup", {}).get("calls", 0)) for found in (before, after)]
        assert reads[1] - reads[0] < 200, "no hot loop"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("PENSTOCK_PARTITIONS", "many", "PENSTOCK_PARTITIONS"),
        ("PENSTOCK_REDIS_ULR", "redis://x", "PENSTOCK_REDIS_URL"),
        ("PENSTOCK_DEMO_GREETNG", "hi", "PENSTOCK_DEMO_GREETING"),
    ],
)
async def test_wrong_settings_end_it_with_78_and_name_the_variable(
    redis_url: str, tmp_path: Path, variable: str, value: str, says: str
) -> None:
    with toy(redis_url, tmp_path, **{variable: value}) as service:
        assert await service.ends() == 78
        assert says in service.log
        assert "Traceback" not in service.log


async def test_another_number_of_partitions_than_at_the_first_start_ends_it_with_78(
    client: Redis, redis_url: str, tmp_path: Path
) -> None:
    await client.set(keys.PARTITIONS_KEY, 4)
    with toy(redis_url, tmp_path) as service:
        assert await service.ends() == 78
        assert "first started with 4" in service.log


@pytest.mark.usefixtures("client")
async def test_a_taken_health_port_ends_it_with_70(redis_url: str, tmp_path: Path) -> None:
    with toy(redis_url, tmp_path) as first:
        await first.answers("/readyz", 200)
        with toy(redis_url, tmp_path, PENSTOCK_HEALTH_PORT=str(first.port)) as second:
            assert await second.ends() == 70
            assert f"127.0.0.1:{first.port}" in second.log


async def test_at_rest_it_costs_little(
    client: Redis, redis_url: str, tmp_path: Path, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with toy(redis_url, tmp_path) as service:
        await service.answers("/readyz", 200)
        await send(client, "warm")
        await handled(client, "warm")
        process = psutil.Process(service.process.pid)

        def used() -> float:
            times = process.cpu_times()
            return float(times.user + times.system)

        start, loop = used(), asyncio.get_running_loop()
        began = loop.time()

        async def long_enough() -> bool:
            return loop.time() - began > 5

        await wait_until(long_enough, what="five seconds at rest", every=0.5)
        share = (used() - start) / (loop.time() - began) * 100
        memory = process.memory_info().rss / 2**20
        record_property("idle_cpu_percent", round(share, 2))
        record_property("rss_mb", round(memory, 1))
        with capsys.disabled():
            sys.stdout.write(f"\ntoy service at rest: {share:.2f} % of a core, {memory:.1f} MB\n")
        assert memory < 120
        assert share < 10
