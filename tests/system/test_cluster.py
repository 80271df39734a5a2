"""The same code on a Redis Cluster: sixteen partitions on three masters, each with all of its keys and streams in one slot."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ResponseError

from penstock import keys
from penstock.bus.connection import OUTAGES, connect, reconnections
from penstock.bus.roundtrip import send_all
from penstock.client import NewRun, Penstock
from penstock.errors import Unavailable
from tests.redis_cluster import LocalCluster
from tests.support import read_events, wait_until
from tests.system.processes import PENSTOCK, environment
from tests.system.service_processes import Services

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

SERVICES = ["pool_registry", "heartbeat_monitor", "dispatcher", "scheduler"]
PARTITIONS = 16
POOLS = ("etl", "reports", "mail", "images")
LIMIT = 2
RUNS = 12


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path / "cluster") as running:
        yield running


def partition_of(pool: str) -> int:
    return keys.partition_of_pool(pool, PARTITIONS)


def start_worker(stack: ExitStack, pool: str, folder: Path, variables: dict[str, str]) -> None:
    """Run a worker of a pool until the stack ends."""
    command = [*PENSTOCK, "worker", "start", "-p", pool, "-n", "w1", "--limit", "5"]
    with (folder / f"worker-{pool}.log").open("wb") as log:
        worker = subprocess.Popen(command, env=environment(folder, **variables), stdout=log, stderr=log, cwd=folder)
    stack.callback(worker.wait, 60)
    stack.callback(worker.terminate)


async def most_in_flight(client: Redis, pool: str) -> int:
    """How many runs of a pool held a slot at the same time, by the events of its partition."""
    held: dict[str, str] = {}
    most = 0
    for event in await read_events(client, partition_of(pool)):
        if event["event"].startswith("prefect.flow-run.") and f'"{pool}"' in str(event["related"]).replace("'", '"'):
            held[event["resource"]["prefect.resource.id"]] = event["payload"]["validated_state"]["type"]
            most = max(most, sum(state in {"PENDING", "RUNNING", "CANCELLING"} for state in held.values()))
    return most


async def test_runs_of_pools_in_several_partitions_complete_under_their_limits(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    client: Any = connect(cluster.url)
    variables = {"PENSTOCK_REDIS_URL": cluster.url, "PENSTOCK_PARTITIONS": str(PARTITIONS)}
    logs = tmp_path / "logs"
    logs.mkdir()
    await client.initialize()
    nodes = {client.get_node_from_key(keys.key(partition_of(pool), "pools")).port for pool in POOLS}
    assert len(nodes) == len(cluster.nodes), "choose other names: every master is to have a pool"
    with ExitStack() as stack:
        services = stack.enter_context(Services(cluster.url, logs, SERVICES, **variables))
        penstock = Penstock(client, PARTITIONS, timeout_seconds=60)
        for pool in POOLS:
            await penstock.create_pool(pool, concurrency_limit=LIMIT)
            start_worker(stack, pool, tmp_path, variables)

        runs = defaultdict(list)
        for pool in POOLS:
            for run in await penstock.submit_runs(pool, [NewRun(command=["true"]) for _ in range(RUNS)]):
                runs[pool].append(run)
        ended = await penstock.wait_for_runs([run for some in runs.values() for run in some], timeout=120)

        assert {run.state for run in ended} == {"COMPLETED"}, services.log()
        assert {(run.pool, run.worker) for run in ended} == {(pool, "w1") for pool in POOLS}
        for pool in POOLS:
            assert await most_in_flight(client, pool) == LIMIT
            assert {run.id for run in await penstock.read_runs(pool)} == set(runs[pool])
            (worker_seen,) = await penstock.read_workers(pool)
            assert worker_seen.status == "ONLINE"
    await client.aclose()


async def test_the_services_ride_out_the_loss_of_a_master_until_it_comes_back(tmp_path: Path) -> None:
    variables = {"PENSTOCK_PARTITIONS": str(PARTITIONS)}
    logs = tmp_path / "logs"
    logs.mkdir()
    with (
        LocalCluster(tmp_path / "cluster", durable=True) as cluster,
        Services(cluster.url, logs, SERVICES, **variables) as services,
    ):
        client = connect(cluster.url)
        penstock = Penstock(client, PARTITIONS, timeout_seconds=60)
        for pool in POOLS:
            await penstock.create_pool(pool)

        async def all_said(word: str) -> bool:
            return all(word in (logs / f"{index}-{name}.log").read_text() for index, name in enumerate(SERVICES))

        await wait_until(lambda: all_said('"started"'), what="every service to read", timeout=60)
        cluster.nodes[1].kill()
        await wait_until(lambda: all_said("trying again"), what="every service to miss the master", timeout=60)
        cluster.nodes[1].start()

        for pool in POOLS:

            async def answered(pool: str = pool) -> bool:
                try:
                    await penstock.submit_runs(pool, [NewRun(command=["true"])])
                except Unavailable:
                    return False
                return True

            await wait_until(answered, what=f"an answer about {pool}", timeout=60)
        await client.aclose()
        assert [process.poll() for process in services.processes] == [None] * len(SERVICES), services.log()


async def test_the_command_line_reads_and_writes_every_partition(cluster: LocalCluster, tmp_path: Path) -> None:
    variables = {"PENSTOCK_REDIS_URL": cluster.url, "PENSTOCK_PARTITIONS": str(PARTITIONS)}
    with Services(cluster.url, tmp_path, SERVICES, **variables):

        def penstock(*words: str) -> str:
            done = subprocess.run(
                [*PENSTOCK, *words], env=environment(tmp_path, **variables), capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        for pool in POOLS:
            penstock("work-pool", "create", pool)
        listed = penstock("work-pool", "ls")
        penstock("work-pool", "pause", "etl")
        penstock("flow-run", "submit", "-p", "etl", "-c", "true")
        run = json.loads(penstock("flow-run", "ls", "-o", "json"))[0]["id"]
        explained = penstock("flow-run", "explain", run)

    assert all(pool in listed for pool in POOLS)
    assert "paused" in explained


async def test_connections_that_the_nodes_have_closed_are_made_anew_and_nothing_is_refused(
    cluster: LocalCluster,
) -> None:
    client: Any = connect(cluster.url)
    await client.initialize()
    names = [keys.key(partition, "pools") for partition in range(PARTITIONS)]
    assert await send_all(client, [("HSET", name, "a", "1") for name in names]) == [1] * PARTITIONS
    known = reconnections(client)

    for count in (PARTITIONS, 1):
        for node in cluster.nodes:
            other = connect(node.url)
            await other.client_kill_filter(_type="normal", skipme=True)
            await other.aclose()
        assert await send_all(client, [("HGET", name, "a") for name in names[:count]]) == [b"1"] * count

    assert reconnections(client) > known
    refused, found = await send_all(client, [("INCR", names[0]), ("HGET", names[0], "a")])
    assert isinstance(refused, ResponseError)
    assert found == b"1"
    await client.aclose()


async def test_a_node_that_stays_away_is_an_outage(cluster: LocalCluster) -> None:
    client: Any = connect(cluster.url, retries=1)
    await client.initialize()
    for node in cluster.nodes:
        node.kill()

    with pytest.raises(OUTAGES):
        await send_all(client, [("PING",), ("HGET", keys.key(0, "pools"), "a")])

    await client.aclose()
