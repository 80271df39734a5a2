from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.heartbeat_monitor import rules
from services.heartbeat_monitor.rules import Facts, Known
from tests.heartbeats import delivered, heartbeat

if TYPE_CHECKING:
    from penstock.bus.routing import Delivery
    from penstock.contracts.workers import Heartbeat

FACTS = st.builds(
    Facts,
    worker_type=st.sampled_from(["process", "docker"]),
    boot_id=st.sampled_from(["", "a", "b", "c"]),
    interval_ms=st.sampled_from([1000, 30_000]),
    slots=st.integers(0, 3),
    queues=st.sampled_from([(), ("x",), ("x", "y")]),
    draining=st.booleans(),
    stopping=st.booleans(),
)
ENTRY_IDS = st.builds("{}-{}".format, st.integers(1, 30), st.integers(0, 12))
MS = st.integers(0, 2**45)


def run(beats: list[tuple[Facts, str]]) -> Known | None:
    """What is remembered after these heartbeats, applied in the order of the list."""
    known = None
    for facts, entry_id in beats:
        if rules.decide(known, "process", facts, entry_id) in ("renewed", "changed"):
            known = rules.after(known, facts, entry_id)
    return known


@given(st.lists(st.tuples(FACTS, ENTRY_IDS), max_size=12))
def test_what_is_remembered_is_never_older_than_what_was_applied(beats: list[tuple[Facts, str]]) -> None:
    known = None
    for facts, entry_id in beats:
        decision = rules.decide(known, "process", facts, entry_id)
        if decision in ("renewed", "changed"):
            assert known is None or rules.entry_order(entry_id) > rules.entry_order(known.entry_id)
            known = rules.after(known, facts, entry_id)


@given(st.lists(FACTS, max_size=12))
def test_delivering_a_stream_again_changes_nothing(stream: list[Facts]) -> None:
    beats = [(facts, f"{at}-0") for at, facts in enumerate(stream)]

    assert run([*beats, *beats]) == run(beats)


@given(st.lists(st.tuples(FACTS, ENTRY_IDS), max_size=12), FACTS, ENTRY_IDS)
def test_a_worker_of_another_type_is_always_refused(
    beats: list[tuple[Facts, str]], facts: Facts, entry_id: str
) -> None:
    known = run(beats)

    decision = rules.decide(known, "process", facts, entry_id)

    assert facts.worker_type == "process" or decision == "wrong_type"


@given(FACTS, ENTRY_IDS)
def test_without_a_pool_everything_is_refused(facts: Facts, entry_id: str) -> None:
    assert rules.decide(None, None, facts, entry_id) == "unknown_pool"


def test_the_life_that_was_replaced_is_refused_and_a_third_one_accepted() -> None:
    first, second, third = (Facts("process", boot_id=boot) for boot in "abc")
    known = rules.after(rules.after(None, first, "1-0"), second, "2-0")

    assert rules.decide(known, "process", first, "3-0") == "superseded"
    assert rules.decide(known, "process", third, "3-0") == "changed"
    assert rules.decide(known, "process", second, "3-0") == "renewed"


def test_no_life_that_was_replaced_returns_while_it_is_remembered() -> None:
    known = None
    for number in range(rules.SUPERSEDED_KEPT + 2):
        known = rules.after(known, Facts("process", boot_id=f"life-{number}"), f"{number}-0")

    decisions = [
        rules.decide(known, "process", Facts("process", boot_id=f"life-{number}"), "99-0")
        for number in range(rules.SUPERSEDED_KEPT + 2)
    ]
    assert decisions == ["changed", *["superseded"] * rules.SUPERSEDED_KEPT, "renewed"]


def test_ids_are_compared_as_numbers() -> None:
    known = rules.after(None, Facts("process"), "9-9")

    assert rules.decide(known, "process", Facts("process"), "9-10") == "renewed"
    assert rules.decide(known, "process", Facts("process"), "10-0") == "renewed"
    assert rules.decide(known, "process", Facts("process"), "9-8") == "stale"
    assert rules.decide(known, "process", Facts("process", slots=1), "9-9") == "stale"


@given(MS, st.integers(100, 3_600_000))
def test_a_worker_lives_exactly_three_intervals_after_its_heartbeat(entry_ms: int, interval_ms: int) -> None:
    deadline = rules.deadline_ms(entry_ms, interval_ms)

    assert not rules.is_lost(deadline, entry_ms + 3 * interval_ms)
    assert rules.is_lost(deadline, entry_ms + 3 * interval_ms + 1)


def test_nobody_is_lost_before_the_heartbeats_sent_until_the_deadline_were_applied() -> None:
    assert rules.is_lost(1000, rules.heard_ms(1001, None, None))
    assert not rules.is_lost(1000, rules.heard_ms(5000, 1000, None))
    assert not rules.is_lost(1000, rules.heard_ms(5000, 4000, 900))
    assert rules.is_lost(1000, rules.heard_ms(5000, 4000, 1001))


@given(MS, MS, st.integers(100, 3_600_000))
def test_an_extension_gives_three_intervals_and_never_takes_time_away(
    deadline: int, now_ms: int, interval_ms: int
) -> None:
    extended = rules.extended_deadline_ms(deadline, now_ms, interval_ms)

    assert extended >= deadline
    assert not rules.is_lost(extended, now_ms + 3 * interval_ms)
    assert rules.extended_deadline_ms(extended, now_ms, interval_ms) == extended


@pytest.mark.parametrize(
    ("tick_ms", "now_ms", "outage"),
    [(None, 5000, True), (5000, 5000, False), (5000, 7500, False), (5000, 7501, True), (9000, 5000, False)],
)
def test_an_outage_is_when_nobody_judged_for_two_and_a_half_seconds(
    tick_ms: int | None, now_ms: int, outage: bool
) -> None:
    assert rules.was_outage(tick_ms, now_ms) == outage


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, Facts("process"), (True, True, False, True)),
        (None, Facts("process", draining=True), (True, True, True, True)),
        (("ONLINE", Facts("process")), Facts("process", interval_ms=1), (False, False, False, False)),
        (("ONLINE", Facts("process")), Facts("process", slots=1), (False, False, False, True)),
        (("ONLINE", Facts("process")), Facts("process", boot_id="b"), (True, False, False, True)),
        (("ONLINE", Facts("process")), Facts("process", draining=True), (False, False, True, True)),
        (
            ("ONLINE", Facts("process", draining=True)),
            Facts("process", slots=1, draining=True),
            (False, False, False, True),
        ),
        (("OFFLINE", Facts("process")), Facts("process"), (False, True, False, True)),
        (("OFFLINE", Facts("process", stopping=True)), Facts("process"), (True, True, False, True)),
    ],
)
def test_news(before: Any, now: Facts, expected: tuple[bool, bool, bool, bool]) -> None:
    known = Known(before[0], before[1], "1-0") if before else None

    news = rules.news(known, now)

    assert (news.started, news.online, news.draining, news.announced) == expected


def test_a_pool_is_ready_with_a_worker_and_a_queue_with_one_that_serves_it() -> None:
    named, everything = Facts("process", queues=("a",)), Facts("process")

    assert rules.pool_status([]) == "NOT_READY"
    assert rules.pool_status([named]) == "READY"
    assert rules.pool_status([named], is_paused=True) == "PAUSED"
    assert rules.queue_status("a", [named]) == "READY"
    assert rules.queue_status("b", [named]) == "NOT_READY"
    assert rules.queue_status("b", [named, everything]) == "READY"
    assert rules.queue_status("a", [named], is_paused=True) == "PAUSED"


@pytest.mark.parametrize(
    ("worker_type", "name", "expected"),
    [
        ("process", "ProcessWorker 3f", "prefect.worker.process.processworker-3f"),
        ("docker", "größe_1", "prefect.worker.docker.grosse-1"),
        ("process", "!", "prefect.worker.process.21"),
        ('a "b\\', "w", "prefect.worker.a-b-.w"),
    ],
)
def test_a_worker_is_named_in_events_by_type_and_slug(worker_type: str, name: str, expected: str) -> None:
    assert rules.resource_id(worker_type, name) == expected


def coalesced(*beats: tuple[str, str, bool]) -> list[str]:
    """Entry ids that are left of (worker, boot, stopping) sent one after the other."""
    batch = [
        delivered(heartbeat("p", worker, boot_id=boot, stopping=stopping), f"{at}-0")
        for at, (worker, boot, stopping) in enumerate(beats, 1)
    ]
    return [delivery.entry.id for delivery in rules.coalesce(reversed(batch))]


def test_of_heartbeats_of_one_life_the_newest_is_kept() -> None:
    assert coalesced(("w1", "a", False), ("w2", "a", False), ("w1", "a", False)) == ["2-0", "3-0"]


def test_lives_are_not_merged_across_each_other() -> None:
    assert coalesced(("w1", "a", False), ("w1", "b", False), ("w1", "a", False)) == ["1-0", "2-0", "3-0"]


def test_a_last_heartbeat_hides_nothing_and_is_not_hidden() -> None:
    assert coalesced(("w1", "a", False), ("w1", "a", True), ("w1", "a", False)) == ["1-0", "2-0", "3-0"]


BEATS = st.lists(
    st.builds(
        lambda worker, boot, slots, stopping: heartbeat("p", worker, boot_id=boot, slots=slots, stopping=stopping),
        st.sampled_from(["w1", "w2"]),
        st.sampled_from(["a", "b"]),
        st.integers(1, 2),
        st.booleans(),
    ),
    max_size=10,
)


def facts_of(message: Heartbeat) -> Facts:
    return Facts(message.worker_type, message.boot_id, slots=message.slots, stopping=message.stopping)


@given(BEATS)
def test_coalescing_leaves_the_same_to_be_remembered(beats: list[Heartbeat]) -> None:
    batch = [delivered(message, f"{at}-0") for at, message in enumerate(beats, 1)]

    def remembered(deliveries: list[Delivery[Heartbeat]], worker: str) -> Known | None:
        return run([(facts_of(one.message), one.entry.id) for one in deliveries if one.message.worker == worker])

    for worker in ("w1", "w2"):
        assert remembered(rules.coalesce(batch), worker) == remembered(batch, worker)
