"""The catalogue: every message, the channel it travels on, who writes and who reads it, and its JSON Schema.

Pure: nothing here touches Redis. ``penstock asyncapi`` prints it as an AsyncAPI document; ``schemas.json`` beside this file is
its checked-in snapshot, against which a change is judged (see :mod:`penstock.contracts.compatibility`).
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from penstock.contracts import deployments, pools, queues, runs, workers
from penstock.contracts.dead_letters import DeadLetter
from penstock.contracts.event_catalogue import EVENTS
from penstock.contracts.logs import RunLog
from penstock.contracts.replies import Reply
from penstock.contracts.results import RESULTS
from penstock.keys import address
from penstock.streams import (
    COMMANDS,
    DEAD,
    DEAD_MAX_AGE_SECONDS,
    DEFINITIONS,
    DISPATCH,
    EVENTS_MAX_AGE_SECONDS,
    HEARTBEATS,
    LOGS_EXPIRE_SECONDS,
    LOGS_MAX_LENGTH,
    REPLY_EXPIRE_SECONDS,
)
from penstock.streams import EVENTS as EVENT_STREAM

if TYPE_CHECKING:
    from pydantic import BaseModel

    from penstock.contracts.base import Json, Message

CLIENT: Final = "client"
WORKER: Final = "worker"
CONSUMER: Final = "consumer"
OPERATOR: Final = "operator"
REGISTRY: Final = "pool_registry"
MONITOR: Final = "heartbeat_monitor"
DISPATCHER: Final = "dispatcher"
SCHEDULER: Final = "scheduler"

PARTIES: Final[dict[str, str]] = {
    CLIENT: "the command line, the SDK, the gateway, or you",
    WORKER: "a worker in any language",
    CONSUMER: "anybody who reads events, with a consumer group of its own",
    OPERATOR: "who looks after what could not be handled",
    REGISTRY: "the service that owns pools, queues and deployments",
    MONITOR: "the service that knows who is alive",
    DISPATCHER: "the service that hands out runs",
    SCHEDULER: "the service that submits what falls due",
}
SERVICES: Final = (REGISTRY, MONITOR, DISPATCHER, SCHEDULER)

_MODELS: Final[tuple[type[Message], ...]] = (
    pools.CreatePool,
    pools.UpdatePool,
    pools.PausePool,
    pools.ResumePool,
    pools.DeletePool,
    pools.ReadPool,
    queues.CreateQueue,
    queues.UpdateQueue,
    queues.PauseQueue,
    queues.ResumeQueue,
    queues.DeleteQueue,
    deployments.CreateDeployment,
    deployments.UpdateDeployment,
    deployments.PauseDeployment,
    deployments.ResumeDeployment,
    deployments.DeleteDeployment,
    deployments.CreateSchedule,
    deployments.UpdateSchedule,
    deployments.DeleteSchedule,
    workers.Heartbeat,
    runs.SubmitRuns,
    runs.CancelRuns,
    runs.DeleteRuns,
    runs.ClaimRuns,
    runs.ReportRuns,
    workers.DrainWorker,
    workers.AnnounceWorker,
    workers.LoseWorker,
    pools.PoolChanged,
    pools.PoolDeleted,
    pools.QueueDeleted,
    deployments.DeploymentChanged,
    deployments.DeploymentDeleted,
    *workers.INBOX_MESSAGES.values(),
    DeadLetter,
    RunLog,
)
MESSAGES: Final[dict[str, type[Message]]] = {str(model.model_fields["type"].default): model for model in _MODELS}
"""Type -> model of every message on a stream; events are :data:`penstock.contracts.event_catalogue.EVENTS`."""
REPLY: Final = "reply"

_ON_DISPATCH: Final = ("submit_runs", "cancel_runs", "delete_runs", "claim_runs", "drain_worker")
_COMMANDS: Final = tuple(name for name in RESULTS if name not in _ON_DISPATCH)
_POOLS: Final = ("pool.changed", "pool.deleted", "queue.deleted")
_DEFINITIONS: Final = (*_POOLS, "deployment.changed", "deployment.deleted")


class Channel(NamedTuple):
    """One stream (or list) of a partition.

    Attributes:
        name: key family; also the channel's name in the document.
        says: what it is for, one sentence.
        kept: how long an entry stays.
        writers, readers: party -> the messages it writes or reads there.
        ident: what the family's id is made of, in braces; '' where it takes none.
        kind: ``stream`` or ``list``.
    """

    name: str
    says: str
    kept: str
    writers: dict[str, tuple[str, ...]]
    readers: dict[str, tuple[str, ...]]
    ident: str = ""
    kind: str = "stream"

    @property
    def address(self) -> str:
        """The key, with names in braces where values go."""
        return address(self.name, ident=self.ident)

    @property
    def parameters(self) -> list[str]:
        """The names in the address."""
        return re.findall(r"{(\w+)}", self.address)

    @property
    def messages(self) -> list[str]:
        """Every message on it, in the order of the catalogue."""
        written = {name for names in self.writers.values() for name in names}
        return [name for name in names() if name in written]

    @property
    def from_outside(self) -> bool:
        """Say whether others than Penstock's services write there: what they may write must not shrink."""
        return not set(self.writers) <= set(SERVICES)


def _events_of(service: str) -> tuple[str, ...]:
    return tuple(name for name, kind in EVENTS.items() if service in kind.services)


def _capped(length: int) -> str:
    return f"at most about {length} entries"


_DAY: Final = 24 * 3600

CHANNELS: Final[dict[str, Channel]] = {
    channel.name: channel
    for channel in (
        Channel(
            COMMANDS.name,
            "Define pools, queues and deployments; the answer comes as a reply.",
            f"until acknowledged, {_capped(COMMANDS.max_length)}",
            {CLIENT: _COMMANDS, MONITOR: ("create_queue",), DISPATCHER: ("create_queue",)},
            {REGISTRY: _COMMANDS},
        ),
        Channel(
            HEARTBEATS.name,
            "Workers say that they live, and what they are.",
            _capped(HEARTBEATS.max_length),
            {WORKER: ("worker.heartbeat",)},
            {MONITOR: ("worker.heartbeat",)},
        ),
        Channel(
            DISPATCH.name,
            "Everything that makes the dispatcher hand out runs or take them back.",
            f"until acknowledged, {_capped(DISPATCH.max_length)}",
            {
                CLIENT: _ON_DISPATCH,
                WORKER: ("claim_runs", "report_runs"),
                MONITOR: ("announce_worker", "lose_worker"),
                SCHEDULER: ("submit_runs",),
            },
            {DISPATCHER: (*_ON_DISPATCH, "report_runs", "announce_worker", "lose_worker")},
        ),
        Channel(
            DEFINITIONS.name,
            "Definitions have changed; the definition itself is in its keys.",
            _capped(DEFINITIONS.max_length),
            {REGISTRY: _DEFINITIONS},
            {
                MONITOR: _POOLS,
                DISPATCHER: _DEFINITIONS,
                SCHEDULER: ("pool.deleted", "queue.deleted", "deployment.changed", "deployment.deleted"),
            },
        ),
        Channel(
            "inbox",
            "What one worker is told.",
            "while the worker lives",
            {
                DISPATCHER: ("accept_worker", "assign_runs", "revoke_runs", "stop_runs", "stop_worker", "audit_runs"),
                MONITOR: ("refuse_worker",),
            },
            {WORKER: tuple(workers.INBOX_MESSAGES)},
            "{pool}/{worker}",
        ),
        Channel(
            EVENT_STREAM.name,
            "Every transition, published by the script that makes it.",
            f"{EVENTS_MAX_AGE_SECONDS // _DAY} days, {_capped(EVENT_STREAM.max_length)}",
            {service: _events_of(service) for service in SERVICES if _events_of(service)},
            {CONSUMER: tuple(EVENTS)},
        ),
        Channel(
            DEAD.name,
            "What could not be handled, and why.",
            f"{DEAD_MAX_AGE_SECONDS // _DAY} days, {_capped(DEAD.max_length)}",
            dict.fromkeys(SERVICES, ("dead.letter",)),
            {OPERATOR: ("dead.letter",)},
        ),
        Channel(
            "logs",
            "The output of one run.",
            f"{LOGS_EXPIRE_SECONDS // 3600} hours after the last line, {_capped(LOGS_MAX_LENGTH)}",
            {WORKER: ("run.log",)},
            {CLIENT: ("run.log",)},
            "{run}",
        ),
        Channel(
            REPLY,
            "The answer to one command: a list with one element, popped by who waits for it (BLPOP).",
            f"{REPLY_EXPIRE_SECONDS} seconds",
            {REGISTRY: (REPLY,), DISPATCHER: (REPLY,)},
            {CLIENT: (REPLY,), WORKER: (REPLY,), DISPATCHER: (REPLY,), SCHEDULER: (REPLY,)},
            "{id}",
            "list",
        ),
    )
}
"""Name -> channel."""


def names() -> list[str]:
    """Every message: types, names of events, and the reply, which has no type."""
    return [*MESSAGES, *EVENTS, REPLY]


@cache
def message_schema(name: str) -> Json:
    """JSON Schema (draft 2020-12) of one message, complete in itself.

    Args:
        name: one of :func:`names`.
    """
    if name in EVENTS:
        return EVENTS[name].schema()
    if name == REPLY:
        return model_schema(Reply)
    schema = model_schema(MESSAGES[name])
    schema["properties"]["type"] = {"const": name}
    schema["required"] = ["type", *schema.get("required", [])]
    return schema


def result_schema(command: str) -> Json:
    """JSON Schema of what the reply to an accepted command carries in ``result``."""
    return model_schema(RESULTS[command])


def model_schema(model: type[BaseModel]) -> Json:
    """JSON Schema of a model as it may arrive; descriptions are freed of the marks of docstrings."""
    schema: Json = _readable(model.model_json_schema())
    return schema


def _readable(part: Any) -> Any:
    if isinstance(part, list):
        return [_readable(element) for element in part]
    if not isinstance(part, dict):
        return part
    spelt = {word: _readable(value) for word, value in part.items()}
    if isinstance(spelt.get("description"), str):
        spelt["description"] = re.sub(r"(?::\w+:)?`+~?([^`]+)`+", r"`\1`", spelt["description"])
    return spelt


_ANNOTATIONS: Final = {"title", "description", "examples"}
_NAMED_PARTS: Final = {"properties", "$defs"}


def bare(schema: Any) -> Any:
    """Leave out of a schema what is only for people, so that rewording changes no snapshot."""
    if isinstance(schema, list):
        return [bare(element) for element in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        word: {name: bare(part) for name, part in value.items()} if word in _NAMED_PARTS else bare(value)
        for word, value in schema.items()
        if word not in _ANNOTATIONS
    }


def snapshot() -> Json:
    """All that others build on, in one document: channels with their messages, and the schemas of messages and results."""
    return {
        "channels": {
            channel.name: {
                "address": channel.address,
                "from_outside": channel.from_outside,
                "messages": sorted(channel.messages),
            }
            for channel in CHANNELS.values()
        },
        "messages": {name: bare(message_schema(name)) for name in names()},
        "results": {name: bare(result_schema(name)) for name in RESULTS},
    }
