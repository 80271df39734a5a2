"""Which processes belong to a claim, and that no other is ever signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from penstock.worker import guardian
from penstock.worker.guardian import Mark, kill_marked, marked, signal_marked

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = Mark("0197-run", 2)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process of claim 2 of a run, which has taken note of SIGTERM by the time it is used."""
    code = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    variables = {**os.environ, "PENSTOCK_RUN_ID": MARK.run, "PENSTOCK_RUN_ATTEMPT": str(MARK.attempt)}
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], env=variables, stdout=subprocess.PIPE, start_new_session=True
    ) as started:
        assert started.stdout
        assert started.stdout.readline()
        yield started
        started.kill()


def test_a_process_of_a_claim_is_found_wherever_it_is_and_killed(process: subprocess.Popen[bytes]) -> None:
    assert marked(MARK) == [process.pid]
    assert kill_marked(MARK) == []
    assert process.wait(5) == -signal.SIGKILL
    assert marked(MARK) == []


@pytest.mark.parametrize("other", [Mark("0197-run", 1), Mark("0197-run", 22), Mark("0197", 2), Mark("197-run", 2)])
def test_another_claim_of_the_run_and_another_run_are_left_alone(process: subprocess.Popen[bytes], other: Mark) -> None:
    assert marked(other) == []
    assert kill_marked(other) == []
    # As if the id had been given to this process since somebody looked.
    handle = signal_marked(process.pid, other, signal.SIGKILL)
    assert handle is not None
    os.close(handle)
    assert process.poll() is None
    assert marked(MARK) == [process.pid]


def test_where_the_kernel_has_no_handles_the_mark_is_looked_at_all_the_same(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    assert signal_marked(process.pid, Mark("other", 2), signal.SIGKILL) is None
    assert process.poll() is None
    assert kill_marked(MARK) == []
    assert process.wait(5) == -signal.SIGKILL


def test_a_process_that_has_ended_is_no_reason_to_complain(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    assert signal_marked(process.pid, MARK, signal.SIGKILL) is None
    assert kill_marked(MARK) == []


def test_what_cannot_be_killed_is_named_after_a_bounded_time(
    process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_vain(pid: int, mark: Mark, number: int) -> None:
        del pid, mark, number

    monkeypatch.setattr(guardian, "signal_marked", in_vain)
    monkeypatch.setattr(guardian, "ROUNDS", 3)
    assert kill_marked(MARK) == [process.pid]
