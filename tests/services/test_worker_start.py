"""What ``penstock worker start`` does, without the services: the pool is there, the test plays the rest."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.entries import entry_fields
from penstock.cli.embedded_redis import free_port
from penstock.contracts.workers import AcceptWorker, RefuseWorker
from penstock.errors import BadSettings, Conflict, NotFound, Unavailable
from penstock.keys import partition_of_pool
from penstock.worker import start
from penstock.worker.settings import WorkerSettings
from penstock.worker.start import run_worker
from tests.support import read_messages, wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from penstock.contracts.base import Message


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def join_pool(*_: Any, **__: Any) -> str:
        return "process"

    monkeypatch.setattr(start, "join_pool", join_pool)
    monkeypatch.setattr(start, "configure_logs", lambda *_: None)


async def first_heartbeat(client: Redis, partition: int = 0) -> dict[str, Any]:
    async def look() -> Any:
        return await read_messages(client, "heartbeats", partition=partition)

    return dict((await wait_until(look, what="the first heartbeat"))[0])


async def answer(client: Redis, beat: dict[str, Any], message: Message) -> None:
    inbox = keys.key(0, "inbox", f"{beat['pool']}/{beat['worker']}")
    await client.xadd(inbox, {**entry_fields(message)})


async def test_it_works_under_a_generated_name_until_sigterm(
    client: Redis, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = WorkerSettings.read(redis_url=redis_url, heartbeat_seconds=3)
    work = asyncio.create_task(run_worker(settings, pool="etl", queues=["high", "high"], limit=3, prefetch_seconds=4))
    beat = await first_heartbeat(client)
    assert beat["worker"].startswith("ProcessWorker ")
    assert (beat["pool"], beat["queues"], beat["slots"]) == ("etl", ["high"], 3)
    assert (beat["prefetch_seconds"], beat["interval_seconds"]) == (4, 3)
    await answer(client, beat, AcceptWorker(boot_id=beat["boot_id"], slots=3))

    async def taken() -> bool:
        return await client.xlen(keys.key(0, "inbox", f"etl/{beat['worker']}")) == 0

    await wait_until(taken, what="the acceptance to be read")
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(work, 20) == 0
    assert f"Worker '{beat['worker']}' started!\n" in capsys.readouterr().out


async def test_a_refusal_ends_it_with_its_reason(client: Redis, redis_url: str) -> None:
    work = asyncio.create_task(run_worker(WorkerSettings.read(redis_url=redis_url), pool="etl", name="w1"))
    beat = await first_heartbeat(client)
    await answer(client, beat, RefuseWorker(boot_id=beat["boot_id"], code="conflict", reason="superseded"))
    with pytest.raises(Conflict, match="worker 'w1' was refused: superseded"):
        await asyncio.wait_for(work, 20)


async def test_it_takes_the_number_of_partitions_the_installation_has(client: Redis, redis_url: str) -> None:
    await client.set(keys.PARTITIONS_KEY, 16)
    work = asyncio.create_task(run_worker(WorkerSettings.read(redis_url=redis_url), pool="etl", name="w1"))
    assert (await first_heartbeat(client, partition_of_pool("etl", 16)))["pool"] == "etl"
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(work, 20) == 0
    with pytest.raises(BadSettings, match="PENSTOCK_PARTITIONS=2"):
        await run_worker(WorkerSettings.read(redis_url=redis_url, partitions=2), pool="etl")


async def test_a_taken_health_port_is_an_error_and_leaves_no_worker(client: Redis, redis_url: str) -> None:
    port = free_port()
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    settings = WorkerSettings.read(redis_url=redis_url, health_port=port, health_host="127.0.0.1")
    with pytest.raises(BadSettings, match="PENSTOCK_WORKER_HEALTH_PORT"):
        await run_worker(settings, pool="etl", with_healthcheck=True)
    taken.close()
    beats = await read_messages(client, "heartbeats")
    assert not beats or beats[-1]["stopping"]


async def test_a_limit_of_zero_and_an_unknown_type_are_refused_before_redis_is_asked() -> None:
    nowhere = WorkerSettings.read(redis_url="redis://127.0.0.1:1/0")
    with pytest.raises(BadSettings, match="PENSTOCK_WORKER_LIMIT=0"):
        await run_worker(nowhere, pool="etl", limit=0)
    with pytest.raises(NotFound, match="penstock-docker"):
        await run_worker(nowhere, pool="etl", worker_type="docker", install_policy="never")


async def test_without_redis_it_says_where_it_looked() -> None:
    with pytest.raises(Unavailable, match=r"Redis at 127\.0\.0\.1:1/0 does not answer"):
        await run_worker(WorkerSettings.read(redis_url="redis://127.0.0.1:1/0"), pool="etl")
