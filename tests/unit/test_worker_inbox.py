"""What a worker makes of an entry in its inbox that is no message."""

from __future__ import annotations

import pytest

from penstock.errors import BadMessage
from penstock.worker.inbox import decode


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({b"data": b"{}"}, "no field '__data__'"),
        ({b"type": b"stop_runs", b"__data__": b"\xff"}, "Invalid JSON"),
        ({b"__data__": b"[1"}, "not JSON"),
        ({b"__data__": b"[]"}, "unknown type"),
        ({b"type": b"stop_runs", b"__data__": b'{"runs":7}'}, "runs: Input should be a valid array"),
    ],
)
def test_what_is_no_message_is_told_why(fields: dict[bytes, bytes], why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        decode(fields)


def test_a_type_that_is_as_long_as_a_message_is_not_repeated_whole() -> None:
    with pytest.raises(BadMessage) as caught:
        decode({b"__data__": b'{"type":"' + b"x" * 500_000 + b'"}'})

    assert len(str(caught.value)) < 500
