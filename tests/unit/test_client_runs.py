from __future__ import annotations

from datetime import datetime

import pytest

from penstock.client.records import iso_of_ms, status, submitted_ms
from penstock.client.runs import CHUNK, CHUNK_BYTES, NewRun, chunks, prepare
from penstock.client.wording import did_you_mean
from penstock.contracts.runs import SubmitRuns, new_run_id
from penstock.errors import Invalid
from penstock.keys import partition_of_run
from penstock.streams import MAX_MESSAGE_BYTES


def test_every_run_gets_an_id_of_its_partition_and_a_name() -> None:
    first, second = prepare([NewRun(command="true"), NewRun(command="true", name="mine")], 3)

    assert [partition_of_run(first.id), partition_of_run(second.id)] == [3, 3]
    assert first.id < second.id
    assert first.name.count("-") >= 1
    assert second.name == "mine"


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (NewRun(), "give exactly one of entrypoint"),
        (NewRun(entrypoint="a.py:f", command="true"), "give exactly one of entrypoint"),
        (NewRun(entrypoint="a.py"), "is not of the form path/to/file"),
        (NewRun(command="true", queue="a/b"), "contains /"),
        (NewRun(command="true", scheduled_time=datetime(2030, 1, 1)), "scheduled_time"),  # noqa: DTZ001 - the point
    ],
)
def test_a_run_that_breaks_a_rule_is_refused_before_anything_is_sent(run: NewRun, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        prepare([run], 0)


def test_the_refusal_says_which_of_many_runs_it_is() -> None:
    with pytest.raises(Invalid, match=r"^run 2: "):
        prepare([NewRun(command="true"), NewRun()], 0)


def test_a_submission_is_cut_into_messages_and_keeps_its_order() -> None:
    runs = prepare([NewRun(command="true", name=str(number)) for number in range(2 * CHUNK + 1)], 0)

    parts = list(chunks(runs))

    assert [len(part) for part in parts] == [CHUNK, CHUNK, 1]
    assert [run for part in parts for run in part] == runs


def test_no_message_is_larger_than_the_bus_takes() -> None:
    runs = prepare([NewRun(command="true", name="r", parameters={"text": "x" * 100_000}) for _ in range(25)], 0)

    parts = list(chunks(runs))

    assert len(parts) > 1
    assert all(len(SubmitRuns(pool="etl", runs=part).wire()) < MAX_MESSAGE_BYTES for part in parts)


def test_a_run_that_fits_into_no_message_is_refused() -> None:
    runs = prepare([NewRun(command="true", parameters={"text": "x" * CHUNK_BYTES})], 0)

    with pytest.raises(Invalid, match=r"has \d+ bytes; one has at most"):
        list(chunks(runs))


def test_no_runs_are_no_messages() -> None:
    assert list(chunks([])) == []


def test_a_run_id_tells_when_it_was_submitted() -> None:
    assert submitted_ms(new_run_id(0)) == pytest.approx(datetime.now().timestamp() * 1000, abs=5000)  # noqa: DTZ005


def test_milliseconds_are_told_as_events_tell_times() -> None:
    assert iso_of_ms(1_896_091_200_123) == "2030-01-31T12:00:00.123Z"


@pytest.mark.parametrize(
    ("is_paused", "online", "expected"),
    [(True, 1, "PAUSED"), (True, 0, "PAUSED"), (False, 2, "READY"), (False, 0, "NOT_READY")],
)
def test_status_is_derived(is_paused: bool, online: int, expected: str) -> None:
    assert status(is_paused=is_paused, online=online) == expected


def test_a_close_name_is_offered_whatever_its_case() -> None:
    assert did_you_mean("ETLL", ["web", "etl"]) == "did you mean 'etl'?"
    assert did_you_mean("zzz", ["web", "etl"]) == ""
    assert did_you_mean("etl", []) == ""
