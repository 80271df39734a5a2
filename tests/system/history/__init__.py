"""What happened, written down while it happens, and a judge that reads it afterwards.

A record is a file of JSON lines (:mod:`tests.system.history.records` says which kinds there are): what was submitted, accepted,
claimed, reported and changed, when faults struck, and every event. :func:`~tests.system.history.checker.check` is pure: a record
in, the broken promises out. ``python -m tests.system.history FILE`` judges a failing run again.
"""

from __future__ import annotations

from tests.system.history.checker import Verdict, check
from tests.system.history.records import Record, Recorder, load, parse

__all__ = ["Record", "Recorder", "Verdict", "check", "load", "parse"]
