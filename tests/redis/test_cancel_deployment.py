from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import keys
from penstock.contracts.deployments import DeploymentDeleted
from tests.definitions import define_deployment, define_pool
from tests.dispatching import announce, assigned, places, report, state_of, submit, told
from tests.support import read_events

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from services.dispatcher.store import DispatchStore


async def delete(client: Redis, store: DispatchStore, deployment: str) -> int:
    await client.delete(keys.key(0, "deployment", deployment))
    message = DeploymentDeleted(deployment_id=deployment, deployment="hello/demo", pool="etl")
    return await store.cancel_deployment(0, message)


async def test_waiting_and_parked_runs_are_cancelled_and_those_in_flight_go_on(
    client: Redis, store: DispatchStore
) -> None:
    pool = await define_pool(client, "etl")
    deployment = await define_deployment(client, limit=1)
    await announce(store, pool, slots=100)
    flying, *parked = await submit(store, "etl", count=450, deployment=deployment)
    assert len(await places(client, pool, deployment=deployment)) == 449

    assert await delete(client, store, deployment) == 449

    assert {await state_of(client, run_id) for run_id in parked} == {"CANCELLED"}
    assert await places(client, pool, deployment=deployment) == []
    for family, ident in (
        ("deployment_waiting", deployment),
        ("deployment_parked", deployment),
        ("queue_parked", pool.queues["default"]),
    ):
        assert await client.exists(keys.key(0, family, ident)) == 0
    assert (await read_events(client))[-1]["resource"]["prefect.state-message"] == "Deployment 'hello/demo' was deleted"
    (run,) = await assigned(client, "etl")
    await report(store, "etl", run, "COMPLETED", started_ms=1)
    assert await told(client, flying) == ["Scheduled", "Pending", "Running", "Completed"]


async def test_runs_of_others_are_left_alone(client: Redis, store: DispatchStore) -> None:
    await define_pool(client, "etl")
    deployment, other = await define_deployment(client), await define_deployment(client, "hello/other")
    await submit(store, "etl", deployment=deployment)
    (theirs,) = await submit(store, "etl", deployment=other)
    (nobodys,) = await submit(store, "etl")

    assert await delete(client, store, deployment) == 1

    assert [await state_of(client, run_id) for run_id in (theirs, nobodys)] == ["SCHEDULED", "SCHEDULED"]
