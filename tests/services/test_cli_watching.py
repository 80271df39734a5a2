"""Looking ahead and asking why, as people do it: real services, real Redis, workers played by hand."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.bus.entries import entry_fields
from penstock.cli.times import zone_of
from penstock.contracts.logs import LogLine, RunLog
from tests.command_line import DONE, REFUSED, USAGE, new_pool, rows, typing_commands
from tests.installation import HandWorker
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.command_line import Command


@pytest.fixture
def penstock(url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("PENSTOCK_REDIS_URL", url)
    monkeypatch.setenv("COLUMNS", "240")
    return typing_commands()


@pytest.fixture
def pool(penstock: Command) -> str:
    return new_pool(penstock)


@pytest.fixture
def only_pool(penstock: Command, pool: str) -> str:
    """The only pool there is."""
    for other in json.loads(penstock("work-pool", "ls", "-o", "json").stdout):
        if other["name"] != pool:
            penstock("work-pool", "delete", other["name"], "--yes")
    return pool


def submit(penstock: Command, pool: str, *more: str) -> list[str]:
    submitted = penstock("flow-run", "submit", "-p", pool, "-c", "true", "-o", "json", *more)
    return list(json.loads(submitted.stdout)["runs"])


def look(penstock: Command, *arguments: str) -> Any:
    return json.loads(penstock(*arguments, "-o", "json").stdout)


def in_redis(url: str, action: Callable[[Redis], Any]) -> Any:
    async def session() -> Any:
        client = connect(url)
        try:
            return await action(client)
        finally:
            await client.aclose()

    return asyncio.run(session())


def take(url: str, pool: str, count: int, *, slots: int = 10) -> list[dict[str, Any]]:
    """Let worker w1 join and take so many runs, which stay PENDING."""

    async def action(client: Redis) -> list[dict[str, Any]]:
        worker = HandWorker(client, pool, slots=slots)
        await worker.join()
        return await worker.take(count)

    return list(in_redis(url, action))


# preview


def test_a_preview_shows_the_runs_of_the_next_hours_in_the_order_of_their_handing_out(
    penstock: Command, pool: str
) -> None:
    penstock("work-queue", "create", "critical", "-p", pool, "--priority", "1")
    (soon,) = submit(penstock, pool, "--at", "+30m")
    (late,) = submit(penstock, pool, "--name", "late-one")
    (urgent,) = submit(penstock, pool, "-q", "critical")
    (later,) = submit(penstock, pool, "-q", "critical", "--at", "+90m")
    submit(penstock, pool, "--at", "+30h")

    printed = penstock("work-pool", "preview", pool).stdout
    assert [row[1] for row in rows(printed)] == [urgent, late, soon]
    assert "Scheduled Start Time" in printed
    assert "Deployment" not in printed
    assert rows(printed)[1][2:] == ["late-one", "default"]
    assert [row[0].endswith("(**)") for row in rows(printed)] == [True, True, False]
    due = look(penstock, "flow-run", "inspect", soon)["scheduled_time"]
    assert rows(printed)[2][0] == f"{due[:10]} {due[11:19]}Z"
    assert "(**) denotes a late run" in printed

    previewed = look(penstock, "work-pool", "preview", pool, "--hours", "2")
    assert [(run["id"], run["late"]) for run in previewed] == [
        (urgent, True),
        (late, True),
        (soon, False),
        (later, False),
    ]
    one = penstock("work-queue", "preview", "critical", "--pool", pool, "--hours", "12").stdout
    assert [row[1] for row in rows(one)] == [urgent, later]
    assert [run["id"] for run in look(penstock, "work-queue", "preview", "default", "-p", pool)] == [late, soon]


def test_a_preview_says_what_is_paused_and_how_much_it_leaves_out(penstock: Command, pool: str) -> None:
    submit(penstock, pool, "--count", "3")
    penstock("work-pool", "pause", pool)
    penstock("work-queue", "pause", "default", "-p", pool)

    printed = penstock("work-pool", "preview", pool, "--limit", "1").stdout

    assert len(rows(printed)) == 1
    assert "... and 2 more" in printed
    assert f"The work pool '{pool}' is paused: nothing of it is handed out." in printed
    assert "The work queue 'default' is paused: nothing of it is handed out." in printed


@pytest.mark.parametrize("hours", ["-1", "soon"])
def test_hours_that_are_none_are_a_usage_error(penstock: Command, pool: str, hours: str) -> None:
    assert "--hours" in penstock("work-pool", "preview", pool, "--hours", hours, code=USAGE).stderr


def test_what_has_been_handed_out_is_not_previewed(penstock: Command, url: str, pool: str) -> None:
    submit(penstock, pool, "--count", "2")
    take(url, pool, 2)

    assert look(penstock, "work-pool", "preview", pool) == []


def test_the_runs_of_a_queue_are_read_whenever_they_are_due(penstock: Command, pool: str) -> None:
    (far,) = submit(penstock, pool, "--at", "+900h")
    (now,) = submit(penstock, pool)

    printed = penstock("work-queue", "read-runs", "default", "--pool", pool).stdout.splitlines()

    assert printed[0] == f"Read 2 runs for work queue 'default' in work pool '{pool}'"
    assert [line.split()[0] for line in printed[1:]] == [now, far]
    assert printed[2].endswith(", in 37 days")
    assert [run["id"] for run in look(penstock, "work-queue", "read-runs", "default", "-p", pool)] == [now, far]


# slots


def test_slots_say_who_holds_them_and_what_waits_for_which_reason(penstock: Command, url: str, pool: str) -> None:
    for number, queue in enumerate(("critical", "high", "low"), 1):
        penstock("work-queue", "create", queue, "-p", pool, "--priority", str(number))
    penstock("work-queue", "set-concurrency-limit", "critical", "1", "-p", pool)
    penstock("work-queue", "pause", "low", "-p", pool)
    submit(penstock, pool, "-q", "critical", "--count", "3")
    submit(penstock, pool, "-q", "low")
    submit(penstock, pool, "-q", "high", "--count", "2")
    submit(penstock, pool, "-q", "default", "--at", "+2h")
    held = take(url, pool, 3, slots=3)

    printed = penstock("work-pool", "slots", pool).stdout
    table = rows(printed)
    assert sorted(row[0] for row in table[:3]) == sorted(run["id"] for run in held)
    assert {(row[2], row[3], row[4]) for row in table[:3]} == {("critical", "PENDING", "w1"), ("high", "PENDING", "w1")}
    assert {row[5] for row in table[:3]} <= {"just now", "1 second ago", "2 seconds ago"}
    assert [(row[0], row[2], row[3], row[6]) for row in table[3:]] == [
        ("critical", "1/1", "2", "queue limit 1/1"),
        ("low", "0", "1", "queue paused"),
        ("default", "0", "1", "all workers full (3/3 slots)"),
    ]

    penstock("work-pool", "set-concurrency-limit", "3", pool)
    reasons = {one["queue"]: one["blocker"] for one in look(penstock, "work-pool", "slots", pool)["waiting"]}
    assert reasons == {"critical": "pool_limit", "low": "queue_paused", "default": "pool_limit"}
    penstock("work-pool", "pause", pool)
    told = look(penstock, "work-pool", "slots", pool)
    assert {one["reason"] for one in told["waiting"]} == {"pool paused"}
    assert (told["active_slots"], told["concurrency_limit"], len(told["holders"])) == (3, 3, 3)
    assert [(one["waiting"], one["due"]) for one in told["waiting"]] == [(2, 2), (1, 1), (1, 0)]


def test_slots_say_that_nobody_serves_a_queue_and_when_a_run_is_due(penstock: Command, url: str, pool: str) -> None:
    submit(penstock, pool, "--at", "2040-01-31T08:00:00+00:00")

    assert rows(penstock("work-pool", "slots", pool).stdout)[-1][-1] == "no online worker serves the queue"
    submit(penstock, pool)
    take(url, pool, 1)
    (row,) = [row for row in rows(penstock("work-pool", "slots", pool).stdout) if row[0] == "default"]
    assert row[-1] == "due at 2040-01-31T08:00:00.000Z"


# work-queue update and the default pool


def test_a_queue_is_updated(penstock: Command, pool: str) -> None:
    penstock("work-queue", "create", "low", "-p", pool)

    printed = penstock(
        *("work-queue", "update", "low", "--pool", pool, "--name", "background", "--priority", "1"),
        *("--description", "when idle", "--concurrency-limit", "2"),
    ).stdout

    assert printed == f"Updated work queue 'low' in work pool '{pool}'\nIt is called 'background' now.\n"
    queues = look(penstock, "work-queue", "ls", "-p", pool)
    assert [(queue["name"], queue["priority"]) for queue in queues] == [("background", 1), ("default", 2)]
    assert (queues[0]["description"], queues[0]["concurrency_limit"]) == ("when idle", 2)


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        ([], USAGE, "nothing to change"),
        (["--priority", "0"], REFUSED, "greater than or equal to 1"),
        (["--priority", "2147483648"], REFUSED, "less than or equal to"),
        (["--priority", "first"], USAGE, "--priority"),
        (["--concurrency-limit", "-1"], REFUSED, "greater than or equal to 0"),
        (["--name", "a/b"], REFUSED, "contains /"),
    ],
)
def test_a_wrong_update_of_a_queue_is_refused_with_the_rule(
    penstock: Command, pool: str, change: list[str], code: int, reason: str
) -> None:
    before = look(penstock, "work-queue", "inspect", "default", "-p", pool)

    assert reason in penstock("work-queue", "update", "default", "-p", pool, *change, code=code).stderr
    assert look(penstock, "work-queue", "inspect", "default", "-p", pool) == before


def test_the_only_pool_is_the_default_one(penstock: Command, only_pool: str) -> None:
    assert penstock("work-queue", "create", "low").stdout.splitlines()[2] == f"    work pool - '{only_pool}'"
    assert penstock("work-queue", "pause", "low").stdout == f"Paused work queue 'low' in work pool '{only_pool}'\n"
    assert [queue["name"] for queue in look(penstock, "work-queue", "ls")] == ["default", "low"]
    assert f"to work pool '{only_pool}'" in penstock("flow-run", "submit", "-c", "true").stdout


def test_a_variable_names_the_default_pool_and_the_option_wins(
    penstock: Command, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    penstock("work-pool", "create", f"{pool}-2")
    monkeypatch.setenv("PENSTOCK_DEFAULT_POOL", f"{pool}-2")

    assert look(penstock, "work-queue", "inspect", "default")["pool"] == f"{pool}-2"
    assert look(penstock, "work-queue", "inspect", "default", "-p", pool)["pool"] == pool

    monkeypatch.setenv("PENSTOCK_DEFAULT_POOL", f"{pool}-3")
    assert "did you mean" in penstock("work-queue", "ls", code=REFUSED).stderr


def test_without_a_default_the_pools_are_listed(penstock: Command, pool: str) -> None:
    penstock("work-pool", "create", f"{pool}-2")

    refused = " ".join(penstock("work-queue", "ls", code=USAGE).stderr.split())

    assert "give --pool (or set PENSTOCK_DEFAULT_POOL)" in refused
    assert pool in refused


def test_mistyped_names_of_queues_and_workers_get_a_suggestion(penstock: Command, url: str, pool: str) -> None:
    submit(penstock, pool)
    take(url, pool, 1)

    queue = penstock("work-queue", "preview", "defualt", "-p", pool, code=REFUSED).stderr
    assert queue == f"Error: there is no work queue 'defualt' in work pool '{pool}'\nHint: did you mean 'default'?\n"
    worker = penstock("worker", "inspect", "w11", "-p", pool, code=REFUSED).stderr
    assert worker == f"Error: there is no worker 'w11' in work pool '{pool}'\nHint: did you mean 'w1'?\n"
    assert "did you mean" in penstock("work-pool", "slots", f"{pool}x", code=REFUSED).stderr
    assert "--priority" in penstock("work-queue", "update", "default", "--priorty", "1", code=USAGE).stderr


# workers


def test_a_worker_is_inspected_with_the_runs_it_holds(penstock: Command, url: str, pool: str) -> None:
    submit(penstock, pool, "--count", "2", "--name", "n")
    held = take(url, pool, 2, slots=3)

    told = look(penstock, "worker", "inspect", "w1", "--pool", pool)
    assert (told["status"], told["slots"], told["slots_used"]) == ("ONLINE", 3, 2)
    assert (told["version"], told["boot_id"], told["queues"]) == ("1.2.3", "b1", [])
    assert {"host", "pid", "last_heartbeat", "prefetch_seconds"} <= set(told)
    assert 0 <= told["last_heartbeat_age_seconds"] < 30
    assert {run["id"] for run in told["runs"]} == {run["id"] for run in held}

    printed = penstock("worker", "inspect", "w1", "-p", pool).stdout
    assert printed.startswith("Worker(\n")
    assert "queues='all'" in printed
    assert f"'{held[0]['id']} {held[0]['name']} (PENDING, queue 'default', since" in printed.replace('"', "'")


def test_workers_are_listed_with_their_runs_when_asked(penstock: Command, url: str, pool: str) -> None:
    submit(penstock, pool, "--count", "7", "--name", "n")
    take(url, pool, 7)

    (plain,) = rows(penstock("worker", "ls", "-p", pool).stdout)
    (verbose,) = rows(penstock("worker", "ls", "-p", pool, "-v").stdout)
    assert (plain[0], plain[3], plain[4], len(plain)) == ("w1", "ONLINE", "7/10", 8)
    # But for the sixth, which says how long ago it was heard.
    assert verbose[:5] + verbose[6:8] == plain[:5] + plain[6:]
    assert verbose[8] == "n-1, n-2, n-3, n-4, n-5 and 2 more"
    assert len(look(penstock, "worker", "ls", "-p", pool, "-v")[0]["runs"]) == 7
    assert "runs" not in look(penstock, "worker", "ls", "-p", pool)[0]


# logs


async def say(client: Redis, run_id: str, *lines: tuple[str, str]) -> None:
    """What a worker does with the output of a run."""
    said = [
        LogLine.model_validate({"at_ms": 1_800_000_000_000, "source": source, "text": text}) for source, text in lines
    ]
    message = RunLog(run=run_id, lines=said)
    await client.xadd(keys.key(0, "logs", run_id), {**entry_fields(message)})


def test_logs_print_what_is_kept_line_by_line(penstock: Command, url: str, pool: str) -> None:
    (run_id,) = submit(penstock, pool)
    in_redis(url, lambda client: say(client, run_id, ("stdout", "[1/2] größe"), ("stderr", "careful")))
    in_redis(url, lambda client: client.xadd(keys.key(0, "logs", run_id), {"__data__": "no log"}))
    in_redis(url, lambda client: say(client, run_id, ("stdout", "[2/2]")))

    printed = penstock("flow-run", "logs", run_id).stdout.splitlines()

    assert [line.split(" | ")[1:] for line in printed] == [
        ["stdout", "[1/2] größe"],
        ["stderr", "careful"],
        ["stdout", "[2/2]"],
    ]
    shown = penstock("flow-run", "logs", run_id, "--tail", "2")
    assert shown.stdout.splitlines() == printed[1:]
    day = datetime.fromtimestamp(1_800_000_000, UTC).astimezone()
    assert shown.stderr == f"{day:%A, %Y-%m-%d}, times are {zone_of(day)}\n"
    lines = [json.loads(line) for line in penstock("flow-run", "logs", run_id, "-o", "json").stdout.splitlines()]
    assert lines[1] == {"at_ms": 1_800_000_000_000, "source": "stderr", "text": "careful"}


def test_a_run_without_output_says_so_and_an_unknown_one_is_refused(penstock: Command, pool: str) -> None:
    (run_id,) = submit(penstock, pool)

    silent = penstock("flow-run", "logs", run_id)
    assert silent.stdout == ""
    assert silent.stderr == f"Run '{run_id}' has not started; `penstock flow-run explain {run_id}` says why\n"
    penstock("flow-run", "cancel", run_id)
    assert penstock("flow-run", "logs", run_id).stderr == f"No output of run '{run_id}' is kept\n"
    unknown = f"{run_id[:8]}-0000-7000-8000-000000000000"
    assert "there is no run" in penstock("flow-run", "logs", unknown, code=REFUSED).stderr
    penstock("flow-run", "logs", "nonsense", code=REFUSED)


def test_following_goes_on_until_the_run_has_ended_and_then_ends_at_once(
    penstock: Command, url: str, pool: str, tmp_path: Path
) -> None:
    (run_id,) = submit(penstock, pool)
    with (tmp_path / "output").open("wb") as file:
        follower = subprocess.Popen(
            [sys.executable, "-m", "penstock", "--redis-url", url, "flow-run", "logs", run_id, "--follow"], stdout=file
        )

    def printed() -> list[str]:
        return [line.rpartition(" | ")[2] for line in (tmp_path / "output").read_text().splitlines()]

    async def play(client: Redis) -> float:
        worker = HandWorker(client, pool)
        await worker.join()
        (run,) = await worker.take(1)

        async def shown() -> bool:
            return len(printed()) == said

        for said in (1, 2):
            await say(client, run_id, ("stdout", f"line {said}"))
            await wait_until(shown, what=f"line {said} on the screen")
        assert follower.poll() is None
        await say(client, run_id, ("stdout", "last words"))
        await worker.report(run, "COMPLETED")
        started = time.monotonic()

        async def over() -> bool:
            return follower.poll() is not None

        await wait_until(over, what="the follower to end")
        return time.monotonic() - started

    seconds = in_redis(url, play)
    assert follower.wait(5) == DONE
    assert printed() == ["line 1", "line 2", "last words"]
    assert seconds < 1.5, "it waited for a read to time out instead of for the run's end"
