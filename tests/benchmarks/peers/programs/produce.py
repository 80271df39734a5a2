"""The producer's process of any peer: ``python -m tests.benchmarks.peers.programs.produce MODULE DISTRIBUTION``.

MODULE has three coroutines: ``start()``, ``submit_all(jobs)`` (with the peer's bulk call, where it documents one) and
``submit(job)``. This process reads one JSON object a line and answers one a line:

    {"do": "submit", "first": 1, "count": 1000}                  -> {"began_ns": ..., "ended_ns": ...}
    {"do": "pace", "first": 1, "count": 200, "per_second": 50}   -> the same
    {"do": "stay", "number": 7, "seconds": 30}                   -> the same

Its first line is ``{"version": ...}``, or ``{"problem": ...}``. It ends with its input.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import sys
import time
from typing import Any


async def follow(program: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Do what one line says."""
    began_ns = time.monotonic_ns()
    if order["do"] == "submit":
        first = order["first"]
        await program.submit_all([(number, time.monotonic_ns(), 0) for number in range(first, first + order["count"])])
    elif order["do"] == "pace":
        for index in range(order["count"]):
            due_ns = began_ns + int(index / order["per_second"] * 1e9)
            await asyncio.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
            await program.submit((order["first"] + index, time.monotonic_ns(), 0))
    else:
        await program.submit((order["number"], time.monotonic_ns(), order["seconds"]))
    return {"began_ns": began_ns, "ended_ns": time.monotonic_ns()}


async def main(module: str, distribution: str) -> None:
    """Answer line by line."""
    # What a peer prints goes to the log; only answers reach the benchmark.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(words: dict[str, Any]) -> None:
        answers.write(json.dumps(words) + "\n")

    loop = asyncio.get_running_loop()
    try:
        program = importlib.import_module(module)
        await program.start()
        answer({"version": importlib.metadata.version(distribution)})
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            answer(await follow(program, json.loads(line)))
    except Exception as problem:  # noqa: BLE001 - whatever it is becomes the reason in this peer's row
        answer({"problem": f"{type(problem).__name__}: {problem}"})


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
