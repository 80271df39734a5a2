"""Every event Penstock publishes: its name, what it says, who publishes it, which labels and payload it carries.

The scripts are what publishes; a test holds this list and them together.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from penstock.contracts.events import Event, event_id

if TYPE_CHECKING:
    from penstock.contracts.base import Json

REGISTRY: Final = "pool_registry"
MONITOR: Final = "heartbeat_monitor"
DISPATCHER: Final = "dispatcher"

_ID: Final = "prefect.resource.id"
_NAME: Final = "prefect.resource.name"
_ROLE: Final = "prefect.resource.role"
_TYPE: Final = "prefect.work-pool.type"


class Resource(NamedTuple):
    """What an event says of one resource.

    Attributes:
        kind: what the resource's id begins with.
        labels: label -> an example; all of them are always there, their values are texts.
    """

    kind: str
    labels: dict[str, str]

    def schema(self) -> Json:
        """JSON Schema of the labels; further labels may come."""
        properties: Json = {label: {"type": "string"} for label in self.labels}
        properties[_ID]["pattern"] = f"^{self.kind}.".replace(".", "\\.")
        if _ROLE in self.labels:
            properties[_ROLE] = {"const": self.labels[_ROLE]}
        return {
            "type": "object",
            "properties": properties,
            "required": list(self.labels),
            "additionalProperties": {"type": "string"},
        }


def _resource(kind: str, ident: str, **labels: str) -> Resource:
    spelt = {"name": _NAME, "type": _TYPE, "role": _ROLE}
    return Resource(kind, {_ID: f"{kind}.{ident}", **{spelt[label]: value for label, value in labels.items()}})


_POOL_ID: Final = "5c8f0a46-54a1-4b36-9d8f-1f9f4a2a7c11"
_QUEUE_ID: Final = "9b1dc9f2-7a3e-4f0d-8f5b-6f7f7d0c5e22"
_DEPLOYMENT_ID: Final = "7d0f5b7e-6c1a-4a55-9c0e-2f1b7f0a9e33"
_RUN_ID: Final = "01a2009b-f01f-7000-9bd5-16bb725e0000"

POOL: Final = _resource("prefect.work-pool", _POOL_ID, name="etl", type="process")
POOL_IN_ROLE: Final = _resource("prefect.work-pool", _POOL_ID, name="etl", type="process", role="work-pool")
POOL_BY_NAME: Final = _resource("prefect.work-pool", _POOL_ID, role="work-pool", name="etl")
DEFAULT_QUEUE: Final = _resource("prefect.work-queue", _QUEUE_ID, role="default-queue")
QUEUE: Final = _resource("prefect.work-queue", _QUEUE_ID, name="critical", role="work-queue")
DEPLOYMENT: Final = _resource("prefect.deployment", _DEPLOYMENT_ID, name="demo")
DEPLOYMENT_IN_ROLE: Final = _resource("prefect.deployment", _DEPLOYMENT_ID, role="deployment", name="demo")
FLOW: Final = _resource("prefect.flow", "b1c2a4d8-0f0e-5d7c-8a55-3c1f6b7a9e44", role="flow", name="hello")
WORKER: Final = Resource(
    "prefect.worker",
    {_ID: "prefect.worker.process.w1", _NAME: "w1", "prefect.version": "0.1.0", "prefect.worker-type": "process"},
)
REFUSAL: Final = Resource(
    "prefect.worker",
    {**WORKER.labels, _ID: "prefect.worker.process.w1.refusal.9b1f3ad5b6c0f3e0a7c2d41f0c6a58e2d7b94c13"},
)
CLAIM: Final = _resource("penstock.claim", f"{_RUN_ID}.1", name="brave-heron")
RUN_OF_CLAIM: Final = _resource("prefect.flow-run", _RUN_ID, role="flow-run", name="brave-heron")


def _run(state: str, kind: str) -> Resource:
    return Resource(
        "prefect.flow-run",
        {
            _ID: f"prefect.flow-run.{_RUN_ID}",
            _NAME: "brave-heron",
            "prefect.run-count": "1",
            "prefect.state-message": "",
            "prefect.state-name": state,
            "prefect.state-timestamp": "2026-11-21T21:55:40.457484+00:00",
            "prefect.state-type": kind.upper(),
        },
    )


class Value(NamedTuple):
    """One field of a payload: its JSON Schema and an example."""

    schema: Json
    example: Any


_TEXT: Final = {"type": "string"}
_STATE: Final = {
    "type": "object",
    "properties": {"type": _TEXT, "name": _TEXT, "message": _TEXT},
    "required": ["type", "name"],
}

CHANGES: Final = {
    "updated_fields": Value({"type": "array", "items": _TEXT}, ["concurrency_limit"]),
    "updates": Value(
        {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"from": {}, "to": {}},
                "required": ["from", "to"],
            },
        },
        {"concurrency_limit": {"from": None, "to": 5}},
    ),
}


def _state(state: str, kind: str) -> Json:
    return {"type": kind.upper(), "name": state}


_BEFORE: Final = {"Cancelled": "Cancelling", "Scheduled": None, "Pending": "Scheduled", "Running": "Pending"}
"""From which state a run usually comes; where nothing else is said, from Running."""


def _move(state: str, kind: str) -> dict[str, Value]:
    before = _BEFORE.get(state, "Running")
    return {
        "intended": Value(
            {
                "type": "object",
                "properties": {"from": {"anyOf": [_TEXT, {"type": "null"}]}, "to": {"const": kind.upper()}},
                "required": ["from", "to"],
            },
            {"from": before and before.upper(), "to": kind.upper()},
        ),
        "initial_state": Value({"anyOf": [_STATE, {"type": "null"}]}, before and _state(before, before)),
        "validated_state": Value(_STATE, _state(state, kind)),
    }


class EventKind(NamedTuple):
    """All events of one name.

    Attributes:
        name: as in the field ``event``.
        says: what has happened, one sentence.
        services: who publishes it.
        resource: whose event it is.
        related: what may be related to it; an event names each of them once, or none.
        payload: what it carries besides; an event carries all of it.
    """

    name: str
    says: str
    services: tuple[str, ...]
    resource: Resource
    related: tuple[Resource, ...] = ()
    payload: dict[str, Value] = {}  # noqa: RUF012 - never changed

    def schema(self) -> Json:
        """JSON Schema of these events: every event's, narrowed to what is known of this name."""
        whole = copy.deepcopy(_ANY_EVENT)
        properties = whole["properties"]
        properties["event"] = {"const": self.name}
        properties["resource"] = self.resource.schema()
        properties["related"] = {"type": "array", "items": _one_of(self.related)}
        properties["payload"] = {
            "type": "object",
            "properties": {field: value.schema for field, value in self.payload.items()},
            "required": list(self.payload),
        }
        return {**whole, "title": self.name, "description": self.says}

    def example(self) -> Json:
        """One such event."""
        return Event(
            id=event_id(self.resource.labels[_ID], 1),
            occurred="2026-11-21T21:55:40.457484Z",
            event=self.name,
            resource=self.resource.labels,
            related=[resource.labels for resource in self.related],
            payload={field: value.example for field, value in self.payload.items()},
            seq=1,
        ).model_dump(mode="json")


def _one_of(resources: tuple[Resource, ...]) -> Json:
    schemas = [resource.schema() for resource in resources]
    if not schemas:
        return {"type": "object", "additionalProperties": _TEXT}
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _any_event() -> Json:
    """Every event as it is published: nothing is left out, not even where readers would accept it."""
    schema = Event.model_json_schema()
    for described in schema["properties"].values():
        described.pop("default", None)
        described.pop("title", None)
    schema["properties"]["id"]["format"] = "uuid"
    schema["properties"]["occurred"]["format"] = "date-time"
    schema["properties"]["seq"]["minimum"] = 1
    schema["required"] = list(schema["properties"])
    return schema


_ANY_EVENT: Final = _any_event()


def _pool(verb: str, says: str, services: tuple[str, ...], **more: Any) -> EventKind:
    return EventKind(f"prefect.work-pool.{verb}", says, services, **more)


def _queue(verb: str, says: str, services: tuple[str, ...], **more: Any) -> EventKind:
    return EventKind(f"prefect.work-queue.{verb}", says, services, QUEUE, (POOL_IN_ROLE,), **more)


def _worker(name: str, says: str, payload: dict[str, Value] | None = None, *, resource: Resource = WORKER) -> EventKind:
    return EventKind(name, says, (MONITOR,), resource, (POOL_BY_NAME,), payload or {})


def _deployment(verb: str, says: str, payload: dict[str, Value] | None = None) -> EventKind:
    name = f"prefect.deployment.{verb}"
    return EventKind(name, says, (REGISTRY,), DEPLOYMENT, (FLOW, QUEUE, POOL_IN_ROLE), payload or {})


OF_A_RUN: Final = (FLOW, DEPLOYMENT_IN_ROLE, QUEUE, POOL_IN_ROLE)
"""What the events of a run are related to; flow and deployment only where it is a deployment's."""


def _flow_run(state: str, says: str, of_type: str = "") -> EventKind:
    kind = of_type or state
    return EventKind(f"prefect.flow-run.{state}", says, (DISPATCHER,), _run(state, kind), OF_A_RUN, _move(state, kind))


_ABOUT_REFUSAL: Final = {
    "boot_id": Value(_TEXT, "life-1"),
    "code": Value(_TEXT, "wrong_type"),
    "reason": Value(_TEXT, 'work pool "etl" takes workers of type "process", not "kubernetes"'),
}

_ALL: Final = (
    _pool("created", "A pool was created.", (REGISTRY,), resource=POOL_IN_ROLE, related=(DEFAULT_QUEUE,)),
    _pool("updated", "Fields of a pool were changed.", (REGISTRY,), resource=POOL_IN_ROLE, payload=CHANGES),
    _pool(
        "deleted",
        "A pool was deleted, its queues before it.",
        (REGISTRY,),
        resource=POOL_IN_ROLE,
        related=(DEFAULT_QUEUE,),
    ),
    _pool("ready", "A pool that is not paused has a worker online.", (REGISTRY, MONITOR), resource=POOL),
    _pool("not-ready", "A pool that is not paused has no worker online.", (REGISTRY, MONITOR), resource=POOL),
    _pool("paused", "A pool was paused: nothing more is handed out.", (REGISTRY,), resource=POOL),
    _queue("created", "A queue was created.", (REGISTRY,)),
    _queue(
        "updated",
        "Fields of a queue were changed, by a person or to make room for a priority.",
        (REGISTRY,),
        payload=CHANGES,
    ),
    _queue("deleted", "A queue was deleted.", (REGISTRY,)),
    _queue("ready", "A queue that is not paused is served by a worker online.", (REGISTRY, MONITOR)),
    _queue("not-ready", "A queue that is not paused is served by no worker online.", (REGISTRY, MONITOR)),
    _queue("paused", "A queue was paused: nothing more is handed out.", (REGISTRY,)),
    _deployment("created", "A deployment was created."),
    _deployment("updated", "Fields of a deployment were changed, or its schedules.", CHANGES),
    _deployment("deleted", "A deployment was deleted."),
    _worker("prefect.worker.started", "A worker's process said its first word."),
    _worker("prefect.worker.stopped", "A worker's process said that it ends."),
    _worker(
        "penstock.worker.online",
        "A worker is heard of, for the first time or again.",
        {"boot_id": Value(_TEXT, "life-1"), "slots": Value({"type": "integer"}, 10)},
    ),
    _worker(
        "penstock.worker.offline",
        "A worker stopped, was not heard of for three intervals, or lost its pool.",
        {
            "reason": Value(
                {"type": "string", "enum": ["stopped", "heartbeat-lost", "pool-deleted"]}, "heartbeat-lost"
            ),
            "last_heartbeat": Value({"type": "string", "format": "date-time"}, "2026-11-21T21:54:10.000000Z"),
        },
    ),
    _worker("penstock.worker.draining", "A worker takes nothing new and finishes what it has."),
    _worker(
        "penstock.worker.refused",
        "A worker's heartbeats are not accepted; its inbox says why too.",
        _ABOUT_REFUSAL,
        resource=REFUSAL,
    ),
    _flow_run("Scheduled", "A run waits in its queue: submitted, or given back before it had started."),
    _flow_run("Pending", "A run was handed to a worker and holds a slot."),
    _flow_run("Running", "A run's work has begun."),
    _flow_run("Completed", "A run ended well."),
    _flow_run("Failed", "A run ended with an error of its own."),
    _flow_run("Crashed", "A run's process or worker died."),
    _flow_run("Cancelling", "A run is to be stopped by the worker that holds it."),
    _flow_run("Cancelled", "A run was cancelled."),
    _flow_run("AwaitingRetry", "A run that failed waits for its next attempt.", "Scheduled"),
    EventKind(
        "penstock.run.claim-expired",
        "A claim was taken back because its worker was lost; its token is worth nothing any more.",
        (DISPATCHER,),
        CLAIM,
        (RUN_OF_CLAIM, *OF_A_RUN),
        {
            "worker": Value(_TEXT, "w1"),
            "epoch": Value({"type": "integer"}, 1),
            "reason": Value(_TEXT, "heartbeat-lost"),
        },
    ),
)

EVENTS: Final[dict[str, EventKind]] = {kind.name: kind for kind in _ALL}
"""Name -> the events of that name."""
