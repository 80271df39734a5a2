"""The job every peer executes, in words of the standard library only: note that it has begun, and perhaps stay a while.

A job is ``(number, sent_ns, stay_seconds)``. It appends one record to the tally, a file that all processes of one peer share;
a record is smaller than any page, so appends of several processes never mix (``O_APPEND``), and the benchmark reads the time of
the last job there without asking the peer.
"""

from __future__ import annotations

import functools
import os
import struct
import threading
import time

RECORD = struct.Struct("<QQQ")
"""Number of the job, when it was sent, when it began: nanoseconds of CLOCK_MONOTONIC, the same for all processes of a host."""


@functools.cache
def _tally() -> int:
    return os.open(os.environ["BENCHMARK_TALLY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def begun(number: int, sent_ns: int) -> None:
    """Note that a job begins now."""
    began_ns = time.monotonic_ns()
    os.write(_tally(), RECORD.pack(number, sent_ns, began_ns))


def work(number: int, sent_ns: int, stay_seconds: float) -> None:
    """Be the job, where the worker calls functions."""
    begun(number, sent_ns)
    if stay_seconds:
        threading.Event().wait(stay_seconds)


def redis_url() -> str:
    """Say where the Redis of this measurement is."""
    return os.environ["BENCHMARK_REDIS_URL"]
