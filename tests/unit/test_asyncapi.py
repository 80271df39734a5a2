"""What is published of the contracts: the catalogue is whole, its schemas are true, its snapshot is up to date."""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from jsonschema import Draft202012Validator, FormatChecker
from redis.asyncio import Redis
from typer.testing import CliRunner

from penstock import __version__, keys, streams
from penstock.bus.dead_letters import DeadLetter, describe
from penstock.bus.entries import Entry
from penstock.bus.health import Health
from penstock.cli.app import app
from penstock.contracts import catalogue
from penstock.contracts.asyncapi import document
from penstock.contracts.base import Command, Message
from penstock.contracts.catalogue import CHANNELS, MESSAGES, PARTIES, REPLY, message_schema, names, result_schema
from penstock.contracts.compatibility import breaking_changes
from penstock.contracts.event_catalogue import EVENTS
from penstock.contracts.events import Event
from penstock.contracts.examples import EXAMPLES
from penstock.contracts.results import RESULTS
from penstock.settings import Settings
from tests.architecture.source import PENSTOCK, modules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SNAPSHOT = PENSTOCK / "contracts" / "schemas.json"
REWRITE = "penstock asyncapi --snapshot shared/penstock/contracts/schemas.json"
DOCUMENT = document(__version__)
TYPES = [*MESSAGES, REPLY]


def valid(name: str, message: Any) -> None:
    Draft202012Validator(message_schema(name), format_checker=FormatChecker()).validate(message)


def nested(part: Any) -> Iterator[dict[str, Any]]:
    """Every object inside a document."""
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from nested(inner)


def resolve(reference: str) -> Any:
    part: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        part = part[step]
    return part


def test_the_snapshot_is_what_the_code_says() -> None:
    old, new = json.loads(SNAPSHOT.read_text(encoding="utf-8")), catalogue.snapshot()

    assert breaking_changes(old, new) == [], "this breaks who was built against the contracts; make it additive"
    assert old == new, f"the contracts have grown; rewrite their snapshot: {REWRITE}"


def test_the_snapshot_is_sorted_so_that_a_change_of_it_can_be_read() -> None:
    text = SNAPSHOT.read_text(encoding="utf-8")

    assert text == json.dumps(json.loads(text), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def contract_messages() -> set[type[Message]]:
    found = set()
    for path in modules(PENSTOCK / "contracts"):
        module = import_module(f"penstock.contracts.{path.stem}".removesuffix(".__init__"))
        found |= {
            each
            for _, each in inspect.getmembers(module, inspect.isclass)
            if issubclass(each, Message) and "type" in each.model_fields
        }
    return found


def test_every_message_of_the_contracts_is_in_the_catalogue() -> None:
    assert set(MESSAGES.values()) == contract_messages()
    assert {name: model.model_fields["type"].default for name, model in MESSAGES.items()} == dict(
        zip(MESSAGES, MESSAGES, strict=True)
    )


def test_every_command_has_a_result() -> None:
    assert set(RESULTS) == {name for name, model in MESSAGES.items() if issubclass(model, Command)}


def test_every_stream_is_a_channel_of_the_table() -> None:
    table = (streams.__doc__ or "").partition("An entry has")[0]
    rows = set(re.findall(r"^([a-z]+)(?::\S+)?  +\S", table, re.MULTILINE)) - {"stream"}

    assert rows | {REPLY} == set(CHANNELS)
    assert {stream.name for stream in streams.ALL} <= set(CHANNELS)


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=list(CHANNELS))
def test_what_is_read_on_a_channel_is_what_is_written_there(channel: catalogue.Channel) -> None:
    read = {name for messages in channel.readers.values() for name in messages}

    assert read == set(channel.messages)
    assert set(channel.writers) | set(channel.readers) <= set(PARTIES)


def test_every_message_travels_somewhere() -> None:
    assert {name for channel in CHANNELS.values() for name in channel.messages} == set(names())


@pytest.mark.parametrize("service", catalogue.SERVICES)
def test_a_service_reads_what_the_catalogue_says(service: str) -> None:
    settings = next(
        each
        for _, each in inspect.getmembers(import_module(f"services.{service}.settings"), inspect.isclass)
        if issubclass(each, Settings) and each is not Settings
    )
    built = import_module(f"services.{service}.app").build(settings(), Redis(), Health(service))

    routes = {each.stream.name: {route.type for route in each.routes} for each in built.subscriptions}
    assert routes == {
        channel.name: set(channel.readers[service])
        for channel in CHANNELS.values()
        if service in channel.readers and channel.kind == "stream"
    }


@pytest.mark.parametrize(
    ("channel", "values"),
    [("events", {}), ("inbox", {"pool": "etl", "worker": "w1"}), ("logs", {"run": "r"}), (REPLY, {"id": "c"})],
)
def test_an_address_becomes_the_key_when_its_names_are_replaced(channel: str, values: dict[str, str]) -> None:
    address = CHANNELS[channel].address
    for name, value in {"partition": "{0}", **values}.items():
        address = address.replace(f"{{{name}}}", value)

    assert address == keys.key(0, channel, "/".join(values.values()))


@pytest.mark.parametrize("name", names())
def test_a_schema_is_a_schema_and_complete_in_itself(name: str) -> None:
    schema = message_schema(name)

    Draft202012Validator.check_schema(schema)
    assert {part["$ref"].rpartition("/")[2] for part in nested(schema) if isinstance(part.get("$ref"), str)} == set(
        schema.get("$defs", {})
    )


@pytest.mark.parametrize("name", TYPES)
def test_an_example_of_a_message_is_one(name: str) -> None:
    valid(name, EXAMPLES[name])
    if name != REPLY:
        message = MESSAGES[name].model_validate_json(orjson.dumps(EXAMPLES[name]))
        valid(name, orjson.loads(message.wire()))


@pytest.mark.parametrize("name", EVENTS)
def test_an_example_of_an_event_is_one(name: str) -> None:
    example = EVENTS[name].example()

    valid(name, example)
    assert Event.model_validate(example).event == name


@pytest.mark.parametrize("name", EVENTS)
def test_a_label_less_is_no_such_event(name: str) -> None:
    validator = Draft202012Validator(message_schema(name))
    for label in EVENTS[name].resource.labels:
        example = EVENTS[name].example()
        del example["resource"][label]
        assert not validator.is_valid(example)


def test_a_schema_refuses_what_the_model_refuses() -> None:
    validator = Draft202012Validator(message_schema("create_pool"))
    for wrong in (
        {"pool": "a/b"},
        {"pool": " "},
        {"pool": "a\nb"},
        {"concurrency_limit": -1},
        {"limit": 5},
        {"type": "x"},
    ):
        assert not validator.is_valid({**EXAMPLES["create_pool"], **wrong}), wrong
    for right in ({"pool": "größe 漢字"}, {"concurrency_limit": None}, {"concurrency_limit": 0}):
        assert validator.is_valid({**EXAMPLES["create_pool"], **right}), right


@pytest.mark.parametrize(
    "letter",
    [
        DeadLetter(Entry(0, "commands", "1-0", {b"__data__": b"{", b"x": b"\xff"}), "not JSON", 3),
        DeadLetter(Entry(0, "dispatch", "1-0", {}), "no run", element={"id": 5}),
        DeadLetter(Entry(0, "inbox", "1-0", {b"a": b"x" * 300_000, b"b": b"y"}, "etl/w1"), "too long"),
    ],
)
def test_a_dead_letter_is_what_the_catalogue_says(letter: DeadLetter) -> None:
    valid("dead.letter", orjson.loads(describe(letter, "group")))


def test_every_reference_of_the_document_leads_somewhere() -> None:
    references = [part["$ref"] for part in nested(DOCUMENT) if isinstance(part.get("$ref"), str)]

    assert references
    assert [reference for reference in references if not resolve(reference)] == []


def test_the_document_has_what_asyncapi_requires() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= DOCUMENT["info"].keys()
    assert DOCUMENT["info"]["version"] == __version__
    for server in DOCUMENT["servers"].values():
        assert {"host", "protocol"} <= server.keys()
    for channel in DOCUMENT["channels"].values():
        assert set(channel["parameters"]) == set(re.findall(r"{(\w+)}", channel["address"]))
        assert channel["messages"]
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in {"send", "receive"}
        assert operation["messages"]
    names_of_components = [name for part in DOCUMENT["components"].values() for name in part]
    assert [name for name in names_of_components if not re.fullmatch(r"[\w.-]+", name)] == []


def test_an_operation_names_only_messages_of_its_channel() -> None:
    for operation in DOCUMENT["operations"].values():
        for part in (operation, operation.get("reply", operation)):
            inside = part["channel"]["$ref"] + "/messages/"
            assert [each["$ref"] for each in part["messages"] if not each["$ref"].startswith(inside)] == []


def test_every_channel_and_every_message_is_reached_from_an_operation() -> None:
    operations = DOCUMENT["operations"].values()

    assert {each["channel"]["$ref"] for each in operations} == {f"#/channels/{name}" for name in DOCUMENT["channels"]}
    for action in ("send", "receive"):
        reached = {
            resolve(message["$ref"])["$ref"]
            for each in operations
            if each["action"] == action
            for message in each["messages"]
        }
        assert reached == {f"#/components/messages/{name}" for name in DOCUMENT["components"]["messages"]}


def test_every_schema_of_the_document_is_used() -> None:
    used = {part["$ref"] for part in nested(DOCUMENT) if isinstance(part.get("$ref"), str)}

    assert {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]} - used == set()


def test_who_sends_a_command_is_told_where_its_answer_comes() -> None:
    asked = DOCUMENT["operations"]["client.writes.commands"]

    assert resolve(asked["reply"]["channel"]["$ref"])["parameters"]["id"]["location"] == "$message.payload#/id"
    assert DOCUMENT["components"]["messages"]["create_pool"]["x-result"] == {"$ref": "#/components/schemas/Pool"}
    assert "reply" not in DOCUMENT["operations"]["worker.writes.heartbeats"]


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["asyncapi", *arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_the_command_prints_the_document_without_any_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://127.0.0.1:1/0")

    assert json.loads(run()) == DOCUMENT


def test_the_command_writes_a_schema_for_each_message(tmp_path: Path) -> None:
    run("--schemas", str(tmp_path / "new" / "schemas"))

    written = {path.name: json.loads(path.read_text()) for path in (tmp_path / "new" / "schemas").iterdir()}
    assert set(written) == {f"{name}.json" for name in names()}
    Draft202012Validator(written["worker.heartbeat.json"]).validate(EXAMPLES["worker.heartbeat"])


def test_a_snapshot_is_written_where_there_is_none_and_again_when_nothing_changed(tmp_path: Path) -> None:
    file = tmp_path / "contracts.json"
    for _ in range(2):
        run("--snapshot", str(file))

    assert file.read_text() == SNAPSHOT.read_text(encoding="utf-8")


def test_a_snapshot_is_not_replaced_by_one_that_breaks_it_unless_told_to(tmp_path: Path) -> None:
    file = tmp_path / "contracts.json"
    old = catalogue.snapshot()
    old["messages"]["pause_pool"]["properties"]["reason"] = {"type": "string"}
    file.write_text(json.dumps(old))

    assert "message pause_pool: reason: removed" in run("--snapshot", str(file), code=1)
    assert json.loads(file.read_text()) == old
    run("--snapshot", str(file), "--breaking")
    assert json.loads(file.read_text()) == catalogue.snapshot()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"\xff", b'{"channels": {}}', b'{"channels": {"a": 1}, "messages": {}, "results": {}}'],
)
def test_a_file_that_is_no_snapshot_is_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "notes.json"
    file.write_bytes(content)

    assert "--breaking" in run("--snapshot", str(file), code=1)
    assert file.read_bytes() == content


@pytest.mark.parametrize("arguments", [["--breaking"], ["--schemas", "a", "--snapshot", "b"]])
def test_options_that_do_not_go_together_are_wrong_usage(arguments: list[str]) -> None:
    run(*arguments, code=2)


def test_a_place_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    assert "cannot be written" in run("--schemas", str(tmp_path / "file" / "below"), code=1)


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_described_completely(name: str) -> None:
    Draft202012Validator.check_schema(result_schema(name))
