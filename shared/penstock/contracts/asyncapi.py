"""The catalogue as an AsyncAPI 3.0 document (https://www.asyncapi.com/docs/reference/specification/v3.0.0)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from penstock.contracts.catalogue import (
    CHANNELS,
    MESSAGES,
    PARTIES,
    REPLY,
    Channel,
    message_schema,
    model_schema,
    names,
    result_schema,
)
from penstock.contracts.event_catalogue import EVENTS
from penstock.contracts.examples import EXAMPLES
from penstock.contracts.replies import Reply
from penstock.contracts.results import RESULTS
from penstock.streams import DATA_FIELD, TYPE_FIELD

if TYPE_CHECKING:
    from penstock.contracts.base import Json

VERSION: Final = "3.0.0"

ABOUT: Final = f"""\
Penstock speaks over Redis Streams. One stream entry is one message: the field `{DATA_FIELD}` holds one bare JSON object,
the message; the field `{TYPE_FIELD}` repeats its type for cheap filtering. There is no envelope, so that any client in any
language takes part. A reply is the one exception: one JSON text in a list.

Every operation here names its party first: `worker.writes.heartbeats` is what a worker does.
"""

_PARAMETERS: Final[dict[str, Json]] = {
    "partition": {
        "description": "Hash tag of the partition, braces included: CRC-32 of the pool's name modulo the number of partitions.",
        "default": "{0}",
        "examples": ["{0}", "{15}"],
    },
    "pool": {"description": "Name of the work pool.", "examples": ["etl"]},
    "worker": {"description": "Name of the worker.", "examples": ["w1"]},
    "run": {"description": "Id of the run.", "location": "$message.payload#/run"},
    "id": {"description": "The `id` of the command.", "location": "$message.payload#/id"},
}


def document(version: str) -> Json:
    """Build the document.

    Args:
        version: of Penstock.
    """
    schemas: dict[str, Json] = {}
    messages = {name: _message(name, schemas) for name in names()}
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "Penstock",
            "version": version,
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": party, "description": description} for party, description in PARTIES.items()],
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {
                "host": "127.0.0.1:6379",
                "protocol": "redis",
                "description": "Where PENSTOCK_REDIS_URL says; Redis 6.2 or later, or Valkey.",
            }
        },
        "channels": {channel.name: _channel(channel) for channel in CHANNELS.values()},
        "operations": {
            f"{party}.{verb}.{channel.name}": _operation(channel, party, verb, written)
            for channel in CHANNELS.values()
            for verb, parties in (("writes", channel.writers), ("reads", channel.readers))
            for party, written in parties.items()
        },
        "components": {"messages": messages, "schemas": dict(sorted(schemas.items()))},
    }


def _channel(channel: Channel) -> Json:
    return {
        "address": channel.address,
        "title": channel.name,
        "description": f"{channel.says} Kept: {channel.kept}.",
        "servers": [_ref("servers", "redis")],
        "parameters": {name: _PARAMETERS[name] for name in channel.parameters},
        "messages": {name: _ref("components", "messages", name) for name in channel.messages},
        "x-redis-type": channel.kind,
    }


def _operation(channel: Channel, party: str, verb: str, written: tuple[str, ...]) -> Json:
    operation: Json = {
        "action": "send" if verb == "writes" else "receive",
        "channel": _ref("channels", channel.name),
        "summary": channel.says,
        "tags": [{"name": party}],
        "messages": [_ref("channels", channel.name, "messages", name) for name in written],
    }
    if any(name in RESULTS for name in written):
        operation["reply"] = {
            "channel": _ref("channels", REPLY),
            "messages": [_ref("channels", REPLY, "messages", REPLY)],
        }
    return operation


def _message(name: str, schemas: dict[str, Json]) -> Json:
    _hoist(name, message_schema(name), schemas)
    says = EVENTS[name].says if name in EVENTS else model_schema(MESSAGES.get(name, Reply))["description"]
    example = EVENTS[name].example() if name in EVENTS else EXAMPLES[name]
    message: Json = {
        "name": name,
        "title": name,
        "summary": says.partition("\n")[0],
        "payload": _ref("components", "schemas", name),
        "examples": [{"name": "example", "payload": example}],
    }
    if name in RESULTS:
        model = RESULTS[name].__name__
        _hoist(model, result_schema(name), schemas)
        message["x-result"] = _ref("components", "schemas", model)
    if name != REPLY:
        message["headers"] = {
            "type": "object",
            "description": f"The entry's fields besides `{DATA_FIELD}`.",
            "properties": {TYPE_FIELD: {"const": name}},
        }
    return message


def _ref(*path: str) -> Json:
    return {"$ref": "#/" + "/".join(path)}


def _hoist(name: str, schema: Json, schemas: dict[str, Json]) -> None:
    """Put a schema and the definitions inside it among the document's schemas, where messages share them."""
    own = {word: value for word, value in schema.items() if word != "$defs"}
    for key, part in {**schema.get("$defs", {}), name: own}.items():
        moved: Any = json.loads(json.dumps(part).replace("#/$defs/", "#/components/schemas/"))
        if schemas.setdefault(key, moved) != moved:
            raise ValueError(f"two different schemas are called {key!r}")
