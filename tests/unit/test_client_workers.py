from __future__ import annotations

import pytest

from penstock.client.records import to_worker

NOW = 1_800_000_000_000


def worker(status: bytes, silent_ms: int) -> bool:
    fields = {
        b"name": b"w1",
        b"status": status,
        b"interval_ms": b"30000",
        b"last_heartbeat_ms": b"%d" % (NOW - silent_ms),
    }
    return to_worker("etl", fields, 0, NOW).suspect


@pytest.mark.parametrize(
    ("status", "silent_ms", "suspect"),
    [
        (b"ONLINE", 0, False),
        (b"ONLINE", 45_000, False),
        (b"ONLINE", 45_001, True),
        (b"ONLINE", 90_000, True),
        (b"OFFLINE", 45_001, False),
    ],
)
def test_an_online_worker_is_suspect_after_one_and_a_half_intervals(
    status: bytes, silent_ms: int, suspect: bool
) -> None:
    assert worker(status, silent_ms) is suspect
