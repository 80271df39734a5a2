"""Runs on the command line: listed, inspected, explained, watched, cancelled, retried, deleted; real services, real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import connect, redis_now_ms
from penstock.bus.entries import entry_fields
from penstock.cli import following
from penstock.cli.times import absolute
from penstock.client import Penstock
from penstock.contracts.logs import LogLine, RunLog
from penstock.settings import Settings
from tests.command_line import DONE, REFUSED, USAGE, new_pool, rows, typing_commands
from tests.installation import HandWorker
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from penstock.client.explanation import Explanation
    from tests.command_line import Command


UNKNOWN = "0198c0de-0000-7000-8000-000000000000"


@pytest.fixture
def penstock(url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", url)
    monkeypatch.setenv("COLUMNS", "240")
    return typing_commands()


@pytest.fixture
def pool(penstock: Command) -> str:
    return new_pool(penstock)


def submit(penstock: Command, pool: str, *options: str) -> list[str]:
    answer = json.loads(penstock("flow-run", "submit", "-p", pool, "-c", "true", *options, "-o", "json").stdout)
    return list(answer["runs"])


def look(penstock: Command, *arguments: str, code: int = DONE) -> Any:
    return json.loads(penstock(*arguments, "-o", "json", code=code).stdout)


def in_redis(url: str, action: Callable[[Redis], Any]) -> Any:
    async def session() -> Any:
        client = connect(url)
        try:
            return await action(client)
        finally:
            await client.aclose()

    return asyncio.run(session())


def end(url: str, penstock: Command, pool: str, *states: str) -> list[str]:
    """Submit runs that end so."""
    ids = submit(penstock, pool, "--count", str(len(states)))

    async def action(client: Redis) -> None:
        worker = HandWorker(client, pool)
        await worker.join()
        for run, state in zip(await worker.take(len(states)), states, strict=True):
            await worker.report(run, state, "boom" if state == "FAILED" else "")

        async def over() -> bool:
            return all([await client.hget(keys.key(0, "run", run_id), "ended") for run_id in ids])

        await wait_until(over, what="the ends")

    in_redis(url, action)
    return ids


# ls and inspect


def test_a_list_is_shown_page_by_page(penstock: Command, pool: str) -> None:
    ids = submit(penstock, pool, "--count", "5", "--name", "n")

    ls = ("flow-run", "ls", "-p", pool, "--limit", "2")
    first, second, third = (penstock(*ls, "--page", str(page)).stdout for page in (1, 2, 3))

    assert [row[0] for page in (first, second, third) for row in rows(page)] == ids
    assert "more: --page 2" in first
    assert "more: --page 3" in second
    assert "more" not in third
    assert [run["id"] for run in look(penstock, *ls, "--page", "2")] == ids[2:4]
    assert look(penstock, *ls, "--page", "4") == []
    assert "--page" in penstock(*ls, "--page", "0", code=USAGE).stderr


def test_a_list_is_narrowed_by_queue_state_and_name(penstock: Command, url: str, pool: str) -> None:
    (low,) = submit(penstock, pool, "-q", "low", "--name", "load-1")
    (late,) = submit(penstock, pool, "--name", "load-2")
    submit(penstock, pool, "--name", "other")

    queue_id = look(penstock, "work-queue", "inspect", "default", "-p", pool)["id"]

    async def age(client: Redis) -> None:
        await client.zadd(keys.key(0, "waiting", queue_id), {late: await redis_now_ms(client) - 60_000})

    in_redis(url, age)
    ls = ("flow-run", "ls", "-p", pool)

    assert [run["id"] for run in look(penstock, *ls, "--queue", "low")] == [low]
    assert {run["id"] for run in look(penstock, *ls, "--name", "load-*")} == {low, late}
    assert [run["id"] for run in look(penstock, *ls, "--state", "late")] == [late]
    assert [row[4] for row in rows(penstock(*ls, "--state", "Late").stdout)] == ["SCHEDULED (Late)"]
    assert look(penstock, *ls, "--state", "AwaitingRetry") == []
    assert len(look(penstock, *ls, "--state", "Scheduled")) == 3
    assert "did you mean 'LATE'?" in " ".join(penstock(*ls, "--state", "lates", code=USAGE).stderr.split())
    assert "did you mean 'low'?" in penstock(*ls, "--queue", "lwo", code=REFUSED).stderr
    assert "no deployment 'x/y'" in penstock(*ls, "--deployment", "x/y", code=REFUSED).stderr


def test_a_list_ends_with_what_is_planned_and_tells_how_much_of_it_is_not_shown(
    penstock: Command, url: str, pool: str
) -> None:
    (ended,) = end(url, penstock, pool, "COMPLETED")
    planned = submit(penstock, pool, "--at", "+2h", "--count", "3")
    (held,) = submit(penstock, pool)

    ls = ("flow-run", "ls", "-p", pool)
    printed = penstock(*ls).stdout
    short = penstock(*ls, "--limit", "3").stdout

    assert [row[0] for row in rows(printed)] == [held, ended, *planned]
    assert "planned for later" not in printed
    assert "2 more are planned for later; --state SCHEDULED lists what waits" in short
    assert "planned" not in penstock(*ls, "--limit", "1", "--state", "SCHEDULED").stdout
    due = datetime.fromisoformat(look(penstock, "flow-run", "inspect", planned[0])["scheduled_time"])
    assert (rows(printed)[2][6], rows(printed)[2][8]) == (absolute(due), "")
    assert rows(printed)[1][8].endswith("s"), "how long it ran"


def test_an_id_is_never_broken_and_columns_that_say_nothing_new_are_left_out(
    penstock: Command, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_id,) = submit(penstock, pool, "--name", "load-the-day")
    heads = {}
    for width in (40, 80, 120, 240):
        monkeypatch.setenv("COLUMNS", str(width))
        printed = penstock("flow-run", "ls", "--name", "load-the-day").stdout
        assert run_id in printed
        if width >= 80:
            assert max(len(line) for line in printed.splitlines()) <= width
        heads[width] = [cell.strip() for cell in printed.splitlines()[2].strip("┃").split("┃")]

    assert heads[80] == ["ID", "Name", "State", "When"]
    assert [head for head in heads[240] if head not in heads[120]] == ["Pool", "Queue", "Worker", "Scheduled"]
    narrowed = penstock("flow-run", "ls", "-p", pool, "-q", "default").stdout.splitlines()[2]
    assert "Pool" not in narrowed
    assert "Queue" not in narrowed


def test_inspecting_shows_the_states_with_their_times(penstock: Command, url: str, pool: str) -> None:
    (run_id,) = end(url, penstock, pool, "FAILED")

    printed = penstock("flow-run", "inspect", run_id).stdout

    states = re.findall(r"'\d{4}-\d\d-\d\dT\S+ (\w+) \(.+?\)(: boom)?'", printed)
    assert states == [("Scheduled", ""), ("Pending", ""), ("Failed", ": boom")]
    assert re.search(r"\bsubmitted='", printed)
    assert "_ms=" not in printed
    told = look(penstock, "flow-run", "inspect", run_id)["states"]
    assert [state["name"] for state in told] == ["Scheduled", "Pending", "Failed"]


@pytest.mark.parametrize("command", ["inspect", "explain", "watch", "logs", "retry", "cancel"])
def test_an_id_nobody_has_and_one_that_is_none_are_refused(penstock: Command, command: str) -> None:
    told = penstock("flow-run", command, UNKNOWN, code=REFUSED)
    assert f"there is no run '{UNKNOWN}'" in told.stderr or f"unknown ({UNKNOWN})" in told.stdout
    assert "'nonsense' is not a run id" in penstock("flow-run", command, "nonsense", code=REFUSED).stderr


# explain


def test_explaining_says_why_who_and_what_to_do(penstock: Command, url: str, pool: str) -> None:
    penstock("work-pool", "set-concurrency-limit", "1", pool)
    (held,) = submit(penstock, pool, "--name", "holder")

    async def take(client: Redis) -> None:
        worker = HandWorker(client, pool, slots=1)
        await worker.join()
        await worker.take(1)

    in_redis(url, take)
    _, second = submit(penstock, pool, "--count", "2", "--name", "n")

    printed = penstock("flow-run", "explain", second).stdout.splitlines()

    assert printed[:2] == [f"Flow run 'n-2' ({second}) is Scheduled", "Why: pool limit 1/1"]
    assert printed[2] == f"    {held}  holder  PENDING  on 'w1'"
    assert "Position: 1 waiting run comes before it" in printed
    assert "Also: all workers full (1/1 slots)" in printed
    assert printed[-1] == f"What to do: penstock work-pool clear-concurrency-limit '{pool}'"
    told = look(penstock, "flow-run", "explain", second)
    assert (told["code"], told["position"], told["holders"][0]["id"]) == ("pool_limit", 1, held)
    assert [other["code"] for other in told["further"]] == ["workers_full"]


# watch


async def say(client: Redis, run_id: str, text: str) -> None:
    line = LogLine(at_ms=await redis_now_ms(client), source="stdout", text=text)
    await client.xadd(keys.key(0, "logs", run_id), entry_fields(RunLog(run=run_id, lines=[line])))


@pytest.mark.parametrize(("state", "code"), [("COMPLETED", DONE), ("FAILED", REFUSED)])
def test_watching_prints_states_and_output_and_ends_as_the_run_does(
    penstock: Command, url: str, pool: str, state: str, code: int
) -> None:
    (run_id,) = submit(penstock, pool)

    async def play(client: Redis) -> None:
        worker = HandWorker(client, pool)
        await worker.join()
        (run,) = await worker.take(1)
        await worker.report(run, "RUNNING")
        await say(client, run_id, "hello")
        await worker.report(run, state, "the end")

    player = threading.Thread(target=lambda: in_redis(url, play))
    player.start()
    printed = penstock("flow-run", "watch", run_id, code=code).stdout
    player.join()

    lines = [line.split(" | ", 1)[1] for line in printed.splitlines()]
    assert [line for line in lines if line.startswith("state")] == [
        "state  | Scheduled",
        "state  | Pending",
        "state  | Running",
        f"state  | {state.capitalize()}: the end",
    ]
    assert "stdout | hello" in lines
    assert lines[-1].startswith(f"state  | {state.capitalize()}")
    again = [
        json.loads(line) for line in penstock("flow-run", "watch", run_id, "-o", "json", code=code).stdout.splitlines()
    ]
    assert [step.get("state") or step["text"] for step in again][-1] == state


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is told to somebody who waits, as soon as it is said; nobody waits for long."""
    lines: list[str] = []
    monkeypatch.setattr(following, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(following, "say", lines.append)
    return lines


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The states of runs that were explained."""
    states: list[str] = []
    explain = Penstock.explain_run

    async def counted(self: Penstock, run_id: str) -> Explanation:
        why = await explain(self, run_id)
        states.append(why.state)
        return why

    monkeypatch.setattr(Penstock, "explain_run", counted)
    return states


@pytest.mark.parametrize(
    "command", [["watch", "ID"], ["watch", "ID", "-o", "json"], ["logs", "ID", "--follow"], ["submit", "--wait"]]
)
def test_who_waits_for_a_run_that_cannot_start_is_told_why_once_and_when_the_reason_changes(
    penstock: Command, url: str, pool: str, said: list[str], looked: list[str], command: list[str]
) -> None:
    penstock("work-pool", "pause", pool)
    submitting = command[0] == "submit"
    ids = [] if submitting else submit(penstock, pool)

    async def play(_: Redis) -> None:
        async def told(what: str) -> None:
            async def there() -> bool:
                return any(line.endswith(what) for line in said)

            await wait_until(there, what=f"{what} in {said}")
            seen = len(looked)

            async def several() -> bool:
                return len(looked) > seen + 3

            await wait_until(several, what="more looks")

        async with Penstock.connect(Settings(redis_url=url)) as sdk:
            await told(f" | waits  | pool paused; penstock work-pool resume '{pool}'")
            await sdk.resume_pool(pool)
            worker = f"penstock worker start --pool '{pool}' --work-queue 'default'"
            await told(f" | waits  | no online worker serves the queue; {worker}")
            await sdk.cancel_runs([run.id for run in await sdk.read_runs(pool)])

    player = threading.Thread(target=lambda: in_redis(url, play))
    player.start()
    if submitting:
        penstock("flow-run", "submit", "-p", pool, "-c", "true", "--wait", code=REFUSED)
    else:
        options = [ids[0] if word == "ID" else word for word in command]
        penstock("flow-run", *options, code=DONE if command[0] == "logs" else REFUSED)
    player.join()

    assert len([line for line in said if " | waits  | " in line]) == 2


def test_runs_that_go_on_are_waited_for_in_silence(
    penstock: Command, url: str, pool: str, said: list[str], looked: list[str]
) -> None:
    before = 0

    async def play(client: Redis) -> None:
        nonlocal before
        worker = HandWorker(client, pool)
        await worker.join()
        runs = await worker.take(2)
        for run in runs:
            await worker.report(run, "RUNNING")

        async def several() -> bool:
            return looked.count("RUNNING") > 5

        async def first() -> bool:
            return looked[-1:] == ["RUNNING"]

        await wait_until(first, what="the news that they run")
        before = len(said)
        await wait_until(several, what="looks")
        for run in runs:
            await worker.report(run, "COMPLETED")

    player = threading.Thread(target=lambda: in_redis(url, play))
    player.start()
    penstock("flow-run", "submit", "-p", pool, "-c", "true", "--count", "2", "--wait")
    player.join()

    assert said[before:] == []


@pytest.mark.parametrize("command", [["watch", "ID"], ["logs", "ID", "--follow"], ["submit", "--wait"]])
def test_ctrl_c_says_that_the_run_goes_on(penstock: Command, url: str, pool: str, command: list[str]) -> None:
    ids = [] if command[0] == "submit" else submit(penstock, pool)
    words = ["submit", "-p", pool, "-c", "true", "--wait"] if not ids else command
    options = [ids[0] if word == "ID" else word for word in words]
    waiting = subprocess.Popen(
        [sys.executable, "-m", "penstock", "--redis-url", url, "flow-run", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert waiting.stderr
    line = ""
    while "waits" not in line:
        line = waiting.stderr.readline()
        assert line

    waiting.send_signal(signal.SIGINT)
    _, errors = waiting.communicate(timeout=20)

    (run,) = look(penstock, "flow-run", "ls", "-p", pool)
    assert waiting.returncode == 130
    assert (
        f"The run goes on. Watch: penstock flow-run watch {run['id']}; end it: penstock flow-run cancel {run['id']}\n"
        in errors
    )
    assert run["state"] == "SCHEDULED"


# cancel, retry, delete


def test_runs_are_cancelled_by_id(penstock: Command, url: str, pool: str) -> None:
    ended = end(url, penstock, pool, "COMPLETED")
    penstock("work-pool", "pause", pool)
    ids = submit(penstock, pool, "--count", "2")

    told = penstock("flow-run", "cancel", *ids, *ended, "--message", "not needed").stdout

    assert told == "2 cancelled, 1 had ended (1 COMPLETED)\n"
    assert look(penstock, "flow-run", "inspect", ids[0])["message"] == "not needed"
    assert "1 had ended (1 COMPLETED)" in penstock("flow-run", "cancel", *ended, code=REFUSED).stdout
    assert look(penstock, "flow-run", "cancel", UNKNOWN, code=REFUSED)["unknown"] == [UNKNOWN]


def test_a_run_in_flight_is_cancelled_by_its_worker_or_by_force(penstock: Command, url: str, pool: str) -> None:
    submit(penstock, pool)

    async def take(client: Redis) -> str:
        worker = HandWorker(client, pool)
        await worker.join()
        return str((await worker.take(1))[0]["id"])

    run_id = in_redis(url, take)
    assert penstock("flow-run", "cancel", run_id).stdout == "0 cancelled, 1 cancelling (their workers end them)\n"
    assert look(penstock, "flow-run", "inspect", run_id)["state"] == "CANCELLING"
    assert penstock("flow-run", "cancel", run_id, "--force").stdout == "1 cancelled\n"
    assert look(penstock, "flow-run", "inspect", run_id)["state"] == "CANCELLED"
    assert penstock("flow-run", "cancel", run_id).stdout == "1 flow run was CANCELLED already\n"


def test_runs_are_cancelled_in_bulk(penstock: Command, pool: str) -> None:
    submit(penstock, pool, "--count", "1200", "--name", "many")
    low = submit(penstock, pool, "--queue", "low", "--count", "3", "--name", "few")

    assert penstock("flow-run", "cancel", "-p", pool, "-q", "low", "--name", "few-[12]").stdout == "2 cancelled\n"
    assert [run["id"] for run in look(penstock, "flow-run", "ls", "-p", pool, "-q", "low", "-s", "scheduled")] == low[
        2:
    ]
    assert (
        penstock("flow-run", "cancel", "-p", pool, "--state", "late").stdout
        == "No flow run that has not ended matches\n"
    )
    assert penstock("flow-run", "cancel", "-p", pool, "--yes").stdout == "1201 cancelled\n"
    assert look(penstock, "flow-run", "ls", "-p", pool, "-s", "scheduled") == []


def test_cancelling_everything_has_to_be_said(penstock: Command, pool: str) -> None:
    ids = submit(penstock, pool)

    for arguments in ([], [*ids, "--pool", pool], [*ids, "--all"]):
        assert "either ids or conditions" in " ".join(
            penstock("flow-run", "cancel", *arguments, code=USAGE).stderr.split()
        )
    assert "has ended" in penstock("flow-run", "cancel", "-p", pool, "-s", "failed", code=USAGE).stderr
    penstock("flow-run", "cancel", "--all", "--yes")

    assert look(penstock, "flow-run", "inspect", ids[0])["state"] == "CANCELLED"


@pytest.mark.parametrize(("answer", "cancelled"), [(b"n\n", False), (b"y\n", True)])
def test_on_a_terminal_a_bulk_is_asked_for_with_its_size(
    penstock: Command, url: str, pool: str, answer: bytes, cancelled: bool
) -> None:
    submit(penstock, pool, "--count", "3")
    keyboard, terminal = pty.openpty()
    os.write(keyboard, answer)
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "--redis-url", url, "flow-run", "cancel", "--pool", pool],
        stdin=terminal,
        capture_output=True,
        timeout=60,
        check=False,
    )
    os.close(keyboard)
    os.close(terminal)

    assert b"Cancel 3 flow runs?" in done.stdout
    assert done.returncode == (DONE if cancelled else REFUSED)
    assert len(look(penstock, "flow-run", "ls", "-p", pool, "-s", "cancelled")) == (3 if cancelled else 0)


def test_a_retry_is_submitted_and_can_be_watched(penstock: Command, url: str, pool: str) -> None:
    (run_id,) = end(url, penstock, pool, "FAILED")

    told = penstock("flow-run", "retry", run_id).stdout
    again = told.split()[3].rstrip(",")
    assert told.splitlines() == [
        f"Submitted flow run {again}, a retry of {run_id}",
        *("", "Watch it:", f"    penstock flow-run watch {again}"),
    ]
    assert f"retry_of='{run_id}'" in penstock("flow-run", "inspect", again).stdout
    assert look(penstock, "flow-run", "inspect", again)["spec"]["labels"] == {"penstock.retry-of": run_id}
    assert (
        "only a run that has ended"
        in penstock("flow-run", "retry", submit(penstock, pool, "--at", "+1h")[0], code=REFUSED).stderr
    )

    async def complete(client: Redis) -> None:
        worker = HandWorker(client, pool)
        for run in await worker.take(3):
            if run["id"] not in {run_id, again}:
                await worker.report(run, "COMPLETED")

    player = threading.Thread(target=lambda: in_redis(url, complete))
    player.start()
    watched = penstock("flow-run", "retry", run_id, "--watch").stdout
    player.join()
    assert watched.splitlines()[-1].endswith("state  | Completed")


def test_only_what_has_ended_is_deleted_and_the_rest_is_told(penstock: Command, url: str, pool: str) -> None:
    (ended,) = end(url, penstock, pool, "COMPLETED")
    (waits,) = submit(penstock, pool, "--at", "+1h")

    told = penstock("flow-run", "delete", ended, waits, UNKNOWN, code=REFUSED)

    assert told.stdout == "Deleted 1 flow run\n"
    assert f"1 flow run not deleted, for they have not ended: {waits}" in told.stderr
    assert "`penstock flow-run cancel ID` ends one" in told.stderr
    assert f"there is no run {UNKNOWN}" in told.stderr
    penstock("flow-run", "inspect", ended, code=REFUSED)
    penstock("flow-run", "cancel", waits)
    assert penstock("flow-run", "delete", waits, "-y").stdout == "Deleted 1 flow run\n"


# submit


def test_waiting_for_runs_gives_up_at_its_time_out(penstock: Command, pool: str) -> None:
    told = penstock("flow-run", "submit", "-p", pool, "-c", "true", "--wait", "--timeout", "0.2", code=REFUSED)

    assert "1 SCHEDULED" in told.stdout
    assert told.stderr.startswith("Error: 1 of 1 runs have not finished within 0.2 s\nHint: they go on; ")
    assert (
        "--timeout is for --wait"
        in penstock("flow-run", "submit", "-p", pool, "-c", "true", "--timeout", "1", code=USAGE).stderr
    )
    late = penstock(
        "flow-run", "submit", "-p", pool, "-c", "true", "--wait", "--timeout", "0.1", "-o", "json", code=REFUSED
    )
    assert json.loads(late.stdout)["runs"][0]["state"] == "SCHEDULED"


def test_one_run_is_watched_from_its_submission(penstock: Command, url: str, pool: str) -> None:
    async def play(client: Redis) -> None:
        worker = HandWorker(client, pool)
        await worker.join()
        for number in range(2):
            (run,) = await worker.take(1)
            await worker.report(run, "FAILED" if number else "COMPLETED")

    player = threading.Thread(target=lambda: in_redis(url, play))
    player.start()
    submission = ("flow-run", "submit", "-p", pool, "-c", "true", "--watch")
    printed = penstock(*submission).stdout.splitlines()
    first, *steps = penstock(*submission, "-o", "json", code=REFUSED).stdout.splitlines()
    player.join()

    assert printed[0].startswith("Submitted 1 flow run")
    assert printed[-1].endswith("state  | Completed")
    assert len(json.loads(first)["runs"]) == 1
    assert json.loads(steps[-1])["state"] == "FAILED"
    for wrong in (["--count", "2"], ["--wait"]):
        assert "--watch shows one run" in penstock(*submission, *wrong, code=USAGE).stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("command", "operator"),
    [("cd /srv && ls", "&&"), ("ls | wc", "|"), ("ls > out", ">"), ("ls 2>&1", "2>&1"), ("cd /srv; ls", "/srv;")],
)
def test_a_command_that_is_meant_for_a_shell_is_warned_of(
    penstock: Command, pool: str, command: str, operator: str
) -> None:
    warned = penstock("flow-run", "submit", "-p", pool, "-c", command).stderr

    assert warned.startswith(f"Warning: no shell is involved: the command gets {operator} as an argument")
    assert penstock("flow-run", "submit", "-p", pool, "-c", f"sh -c '{command}'").stderr == ""


def test_a_submission_says_when_it_is_due_in_full_and_that_a_moment_has_passed(penstock: Command, pool: str) -> None:
    submission = ("flow-run", "submit", "-p", pool, "-c", "true", "--at")

    later = penstock(*submission, "2040-01-31T08:00:00+00:00")
    passed = penstock(*submission, "2020-01-31T08:00:00+00:00")

    assert f"Due {absolute(datetime(2040, 1, 31, 8, tzinfo=UTC))} (in " in later.stdout
    assert later.stderr == ""
    assert passed.stderr.startswith(f"Note: {absolute(datetime(2020, 1, 31, 8, tzinfo=UTC))} (")
    assert passed.stderr.endswith(" days ago) has passed, so it is due at once\n")


def test_a_submission_that_is_refused_leaves_no_queue_behind(penstock: Command, pool: str) -> None:
    bad = ("flow-run", "submit", "-p", pool, "-q", "left", "-c", "true", "--job-variable", "stream_output=maybe")

    penstock(*bad, code=REFUSED)

    assert [queue["name"] for queue in look(penstock, "work-queue", "ls", "-p", pool)] == ["default"]


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "[1, 1e999]", '{"a": NaN}'])
def test_a_number_that_json_does_not_have_is_refused(penstock: Command, pool: str, value: str) -> None:
    refused = penstock("flow-run", "submit", "-p", pool, "-c", "true", "--param", f"x={value}", code=USAGE)

    assert "JSON has no such number" in " ".join(refused.stderr.replace("│", "").split())
    assert look(penstock, "flow-run", "ls", "-p", pool) == []


def test_a_bar_is_shown_for_many_runs_only_to_people(url: str, pool: str) -> None:
    command = [sys.executable, "-m", "penstock", "--redis-url", url, "flow-run", "submit", "-p", pool, "-c", "true"]
    leader, terminal = pty.openpty()
    watched = subprocess.Popen(
        [*command, "--count", "2000"], stdout=subprocess.PIPE, stderr=terminal, env={**os.environ, "TERM": "xterm"}
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            shown += os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
    out, _ = watched.communicate(timeout=30)
    piped = subprocess.run([*command, "--count", "2000"], capture_output=True, check=True, timeout=60)

    assert b"Submitting" in shown
    assert b"2000/2000" in shown
    assert out.startswith(b"Submitted 2000 flow runs")
    assert b"Submitting" not in piped.stdout + piped.stderr
    assert piped.stderr == b""


# events


def test_events_of_one_pool_are_picked_out(penstock: Command, pool: str) -> None:
    penstock("work-pool", "create", f"{pool}-2")
    submit(penstock, pool)
    submit(penstock, f"{pool}-2")

    tail = ("events", "tail", "--since", "10m", "--no-follow", "-o", "json")
    told = [json.loads(line)["event"] for line in penstock(*tail, "--pool", pool).stdout.splitlines()]

    assert told == [
        "prefect.work-queue.created",
        "prefect.work-pool.created",
        "prefect.work-pool.not-ready",
        "prefect.flow-run.Scheduled",
    ]


def test_a_filter_that_no_event_matches_and_an_unknown_pool_are_warned_of(penstock: Command, pool: str) -> None:
    tail = ("events", "tail", "--since", "10m", "--no-follow")

    wrong = penstock(*tail, "--filter", "prefect.work-pool.redy", "--filter", "prefect.flow-run.*").stderr
    assert (
        wrong
        == "Warning: no event has a name that matches 'prefect.work-pool.redy'; did you mean 'prefect.work-pool.ready'?\n"
    )
    assert (
        f"Warning: there is no work pool '{pool}x'; did you mean '{pool}'?"
        in penstock(*tail, "--pool", f"{pool}x").stderr
    )
    assert penstock(*tail, "--filter", "*.Late*", "--pool", pool).stderr.startswith("Warning: no event has a name")
