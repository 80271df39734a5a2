"""``python -m tests.system.chaos.service dispatcher``: a service as it is, with failpoints around it.

The environment may take a safeguard out of it (:mod:`tests.system.chaos.mutation`) and turn its clock
(``CHAOS_CLOCK_OFF_SECONDS``): a service asks its host for the time only through :mod:`time`.
"""

from __future__ import annotations

import os
import runpy
import sys
import time

from tests.system.chaos import mutation

CLOCK_VARIABLE = "CHAOS_CLOCK_OFF_SECONDS"


def turn_clock() -> None:
    """Let this process live at another time than its machine."""
    off = int(os.environ.pop(CLOCK_VARIABLE, "0"))
    if off:
        right, right_ns = time.time, time.time_ns
        time.time = lambda: right() + off
        time.time_ns = lambda: right_ns() + off * 1_000_000_000


if __name__ == "__main__":
    (name,) = sys.argv[1:]
    turn_clock()
    mutation.install()
    from tests.system.chaos.failpoints import install

    install(name)
    runpy.run_module(f"services.{name}", run_name="__main__")
