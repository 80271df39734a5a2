"""Events look as Prefect 3.9.1 sends them: field by field against what one of its servers was seen to send."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import pytest

from penstock.bus.connection import connect
from penstock.bus.requests import publish
from penstock.client import NewRun, Penstock
from penstock.contracts.workers import Heartbeat
from penstock.streams import HEARTBEATS
from tests.installation import HandWorker, installation
from tests.support import read_events, wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis

SAMPLES: Final = Path(__file__).parents[2].parent / "shared" / "reference" / "events-samples.json"

ID: Final = "prefect.resource.id"
NAME: Final = "prefect.resource.name"
ROLE: Final = "prefect.resource.role"
TYPE: Final = "prefect.work-pool.type"
ANY: Final = "..."
"""Stands for a name, a version, a time or a message."""
VARYING: Final = {NAME, "prefect.version", "prefect.state-timestamp", "prefect.state-message"}

FIELDS: Final = {"occurred", "event", "resource", "related", "payload", "id", "follows", "received"}
EXTRA_FIELDS: Final = {
    "seq": "numbers the events of one resource, so that a consumer can order and deduplicate them",
}
ABSENT_FIELDS: Final = {
    "received": "is the time of Prefect's events API; here an event is on the stream the moment it occurs",
}
ABSENT_RELATED: Final = {
    "flow": "no flows yet: a run carries what it executes",
    "deployment": "no deployments yet: a run is submitted to a pool, not to a deployment",
}
ABSENT_STATES: Final = {
    "Submitting": ("Pending", "a worker starts what it is assigned: nothing comes between Pending and Running"),
    "Cancelling": ("Running", "nobody can ask for a cancellation yet: a worker reports Cancelled of what is running"),
}
"""The state a run is in instead, and why."""

POOL: Final = {ID: "prefect.work-pool", NAME: ANY, TYPE: "process"}
POOL_IN_ROLE: Final = {**POOL, ROLE: "work-pool"}
POOL_BY_NAME: Final = {ID: "prefect.work-pool", NAME: ANY, ROLE: "work-pool"}
DEFAULT_QUEUE: Final = {ID: "prefect.work-queue", ROLE: "default-queue"}
QUEUE: Final = {ID: "prefect.work-queue", NAME: ANY, ROLE: "work-queue"}
WORKER: Final = {ID: "prefect.worker.process", NAME: ANY, "prefect.version": ANY, "prefect.worker-type": "process"}


def expected(resource: dict[str, str], *related: dict[str, str], **payload: Any) -> dict[str, Any]:
    return {"resource": resource, "related": list(related), "payload": payload}


def updated(**changes: dict[str, Any]) -> dict[str, Any]:
    return {"updated_fields": list(changes), "updates": changes}


def expected_run(before: str, state: str, *, count: str = "0", message: bool = False) -> dict[str, Any]:
    resource = {
        ID: "prefect.flow-run",
        NAME: ANY,
        "prefect.run-count": count,
        "prefect.state-message": ANY,
        "prefect.state-name": state,
        "prefect.state-timestamp": ANY,
        "prefect.state-type": state.upper(),
    }
    validated = {"type": state.upper(), "name": state} | ({"message": ANY} if message else {})
    return expected(
        resource,
        QUEUE,
        POOL_IN_ROLE,
        intended={"from": before.upper() or None, "to": state.upper()},
        initial_state={"type": before.upper(), "name": before} if before else None,
        validated_state=validated,
    )


EXPECTED: Final = {
    "prefect.work-pool.created": expected(POOL_IN_ROLE, DEFAULT_QUEUE),
    "prefect.work-pool.updated": expected(
        POOL_IN_ROLE, **updated(description={"from": None, "to": "hello"}, concurrency_limit={"from": None, "to": 5})
    ),
    "prefect.work-pool.deleted": expected(POOL_IN_ROLE, DEFAULT_QUEUE),
    "prefect.work-pool.ready": expected(POOL),
    "prefect.work-pool.not-ready": expected(POOL),
    "prefect.work-pool.paused": expected(POOL),
    "prefect.work-queue.created": expected(QUEUE, POOL_IN_ROLE),
    "prefect.work-queue.updated": expected(QUEUE, POOL_IN_ROLE, **updated(concurrency_limit={"from": None, "to": 4})),
    "prefect.work-queue.deleted": expected(QUEUE, POOL_IN_ROLE),
    "prefect.work-queue.ready": expected(QUEUE, POOL_IN_ROLE),
    "prefect.work-queue.not-ready": expected(QUEUE, POOL_IN_ROLE),
    "prefect.work-queue.paused": expected(QUEUE, POOL_IN_ROLE),
    "prefect.worker.started": expected(WORKER, POOL_BY_NAME),
    "prefect.worker.stopped": expected(WORKER, POOL_BY_NAME),
    "prefect.flow-run.Scheduled": expected_run("", "Scheduled"),
    "prefect.flow-run.Pending": expected_run("Scheduled", "Pending"),
    "prefect.flow-run.Running": expected_run("Pending", "Running", count="1"),
    "prefect.flow-run.Completed": expected_run("Running", "Completed", count="1"),
    "prefect.flow-run.Failed": expected_run("Running", "Failed", count="1", message=True),
    "prefect.flow-run.Crashed": expected_run("Pending", "Crashed", message=True),
    "prefect.flow-run.Cancelled": expected_run("Running", "Cancelled", count="1", message=True),
}


def normal_labels(labels: dict[str, str]) -> dict[str, str]:
    normal = {label: ANY if label in VARYING else value for label, value in labels.items()}
    return normal | {ID: labels[ID].rpartition(".")[0]}


def normal_state(state: Any) -> Any:
    return {**state, "message": ANY} if state and "message" in state else state


def normalised(event: dict[str, Any]) -> dict[str, Any]:
    """What of an event does not differ from one time to the next."""
    payload = {
        key: normal_state(value) if key in {"initial_state", "validated_state"} else value
        for key, value in event["payload"].items()
    }
    related = [normal_labels(each) for each in event["related"]]
    return {"resource": normal_labels(event["resource"]), "related": related, "payload": payload}


def without_differences(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample as it would be without what differs on purpose."""
    payload = dict(sample["payload"])
    before = payload.get("initial_state")
    if before and before["name"] in ABSENT_STATES:
        instead = ABSENT_STATES[before["name"]][0]
        payload["initial_state"] = {"type": instead.upper(), "name": instead}
        payload["intended"] = {**payload["intended"], "from": instead.upper()}
    related = [each for each in sample["related"] if each[ROLE] not in ABSENT_RELATED]
    return {**sample, "related": related, "payload": payload}


async def seen(redis: Redis, event: str, count: int = 1) -> None:
    async def there() -> bool:
        return [each["event"] for each in await read_events(redis)].count(event) >= count

    await wait_until(there, what=f"{count} of {event}")


async def live(url: str) -> list[dict[str, Any]]:
    """Play the story of a pool, from its creation to its end."""
    redis = connect(url)
    try:
        penstock = Penstock(redis, 1)
        await penstock.create_pool("p1")
        await penstock.create_queue("p1", "q1")
        worker = HandWorker(redis, "p1")
        await worker.join()
        await seen(redis, "prefect.work-pool.ready")
        await penstock.pause_queue("p1", "q1")
        await penstock.resume_queue("p1", "q1")
        await penstock.pause_pool("p1")
        await penstock.resume_pool("p1")
        await penstock.update_pool("p1", description="hello", concurrency_limit=5)
        await penstock.update_queue("p1", "q1", concurrency_limit=4)
        await penstock.submit_runs("p1", [NewRun(command="true", queue="q1") for _ in range(4)])
        completed, failed, crashed, cancelled = await worker.take(4)
        await worker.report(crashed, "CRASHED", "no such image")
        for run in (completed, failed, cancelled):
            await worker.report(run, "RUNNING")
        await seen(redis, "prefect.flow-run.Running", 3)
        await worker.report(completed, "COMPLETED")
        await worker.report(failed, "FAILED", "ValueError: x")
        await worker.report(cancelled, "CANCELLED", "was cancelled")
        for state in ("Completed", "Failed", "Crashed", "Cancelled"):
            await seen(redis, f"prefect.flow-run.{state}")
        stopping = Heartbeat(
            pool="p1", worker="w1", worker_type="process", boot_id="b1", version="1.2.3", stopping=True
        )
        await publish(redis, HEARTBEATS, 0, stopping)
        for name in ("prefect.worker.stopped", "prefect.work-pool.not-ready", "prefect.work-queue.not-ready"):
            await seen(redis, name, 2 if "work-pool" in name else 1)
        await penstock.delete_queue("p1", "q1")
        await penstock.delete_pool("p1")
        await seen(redis, "prefect.work-pool.deleted")
        return await read_events(redis)
    finally:
        await redis.aclose()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The events of the story, by name."""
    with installation(tmp_path_factory.mktemp("installation")) as url:
        events = asyncio.run(live(url))
    by_name: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_name.setdefault(event["event"], []).append(event)
    return by_name


@pytest.mark.parametrize("name", EXPECTED)
def test_every_event_of_a_story_has_the_fields_labels_and_payload_prefect_gives_it(
    story: dict[str, list[dict[str, Any]]], name: str
) -> None:
    assert name in story
    for event in story[name]:
        assert set(event) == FIELDS - set(ABSENT_FIELDS) | set(EXTRA_FIELDS)
        assert normalised(event) == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_expected_of_an_event_is_what_a_prefect_server_sent(name: str) -> None:
    if not SAMPLES.exists():
        pytest.skip(f"the samples of a Prefect server lie beside the project's own checkout only: no {SAMPLES}")
    sample = orjson.loads(SAMPLES.read_bytes())[name]

    assert set(sample) == FIELDS
    assert normalised(without_differences(sample)) == EXPECTED[name]
