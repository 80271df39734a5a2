from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from penstock.cli.times import absolute, ago, ago_iso, due, lasted, of_ms, parse_moment
from penstock.durations import parse_duration

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5d", 129_600), ("250ms", 0.25), ("2w", 1_209_600)],
)
def test_a_duration_is_numbers_with_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-10m", "10x", "1h30", "99999999d", "2030-01-01"])
def test_anything_else_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None


@pytest.mark.parametrize("text", ["+90s", "90s"])
def test_a_delay_counts_from_now(text: str) -> None:
    assert parse_moment(text, NOW) == NOW + timedelta(seconds=90)


@pytest.mark.parametrize("text", ["2030-01-31T08:00+01:00", "2030-01-31T07:00:00Z"])
def test_a_moment_with_a_zone_is_taken_as_it_is(text: str) -> None:
    assert parse_moment(text, NOW) == datetime(2030, 1, 31, 7, 0, tzinfo=UTC)


def test_a_moment_without_a_zone_is_local_time() -> None:
    moment = parse_moment("2030-01-31T08:00", NOW)

    assert moment == datetime(2030, 1, 31, 8, 0).astimezone()


def test_what_is_no_moment_is_refused_with_examples() -> None:
    with pytest.raises(ValueError, match=r"'tomorrow' is no time: give ISO 8601 .* or a delay"):
        parse_moment("tomorrow", NOW)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (0.4, "just now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (125, "2 minutes ago"),
        (7200, "2 hours ago"),
        (90_000, "1 day ago"),
        (-90, "in 1 minute"),
        (-3599.9, "in 1 hour"),
    ],
)
def test_a_distance_is_told_in_its_largest_unit(seconds: float, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words


def test_times_of_redis_and_of_events_mean_the_same() -> None:
    assert of_ms(1_896_091_200_000) == datetime(2030, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("ms", [-(10**30), -1, 0, 253_402_300_800_000, 10**30])
def test_any_number_is_shown_as_some_moment(ms: int) -> None:
    assert of_ms(ms).astimezone().year in (1970, 9999)
    assert ago_iso("2030-01-31T11:58:00.000000Z", NOW) == "2 minutes ago"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0s"),
        (0.44, "0.4s"),
        (12, "12s"),
        (60, "1m"),
        (90, "1m30s"),
        (3600, "1h"),
        (7500, "2h5m"),
        (100_000, "1d3h"),
    ],
)
def test_how_long_something_took_is_told_in_two_units_at_most(seconds: float, text: str) -> None:
    assert lasted(seconds) == text


@pytest.mark.parametrize(
    ("zone", "text"),
    [
        ("UTC", "2030-01-31 12:00:00 UTC"),
        ("Europe/Berlin", "2030-01-31 13:00:00 CET (UTC+01:00)"),
        ("Asia/Kathmandu", "2030-01-31 17:45:00 UTC+05:45"),
        ("America/St_Johns", "2030-01-31 08:30:00 NST (UTC-03:30)"),
    ],
)
def test_a_moment_is_spelled_on_this_hosts_clock_with_its_zone(
    monkeypatch: pytest.MonkeyPatch, zone: str, text: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert absolute(NOW) == text
        assert due(NOW, NOW - timedelta(days=1)) == f"{text} (in 1 day)"
    finally:
        monkeypatch.undo()
        time.tzset()
