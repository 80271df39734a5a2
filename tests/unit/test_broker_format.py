"""What FastStream writes and reads on our streams is bare JSON, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faststream import AckPolicy

from penstock import streams
from penstock.bus.broker import PlainJson, consumer_name, create_broker, subscribe
from penstock.bus.entries import Entry, entry_fields
from penstock.contracts.pools import PausePool
from penstock.contracts.workers import Heartbeat
from penstock.settings import Settings

if TYPE_CHECKING:
    import pytest


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


class Handling:
    """Takes batches, or cannot."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.batches: list[Any] = []
        self.problem = problem

    async def __call__(self, batch: Any) -> None:
        self.batches.append(batch)
        if self.problem:
            raise self.problem


class Acknowledging:
    """Stands for the client: what is acknowledged, and in which group."""

    def __init__(self) -> None:
        self.acknowledged: list[Any] = []

    async def xack(self, *words: Any) -> None:
        self.acknowledged.append(words)


def subscriber(handle: Any) -> Any:
    broker = create_broker(Settings(health_port=-1))
    return subscribe(broker, streams.COMMANDS, 2, group="g", consumer="c", handle=handle, max_batch=50)


async def read_once(found: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let it read two entries; answers what it acknowledged."""
    client = Acknowledging()
    monkeypatch.setattr(type(found), "_client", client)
    entries = [(b"5-0", {b"__data__": b"{}"}), (b"6-1", {b"what": b"\xff"})]

    async def read(_: str) -> Any:
        return [(b"penstock:{2}:commands", entries)]

    await found._get_msgs(read)
    return client.acknowledged


def test_a_subscriber_reads_bounded_batches_of_its_group() -> None:
    found = subscriber(Handling())
    assert found.ack_policy is AckPolicy.MANUAL
    sub = found.stream_sub
    assert (sub.name, sub.group, sub.consumer) == ("penstock:{2}:commands", "g", "c")
    assert (sub.batch, sub.max_records, sub.last_id, sub.no_ack) == (True, 50, ">", False)
    assert 0 < sub.polling_interval < 5000, "below the socket time-out"


async def test_a_handler_gets_entries_with_raw_fields_which_are_acknowledged_when_it_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handling = Handling()
    found = subscriber(handling)
    found.running = True
    assert await read_once(found, monkeypatch) == [("penstock:{2}:commands", "g", "5-0", "6-1")]
    assert handling.batches == [
        [Entry(2, "commands", "5-0", {b"__data__": b"{}"}), Entry(2, "commands", "6-1", {b"what": b"\xff"})]
    ]


async def test_a_subscriber_that_has_read_does_not_begin_at_the_end_again(monkeypatch: pytest.MonkeyPatch) -> None:
    found = subscriber(Handling())
    await read_once(found, monkeypatch)
    assert found.last_id == "6-1", "FastStream makes a missing group at the end only while this is >"


async def test_what_cannot_be_handled_stays_pending_and_the_subscriber_reads_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handling = Handling(RuntimeError("no"))
    found = subscriber(handling)
    found.running = True
    assert await read_once(found, monkeypatch) == []
    assert len(handling.batches) == 1


async def test_what_was_read_while_it_stopped_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    handling = Handling()
    assert await read_once(subscriber(handling), monkeypatch) == []
    assert handling.batches == []


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
