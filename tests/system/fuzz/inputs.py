"""Thousands of wrong inputs to the command line, which must end with one of the exit codes the README names, and say why."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from unittest.mock import patch

from typer.main import get_command
from typer.testing import CliRunner

from penstock.cli.app import app
from penstock.cli.embedded_redis import EmbeddedRedis
from tests.system.fuzz.aftermath import type_command
from tests.system.fuzz.command_lines import CommandLines, Typed
from tests.system.fuzz.crew import Crew
from tests.system.fuzz.mutations import Mutator
from tests.system.fuzz.samples import DEPLOYED, POOL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNAVAILABLE: Final = 3
ALLOWED: Final = (0, 1, 2, 3)
HANG_SECONDS: Final = 60
"""Far above what any command takes, also on a machine that does much else."""
PROCESSES: Final = 200
"""One in so many is also typed as a real process."""
PROGRESS: Final = 500
FIRST: Final = (
    ("work-pool", "create", POOL),
    ("deploy", "--command", "true", "--flow", "hello", "-n", "inputs", "-p", POOL, "--interval", "1h"),
)


class _Hangs(BaseException):
    """A command took too long."""


@dataclass
class InputResult:
    """What a run of inputs proves."""

    codes: Counter[str] = field(default_factory=Counter)
    processes: int = 0
    wrong: list[str] = field(default_factory=list)
    count_wrong: int = 0
    seconds: float = 0
    slowest: float = 0

    def say(self, text: str) -> None:
        """Note something that must not be."""
        self.count_wrong += 1
        if len(self.wrong) < 40:
            self.wrong.append(text)


class InputFuzz:
    """One run.

    Args:
        seed: decides everything.
        folder: for data, logs, and where commands are typed.
        inputs: how many.
    """

    def __init__(self, seed: int, folder: Path, inputs: int) -> None:
        chance = random.Random(seed)
        self._lines = CommandLines(chance, Mutator(chance))
        self._folder, self._inputs = folder, inputs
        self._place = folder / "typed"
        self._result = InputResult()
        self._runner = CliRunner()
        # Made once: making the tree of commands takes ten times as long as most commands do.
        self._command = get_command(app)

    def run(self) -> InputResult:
        """Type them all."""
        began = time.monotonic()
        self._place.mkdir()
        with EmbeddedRedis(self._folder / "inputs-redis", durable=False) as server:
            crew = Crew(self._folder, server.url)
            try:
                crew.start_services()
                asyncio.run(crew.until_ready())
                with (
                    _typing_at(self._place, server.url),
                    patch("typer.testing._get_command", return_value=self._command),
                ):
                    for words in FIRST:
                        self._judge(Typed(words, good=True))
                    for number in range(self._inputs):
                        typed = self._lines.make()
                        self._judge(typed)
                        if number % PROCESSES == 0:
                            self._as_process(typed)
                        if number % PROGRESS == 0:
                            wrong = self._result.wrong
                            sys.stderr.write(
                                f"{time.monotonic() - began:5.0f} s  after {number} inputs  {len(wrong)} wrong\n"
                            )
                            sys.stderr.writelines(f"    {text[:800]}\n" for text in wrong[-3:])
                    # Whatever was deployed of all this, the deployment can still be read.
                    self._judge(Typed(("deployment", "inspect", DEPLOYED), good=True))
                asyncio.run(crew.until_ready())
                crew.look()
                self._result.wrong += crew.wrong + crew.judge_logs()
            finally:
                crew.end()
        self._result.seconds = time.monotonic() - began
        return self._result

    def _judge(self, typed: Typed) -> None:
        for old in self._place.iterdir():
            old.unlink()
        for name, content in typed.files.items():
            (self._place / name).write_bytes(content)
        began = time.monotonic()
        try:
            with _at_most(HANG_SECONDS):
                answer = self._runner.invoke(app, typed.words)
        except _Hangs:
            self._result.say(f"hangs: {_spelled(typed)}")
            return
        self._result.slowest = max(self._result.slowest, time.monotonic() - began)
        self._result.codes[f"{' '.join(typed.words[:2])}: {answer.exit_code}"] += 1
        problem = answer.exception
        if problem is not None and not isinstance(problem, SystemExit):
            where = "".join(traceback.format_exception(problem)[-3:])[-900:]
            self._result.say(f"{type(problem).__name__}: {str(problem)[:300]}; {_spelled(typed)}\n{where}")
            return
        for text in _faults(typed, answer.exit_code, answer.stdout, answer.stderr):
            self._result.say(f"{text}; {_spelled(typed)}; said {(answer.stderr or answer.stdout)[:500]!r}")

    def _as_process(self, typed: Typed) -> None:
        self._result.processes += 1
        # A process may be given what is no text, too.
        words = (*typed.words, os.fsdecode(b"\xff")) if self._result.processes % 5 == 0 else typed.words
        code, _, said = asyncio.run(type_command(words, dict(os.environ), self._place))
        if code not in ALLOWED or "Traceback" in said:
            self._result.say(f"as a process: exit {code}; {_spelled(typed)}; said {said[:800]!r}")


def _faults(typed: Typed, code: int, printed: str, said: str) -> list[str]:
    if code not in ALLOWED:
        return [f"exit {code}"]
    if typed.good:
        return [f"exit {code} for what is right"] if code else []
    if not code:
        return []
    if code == UNAVAILABLE and "nobody answered" not in said:
        # Redis is there; only services on a busy machine may be too slow.
        return ["exit 3 for what is wrong"]
    found = [] if "Error" in said or printed else ["no reason is given"]
    if typed.names and not any(name in said + printed for name in typed.names):
        found.append(f"none of {typed.names} is named")
    return found + (["a traceback"] if "Traceback" in said + printed else [])


def _spelled(typed: Typed) -> str:
    files = {name: content[:1500] for name, content in typed.files.items()}
    return f"penstock {[word[:200] for word in typed.words]} {files}"


@contextlib.contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _typing_at(place: Path, url: str) -> Iterator[None]:
    """Be in a directory, with an environment of nothing but where Redis is."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("PENSTOCK_")}
    here = os.getcwd()  # noqa: PTH109 - to go back to it
    for name in variables:
        del os.environ[name]
    os.environ["PENSTOCK_REDIS_URL"] = url
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(here)
        del os.environ["PENSTOCK_REDIS_URL"]
        os.environ.update(variables)
