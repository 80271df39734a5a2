"""Health tells the truth: standing still is not live, being cut off from Redis is not ready, and neither is guessed."""

from __future__ import annotations

import orjson
import pytest

from penstock.bus import health as health_module
from penstock.bus.health import MAX_BEHIND_SECONDS, OUTAGE_EXCUSE_SECONDS, Health


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(health_module, "time", clock)
    return clock


@pytest.fixture
def health(clock: Clock) -> Health:
    assert clock.now
    return Health("toy")


def test_before_redis_has_answered_it_is_live_but_not_ready(health: Health) -> None:
    assert health.live() == []
    assert health.ready() == ["not connected to Redis yet"]


def test_with_redis_answering_it_is_ready(health: Health) -> None:
    health.beat("redis", 5)
    health.beat("loop", 10)
    assert health.ready() == []


def test_a_loop_that_stands_still_is_named(health: Health, clock: Clock) -> None:
    health.beat("loop", 10)
    clock.now += 10
    assert health.live() == []
    clock.now += 0.5
    health.beat("redis", 5)
    assert health.live() == ["loop made no progress for 10.5 s"]
    assert health.ready() == health.live()
    health.beat("loop", 10)
    assert health.live() == []


def test_when_redis_goes_silent_it_is_not_ready_but_still_live(health: Health, clock: Clock) -> None:
    health.beat("redis", 5)
    clock.now += 6
    assert health.live() == []
    assert health.ready() == ["Redis does not answer"]


def test_an_outage_is_known_at_once_and_over_with_the_next_answer(health: Health, clock: Clock) -> None:
    health.beat("redis", 5)
    clock.now += 0.1
    health.outage()
    assert health.ready() == ["Redis does not answer"]
    clock.now += 0.1
    health.beat("redis", 5)
    assert health.ready() == []


def test_loops_are_not_blamed_for_an_outage_but_for_what_lasts_longer(health: Health, clock: Clock) -> None:
    health.beat("loop", 10)
    clock.now += 20
    health.outage()
    assert health.live() == []
    clock.now += OUTAGE_EXCUSE_SECONDS + 1
    assert health.live() != []


def test_a_stream_that_is_read_too_late_makes_it_not_ready(health: Health) -> None:
    health.beat("redis", 5)
    health.behind("dispatch/0", MAX_BEHIND_SECONDS)
    assert health.ready() == []
    health.behind("dispatch/0", MAX_BEHIND_SECONDS + 1)
    assert health.ready() == ["dispatch/0: the oldest unread entry is 31 s old"]
    assert health.live() == []


def test_a_stopping_process_is_live_and_not_ready(health: Health) -> None:
    health.beat("redis", 5)
    health.stop()
    assert health.live() == []
    assert health.ready() == ["stopping"]


def test_information_is_reported_and_never_a_reason(health: Health) -> None:
    health.beat("redis", 5)
    health.inform("dead_letters", 7)
    assert health.ready() == []
    assert orjson.loads(health.report([])) == {"service": "toy", "ok": True, "reasons": [], "dead_letters": 7}
