"""``python -m tests.system.chaos.service dispatcher``: a service as it is, with failpoints around it."""

from __future__ import annotations

import runpy
import sys

from tests.system.chaos.failpoints import install

if __name__ == "__main__":
    (name,) = sys.argv[1:]
    install(name)
    runpy.run_module(f"services.{name}", run_name="__main__")
