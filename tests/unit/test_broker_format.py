"""What FastStream writes and reads on our streams is bare JSON, and nothing else."""

from __future__ import annotations

from typing import Any

from faststream import AckPolicy

from penstock import streams
from penstock.bus.broker import PlainJson, consumer_name, create_broker, subscribe
from penstock.bus.entries import Entry, entry_fields
from penstock.contracts.pools import PausePool
from penstock.contracts.workers import Heartbeat
from penstock.settings import Settings


async def encoded(message: Any) -> bytes:
    return await PlainJson.encode(message=message, reply_to=None, headers={"x": "ä"}, correlation_id="größe")


async def test_a_body_is_written_without_an_envelope() -> None:
    assert await encoded({"type": "a", "name": "größe"}) in {
        '{"type":"a","name":"größe"}'.encode(),
        '{"type": "a", "name": "größe"}'.encode(),
    }


async def test_bytes_are_written_as_they_are() -> None:
    assert await encoded(b'{"data":"hello"}') == b'{"data":"hello"}'


def test_bytes_are_read_as_they_are_whatever_they_look_like() -> None:
    for body in (b'{"data":"x","headers":{}}', b"\x89BIN\r\n\x1a\n", b"", b"\xff"):
        assert PlainJson.parse(body) == (body, {})


async def nothing(_: Any) -> None:
    """A handler."""


def subscriber() -> Any:
    broker = create_broker(Settings(health_port=-1))
    return subscribe(broker, streams.COMMANDS, 2, group="g", consumer="c", handle=nothing, max_batch=50)


def test_a_subscriber_reads_bounded_batches_of_its_group_and_leaves_failures_pending() -> None:
    found = subscriber()
    assert found.ack_policy is AckPolicy.NACK_ON_ERROR
    sub = found.stream_sub
    assert (sub.name, sub.group, sub.consumer) == ("penstock:{2}:commands", "g", "c")
    assert (sub.batch, sub.max_records, sub.last_id, sub.no_ack) == (True, 50, ">", False)
    assert 0 < sub.polling_interval < 5000, "below the socket time-out"


async def test_a_handler_gets_entries_with_raw_fields() -> None:
    found = subscriber()
    parse, decode = found._get_parser_and_decoder()
    raw = {
        "type": "bstream",
        "channel": "penstock:{2}:commands",
        "message_ids": [b"5-0", b"6-1"],
        "data": [{b"__data__": b"{}"}, {b"what": b"\xff"}],
    }
    message = await parse(raw)
    assert await decode(message) == [
        Entry(2, "commands", "5-0", {b"__data__": b"{}"}),
        Entry(2, "commands", "6-1", {b"what": b"\xff"}),
    ]
    assert message.raw_message["message_ids"] == [b"5-0", b"6-1"], "what is acknowledged"


def test_consumers_are_named_after_service_host_and_process() -> None:
    import os  # noqa: PLC0415
    import socket  # noqa: PLC0415

    assert consumer_name("dispatcher") == f"dispatcher-{socket.gethostname()}-{os.getpid()}"


def test_an_entry_has_two_fields_and_knows_when_it_was_added() -> None:
    fields = entry_fields(PausePool(pool="etl"))
    assert list(fields) == ["type", "__data__"]
    assert fields["type"] == "pause_pool"
    assert entry_fields(Heartbeat(pool="etl", worker="w", worker_type="process"))["type"] == "worker.heartbeat"
    assert Entry(0, "commands", "1795304987565-3", {}).added_ms == 1795304987565
