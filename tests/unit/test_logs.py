"""Lines of logs are bounded, whatever they are about."""

from __future__ import annotations

import pytest

from penstock.bus.logs import MAX_TEXT_LENGTH, cut


@pytest.mark.parametrize("length", [MAX_TEXT_LENGTH + 1, 1_000_000])
def test_of_a_long_text_both_ends_are_logged_and_how_long_it_was(length: int) -> None:
    line = cut(None, "info", {"event": "dead letter", "pool": "a" + "x" * (length - 2) + "z", "runs": 7})

    assert (line["event"], line["runs"]) == ("dead letter", 7)
    assert line["pool"].startswith("ax")
    assert line["pool"].endswith("xz")
    assert f"({length} characters)" in line["pool"]
    assert len(line["pool"]) < MAX_TEXT_LENGTH + 100


def test_what_is_not_long_is_logged_as_it_is() -> None:
    line = {"event": "started", "reason": "x" * MAX_TEXT_LENGTH, "partitions": 1}

    assert cut(None, "info", dict(line)) == line
