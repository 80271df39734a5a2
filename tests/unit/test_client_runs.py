from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from penstock.client.records import history, iso_of_ms, status, submitted_ms, to_run
from penstock.client.run_filter import RunFilter, check_states
from penstock.client.runs import CHUNK, CHUNK_BYTES, KEPT_SPELLED, NewRun, SpelledSubmission, chunks, prepare
from penstock.client.wording import did_you_mean
from penstock.contracts.runs import PastState, Run, ScheduledBy, SubmitRuns, new_run_id
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

    assert [len(part.runs) for part in parts] == [CHUNK, CHUNK, 1]
    assert [run for part in parts for run in part.runs] == runs


def test_no_message_is_larger_than_the_bus_takes() -> None:
    runs = prepare([NewRun(command="true", name="r", parameters={"text": "x" * 100_000}) for _ in range(25)], 0)

    parts = list(chunks(runs))

    assert len(parts) > 1
    assert all(len(SpelledSubmission.of("etl", part).wire()) < MAX_MESSAGE_BYTES for part in parts)


def test_a_submission_is_spelled_as_any_other_message() -> None:
    given = [NewRun(command="true", name='"größe"'), NewRun(entrypoint="f.py:f", parameters={"a": [1, None]})]
    (part,) = chunks(prepare(given, 0))

    spelled = SpelledSubmission.of("größe", part).model_copy(update={"id": "c1", "deadline": 5}).wire()

    whole = SubmitRuns(id="c1", deadline=5, pool="größe", runs=part.runs)
    assert spelled == whole.wire()


def test_a_large_submission_is_spelled_when_it_is_sent() -> None:
    parts = list(chunks(prepare([NewRun(command="true", name="r")] * (KEPT_SPELLED + 1), 0)))

    assert not any(part.texts for part in parts)
    assert SpelledSubmission.of("etl", parts[0]).wire() == SubmitRuns(pool="etl", runs=parts[0].runs).wire()


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


def test_what_a_deployment_says_of_a_run_is_passed_on() -> None:
    by = ScheduledBy(schedule="7d0f5b7e-6c1a-4a55-9c0e-2f1b7f0a9e33", revision=2, catch_up="latest")
    (run,) = prepare(
        [
            NewRun(
                command="true",
                deployment=by.schedule,
                scheduled_by=by,
                idempotency_key="k",
                retries=2,
                retry_delay_seconds=1.5,
            )
        ],
        0,
    )

    assert (run.deployment, run.scheduled_by, run.idempotency_key) == (by.schedule, by, "k")
    assert (run.retries, run.retry_delay_seconds) == (2, 1.5)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["parameters", "job_variables"])
def test_a_number_that_json_does_not_have_is_refused_wherever_it_lies(field: str, number: float) -> None:
    values: dict[str, Any] = {field: {"a": [{"b": number}]}}
    runs = [NewRun(command="true"), NewRun(command="true", **values)]

    with pytest.raises(Invalid, match=rf"^run 2: {field}\.a\[0\]\.b is "):
        prepare(runs, 0)


def test_parameters_that_contain_themselves_are_refused() -> None:
    loop: dict[str, object] = {}
    loop["again"] = loop

    with pytest.raises(Invalid, match="contains itself"):
        prepare([NewRun(command="true", parameters=loop)], 0)


def test_the_history_of_a_run_begins_with_its_submission() -> None:
    assert history("", 5) == [PastState(state="SCHEDULED", name="Scheduled", at_ms=5)]
    text = ',["PENDING",7],["SCHEDULED",8,"boom","AwaitingRetry"],["CANCELLED",9,"why"]'

    assert [(one.state, one.name, one.at_ms, one.message) for one in history(text, 5)[1:]] == [
        ("PENDING", "Pending", 7, ""),
        ("SCHEDULED", "AwaitingRetry", 8, "boom"),
        ("CANCELLED", "Cancelled", 9, "why"),
    ]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "Scheduled"),
        ({b"due": b"84999"}, "Late"),
        ({b"due": b"85000"}, "Scheduled"),
        ({b"due": b"1", b"label": b"AwaitingRetry"}, "AwaitingRetry"),
        ({b"due": b"1", b"state": b"RUNNING"}, "Running"),
    ],
)
def test_late_is_what_waits_for_more_than_a_while(fields: dict[bytes, bytes], name: str) -> None:
    run = to_run(new_run_id(0, now_ms=1_700_000_000_000), fields, "etl", "default", now_ms=100_000)

    assert run.state_name == name


def made(state: str, name: str = "", **fields: str) -> Run:
    about = {"id": "r", "name": "load-1", "pool": "etl", "queue": "low", "deployment_id": "d"} | fields
    return Run.model_validate({**about, "state": state, "state_name": name or state.capitalize(), "scheduled_time": ""})


@pytest.mark.parametrize(
    ("states", "found"),
    [
        ((), "LARP"),
        (("scheduled",), "LA"),
        (("Late",), "L"),
        (("awaiting_retry", "PENDING"), "AP"),
        (("AwaitingRetry", "running"), "AR"),
    ],
)
def test_a_run_is_found_by_its_state_and_by_the_name_of_its_state(states: tuple[str, ...], found: str) -> None:
    runs = {
        "L": made("SCHEDULED", "Late"),
        "A": made("SCHEDULED", "AwaitingRetry"),
        "R": made("RUNNING"),
        "P": made("PENDING"),
    }
    wanted = RunFilter(states=check_states(states))

    assert {name for name, run in runs.items() if wanted.matches(run)} == set(found)
    for run in runs.values():
        assert wanted.may_match({run.state}) or not wanted.matches(run)
        assert wanted.matches(run) or not wanted.is_all_of({run.state})


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        ({"pool": "etl", "queue": "low", "deployment": "d", "name": "l*-[12]"}, True),
        ({"pool": "web"}, False),
        ({"queue": "high"}, False),
        ({"deployment": "e"}, False),
        ({"name": "LOAD-1"}, False),
    ],
)
def test_every_condition_counts(condition: dict[str, str], matches: bool) -> None:
    assert RunFilter.model_validate(condition).matches(made("RUNNING")) is matches


def test_a_state_nobody_knows_is_refused_with_a_suggestion() -> None:
    with pytest.raises(Invalid, match="'faild' is no state of a run") as refusal:
        check_states(["faild"])
    assert refusal.value.hint == "did you mean 'FAILED'?"
