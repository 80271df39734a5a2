"""What becomes of functions and commands that a worker executes, with real processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from penstock import keys
from penstock.streams import LOGS_EXPIRE_SECONDS
from tests.support import wait_until
from tests.worker_rig import as_json, claim, working

if TYPE_CHECKING:
    from redis.asyncio import Redis

FLOWS = """
import asyncio, json, os, subprocess, sys, time
import neighbour

def add(a, b=1):
    print(a + b)

async def add_async(a, b):
    await asyncio.sleep(0)
    print(a + b)

def count_up():
    for number in range(2):
        print(number)
        yield number
    print("done")

async def count_up_async():
    for number in range(2):
        print(number)
        yield number
    print("done")

def surroundings(**given):
    print(json.dumps({
        "cwd": os.getcwd(), "env": dict(os.environ), "module": __name__, "path0": sys.path[0], "argv": sys.argv,
        "given": given, "files": os.listdir("."), "at": time.time(), "stdin": sys.stdin.read(),
    }))

def size(text):
    print(len(text))

def boom():
    raise ValueError("x")

def boom_without_words():
    raise KeyError

class Rude(Exception):
    def __str__(self):
        raise RuntimeError

def boom_rudely():
    raise Rude

def boom_in_surrogates():
    raise ValueError("bad \\ud800")

def boom_long():
    raise ValueError("y" * 100_000)

def type_error_inside():
    return 1 + "1"

def leave(status):
    sys.exit(status)

def leave_at_once(status):
    os._exit(status)

def kill_myself(number):
    os.kill(os.getpid(), number)

def sleep(seconds=60.0):
    print("sleeping", flush=True)
    time.sleep(seconds)

def leave_grandchild():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid)

def shout():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    sys.stdout.buffer.write(b"bad \\xff utf-8\\n" + b"l" * 100_000 + b"\\nno line break")

def fail_at_exit():
    import atexit
    atexit.register(lambda: os._exit(7))

NUMBER = 7
"""


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    folder = tmp_path / "flöws"
    folder.mkdir()
    (folder / "neighbour.py").write_text("")
    (folder / "etl.py").write_text(FLOWS)
    return folder / "etl.py"


async def test_a_function_gets_its_parameters_and_completes(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:add", parameters={"a": 40, "b": 2})
        await rig.assign(run)
        report = await rig.report(run)
        assert (report["state"], report["message"]) == ("COMPLETED", "")
        assert (report["token"], report["epoch"]) == (run.token, 1)
        assert run.due_ms <= report["started_ms"] <= report["ended_ms"] <= time.time() * 1000
        assert await rig.states(run) == ["RUNNING", "COMPLETED"]
        assert await rig.output(run) == [("stdout", "42")]
        assert rig.console.lines == ["Worker 'w1' started!", f"{run.name} | 42"]


async def test_an_async_function_is_awaited(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:add_async", parameters={"a": 40, "b": 2})
        await rig.assign(run)
        await rig.completed(run)
        assert await rig.output(run) == [("stdout", "42")]


@pytest.mark.parametrize("function", ["count_up", "count_up_async"])
async def test_of_a_generator_function_everything_is_executed(client: Redis, flows: Path, function: str) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:{function}")
        await rig.assign(run)
        await rig.completed(run)
        assert await rig.output(run) == [("stdout", "0"), ("stdout", "1"), ("stdout", "done")]


async def test_a_run_has_a_directory_and_an_environment_of_its_own(
    client: Redis, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "redis://user:secret@somewhere")
    monkeypatch.setenv("PENSTOCK_RUN_ID", "of an outer run")
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("REMOVED", "removed")
    async with working(client) as rig:
        env = {"REMOVED": None, "ADDED": "zwölf", "PENSTOCK_RUN_POOL": "a lie"}
        run = claim(entrypoint=f"{flows}:surroundings", parameters={"x": {"y": [1, None]}}, env=env)
        await rig.assign(run)
        await rig.completed(run)
        seen = as_json((await rig.output(run))[0][1])
    assert seen["files"] == []
    assert seen["cwd"] not in {os.getcwd(), str(flows.parent)}  # noqa: PTH109 - text is compared
    await wait_until(partial(_absent, seen["cwd"]), what="the end of its directory")
    assert seen["module"] == "etl"
    assert seen["path0"] == str(flows.parent)
    assert seen["argv"] == [str(flows)]
    assert seen["given"] == {"x": {"y": [1, None]}}
    assert seen["stdin"] == ""
    assert seen["env"]["KEPT"] == "kept"
    assert seen["env"]["ADDED"] == "zwölf"
    assert "REMOVED" not in seen["env"]
    ours = {name: value for name, value in seen["env"].items() if name.startswith("PENSTOCK_")}
    assert ours.pop("PENSTOCK_RUN_SCHEDULED_TIME").endswith("+00:00")
    assert ours == {
        "PENSTOCK_RUN_ID": run.id,
        "PENSTOCK_RUN_NAME": run.name,
        "PENSTOCK_RUN_POOL": "etl",
        "PENSTOCK_RUN_QUEUE": "default",
        "PENSTOCK_RUN_ATTEMPT": "1",
    }


async def test_a_relative_entrypoint_starts_at_the_working_directory(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint="etl.py:surroundings", working_dir=str(flows.parent))
        await rig.assign(run)
        await rig.completed(run)
        assert as_json((await rig.output(run))[0][1])["cwd"] == str(flows.parent)
        assert flows.exists()  # noqa: ASYNC240 - a quick look


async def test_without_a_working_directory_it_starts_where_the_worker_did(
    client: Redis, flows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(flows.parent.parent)
    async with working(client) as rig:
        run = claim(entrypoint="flöws/etl.py:surroundings")
        await rig.assign(run)
        await rig.completed(run)
        assert as_json((await rig.output(run))[0][1])["cwd"] != str(flows.parent.parent)


async def test_large_parameters_arrive_whole(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:size", parameters={"text": "x" * 3_000_000})
        await rig.assign(run)
        await rig.completed(run)
        assert await rig.output(run) == [("stdout", "3000000")]


@pytest.mark.parametrize(
    ("function", "parameters", "message"),
    [
        ("boom", {}, "Flow run encountered an exception: ValueError: x"),
        ("boom_without_words", {}, "Flow run encountered an exception: KeyError"),
        ("boom_rudely", {}, "Flow run encountered an exception: Rude: <exception str() failed>"),
        ("boom_in_surrogates", {}, "Flow run encountered an exception: ValueError: bad ?"),
        ("type_error_inside", {}, "Flow run encountered an exception: TypeError: unsupported operand"),
        ("add", {"c": 1}, "The parameters do not fit {path}:add: add() got an unexpected keyword argument 'c'"),
        ("add_async", {"a": 1}, "The parameters do not fit {path}:add_async: add_async() missing 1 required"),
        ("missing", {}, "Entrypoint {path}:missing does not exist: {path} has no function 'missing'"),
        ("NUMBER", {}, "Entrypoint {path}:NUMBER does not exist: {path} has no function 'NUMBER'"),
    ],
)
async def test_a_failing_function_is_failed_with_its_message(
    client: Redis, flows: Path, function: str, parameters: dict[str, Any], message: str
) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:{function}", parameters=parameters)
        await rig.assign(run)
        report = await rig.report(run)
        assert report["state"] == "FAILED"
        assert report["message"].startswith(message.format(path=flows))


async def test_the_traceback_is_in_the_output_and_begins_at_the_run_s_own_code(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:boom")
        await rig.assign(run)
        await rig.report(run)
        trace = [text for source, text in await rig.output(run) if source == "stderr"]
    assert trace[0] == "Traceback (most recent call last):"
    assert f'File "{flows}"' in trace[1]
    assert trace[-1] == "ValueError: x"


async def test_an_endless_message_is_cut(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:boom_long")
        await rig.assign(run)
        assert 9_000 < len((await rig.report(run))["message"]) <= 10_000


async def test_a_missing_file_is_named(client: Redis, tmp_path: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{tmp_path}/nowhere.py:main")
        await rig.assign(run)
        report = await rig.report(run)
        assert report["state"] == "FAILED"
        assert f"{tmp_path}/nowhere.py:main does not exist: no such file" in report["message"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def main(:\n", "SyntaxError: invalid syntax"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named"),
        ("x = 1\nraise ValueError('at import')", "ValueError: at import"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("import sys\nsys.exit()", "SystemExit"),
        ("def deep():\n    deep()\ndeep()", "RecursionError: maximum recursion depth exceeded"),
    ],
)
async def test_a_file_that_cannot_be_loaded_is_failed_with_its_traceback_and_the_worker_goes_on(
    client: Redis, tmp_path: Path, source: str, message: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    async with working(client) as rig:
        run, after = claim(entrypoint=f"{tmp_path}/broken.py:main"), claim(command="true")
        await rig.assign(run)
        report = await rig.report(run)
        assert report["state"] == "FAILED"
        assert report["message"].startswith(f"Cannot load {tmp_path}/broken.py: {message}")
        assert report["started_ms"] is None
        trace = [text for source, text in await rig.output(run) if source == "stderr"]
        assert f'File "{tmp_path}/broken.py", line' in "\n".join(trace)
        assert trace[-1].startswith(message.partition(" ")[0])
        await rig.assign(after)
        await rig.completed(after)


@pytest.mark.parametrize("status", [0, 5])
async def test_a_file_that_ends_the_process_before_its_function_is_called_is_failed(
    client: Redis, tmp_path: Path, status: int
) -> None:
    (tmp_path / "rude.py").write_text(f"import os\nos._exit({status})\ndef main():\n    pass\n")
    async with working(client) as rig:
        run, after = claim(entrypoint=f"{tmp_path}/rude.py:main"), claim(command="true")
        await rig.assign(run)
        report = await rig.report(run)
        assert report["state"] == "FAILED"
        assert report["message"] == f"Process exited with status {status} before the function was called"
        await rig.assign(after)
        await rig.completed(after)


@pytest.mark.parametrize("entrypoint", ["nowhere.py:main", "etl.py:missing"])
async def test_what_is_missing_is_in_the_output_too_and_the_worker_goes_on(
    client: Redis, flows: Path, entrypoint: str
) -> None:
    async with working(client) as rig:
        run, after = claim(entrypoint=f"{flows.parent}/{entrypoint}"), claim(command="true")
        await rig.assign(run)
        report = await rig.report(run)
        assert report["state"] == "FAILED"
        assert await rig.output(run) == [("stderr", report["message"])]
        await rig.assign(after)
        await rig.completed(after)


async def test_a_file_named_like_a_module_of_python_shadows_nothing(client: Redis, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("import sys\ndef main():\n    print(sys.modules['json'].dumps([__name__]))")
    async with working(client) as rig:
        run = claim(entrypoint=f"{tmp_path}/json.py:main")
        await rig.assign(run)
        await rig.completed(run)
        assert await rig.output(run) == [("stdout", '["flow_json"]')]


@pytest.mark.parametrize(
    ("function", "parameters", "state", "message"),
    [
        ("leave", {"status": 0}, "COMPLETED", ""),
        ("leave", {"status": 3}, "CRASHED", "Process exited with status 3"),
        ("leave_at_once", {"status": 4}, "CRASHED", "Process exited with status 4"),
        ("kill_myself", {"number": 9}, "CRASHED", "Process was killed by signal 9 (SIGKILL)"),
        ("kill_myself", {"number": 11}, "CRASHED", "Process was killed by signal 11 (SIGSEGV)"),
        ("fail_at_exit", {}, "CRASHED", "Process exited with status 7, after the function had returned"),
    ],
)
async def test_how_the_process_ends_decides_when_the_function_says_nothing(
    client: Redis, flows: Path, function: str, parameters: dict[str, Any], state: str, message: str
) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:{function}", parameters=parameters)
        await rig.assign(run)
        report = await rig.report(run)
        assert (report["state"], report["message"]) == (state, message)
        assert report["started_ms"] is not None


async def test_a_child_killed_from_outside_is_crashed(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:sleep")
        await rig.assign(run)
        await rig.report(run, "RUNNING")
        child = next(process for process in psutil.Process().children() if "child.py" in " ".join(process.cmdline()))
        child.kill()
        assert (await rig.report(run))["message"] == "Process was killed by signal 9 (SIGKILL)"


async def test_grandchildren_do_not_outlive_the_run(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:leave_grandchild")
        await rig.assign(run)
        await rig.completed(run)
        grandchild = int((await rig.output(run))[0][1])
        await wait_until(lambda: _gone(grandchild), what="the end of the grandchild")


async def test_output_is_kept_line_by_line_whatever_it_contains(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:shout", stream_output=False)
        await rig.assign(run)
        await rig.completed(run)
        output = await rig.output(run)
        assert ("stderr", "to stderr") in output
        lines = [text for source, text in output if source == "stdout"]
        assert lines[:2] == ["to stdout", "bad � utf-8"]
        assert lines[2] == "l" * 8192 + " [line cut]"
        assert lines[3:] == ["no line break"]
        assert rig.console.lines == ["Worker 'w1' started!"]
        ttl = await client.ttl(keys.key(0, "logs", run.id))
        assert LOGS_EXPIRE_SECONDS - 60 < ttl <= LOGS_EXPIRE_SECONDS


async def test_output_arrives_while_the_run_goes_on(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{flows}:sleep")
        await rig.assign(run)
        await wait_until(lambda: rig.output(run), what="the first line")
        assert await rig.states(run) == ["RUNNING"]


async def test_a_prefetched_run_loads_early_and_starts_on_time(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        run = claim(due_in_seconds=1.0, entrypoint=f"{flows}:surroundings")
        await rig.assign(run)
        report = await rig.report(run)
        at_ms = as_json((await rig.output(run))[0][1])["at"] * 1000
        assert run.due_ms <= at_ms < run.due_ms + 150
        assert run.due_ms <= report["started_ms"]


async def test_a_command_gets_its_words_and_its_parameters_as_variables(client: Redis) -> None:
    async with working(client) as rig:
        code = "import os,sys; print(sys.argv[1], os.environ['PENSTOCK_PARAM_A'], os.environ['PENSTOCK_PARAM_LIST'])"
        parameters = {"a": "text", "list": [1]}
        run = claim(command=[sys.executable, "-c", code, "$HOME; *"], parameters=parameters)
        await rig.assign(run)
        await rig.completed(run)
        assert await rig.output(run) == [("stdout", "$HOME; * text [1]")]
        assert await rig.states(run) == ["RUNNING", "COMPLETED"]


async def test_a_command_as_text_is_split_and_no_shell_runs_it(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(command="echo 'two words' $HOME > file")
        await rig.assign(run)
        await rig.completed(run)
        assert await rig.output(run) == [("stdout", "two words $HOME > file")]


async def test_a_command_starts_on_time_and_finds_default_signals(client: Redis) -> None:
    async with working(client) as rig:
        run = claim(due_in_seconds=0.7, command=[sys.executable, "-S", "-c", "import time; print(time.time())"])
        signals = claim(command="grep SigIgn /proc/self/status")
        await rig.assign(run, signals)
        await rig.completed(signals)
        ignored = int((await rig.output(signals))[0][1].split()[1], 16)
        assert ignored & (1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)) == 0
        report = await rig.completed(run)
        assert float((await rig.output(run))[0][1]) * 1000 >= run.due_ms
        assert report["started_ms"] >= run.due_ms


@pytest.mark.parametrize(
    ("command", "state", "message"),
    [
        ("sh -c 'exit 3'", "CRASHED", "Process exited with status 3"),
        ("sh -c 'kill -15 $$'", "CRASHED", "Process was killed by signal 15 (SIGTERM)"),
        ("no-such-command --x", "FAILED", "Command not found: 'no-such-command'"),
        ("/", "FAILED", "Command '/' cannot be executed: Permission denied"),
        ("echo 'half", "FAILED", "The run cannot be started: its command cannot be split into words"),
        ("  ", "FAILED", "The run cannot be started: its command is empty"),
    ],
)
async def test_a_command_that_does_not_succeed_says_why(client: Redis, command: str, state: str, message: str) -> None:
    async with working(client) as rig:
        run = claim(command=command)
        await rig.assign(run)
        report = await rig.report(run)
        assert report["state"] == state
        assert report["message"].startswith(message)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"entrypoint": "a.py:f", "working_dir": "/no/such/folder"},
            "working directory /no/such/folder does not exist",
        ),
        ({"entrypoint": "no colon"}, "The run's specification is wrong"),
        ({}, "give exactly one of entrypoint"),
        ({"command": "true", "env": {"A=B": "1"}}, "environment variable 'A=B' cannot be set"),
        ({"entrypoint": "a.py:f", "env": {"A": "x" * 300_000}}, "larger than this host gives to a process"),
    ],
)
async def test_a_wrong_specification_is_failed_with_the_reason(
    client: Redis, spec: dict[str, Any], message: str
) -> None:
    async with working(client) as rig:
        run = claim(**spec)
        await rig.assign(run)
        report = await rig.report(run)
        assert report["state"] == "FAILED"
        assert message in report["message"]


async def test_every_process_is_gone_and_every_folder_removed_when_the_worker_ends(
    client: Redis, flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    async with working(client) as rig:
        runs = [claim(entrypoint=f"{flows}:sleep") for _ in range(3)]
        await rig.assign(*runs)
        for run in runs:
            await rig.report(run, "RUNNING")
        assert len(list(temporary.iterdir())) == 3
        children = psutil.Process().children(recursive=True)
        ours = [
            child for child in children if {"child.py", "guardian.py"} & {Path(part).name for part in child.cmdline()}
        ]
        assert len(ours) == 4
    assert [child for child in ours if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    assert list(temporary.iterdir()) == []


async def test_pipes_do_not_leak(client: Redis, flows: Path) -> None:
    async with working(client) as rig:
        first = claim(entrypoint=f"{flows}:add", parameters={"a": 1})
        await rig.assign(first)
        await rig.report(first)
        before = _pipes()
        runs = [claim(entrypoint=f"{flows}:add", parameters={"a": 1}) for _ in range(6)]
        await rig.assign(*runs, claim(command="true"), claim(entrypoint="nowhere.py:f", working_dir="/no/such"))
        for run in runs:
            await rig.report(run)

        async def back() -> bool:
            return _pipes() <= before

        await wait_until(back, what="as many pipes as before")


def _pipes() -> int:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(str(link.readlink()).startswith("pipe:") for link in links if link.is_symlink())


async def _absent(folder: str) -> bool:
    return not os.path.exists(folder)  # noqa: PTH110, ASYNC240 - a quick look


async def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
