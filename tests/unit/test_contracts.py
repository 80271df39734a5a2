"""The messages: what is accepted, what is refused, what travels."""

from __future__ import annotations

import json
import threading
import unicodedata
from typing import Any
from uuid import UUID, uuid5

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from penstock import keys
from penstock.contracts.base import (
    COMMAND_ID,
    FORBIDDEN_IN_NAMES,
    MAX_DEPTH,
    MAX_LIMIT,
    MAX_NAME_LENGTH,
    Message,
    check_due,
    check_name,
    is_reserved,
)
from penstock.contracts.deployments import CreateSchedule, DeploymentChanged, DeploymentDeleted
from penstock.contracts.events import EVENT_NAMESPACE, event_id, worker_identity
from penstock.contracts.pools import (
    CreatePool,
    PausePool,
    PoolChanged,
    PoolChanges,
    PoolDeleted,
    QueueDeleted,
    UpdatePool,
)
from penstock.contracts.queues import CreateQueue, QueueChanges, UpdateQueue
from penstock.contracts.runs import ReportRuns, RunSpec, SubmitRuns, new_run_id
from penstock.contracts.workers import INBOX_MESSAGES, MAX_SLOTS, AssignRuns, AuditRuns, Heartbeat, LoseWorker

RUN_ID = "0198c0de-0000-7000-8000-000000000000"
HEARTBEAT: dict[str, Any] = {"pool": "etl", "worker": "w1", "worker_type": "process"}


def refused(model: type[Message], **fields: Any) -> str:
    """What is wrong with a message as it arrives."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(orjson.dumps(fields))
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["etl", "größe", "漢字", "🚰 pump", "a.b-c_d", "a" * MAX_NAME_LENGTH, " etl", "a:b{c}", "o'\""]
)
def test_names_may_be_anything_people_write(name: str) -> None:
    assert check_name(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    "name", ["", " ", "\u00a0\t", "a" * (MAX_NAME_LENGTH + 1), "a\nb", "a\x00", "a\x7f", *FORBIDDEN_IN_NAMES]
)
def test_blank_long_and_unprintable_names_and_those_of_another_meaning_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        check_name(name)


def test_two_spellings_of_the_same_characters_are_one_name() -> None:
    assert CreatePool(pool="gro\u0308ße").pool == CreatePool(pool="größe").pool


def test_a_length_is_measured_after_normalising() -> None:
    assert len(check_name("o\u0308" * MAX_NAME_LENGTH)) == MAX_NAME_LENGTH


@pytest.mark.parametrize(
    ("name", "reserved"), [("prefect", True), ("Prefect-x", True), ("my prefect", False), ("etl", False)]
)
def test_names_of_the_system_are_known(name: str, reserved: bool) -> None:
    assert is_reserved(name) is reserved


@pytest.mark.parametrize("limit", [0, 1, MAX_LIMIT, None])
def test_a_limit_is_a_number_from_0_or_none(limit: int | None) -> None:
    body = orjson.dumps({"pool": "etl", "concurrency_limit": limit})
    assert CreatePool.model_validate_json(body).concurrency_limit == limit


@pytest.mark.parametrize("limit", [-1, MAX_LIMIT + 1, 1.5, "5", True, [], "unlimited"])
def test_anything_else_is_no_limit(limit: Any) -> None:
    assert "concurrency_limit" in refused(CreatePool, pool="etl", concurrency_limit=limit)


@pytest.mark.parametrize("priority", [0, -1, 1.0, "1", True])
def test_a_priority_is_a_positive_integer(priority: Any) -> None:
    assert "priority" in refused(CreateQueue, pool="etl", queue="q", priority=priority)


def test_unknown_fields_of_a_command_are_refused_and_named() -> None:
    assert "concurency_limit" in refused(CreatePool, pool="etl", concurency_limit=5)
    assert "limit" in refused(UpdatePool, pool="etl", changes={"limit": 5})
    assert "working_directory" in refused(
        SubmitRuns,
        pool="etl",
        runs=[{"id": RUN_ID, "name": "r", "spec": {"command": "true", "working_directory": "/"}}],
    )


def test_unknown_fields_of_a_message_are_ignored() -> None:
    found = Heartbeat.model_validate_json(orjson.dumps({**HEARTBEAT, "mood": "good"}))
    assert found.worker == "w1"


@pytest.mark.parametrize("command_id", ["a b", 'a"b', "a\\b", "ä", "a\n", "x" * 65, 5])
def test_an_id_that_would_break_a_key_or_json_is_refused(command_id: Any) -> None:
    assert "id" in refused(PausePool, pool="etl", id=command_id)
    assert not isinstance(command_id, str) or not COMMAND_ID.fullmatch(command_id)


@pytest.mark.parametrize("command_id", ["a", "0198c0de-0000", "a:b/c.d~{}[]!#", "x" * 64])
def test_an_id_is_printable_ascii(command_id: str) -> None:
    assert PausePool(pool="etl", id=command_id).id == command_id
    assert COMMAND_ID.fullmatch(command_id)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slots": -1},
        {"slots": MAX_SLOTS + 1},
        {"interval_seconds": 0},
        {"interval_seconds": 3601},
        {"prefetch_seconds": -1},
        {"seq": -1},
        {"seq": 2**60},
        {"pid": 2**60},
        {"queues": ["a/b"]},
        {"queues": "critical"},
        {"boot_id": 'a"b'},
        {"boot_id": "x" * 65},
        {"worker": ""},
        {"worker_type": "a/b"},
    ],
)
def test_a_heartbeat_with_a_value_out_of_bounds_is_refused(wrong: dict[str, Any]) -> None:
    assert next(iter(wrong)) in refused(Heartbeat, **{**HEARTBEAT, **wrong})


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_heartbeat_interval_is_a_real_number(word: str) -> None:
    body = '{"pool":"etl","worker":"w1","worker_type":"process","interval_seconds":' + word + "}"
    with pytest.raises(ValidationError):
        Heartbeat.model_validate_json(body)


def test_a_message_with_the_type_of_another_is_refused() -> None:
    assert "type" in refused(PausePool, type="resume_pool", pool="etl")


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"entrypoint": None, "command": None},
        {"entrypoint": "flow.py:main", "command": "true"},
        {"entrypoint": "flow.py"},
        {"entrypoint": ":main"},
        {"entrypoint": "flow.py:"},
        {"entrypoint": "flow.py:not a name"},
        {"command": []},
        {"command": ""},
        {"command": [1]},
        {"command": {"a": 1}},
    ],
)
def test_a_run_executes_exactly_one_thing(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RunSpec.model_validate_json(orjson.dumps(spec))


@pytest.mark.parametrize(
    "spec",
    [
        {"entrypoint": "flows/etl.py:main"},
        {"entrypoint": "C:\\flows\\etl.py:main"},
        {"command": "echo 'a b'"},
        {"command": ["echo", "a b"]},
    ],
)
def test_an_entrypoint_or_a_command_is_enough(spec: dict[str, Any]) -> None:
    assert RunSpec.model_validate_json(orjson.dumps(spec)).model_dump(exclude_unset=True) == spec


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ('{"x":NaN}', "parameters\n  Value error, x is nan"),
        ('{"a":{"b":[1,-Infinity]}}', "a.b.1 is -inf"),
        ('{"x":1e999}', "x is inf"),
        ('{"x":' + "9" * 400 + "}", "x is a number beyond"),
        ('{"x":' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "}", f"is nested more than {MAX_DEPTH} levels deep"),
    ],
)
def test_a_value_that_would_not_arrive_as_it_was_written_is_refused(parameters: str, told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        RunSpec.model_validate_json(f'{{"command":"true","parameters":{parameters}}}')
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "parameters",
    [
        '{"x":1e308}',
        '{"x":' + "9" * 300 + "}",
        '{"x":' + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "}",
        '{"NaN":"NaN"}',
    ],
)
def test_large_numbers_and_deep_values_arrive_as_they_were_written(parameters: str) -> None:
    spec = RunSpec.model_validate_json(f'{{"command":"true","parameters":{parameters}}}')
    assert json.loads(spec.model_dump_json())["parameters"] == json.loads(parameters)


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (PoolChanged, {"pool_id": "{}", "pool": "etl"}),
        (PoolDeleted, {"pool_id": "p", "pool": "etl", "worker_type": "process", "queues": [{"id": "{}", "name": "q"}]}),
        (QueueDeleted, {"pool_id": "p", "pool": "etl", "worker_type": "process", "queue": {"id": "{}", "name": "q"}}),
        (DeploymentChanged, {"deployment_id": "{}", "deployment": "a/b", "pool": "etl", "revision": 1}),
        (DeploymentDeleted, {"deployment_id": "{}", "deployment": "a/b", "pool": "etl"}),
        (LoseWorker, {"pool_id": "{}", "pool": "p", "worker": "w", "boot_id": "b", "seq": 1, "reason": "r"}),
    ],
)
def test_an_id_that_no_key_can_hold_is_refused(model: type[Message], fields: dict[str, Any]) -> None:
    text = json.dumps(fields)
    model.model_validate_json(text.replace("{}", "x" * 200))
    for ident in ("", "x" * 201):
        with pytest.raises(ValidationError, match="an id has 1 to 200 characters"):
            model.model_validate_json(text.replace("{}", ident))


def test_a_submission_holds_at_least_one_run_with_an_id_of_ours() -> None:
    assert "runs" in refused(SubmitRuns, pool="etl", runs=[])
    assert "not a run id" in refused(
        SubmitRuns, pool="etl", runs=[{"id": "r", "name": "r", "spec": {"command": "true"}}]
    )


def test_a_scheduled_time_without_a_zone_is_refused() -> None:
    run = {"id": RUN_ID, "name": "r", "spec": {"command": "true"}, "scheduled_time": "2026-11-21T10:00:00"}
    assert "scheduled_time" in refused(SubmitRuns, pool="etl", runs=[run])


@pytest.mark.parametrize(
    "moment", ["9999-12-31T23:59:59-12:00", "9999-12-31T00:00:00Z", "0001-01-01T00:00:00+10:00", "0001-01-01T00:00:00Z"]
)
def test_a_moment_that_some_zone_has_no_date_for_is_refused(moment: str) -> None:
    run = {"id": RUN_ID, "name": "r", "spec": {"command": "true"}, "scheduled_time": moment}
    assert "a moment is between 0001-01-03 and 9999-12-29" in refused(SubmitRuns, pool="etl", runs=[run])
    assert "anchor" in refused(CreateSchedule, deployment="a/b", schedule={"interval_seconds": 60, "anchor": moment})


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "x"},
        {"token": 'a"b'},
        {"token": "x" * 65},
        {"epoch": 0},
        {"epoch": 2**60},
        {"due_ms": 2**53},
    ],
)
def test_a_claim_that_could_not_be_reported_is_no_assignment(wrong: dict[str, Any]) -> None:
    run = {"id": RUN_ID, "name": "r", "token": "t", "epoch": 1, "queue": "q", "due_ms": 1, "spec": {"command": "true"}}
    AssignRuns.model_validate({"boot_id": "b", "pool": "etl", "runs": [run]})
    assert next(iter(wrong)) in refused(AssignRuns, boot_id="b", pool="etl", runs=[run | wrong])


@pytest.mark.parametrize("wrong", [{"id": "x"}, {"token": "\u200b"}, {"epoch": 0}])
def test_a_claim_that_could_not_be_reported_is_not_audited(wrong: dict[str, Any]) -> None:
    run = {"id": RUN_ID, "token": "t", "epoch": 1, "state": "RUNNING"}
    AuditRuns.model_validate({"boot_id": "b", "runs": [run]})
    assert next(iter(wrong)) in refused(AuditRuns, boot_id="b", runs=[run | wrong])


def test_a_due_time_that_no_double_holds_is_refused_like_any_other() -> None:
    with pytest.raises(ValueError, match="a moment is between"):
        check_due(10**400)


@pytest.mark.parametrize(
    "wrong", [{"state": "PENDING"}, {"state": "CANCELLING"}, {"epoch": 0}, {"started_ms": -1}, {"ended_ms": 2**60}]
)
def test_a_worker_may_not_report_what_it_does_not_decide(wrong: dict[str, Any]) -> None:
    report = {"run": RUN_ID, "token": "t", "epoch": 1, "state": "RUNNING", **wrong}
    assert next(iter(wrong)) in refused(ReportRuns, pool="etl", worker="w1", reports=[report])


def test_changes_that_are_not_given_stay_out_of_the_message() -> None:
    update = UpdatePool(pool="etl", changes=PoolChanges(concurrency_limit=None))
    assert orjson.loads(update.wire())["changes"] == {"concurrency_limit": None}
    received = UpdatePool.model_validate_json(update.wire())
    assert received.changes.model_fields_set == {"concurrency_limit"}
    queue = UpdateQueue(pool="etl", queue="q", changes=QueueChanges(priority=3))
    assert UpdateQueue.model_validate_json(queue.wire()).changes.model_fields_set == {"priority"}


def test_what_travels_names_its_type_and_has_no_field_called_data() -> None:
    for message in (PausePool(pool="größe"), Heartbeat(**HEARTBEAT)):
        body = orjson.loads(message.wire())
        assert body["type"] == type(message).model_fields["type"].default
        assert "data" not in body
        assert type(message).model_validate_json(message.wire()) == message


def test_inbox_messages_are_filed_under_their_types() -> None:
    assert {kind: model.model_fields["type"].default for kind, model in INBOX_MESSAGES.items()} == {
        kind: kind for kind in INBOX_MESSAGES
    }


def test_run_ids_grow_and_never_repeat() -> None:
    ids = [new_run_id(3) for _ in range(20_000)]
    assert ids == sorted(ids)
    assert len({run_id[:18] for run_id in ids}) == len(ids), "the ordered part alone is unique in a process"


def test_run_ids_of_many_threads_never_repeat() -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.extend(new_run_id(0) for _ in range(2000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({run_id[:18] for run_id in found}) == 16_000


def test_run_ids_go_on_growing_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = new_run_id(0)
    monkeypatch.setattr("time.time_ns", lambda: 0)
    assert new_run_id(0) > before


@given(partition=st.integers(0, 0xFFFF))
def test_a_run_id_is_a_version_7_uuid_that_carries_its_partition(partition: int) -> None:
    run_id = new_run_id(partition)
    assert str(UUID(run_id)) == run_id
    assert UUID(run_id).version == 7
    assert keys.partition_of_run(run_id) == partition


@pytest.mark.parametrize("partition", [-1, 0x10000])
def test_a_partition_that_does_not_fit_a_run_id_is_an_error(partition: int) -> None:
    with pytest.raises(ValueError, match="16 bits"):
        new_run_id(partition)


def test_a_worker_is_identified_by_pool_name_and_record() -> None:
    identity = worker_identity("prefect.worker.process.w-1", "p", "W 1", 1789000000000)
    assert identity == "prefect.worker.process.w-1|p/W 1|1789000000000"


def test_event_ids_can_be_recomputed_by_anybody() -> None:
    assert event_id("prefect.work-pool.1", 1) == str(uuid5(EVENT_NAMESPACE, "prefect.work-pool.1:1"))
    assert str(EVENT_NAMESPACE) == "6f1d9a52-3c0e-5b8e-9a67-2f6c1d0e4b71"
