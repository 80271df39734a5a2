from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.contracts.logs import LogLine, RunLog
from penstock.contracts.runs import MAX_MESSAGE_LENGTH, RunSpec, new_run_id
from penstock.contracts.workers import AssignedRun
from penstock.errors import BadSettings
from penstock.worker.clock import RedisClock, backoff
from penstock.worker.console import MAX_CHARACTERS, MAX_LINES, Console
from penstock.worker.environment import environment, instruction
from penstock.worker.held import Held, cancelled
from penstock.worker.identity import default_name
from penstock.worker.job import CannotStart, Job, Outcome
from penstock.worker.lines import LINE_BYTES, MAX_LINE_BYTES, LineSplitter, printed_bytes, stored_bytes
from penstock.worker.patience import Patience
from penstock.worker.reports import cut_message
from penstock.worker.settings import WorkerSettings
from penstock.worker.verdict import Said, brought_about, judge

if TYPE_CHECKING:
    from collections.abc import Iterable


def job(**spec: object) -> Job:
    return Job(new_run_id(0), "calm-otter", "etl", "high", 2, 1_700_000_000_123, 0.0, RunSpec.model_validate(spec))


@pytest.mark.parametrize(
    ("status", "said", "state", "message"),
    [
        (0, Said(1), "COMPLETED", ""),
        (0, Said(1, completed=True), "COMPLETED", ""),
        (1, Said(failed="why"), "FAILED", "why"),
        (0, Said(1, failed="why"), "FAILED", "why"),
        (3, Said(1), "CRASHED", "Process exited with status 3"),
        (3, Said(), "FAILED", "Process exited with status 3 before the function was called"),
        (0, Said(), "FAILED", "Process exited with status 0 before the function was called"),
        (-9, Said(), "CRASHED", "Process was killed by signal 9 (SIGKILL)"),
        (
            -11,
            Said(completed=True),
            "CRASHED",
            "Process was killed by signal 11 (SIGSEGV), after the function had returned",
        ),
    ],
)
def test_how_a_run_ended(status: int, said: Said, state: str, message: str) -> None:
    verdict = judge(status, said)
    assert verdict == Outcome(verdict.state, message)
    assert verdict.state == state


def test_a_run_s_environment_is_the_worker_s_without_its_secrets() -> None:
    worker = {"PATH": "/bin", "HOME": "/root", "PENSTOCK_REDIS_URL": "redis://u:p@h", "PENSTOCK_WORKER_LIMIT": "3"}
    made = environment(job(entrypoint="a.py:f", parameters={"x": 1}, env={"HOME": None, "NEW": "1"}), worker)
    assert made.pop("PENSTOCK_RUN_ID")
    assert made == {
        "PATH": "/bin",
        "NEW": "1",
        "PENSTOCK_RUN_NAME": "calm-otter",
        "PENSTOCK_RUN_POOL": "etl",
        "PENSTOCK_RUN_QUEUE": "high",
        "PENSTOCK_RUN_ATTEMPT": "2",
        "PENSTOCK_RUN_SCHEDULED_TIME": "2023-11-14T22:13:20.123+00:00",
    }


def test_a_command_s_parameters_are_variables_and_text_stays_text() -> None:
    made = environment(job(command="x", parameters={"day": "mon", "n": 1, "deep": {"a": [None]}}), {})
    assert made["PENSTOCK_PARAM_DAY"] == "mon"
    assert made["PENSTOCK_PARAM_N"] == "1"
    assert made["PENSTOCK_PARAM_DEEP"] == '{"a":[null]}'


@pytest.mark.parametrize("env", [{"": "x"}, {"A=B": "x"}, {"A": "x\0y"}, {"A\0": "x"}])
def test_a_variable_that_cannot_be_set_is_refused(env: dict[str, str]) -> None:
    with pytest.raises(CannotStart, match="cannot be set"):
        environment(job(command="x", env=env), {})


@pytest.mark.parametrize(
    ("entrypoint", "working_dir", "path"),
    [
        ("flows/a.py:f", None, "/start/flows/a.py"),
        ("flows/a.py:f", "/srv", "/srv/flows/a.py"),
        ("../a.py:f", "sub", "/start/a.py"),
        ("/abs/a.py:f", "/srv", "/abs/a.py"),
        ("a:b.py:f", "/srv", "/srv/a:b.py"),
    ],
)
def test_where_an_entrypoint_is(entrypoint: str, working_dir: str | None, path: str) -> None:
    told = instruction(job(entrypoint=entrypoint, working_dir=working_dir, parameters={"x": 1}), "/start")
    assert (told["path"], told["function"], told["parameters"], told["command"]) == (path, "f", {"x": 1}, None)


def test_a_command_is_split_like_a_shell_would_and_a_list_is_left_alone() -> None:
    assert instruction(job(command="a 'b c' $D"), "/")["command"] == ["a", "b c", "$D"]
    assert instruction(job(command=["a", "b 'c"]), "/")["command"] == ["a", "b 'c"]


@given(st.lists(st.binary(max_size=50)))
@example([b"a\r", b"\nb\r\nc\r\r\n\r"])
@example([b"\xc3", b"\xbc\n"])
def test_lines_do_not_depend_on_how_the_bytes_arrived(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    expected = [line.removesuffix(b"\r").decode(errors="replace") for line in whole.split(b"\n")]
    if not whole.rpartition(b"\n")[2]:
        expected.pop()
    assert _lines(chunks) == expected


def test_a_line_without_end_is_cut_and_its_rest_skipped() -> None:
    chunks = [b"x" * 5000] * 4 + [
        b"tail\nnext\n" + b"y" * (MAX_LINE_BYTES + 1) + b"\n",
        b"z" * MAX_LINE_BYTES + b"\nend",
    ]
    lines = _lines(chunks)
    assert lines == [
        "x" * MAX_LINE_BYTES + " [line cut]",
        "next",
        "y" * MAX_LINE_BYTES + " [line cut]",
        "z" * MAX_LINE_BYTES,
        "end",
    ]


def _lines(chunks: Iterable[bytes]) -> list[str]:
    splitter = LineSplitter()
    return [*(line for chunk in chunks for line in splitter.feed(chunk)), *splitter.end()]


def test_what_is_missing_of_long_lines_is_counted() -> None:
    splitter = LineSplitter()
    for chunk in (b"x" * 10_000, b"y" * 500, b"z\nshort\n" + b"a" * 9000 + b"\n", b"b" * 8193):
        splitter.feed(chunk)
    splitter.end()
    assert (splitter.cut_lines, splitter.cut_bytes) == (3, 10_501 - 8192 + 9000 - 8192 + 1)


@pytest.mark.parametrize(
    ("lines", "size"),
    [([], 0), ([""], 1), (["a", "b"], 4), (["ü"], 3), (["a\ufffdb"], 4), (["\x00\x1b[0m"], 6), (["\ud800"], 2)],
)
def test_bytes_are_counted_as_they_were_printed(lines: list[str], size: int) -> None:
    assert printed_bytes(lines) == size


def test_a_line_costs_what_it_takes_as_json() -> None:
    assert stored_bytes("abc") == LINE_BYTES + 5
    assert stored_bytes("\0" * 10) == LINE_BYTES + 62
    stored = RunLog(run="r", lines=[LogLine(at_ms=1_795_306_549_281, source="stdout", text="")]).model_dump_json()
    assert len(stored) - len(RunLog(run="r", lines=[]).model_dump_json()) <= LINE_BYTES


@pytest.mark.parametrize(
    ("status", "said", "stopped_ms", "told"),
    [
        (-15, Said(1), 5, True),
        (0, Said(1), 5, True),
        (143, Said(1), 5, True),
        (-15, Said(1), None, False),
        (0, Said(1, completed=True, last_ms=9), 5, False),
        (-15, Said(1, completed=True, last_ms=4), 5, True),
        (1, Said(1, failed="x", last_ms=4), 5, False),
        (1, Said(1, failed="x", last_ms=5), 5, True),
    ],
)
def test_whether_a_run_ended_because_it_was_told_to(
    status: int, said: Said, stopped_ms: int | None, told: bool
) -> None:
    assert brought_about(status, said, stopped_ms) is told


CLAIM = AssignedRun(id=new_run_id(0), name="n", token="t", epoch=1, queue="q", due_ms=1, spec={})


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome("COMPLETED", "m"), "COMPLETED"),
        (Outcome("COMPLETED", "m", stopped=True), "CANCELLED"),
        (Outcome("CRASHED", "m"), "CANCELLED"),
        (Outcome("FAILED", "m"), "CANCELLED"),
        (Outcome("CRASHED", "m", stopped=False), "CRASHED"),
        (Outcome("FAILED", "m", stopped=False), "FAILED"),
        (None, "CANCELLED"),
    ],
)
def test_a_worker_type_that_cannot_tell_has_everything_but_success_called_cancelled(
    outcome: Outcome | None, state: str
) -> None:
    held = Held(CLAIM, execution=object(), asked_at=1.0)  # type: ignore[arg-type]
    said = "m" if state != "CANCELLED" else "Flow run was cancelled. It ended after SIGTERM."
    assert cancelled(held, outcome) == (state, said)


@pytest.mark.parametrize(("seconds", "words"), [(30.0004, "30 s"), (0.44, "0.4 s"), (1234.5, "1234.5 s")])
def test_a_cancelled_run_says_how_it_was_ended(seconds: float, words: str) -> None:
    assert cancelled(Held(CLAIM), None)[1] == "Flow run was cancelled. It had not begun."
    held = Held(CLAIM, asked_at=1.0, killed_after=seconds)
    assert cancelled(held, None)[1] == f"Flow run was cancelled. It was killed {words} after SIGTERM."


def test_redis_time_is_never_estimated_ahead() -> None:
    clock = RedisClock()
    for late_ms in (30, 5, 50):
        clock.observe(f"{int(time.time() * 1000) - late_ms}-0")
    assert time.time() * 1000 - 20 < clock.now_ms() <= time.time() * 1000 - 4
    due = clock.now_ms() + 1000
    assert clock.monotonic_at(due) == pytest.approx(time.monotonic() + 1, abs=0.05)


def test_backoff_grows_to_two_seconds() -> None:
    assert [backoff(n) for n in (1, 2, 3, 7, 100)] == [0.05, 0.1, 0.2, 2.0, 2.0]


def test_messages_are_cut_and_always_utf_8() -> None:
    assert cut_message("short") == "short"
    assert len(cut_message("é" * 20_000)) == MAX_MESSAGE_LENGTH
    assert cut_message("a\ud800b") == "a?b"


def test_generated_names_tell_the_type_and_are_unique() -> None:
    assert default_name("process").startswith("ProcessWorker ")
    assert default_name("cloud-run").startswith("CloudRunWorker ")
    assert len({default_name("process") for _ in range(100)}) == 100


def test_settings_have_their_documented_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PENSTOCK_HEALTH_PORT", "PENSTOCK_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = WorkerSettings.read()
    assert (settings.prefetch_seconds, settings.heartbeat_seconds, settings.limit) == (10, 30, 10)
    assert (settings.drain_seconds, settings.health_port) == (30, 8080)
    assert (settings.cancel_grace_seconds, settings.log_bytes_per_run) == (30, 10 * 1024 * 1024)
    assert settings.log_retention_seconds == 24 * 3600


def test_settings_are_read_from_own_and_common_variables_and_given_values_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://there:1/2")
    monkeypatch.setenv("PENSTOCK_WORKER_LIMIT", "3")
    monkeypatch.setenv("PENSTOCK_WORKER_PREFETCH_SECONDS", "1.5")
    monkeypatch.setenv("PENSTOCK_WORKER_HEALTH_PORT", "9000")
    monkeypatch.setenv("PENSTOCK_HEALTH_PORT", "9001")
    settings = WorkerSettings.read(limit=4, prefetch_seconds=None)
    assert settings.redis_url == "redis://there:1/2"
    assert (settings.limit, settings.prefetch_seconds, settings.health_port) == (4, 1.5, 9000)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PENSTOCK_WORKER_LIMIT", "0", "PENSTOCK_WORKER_LIMIT='0'"),
        ("PENSTOCK_WORKER_CANCEL_GRACE_SECONDS", "-1", "PENSTOCK_WORKER_CANCEL_GRACE_SECONDS='-1'"),
        ("PENSTOCK_WORKER_LOG_BYTES_PER_RUN", "9999", "PENSTOCK_WORKER_LOG_BYTES_PER_RUN='9999'"),
        ("PENSTOCK_WORKER_LOG_RETENTION_SECONDS", "0", "PENSTOCK_WORKER_LOG_RETENTION_SECONDS='0'"),
        ("PENSTOCK_WORKER_HEARTBEAT_SECONDS", "-1", "PENSTOCK_WORKER_HEARTBEAT_SECONDS='-1'"),
        ("PENSTOCK_WORKER_LIMITS", "1", "unknown variable PENSTOCK_WORKER_LIMITS; did you mean PENSTOCK_WORKER_LIMIT"),
        ("PENSTOCK_REDIS_URL", "http://x", "PENSTOCK_REDIS_URL='http://x'"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=message):
        WorkerSettings.read()


def test_a_run_s_process_imports_nothing_of_penstock_and_nothing_heavy() -> None:
    code = "import runpy, sys; from penstock.worker import process; before = set(sys.modules);print(process._CHILD)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    probe = (
        "import sys, runpy; before = set(sys.modules); runpy.run_path(sys.argv[1], run_name='child');"
        "print(*sorted(name for name in sys.modules if name not in before))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", probe, child], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {
        name for name in loaded if name.startswith(("penstock", "pydantic", "redis", "asyncio", "inspect"))
    } == set()


def test_the_console_writes_in_order_and_never_blocks_its_caller() -> None:
    written = io.StringIO()
    console = Console(written)
    console.say(["a", "b"])
    console.say(["c"])
    console.close()
    assert written.getvalue() == "a\nb\nc\n"


def test_a_console_nobody_reads_drops_and_counts() -> None:
    written = io.StringIO()
    console = Console(written)
    console.say(str(n) for n in range(MAX_LINES + 5))
    console.close()
    lines = written.getvalue().splitlines()
    assert lines[:2] == ["0", "1"]
    assert lines[-1] == "(5 lines were not shown: stdout is read too slowly)"


def test_a_console_nobody_reads_keeps_few_long_lines() -> None:
    written = io.StringIO()
    console = Console(written)
    console.say("x" * 8192 for _ in range(1000))
    console.close()
    *kept, last = written.getvalue().splitlines()
    assert len(kept) == MAX_CHARACTERS // 8192 + 1
    assert last == f"({1000 - len(kept)} lines were not shown: stdout is read too slowly)"


@pytest.mark.parametrize("shift_ms", [-3_600_000, 0, 3_600_000])
def test_what_a_wrong_clock_says_is_translated_into_redis_time(monkeypatch: pytest.MonkeyPatch, shift_ms: int) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + shift_ms / 1000)
    clock = RedisClock()
    clock.observe(f"{round(right() * 1000)}-0")
    a_second_ago = round(time.time() * 1000) - 1000
    assert clock.corrected_ms(a_second_ago) == pytest.approx(right() * 1000 - 1000, abs=50)


async def test_a_deadline_may_be_moved_both_ways_and_without_one_it_is_never_over() -> None:
    patience = Patience()
    over = asyncio.create_task(patience.over())
    patience.give(0.0)
    patience.give(60.0)
    await asyncio.sleep(0.01)
    assert not over.done()
    patience.give(3600.0, at_most=True)
    patience.give(0.01, at_most=True)
    await asyncio.wait_for(over, 1)
    patience.give(60.0)
    patience.forget()
    await asyncio.wait_for(patience.over(), 1)
