"""The command line as people and scripts meet it: real processes, real services, real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from penstock import __version__, keys
from penstock.bus.connection import connect
from tests.command_line import DONE, REFUSED, UNAVAILABLE, USAGE, new_pool, rows, typing_commands
from tests.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Command


@pytest.fixture
def penstock(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run one command in this process; its output and its errors are kept apart."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", url)
    monkeypatch.chdir(tmp_path)
    return typing_commands()


@pytest.fixture
def pool(penstock: Command) -> str:
    return new_pool(penstock)


def test_creating_a_pool_says_what_to_do_next(penstock: Command) -> None:
    name = f"pool-{uuid.uuid4().hex[:8]}"

    printed = penstock("work-pool", "create", name, "--concurrency-limit", "5").stdout

    created = json.loads(penstock("work-pool", "inspect", name, "-o", "json").stdout)
    assert printed == (
        f"Created work pool with properties:\n"
        f"    name - '{name}'\n"
        f"    id - {created['id']}\n"
        f"    concurrency limit - 5\n"
        f"\n"
        f"Start a worker to pick up flows from the work pool:\n"
        f"    penstock worker start -p '{name}'\n"
        f"\n"
        f"Inspect the work pool:\n"
        f"    penstock work-pool inspect '{name}'\n"
    )


TEMPLATE = {
    "job_configuration": {"command": "{{ command }}"},
    "variables": {"type": "object", "properties": {"command": {"type": "string"}}},
}


def test_a_pool_is_created_and_updated_with_what_the_options_say(penstock: Command, tmp_path: Path) -> None:
    name = f"pool-{uuid.uuid4().hex[:8]}"
    (tmp_path / "base-job-template.json").write_text(json.dumps(TEMPLATE))

    penstock(
        *("work-pool", "create", "--type", "process", "--paused", "--base-job-template", "base-job-template.json"),
        *("--description", "nightly", "--concurrency-limit", "5", name),
    )
    created = json.loads(penstock("work-pool", "inspect", name, "-o", "json").stdout)
    assert (created["type"], created["is_paused"], created["status"]) == ("process", True, "PAUSED")
    assert (created["base_job_template"], created["description"]) == (TEMPLATE, "nightly")
    assert created["concurrency_limit"] == 5

    (tmp_path / "base-job-template.json").write_text(json.dumps({**TEMPLATE, "job_configuration": {"command": "ls"}}))
    printed = penstock(
        *("work-pool", "update", "--base-job-template", "base-job-template.json", name),
        *("--description", "hourly", "--concurrency-limit", "0"),
    ).stdout
    assert printed == f"Updated work pool '{name}'\n"
    updated = json.loads(penstock("work-pool", "inspect", name, "-o", "json").stdout)
    assert updated["base_job_template"]["job_configuration"] == {"command": "ls"}
    assert (updated["description"], updated["concurrency_limit"], updated["is_paused"]) == ("hourly", 0, True)


def test_overwriting_with_paused_leaves_the_pool_paused(penstock: Command, pool: str) -> None:
    penstock("work-pool", "create", pool, "--overwrite", "--paused")

    assert json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)["status"] == "PAUSED"


def test_a_pool_is_paused_and_resumed(penstock: Command, pool: str) -> None:
    assert penstock("work-pool", "pause", pool).stdout == f"Paused work pool '{pool}'\n"
    assert json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)["status"] == "PAUSED"
    assert penstock("work-pool", "resume", pool).stdout == f"Resumed work pool '{pool}'\n"
    assert json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)["status"] == "NOT_READY"


def test_an_existing_pool_is_refused_left_alone_or_updated(penstock: Command, pool: str) -> None:
    refused = penstock("work-pool", "create", pool, code=REFUSED)
    assert refused.stdout == ""
    assert refused.stderr.startswith("Error: ")
    assert "Hint: " in refused.stderr

    left = penstock("work-pool", "create", pool, "--if-missing").stdout
    assert left == f"Work pool '{pool}' exists already\n"
    updated = penstock("work-pool", "create", pool, "--overwrite", "--description", "new").stdout
    assert updated == f"Updated work pool '{pool}'\n"
    assert json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)["description"] == "new"


def test_pools_are_listed_and_paused_ones_marked(penstock: Command, pool: str) -> None:
    assert penstock("work-pool", "pause", pool).stdout == f"Paused work pool '{pool}'\n"

    printed = penstock("work-pool", "ls").stdout

    assert "Work Pools" in printed
    assert "(**) denotes a paused pool" in printed
    assert ["Name", "Type", "ID", "Concurrency Limit"] in [
        [cell.strip() for cell in line.strip("┃").split("┃")] for line in printed.splitlines()
    ]
    (row,) = [row for row in rows(printed) if row[0] == f"{pool} (**)"]
    assert (row[1], len(row[2]), row[3]) == ("process", 36, "None")
    assert [f"{pool} (**)", "PAUSED"] in [[row[0], row[4]] for row in rows(penstock("work-pool", "ls", "-v").stdout)]

    assert penstock("work-pool", "resume", pool).stdout == f"Resumed work pool '{pool}'\n"
    assert pool in [row[0] for row in rows(penstock("work-pool", "ls").stdout)]
    assert "(**)" not in penstock("work-queue", "ls", "-p", pool).stdout, "nothing is paused, so nothing is explained"


def test_inspecting_tells_times_as_people_do(penstock: Command, pool: str) -> None:
    printed = penstock("work-pool", "inspect", pool).stdout

    assert printed.startswith("WorkPool(\n")
    assert f"    name='{pool}',\n" in printed
    assert "    status='NOT_READY',\n" in printed
    assert "    created='just now',\n" in printed or "second" in printed


@pytest.mark.parametrize("order", [("7", "NAME"), ("NAME", "7")])
def test_a_limit_is_set_in_either_order_and_cleared(penstock: Command, pool: str, order: tuple[str, str]) -> None:
    arguments = [word.replace("NAME", pool) for word in order]

    printed = penstock("work-pool", "set-concurrency-limit", *arguments).stdout
    assert printed == f"Set concurrency limit for work pool '{pool}' to 7\n"
    assert json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)["concurrency_limit"] == 7

    printed = penstock("work-pool", "clear-concurrency-limit", pool).stdout
    assert printed == f"Cleared concurrency limit for work pool '{pool}'\n"
    assert json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)["concurrency_limit"] is None


def test_a_negative_limit_is_refused_with_the_rule(penstock: Command, pool: str) -> None:
    for arguments in (["set-concurrency-limit", "-1", pool], ["update", pool, "--concurrency-limit", "-1"]):
        refused = penstock("work-pool", *arguments, code=REFUSED)
        assert "greater than or equal to 0" in refused.stderr


def test_updating_needs_something_to_change(penstock: Command, pool: str) -> None:
    assert "nothing to change" in penstock("work-pool", "update", pool, code=USAGE).stderr

    assert penstock("work-pool", "update", pool, "--max-attempts", "5").stdout == f"Updated work pool '{pool}'\n"
    assert json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)["max_attempts"] == 5


def test_deleting_says_what_becomes_of_the_runs(penstock: Command, pool: str) -> None:
    printed = penstock("work-pool", "delete", pool, "--yes").stdout

    assert printed.startswith(f"Deleted work pool '{pool}'\n")
    assert "become CANCELLED" in printed
    penstock("work-pool", "inspect", pool, code=REFUSED)


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", REFUSED), (b"y\n", DONE)])
def test_on_a_terminal_deleting_asks_first(penstock: Command, url: str, pool: str, answer: bytes, code: int) -> None:
    keyboard, terminal = pty.openpty()
    os.write(keyboard, answer)
    done = subprocess.run(
        [sys.executable, "-m", "penstock", "--redis-url", url, "work-pool", "delete", pool],
        stdin=terminal,
        capture_output=True,
        timeout=60,
        check=False,
    )
    os.close(keyboard)
    os.close(terminal)

    assert done.returncode == code
    assert b"waiting or in flight, become CANCELLED" in b" ".join(done.stdout.split())
    penstock("work-pool", "inspect", pool, code=REFUSED if code == DONE else DONE)


def test_a_mistyped_pool_gets_a_suggestion(penstock: Command, pool: str) -> None:
    refused = penstock("work-pool", "pause", f"{pool}x", code=REFUSED)

    assert refused.stderr == f"Error: there is no work pool '{pool}x'\nHint: did you mean '{pool}'?\n"


def test_a_mistyped_command_gets_a_suggestion(penstock: Command) -> None:
    assert "Did you mean 'work-pool'?" in penstock("work-poll", "ls", code=USAGE).stderr
    assert "Did you mean 'create'?" in penstock("work-pool", "craete", code=USAGE).stderr


def test_the_life_of_a_queue(penstock: Command, pool: str) -> None:
    printed = penstock(
        "work-queue", "create", "critical", "-p", pool, "--priority", "1", "--concurrency-limit", "1"
    ).stdout
    assert printed.startswith("Created work queue with properties:\n    name - 'critical'\n")

    for order in (("critical", "2"), ("3", "critical")):
        printed = penstock("work-queue", "set-concurrency-limit", *order, "--pool", pool).stdout
        assert printed.startswith("Set concurrency limit for work queue 'critical'")
    assert penstock("work-queue", "pause", "critical", "-p", pool).stdout.startswith("Paused work queue 'critical'")
    printed = penstock("work-queue", "ls", "--pool", pool).stdout
    assert "(**) denotes a paused queue" in printed
    assert [row[:4] for row in rows(printed)] == [
        ["critical (**)", "1", "3", "PAUSED"],
        ["default", "2", "None", "NOT_READY"],
    ]
    assert penstock("work-queue", "resume", "critical", "-p", pool).stdout.startswith("Resumed work queue")
    penstock("work-queue", "clear-concurrency-limit", "critical", "-p", pool)
    about = json.loads(penstock("work-queue", "inspect", "critical", "-p", pool, "-o", "json").stdout)
    assert (about["priority"], about["concurrency_limit"], about["status"]) == (1, None, "NOT_READY")
    assert penstock("work-queue", "inspect", "critical", "-p", pool).stdout.startswith("WorkQueue(\n")

    assert penstock("work-queue", "delete", "critical", "-p", pool, "-y").stdout.startswith("Deleted work queue")
    assert [queue["name"] for queue in json.loads(penstock("work-queue", "ls", "-p", pool, "-o", "json").stdout)] == [
        "default"
    ]


def test_a_queue_command_needs_its_pool(penstock: Command) -> None:
    assert "--pool" in penstock("work-queue", "ls", code=USAGE).stderr


def test_submitted_runs_are_told_with_their_ids(penstock: Command, pool: str) -> None:
    printed = penstock("flow-run", "submit", "--pool", pool, "--command", "echo 'a b'", "--count", "3", "--name", "n")

    first, *ids = printed.stdout.splitlines()
    assert first == f"Submitted 3 flow runs to work pool '{pool}' (queue 'default')"
    runs = json.loads(penstock("flow-run", "ls", "--pool", pool, "-o", "json").stdout)
    assert [run["id"] for run in runs] == [line.strip() for line in ids]
    assert [run["name"] for run in runs] == ["n-1", "n-2", "n-3"]
    assert runs[0]["spec"]["command"] == ["echo", "a b"]


def test_a_submission_says_what_it_was_given(penstock: Command, pool: str, tmp_path: Path) -> None:
    (tmp_path / "flows.py").write_text("def load(**_): ...")

    submitted = penstock(
        *("flow-run", "submit", "-p", pool, "-q", "new", "-e", "flows.py:load", "--param", "day=1", "--param", "w=x"),
        *("--env", "STAGE=test", "--at", "2040-01-31T08:00:00+00:00", "-o", "json"),
    )

    answer = json.loads(submitted.stdout)
    assert (answer["queue"], answer["queue_created"], len(answer["runs"])) == ("new", True, 1)
    run = json.loads(penstock("flow-run", "inspect", answer["runs"][0], "-o", "json").stdout)
    assert run["spec"]["entrypoint"] == f"{tmp_path.resolve()}/flows.py:load"
    assert run["spec"]["parameters"] == {"day": 1, "w": "x"}
    assert run["spec"]["env"] == {"STAGE": "test"}
    assert (run["queue"], run["state"], run["scheduled_time"]) == ("new", "SCHEDULED", "2040-01-31T08:00:00.000Z")
    assert penstock("flow-run", "inspect", run["id"]).stdout.startswith("FlowRun(\n")


def test_a_new_queue_is_mentioned(penstock: Command, pool: str) -> None:
    submit = ("flow-run", "submit", "-p", pool, "-q", "new", "-c", "true")

    assert penstock(*submit).stdout.startswith("Created work queue 'new'\nSubmitted 1 flow run to")
    assert penstock(*submit).stdout.startswith("Submitted 1 flow run to")


def test_an_entrypoint_that_is_not_here_is_submitted_with_a_warning(penstock: Command, pool: str) -> None:
    submitted = penstock("flow-run", "submit", "-p", pool, "-e", "there.py:load")

    assert submitted.stderr.startswith("Warning: 'there.py' does not exist here")
    assert penstock("flow-run", "submit", "-p", pool, "-e", "there.py:load", "--working-dir", "/srv").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["-e", "flows.py"], REFUSED, "is not of the form path/to/file.py:function"),
        (["-e", "flows.py:1x"], REFUSED, "is not of the form path/to/file.py:function"),
        (["-c", "true", "-q", "a/b"], REFUSED, "contains /"),
        ([], USAGE, "exactly one of --entrypoint"),
        (["-e", "a.py:f", "-c", "true"], USAGE, "exactly one of --entrypoint"),
        (["-c", "true", "--param", "x"], USAGE, "is not of the form name=value"),
        (["-c", "true", "--at", "soon"], USAGE, "'soon' is no time"),
        (["-c", "echo 'x"], USAGE, "No closing quotation"),
        (["-c", "true", "--count", "0"], USAGE, "--count"),
    ],
)
def test_a_wrong_submission_is_refused_with_its_reason(
    penstock: Command, pool: str, arguments: list[str], code: int, reason: str
) -> None:
    refused = penstock("flow-run", "submit", "-p", pool, *arguments, code=code)

    assert reason in " ".join(refused.stderr.split())
    assert json.loads(penstock("flow-run", "ls", "-p", pool, "-o", "json").stdout) == []


def test_runs_are_listed_by_state(penstock: Command, pool: str) -> None:
    penstock("flow-run", "submit", "-p", pool, "-c", "true", "--at", "+2h")

    (row,) = rows(penstock("flow-run", "ls", "-p", pool, "--state", "scheduled").stdout)
    assert row[2:5] == ["-", "default", "SCHEDULED"]
    assert row[7] == "in 2 hours"
    assert penstock("flow-run", "ls", "-p", pool, "--state", "FAILED").stdout == "No flow run matches\n"
    assert "did you mean 'FAILED'?" in penstock("flow-run", "ls", "--state", "failled", code=USAGE).stderr
    penstock("flow-run", "inspect", "nonsense", code=REFUSED)


def test_events_are_printed_for_people_and_for_programs(penstock: Command, pool: str) -> None:
    penstock("work-pool", "set-concurrency-limit", "3", pool)
    tail = ("events", "tail", "--since", "10m", "--no-follow", "--filter", "prefect.work-pool.updated")

    assert f"{pool}  concurrency_limit: None -> 3" in penstock(*tail).stdout
    (line,) = [line for line in penstock(*tail, "-o", "json").stdout.splitlines() if pool in line]
    event = json.loads(line)
    assert event["payload"]["updates"] == {"concurrency_limit": {"from": None, "to": 3}}
    rest = penstock("events", "tail", "--since", event["cursor"], "--no-follow", "-o", "json").stdout
    assert all(json.loads(line)["cursor"] > event["cursor"] for line in rest.splitlines())


def test_tailing_stops_after_its_limit(penstock: Command, pool: str) -> None:
    printed = penstock("events", "tail", "--since", "0", "--limit", "2", "-o", "json").stdout

    assert len(printed.splitlines()) == 2, pool


def test_dead_messages_are_listed_sent_again_and_dropped(penstock: Command, url: str) -> None:
    unknown = f"gone_{uuid.uuid4().hex[:8]}"

    async def bury() -> None:
        client = connect(url)
        await client.xadd(keys.key(0, "commands"), {"__data__": f'{{"type":"{unknown}"}}'})
        await wait_until(lambda: client.xlen(keys.key(0, "dead")), what="the dead letter")
        await client.aclose()

    asyncio.run(bury())
    (entry,) = json.loads(penstock("dead", "ls", "-o", "json").stdout)

    assert "unknown type" in entry["reason"]
    assert unknown in penstock("dead", "ls").stdout
    shown = penstock("dead", "show", entry["id"]).stdout
    assert shown.startswith("DeadMessage(")
    assert entry["reason"] in shown
    assert json.loads(penstock("dead", "show", entry["id"], "-o", "json").stdout) == entry
    assert penstock("dead", "retry", entry["id"]).stdout == "Sent 1 dead message(s) again\n"
    assert "there is no dead entry" in penstock("dead", "retry", entry["id"], code=REFUSED).stderr
    assert "there is no dead entry" in penstock("dead", "show", entry["id"], code=REFUSED).stderr
    assert penstock("dead", "drop", "--all").stdout.startswith("Dropped ")
    assert "either ids" in penstock("dead", "drop", code=USAGE).stderr


def test_ctrl_c_ends_a_tail_with_its_own_code(url: str, pool: str) -> None:
    tail = subprocess.Popen(
        [sys.executable, "-m", "penstock", "--redis-url", url, "events", "tail", "--since", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert tail.stdout, pool
    tail.stdout.readline()

    tail.send_signal(signal.SIGINT)
    _, errors = tail.communicate(timeout=20)

    assert tail.returncode == 130
    assert b"Traceback" not in errors


def test_waiting_tells_how_the_runs_ended(penstock: Command, url: str, pool: str) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "penstock", "--redis-url", url, "worker", "start", "-p", pool],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    submit = ("flow-run", "submit", "-p", pool, "--wait", "-c")
    try:
        assert penstock(*submit, "true", "--count", "2").stdout.splitlines()[-1] == "2 COMPLETED"
        failed = penstock(*submit, f"{sys.executable} -c 'raise SystemExit(3)'", code=REFUSED).stdout
        assert "1 COMPLETED" not in failed
        runs = json.loads(penstock(*submit, "true", "-o", "json").stdout)["runs"]
        assert [run["state"] for run in runs] == ["COMPLETED"]
        assert rows(penstock("worker", "ls", "-p", pool).stdout)[0][3] == "ONLINE"
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == DONE


def test_a_worker_of_an_unknown_pool_is_refused(penstock: Command, pool: str) -> None:
    refused = penstock("worker", "start", "-p", f"{pool}x", code=REFUSED)

    assert refused.stderr.startswith("Error: ")


def test_workers_are_listed(penstock: Command, pool: str) -> None:
    assert json.loads(penstock("worker", "ls", "-p", pool, "-o", "json").stdout) == []
    assert "Last heartbeat" in penstock("worker", "ls").stdout
    assert "no work pool" in penstock("worker", "ls", "-p", f"{pool}x", code=REFUSED).stderr


def test_an_unreachable_redis_is_said_in_one_line(penstock: Command) -> None:
    failed = penstock("--redis-url", "redis://127.0.0.1:1/0", "work-pool", "ls", code=UNAVAILABLE)

    assert failed.stdout == ""
    assert failed.stderr.startswith("Error: Redis at 127.0.0.1:1/0 does not answer")
    assert len(failed.stderr.splitlines()) == 1
    # The option was for that one command.
    penstock("work-pool", "ls")


def test_an_unknown_variable_is_a_usage_error(penstock: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS_ULR", "x")

    assert "did you mean PENSTOCK_REDIS_URL?" in penstock("work-pool", "ls", code=USAGE).stderr


def test_the_running_up_is_found_when_no_redis_is_given(url: str, tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text(json.dumps({"pid": os.getpid(), "redis_url": url}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}

    done = subprocess.run(
        [sys.executable, "-m", "penstock", "work-pool", "ls", "--output", "json"],
        env=environment | {"PENSTOCK_UP_HOME": str(tmp_path)},
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (DONE, b"")
    assert isinstance(json.loads(done.stdout), list)


@pytest.mark.parametrize("group", [[], ["work-pool"], ["work-queue"], ["worker"], ["flow-run"], ["events"], ["dead"]])
def test_help_teaches_by_example(penstock: Command, group: list[str]) -> None:
    assert "Usage: " in penstock(*group, "--help").stdout


def test_help_tells_the_exit_codes_and_the_version_is_told(penstock: Command) -> None:
    assert "3    unavailable" in penstock("--help").stdout
    assert "penstock work-pool create etl --concurrency-limit" not in penstock("--help").stdout
    assert "penstock flow-run submit -p etl -q critical" in penstock("flow-run", "submit", "--help").stdout
    assert penstock("--version").stdout == f"{__version__}\n"


def test_an_update_takes_the_options_of_create_but_never_changes_the_type(penstock: Command, pool: str) -> None:
    penstock("work-pool", "update", pool, "--paused", "--type", "process")
    assert json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)["status"] == "PAUSED"
    penstock("work-pool", "update", pool, "--no-paused", "--description", "again")
    updated = json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)
    assert (updated["is_paused"], updated["description"]) == (False, "again")

    refused = penstock("work-pool", "update", pool, "--type", "docker", "--description", "no", code=REFUSED)

    assert "cannot be changed" in refused.stderr
    assert json.loads(penstock("work-pool", "inspect", pool, "-o", "json").stdout)["description"] == "again"
