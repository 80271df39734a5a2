"""From entries to handlers: what is bad goes to ``dead`` alone, with its reason, and the others are handled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from structlog.testing import capture_logs

from penstock import keys, streams
from penstock.bus import decoding
from penstock.bus import delivery as delivery_module
from penstock.bus.dead_letters import MAX_KEPT_BYTES
from penstock.bus.delivery import deliver, deliver_each
from penstock.bus.entries import Entry, entry_fields
from penstock.bus.routing import Delivery, Route, Subscription
from penstock.contracts.pools import CreatePool, PausePool, PoolChanged, PoolDeleted
from penstock.contracts.runs import ReportRuns, RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.contracts.workers import Heartbeat
from tests.support import read_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis.asyncio import Redis

    from penstock.bus.dead_letters import DeadLetter
    from penstock.contracts.base import Message

GOOD = b'{"type":"worker.heartbeat","pool":"etl","worker":"w1","worker_type":"process"}'


class Recorder:
    """A handler that remembers what it was given."""

    def __init__(self, answer: Callable[[list[Delivery[Any]]], Sequence[DeadLetter] | None] = lambda _: None) -> None:
        self.batches: list[list[Delivery[Any]]] = []
        self._answer = answer

    async def __call__(self, batch: list[Delivery[Any]]) -> Sequence[DeadLetter] | None:
        self.batches.append(batch)
        return self._answer(batch)

    @property
    def messages(self) -> list[Any]:
        return [delivery.message for batch in self.batches for delivery in batch]


async def add(client: Redis, stream: streams.Stream, fields: dict[Any, Any]) -> Entry:
    """Put an entry on a real stream and read it back."""
    key = keys.key(0, stream.name)
    entry_id = await client.xadd(key, fields)
    rows: Any = await client.xrange(key, entry_id, entry_id)
    [(found_id, found)] = rows
    return Entry(0, stream.name, found_id.decode(), found)


def beats(handler: Recorder) -> Subscription:
    return Subscription(streams.HEARTBEATS, "monitor", [Route(Heartbeat, handler)])


def commands(handler: Recorder) -> Subscription:
    return Subscription(streams.COMMANDS, "registry", [Route(PausePool, handler)])


async def dead(client: Redis) -> list[dict[str, Any]]:
    return await read_messages(client, "dead")


BAD_ENTRIES = [
    pytest.param({"payload": GOOD}, "no field '__data__' (found: payload)", id="data in another field"),
    pytest.param({"type": "worker.heartbeat"}, "no field '__data__' (found: type)", id="no data"),
    pytest.param({"__data__": b"hello"}, "not JSON", id="no JSON"),
    pytest.param({"__data__": b""}, "not JSON", id="empty"),
    pytest.param({"__data__": b"\xff\xfe\x00"}, "not JSON", id="no UTF-8"),
    pytest.param({"type": "worker.heartbeat", "__data__": b'{"pool":"\xff"}'}, "Invalid JSON", id="no UTF-8 inside"),
    pytest.param({"__data__": b"[1,2]"}, "expected a JSON object, got list", id="an array"),
    pytest.param({"__data__": b"42"}, "expected a JSON object, got int", id="a number"),
    pytest.param({"__data__": b"{}"}, "unknown type 'None'", id="no type"),
    pytest.param({"__data__": b'{"type":"worker.dance"}'}, "unknown type 'worker.dance'", id="unknown type"),
    pytest.param({"__data__": b'{"type":{"a":1}}'}, "unknown type", id="type is an object"),
    pytest.param({"__data__": GOOD.replace(b'"etl"', b'"a/b"')}, "pool: ", id="name with a slash"),
    pytest.param({"__data__": GOOD.replace(b'"pool":"etl",', b"")}, "pool: Field required", id="no pool"),
    pytest.param({"__data__": GOOD[:-1] + b',"slots":-1}'}, "slots: ", id="negative slots"),
    pytest.param({"__data__": GOOD[:-1] + b',"interval_seconds":NaN}'}, "not JSON", id="not a number"),
    pytest.param(
        {"type": "worker.heartbeat", "__data__": GOOD[:-1] + b',"interval_seconds":NaN}'}, "interval", id="NaN by type"
    ),
    pytest.param(
        {"type": "worker.heartbeat", "__data__": GOOD.replace(b"worker.heartbeat", b"x")}, "type: ", id="types differ"
    ),
    pytest.param({"__data__": GOOD[:-1] + b',"boot_id":"a\\"b"}'}, "boot_id: ", id="a quote in an id"),
    pytest.param(
        {"__data__": b'{"type":"worker.heartbeat",' + b'"a":' * 1 + b"[" * 5000 + b"]" * 5000 + b"}"}, "", id="deep"
    ),
]


@pytest.mark.parametrize(("fields", "reason"), BAD_ENTRIES)
async def test_a_bad_entry_is_buried_with_its_reason_and_the_others_are_handled(
    client: Redis, fields: dict[str, bytes], reason: str
) -> None:
    handler = Recorder()
    entries = [
        await add(client, streams.HEARTBEATS, {"type": "worker.heartbeat", "__data__": GOOD}),
        await add(client, streams.HEARTBEATS, fields),
        await add(client, streams.HEARTBEATS, {"__data__": GOOD.replace(b"w1", "wörker 2 漢".encode())}),
    ]
    await deliver(client, beats(handler), entries, deliveries=3)
    assert [message.worker for message in handler.messages] == ["w1", "wörker 2 漢"]
    [letter] = await dead(client)
    assert reason in letter["reason"]
    assert letter["stream"] == keys.key(0, "heartbeats")
    assert letter["entry_id"] == entries[1].id
    assert letter["group"] == "monitor"
    assert letter["deliveries"] == 3
    assert set(letter["fields"]) == set(fields)


async def test_the_json_decides_where_the_type_field_is_missing_or_strange(client: Redis) -> None:
    handler = Recorder()
    entries = [
        await add(client, streams.HEARTBEATS, {"__data__": GOOD}),
        await add(client, streams.HEARTBEATS, {"type": "heartbeat", "__data__": GOOD, "trace": "abc"}),
        await add(client, streams.HEARTBEATS, {"type": b"\xff", "__data__": GOOD}),
    ]
    await deliver(client, beats(handler), entries)
    assert len(handler.messages) == 3
    assert await dead(client) == []


async def test_unknown_fields_of_a_message_are_ignored_and_those_of_a_command_are_not(client: Redis) -> None:
    handler = Recorder()
    await deliver(
        client, beats(handler), [await add(client, streams.HEARTBEATS, {"__data__": GOOD[:-1] + b',"new":1}'})]
    )
    assert len(handler.messages) == 1
    entry = await add(client, streams.COMMANDS, {"__data__": b'{"type":"pause_pool","pool":"etl","forced":true}'})
    await deliver(client, commands(handler), [entry])
    assert "forced" in (await dead(client))[0]["reason"]


async def test_a_10_mb_message_is_refused_and_not_stored_again(client: Redis) -> None:
    handler = Recorder()
    big = await add(client, streams.HEARTBEATS, {"__data__": GOOD[:-1] + b',"host":"' + b"x" * 10_000_000 + b'"}'})
    good = await add(client, streams.HEARTBEATS, {"__data__": GOOD})
    await deliver(client, beats(handler), [big, good])
    assert len(handler.messages) == 1
    [letter] = await dead(client)
    assert f"at most {streams.MAX_MESSAGE_BYTES}" in letter["reason"]
    assert letter["fields"]["__data__"]["bytes"] > 10_000_000
    assert len(letter["fields"]["__data__"]["text"]) == MAX_KEPT_BYTES


async def test_many_long_fields_are_kept_within_the_same_bound(client: Redis) -> None:
    fields = {f"field {number}": "ä" * MAX_KEPT_BYTES for number in range(20)}
    await deliver(client, beats(Recorder()), [await add(client, streams.HEARTBEATS, fields)])
    rows: Any = await client.xrange(keys.key(0, "dead"))
    [(_, kept)] = rows
    assert len(kept[b"__data__"]) < 2 * MAX_KEPT_BYTES
    text = orjson.loads(kept[b"__data__"])["fields"]["field 0"]["text"]
    assert set(text) == {"ä"}, "a character cut in two is left out, the rest stays readable"


async def test_what_is_no_text_is_kept_as_base64(client: Redis) -> None:
    await deliver(client, beats(Recorder()), [await add(client, streams.HEARTBEATS, {"__data__": b"\xff\x00"})])
    assert (await dead(client))[0]["fields"]["__data__"] == {"base64": "/wA="}


async def test_a_reason_is_never_long(client: Redis) -> None:
    entry = await add(client, streams.HEARTBEATS, {"__data__": b'{"type":"' + b"x" * 500_000 + b'"}'})
    await deliver(client, beats(Recorder()), [entry])
    assert len((await dead(client))[0]["reason"]) <= 1000


@pytest.mark.parametrize(
    "wrong", [{"x" * 500_000: 1}, {"pool": "x" * 500_000}, {"y" * 100_000 + str(n): n for n in range(9)}], ids=len
)
async def test_an_answer_and_a_log_repeat_no_name_or_value_that_is_as_long_as_a_message(
    client: Redis, wrong: dict[str, Any]
) -> None:
    entry = await add(client, streams.COMMANDS, {"__data__": orjson.dumps({"type": "pause_pool", "id": "c1", **wrong})})
    with capture_logs() as logged:
        await deliver(client, commands(Recorder()), [entry])
    answer: Any = await client.lpop(keys.key(0, "reply", "c1"))
    assert len(answer) < 5000
    assert [len(line["reason"]) < 5000 for line in logged] == [True]


async def test_the_good_elements_of_an_array_are_handled_and_each_bad_one_is_buried(client: Redis) -> None:
    handler = Recorder()
    subscription = Subscription(streams.DISPATCH, "dispatcher", [Route(ReportRuns, handler, array="reports")])
    good = [{"run": new_run_id(0), "token": "t", "epoch": 1, "state": "RUNNING"} for _ in range(2)]
    bad = [{**good[0], "state": "PERHAPS"}, {"run": "x"}]
    body = {"type": "report_runs", "pool": "etl", "worker": "w1", "reports": [good[0], *bad, good[1]]}
    await deliver(client, subscription, [await add(client, streams.DISPATCH, {"__data__": orjson.dumps(body)})])
    [delivery] = handler.batches[0]
    assert [report.run for report in delivery.message.reports] == [report["run"] for report in good]
    letters = await dead(client)
    assert [letter["element"] for letter in letters] == bad
    assert "PERHAPS" not in letters[0]["reason"]
    assert "reports.0.state" in letters[0]["reason"]
    assert [letter.element for letter in delivery.bad] == bad


@pytest.mark.parametrize("reports", [[], [{"run": "x"}], None, "all", {"run": "x"}])
async def test_an_array_without_a_good_element_is_buried_as_a_whole(client: Redis, reports: Any) -> None:
    handler = Recorder()
    subscription = Subscription(streams.DISPATCH, "dispatcher", [Route(ReportRuns, handler, array="reports")])
    body = {"type": "report_runs", "pool": "etl", "worker": "w1", "reports": reports}
    await deliver(client, subscription, [await add(client, streams.DISPATCH, {"__data__": orjson.dumps(body)})])
    assert handler.batches == []
    [letter] = await dead(client)
    assert "element" not in letter


async def reply(client: Redis, command_id: str) -> Any:
    raw: Any = await client.lpop(keys.key(0, "reply", command_id))
    return orjson.loads(raw) if raw else None


@pytest.mark.parametrize(
    "body",
    [
        {"type": "pause_pool", "id": "c1", "pool": "a/b"},
        {"type": "pause_pool", "id": "c1", "pool": "etl", "forced": True},
        {"type": "paus_pool", "id": "c1", "pool": "etl"},
        {"id": "c1", "pool": "etl"},
    ],
)
async def test_a_malformed_command_is_refused_where_its_caller_waits(client: Redis, body: dict[str, Any]) -> None:
    entry = await add(client, streams.COMMANDS, {"__data__": orjson.dumps(body)})
    await deliver(client, commands(Recorder()), [entry])
    answer = await reply(client, "c1")
    assert (answer["ok"], answer["error"]["code"]) == (False, "invalid")
    assert answer["error"]["message"] == (await dead(client))[0]["reason"]
    assert len(await dead(client)) == 1


@pytest.mark.parametrize("command_id", ["", "x" * 65, 'a"b', "a b", 7, None, ["c"]])
async def test_a_malformed_command_with_a_malformed_id_is_answered_nowhere(client: Redis, command_id: Any) -> None:
    entry = await add(client, streams.COMMANDS, {"__data__": orjson.dumps({"type": "pause_pool", "id": command_id})})
    await deliver(client, commands(Recorder()), [entry])
    assert len(await dead(client)) == 1
    assert await client.keys("*:reply:*") == []


async def test_a_command_of_which_a_part_is_executed_is_not_refused_as_a_whole(client: Redis) -> None:
    handler = Recorder()
    subscription = Subscription(streams.DISPATCH, "dispatcher", [Route(SubmitRuns, handler, array="runs")])
    run = SubmittedRun(id=new_run_id(0), name="fine", spec=RunSpec(command=["true"]))
    body = orjson.loads(SubmitRuns(id="c1", pool="etl", runs=[run]).wire())
    body["runs"].append({**body["runs"][0], "id": "nonsense"})
    await deliver(client, subscription, [await add(client, streams.DISPATCH, {"__data__": orjson.dumps(body)})])
    assert [found.id for found in handler.messages[0].runs] == [run.id]
    assert await reply(client, "c1") is None, "the handler answers, it knows what was accepted"
    assert handler.batches[0][0].bad[0].element["id"] == "nonsense"


async def test_a_stream_shared_with_other_groups_leaves_their_types_alone(client: Redis) -> None:
    handler = Recorder()
    subscription = Subscription(streams.DEFINITIONS, "dispatcher", [Route(PoolChanged, handler)], ignores_unknown=True)
    messages: list[Message] = [
        PoolDeleted(pool_id="1", pool="etl", worker_type="process", queues=[]),
        PoolChanged(pool_id="1", pool="etl"),
    ]
    entries = [await add(client, streams.DEFINITIONS, entry_fields(message)) for message in messages]
    await deliver(client, subscription, entries)
    assert handler.messages == messages[1:]
    assert await dead(client) == []


async def test_a_handler_gets_all_messages_of_its_type_at_once_in_the_order_of_the_routes(client: Redis) -> None:
    order: list[str] = []
    changed = Recorder(lambda batch: order.append(f"changed {len(batch)}"))
    deleted = Recorder(lambda batch: order.append(f"deleted {len(batch)}"))
    routes = [Route(PoolDeleted, deleted), Route(PoolChanged, changed)]
    subscription = Subscription(streams.DEFINITIONS, "dispatcher", routes)
    kinds = (
        PoolChanged(pool_id="1", pool="a"),
        PoolDeleted(pool_id="2", pool="b", worker_type="process", queues=[]),
        PoolChanged(pool_id="3", pool="c"),
    )
    await deliver(client, subscription, [await add(client, streams.DEFINITIONS, entry_fields(kind)) for kind in kinds])
    assert order == ["deleted 1", "changed 2"]


async def test_a_handler_may_bury_what_it_cannot_handle(client: Redis) -> None:
    handler = Recorder(lambda batch: [batch[0].dead("nobody knows this pool")])
    await deliver(client, beats(handler), [await add(client, streams.HEARTBEATS, {"__data__": GOOD})], deliveries=2)
    [letter] = await dead(client)
    assert (letter["reason"], letter["deliveries"]) == ("nobody knows this pool", 2)
    assert letter["fields"]["__data__"]["text"] == GOOD.decode()


def failing_for(worker: str) -> Recorder:
    def answer(batch: list[Delivery[Any]]) -> None:
        if any(delivery.message.worker == worker for delivery in batch):
            raise ValueError("cannot")

    return Recorder(answer)


async def test_nothing_is_buried_when_a_handler_raises_so_that_nothing_is_buried_twice(client: Redis) -> None:
    entries = [
        await add(client, streams.HEARTBEATS, {"__data__": b"no"}),
        await add(client, streams.HEARTBEATS, {"__data__": GOOD}),
    ]
    with pytest.raises(ValueError, match="cannot"):
        await deliver(client, beats(failing_for("w1")), entries)
    assert await dead(client) == []


async def beats_in_parts(client: Redis, monkeypatch: pytest.MonkeyPatch, count: int) -> list[Entry]:
    """Heartbeats of w0, w1, ..., of which two are as much as is handled at a time."""
    bodies = [GOOD.replace(b"w1", b"w%d" % number) for number in range(count)]
    monkeypatch.setattr(delivery_module, "PART_BYTES", 2 * len(GOOD))
    return [await add(client, streams.HEARTBEATS, {"__data__": body}) for body in bodies]


async def test_a_large_batch_is_handled_in_parts_in_its_order(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = Recorder()
    entries = await beats_in_parts(client, monkeypatch, 5)

    await deliver(client, beats(handler), entries)

    workers = [[delivery.message.worker for delivery in batch] for batch in handler.batches]
    assert workers == [["w0", "w1"], ["w2", "w3"], ["w4"]]


async def test_a_part_is_decoded_while_the_one_before_is_handled_and_handled_after_it(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    decode = decoding.decode

    def noted(subscription: Subscription, entry: Entry) -> Any:
        steps.append("decode")
        return decode(subscription, entry)

    async def handle(batch: list[Delivery[Any]]) -> None:
        steps.append("begin")
        await client.ping()
        steps.append(f"end {len(batch)}")

    entries = await beats_in_parts(client, monkeypatch, 3)
    monkeypatch.setattr(delivery_module, "decode", noted)
    subscription = Subscription(streams.HEARTBEATS, "monitor", [Route(Heartbeat, handle)])

    await deliver(client, subscription, entries)

    assert steps == ["decode", "decode", "begin", "decode", "end 2", "begin", "end 1"]


async def test_a_part_that_cannot_be_handled_fails_its_batch_and_nothing_goes_on_behind_it(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    async def handle(batch: list[Delivery[Any]]) -> None:
        await client.ping()
        begun.append(batch[0].message.worker)
        if begun[-1] == "w2":
            raise RuntimeError("no")

    entries = await beats_in_parts(client, monkeypatch, 6)
    bad = await add(client, streams.HEARTBEATS, {"__data__": b"bad"})
    subscription = Subscription(streams.HEARTBEATS, "monitor", [Route(Heartbeat, handle)])

    with pytest.raises(RuntimeError):
        await deliver(client, subscription, [bad, *entries])

    assert begun[-1] == "w2"
    assert await dead(client) == []
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_entries_that_would_take_too_long_one_by_one_are_left_to_the_reclaimer(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [await add(client, streams.HEARTBEATS, {"__data__": GOOD}) for _ in range(3)]
    monkeypatch.setattr(delivery_module, "EACH_SECONDS", -1)
    handler = Recorder()
    assert await deliver_each(client, beats(handler), entries) == 3
    assert handler.batches == []


async def test_after_a_failed_batch_the_good_entries_are_acknowledged_one_by_one(client: Redis) -> None:
    key = keys.key(0, "heartbeats")
    bodies = [GOOD, GOOD.replace(b"w1", b"w2"), b"no", GOOD.replace(b"w1", b"w3")]
    entries = [await add(client, streams.HEARTBEATS, {"__data__": body}) for body in bodies]
    await client.xgroup_create(key, "monitor", "0")
    await client.xreadgroup("monitor", "c1", {key: ">"})
    failed = await deliver_each(client, beats(failing_for("w2")), entries)
    assert failed == 1
    pending: Any = await client.xpending_range(key, "monitor", "-", "+", 10)
    assert [entry["message_id"].decode() for entry in pending] == [entries[1].id]
    assert len(await dead(client)) == 1


def reports_of(*reports: Any) -> dict[str, Any]:
    return {"type": "report_runs", "pool": "etl", "worker": "w1", "reports": list(reports)}


async def test_an_array_longer_than_a_message_may_have_is_buried_once_and_whole(client: Redis) -> None:
    handler = Recorder()
    subscription = Subscription(streams.DISPATCH, "dispatcher", [Route(ReportRuns, handler, array="reports")])
    good = {"run": new_run_id(0), "token": "t", "epoch": 1, "state": "RUNNING"}
    body = reports_of(good, *[1] * 50_000)
    await deliver(client, subscription, [await add(client, streams.DISPATCH, {"__data__": orjson.dumps(body)})])
    [letter] = await dead(client)
    assert "50001 elements in 'reports'; a message has at most 1000" in letter["reason"]
    assert handler.batches == []


async def test_a_thousand_and_one_runs_are_refused_where_the_caller_waits(client: Redis) -> None:
    handler = Recorder()
    subscription = Subscription(streams.DISPATCH, "dispatcher", [Route(SubmitRuns, handler, array="runs")])
    run = {"name": "r", "spec": {"command": "true"}}
    runs = [{**run, "id": new_run_id(0)} for _ in range(1001)]
    body = orjson.dumps({"type": "submit_runs", "id": "c1", "pool": "etl", "runs": runs})
    await deliver(client, subscription, [await add(client, streams.DISPATCH, {"__data__": body})])
    answer: Any = await client.lpop(keys.key(0, "reply", "c1"))
    assert orjson.loads(answer)["error"]["code"] == "invalid"
    assert "at most 1000" in orjson.loads(answer)["error"]["message"]
    assert len(await dead(client)) == 1


async def test_many_bad_elements_of_one_entry_leave_a_bounded_number_of_letters(client: Redis) -> None:
    handler = Recorder()
    subscription = Subscription(streams.DISPATCH, "dispatcher", [Route(ReportRuns, handler, array="reports")])
    good = {"run": new_run_id(0), "token": "t", "epoch": 1, "state": "RUNNING"}
    body = reports_of(good, *[{"run": "x"}] * 500)
    await deliver(client, subscription, [await add(client, streams.DISPATCH, {"__data__": orjson.dumps(body)})])
    letters = await dead(client)
    assert len(letters) == 21
    assert "and 480 more" in letters[-1]["reason"]
    assert len(handler.messages[0].reports) == 1


async def test_an_element_nested_too_deep_to_be_written_again_fails_nobody_else(client: Redis) -> None:
    handler = Recorder()
    subscription = Subscription(streams.DISPATCH, "dispatcher", [Route(ReportRuns, handler, array="reports")])
    deep = b'{"run":' * 300 + b"1" + b"}" * 300
    body = b'{"type":"report_runs","pool":"etl","worker":"w1","reports":[' + deep + b"]}"
    good = {"run": new_run_id(0), "token": "t", "epoch": 1, "state": "RUNNING"}
    entries = [
        await add(client, streams.DISPATCH, {"__data__": body}),
        await add(client, streams.DISPATCH, {"__data__": orjson.dumps(reports_of(good))}),
    ]
    await deliver(client, subscription, entries)
    assert len(handler.messages) == 1
    [letter] = await dead(client)
    assert letter["reason"]


async def test_a_caller_is_told_of_a_number_that_other_readers_cannot_even_parse(client: Redis) -> None:
    body = b'{"type":"create_pool","id":"c1","pool":"etl","concurrency_limit":1e999}'
    entry = await add(client, streams.COMMANDS, {"type": "create_pool", "__data__": body})

    await deliver(client, Subscription(streams.COMMANDS, "g", [Route(CreatePool, Recorder())]), [entry])

    (reply,) = await client.lrange(keys.key(0, "reply", "c1"), 0, -1)
    assert b"concurrency_limit" in reply


async def test_a_caller_is_told_of_a_depth_that_other_readers_do_not_follow(client: Redis) -> None:
    body = b'{"type":%b%b,"id":"c1"}' % (b"[" * 300, b"]" * 300)
    entry = await add(client, streams.COMMANDS, {"__data__": body})

    await deliver(client, Subscription(streams.COMMANDS, "g", [Route(CreatePool, Recorder())]), [entry])

    (reply,) = await client.lrange(keys.key(0, "reply", "c1"), 0, -1)
    assert b"unknown type" in reply
