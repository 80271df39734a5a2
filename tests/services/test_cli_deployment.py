"""``penstock deployment`` as people and scripts meet it: real services, real Redis."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from penstock.bus.connection import connect
from penstock.cli import times
from penstock.cli.app import app
from penstock.client import Penstock
from penstock.contracts.deployments import ScheduleSpec
from penstock.settings import Settings
from tests.installation import HandWorker
from tests.services.test_cli_completion import complete

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., Any]

DONE, REFUSED, USAGE = 0, 1, 2
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "day": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
WEEKDAYS = ScheduleSpec(cron="0 6 * * 1-5", timezone="Europe/Berlin", slug="mornings")


@pytest.fixture
def penstock(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run one command in this process, within ``deployment``; its output and its errors are kept apart."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", url)
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def run(*arguments: str, code: int = DONE, stdin: str | None = None) -> Any:
        result = runner.invoke(app, ("deployment", *arguments), input=stdin)
        assert result.exit_code == code, result.output
        return result

    return run


class Sdk:
    """The SDK's methods, for tests that cannot wait: a command runs a loop of its own."""

    def __init__(self, url: str) -> None:
        self._settings = Settings(redis_url=url)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def session(*arguments: Any, **options: Any) -> Any:
            async with Penstock.connect(self._settings) as penstock:
                return await getattr(penstock, method)(*arguments, **options)

        return lambda *arguments, **options: asyncio.run(session(*arguments, **options))


@pytest.fixture
def sdk(url: str) -> Sdk:
    return Sdk(url)


@pytest.fixture
def pool(sdk: Sdk) -> str:
    """Name of a pool that no other test uses."""
    name = f"pool-{uuid.uuid4().hex[:8]}"
    sdk.create_pool(name)
    return name


@pytest.fixture
def demo(sdk: Sdk, pool: str) -> str:
    """A deployment with a schedule; it is named as its pool."""
    return deployment(sdk, pool)


@pytest.fixture
def resting(sdk: Sdk, pool: str) -> str:
    """The same, paused: nothing waits but what a test submits."""
    return deployment(sdk, pool, paused=True)


def deployment(sdk: Sdk, pool: str, **fields: Any) -> str:
    name = f"hello/{pool}"
    sdk.create_deployment(
        name,
        pool=pool,
        entrypoint="hello.py:hello",
        parameters={"name": "Marvin"},
        parameter_schema=SCHEMA,
        tags=["nightly", "etl"],
        schedules=[WEEKDAYS],
        **fields,
    )
    return name


def rows(output: str) -> list[list[str]]:
    """The cells of a printed table."""
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if "│" in line]


def test_deployments_are_listed_with_their_schedules_in_words_and_when_they_run_next(
    penstock: Command, demo: str, pool: str
) -> None:
    printed = penstock("ls", "--pool", pool).stdout

    (row,) = rows(printed)
    assert row[:4] == [demo, pool, "default", "cron '0 6 * * 1-5' (Europe/Berlin)"]
    assert row[4].startswith("in ")
    assert row[5] == "nightly, etl"
    assert "paused" not in printed


def test_what_is_paused_is_marked_and_has_no_next_run(penstock: Command, sdk: Sdk, demo: str, pool: str) -> None:
    sdk.create_schedule(demo, ScheduleSpec(interval_seconds=90, active=False))
    assert "every 90 seconds (paused)" in penstock("ls", "-p", pool).stdout
    (listed,) = json.loads(penstock("ls", "-p", pool, "-o", "json").stdout)
    schedules = json.loads(penstock("schedule", "ls", demo, "-o", "json").stdout)
    assert listed["next_run"] == next(one for one in schedules if one["slug"] == "mornings")["next"][0]

    sdk.pause_deployment(demo)

    printed = penstock("ls", "-p", pool).stdout
    assert rows(printed)[0][0] == f"{demo} (**)"
    assert rows(printed)[0][4] == "-"
    assert "(**) denotes a paused deployment" in printed
    (listed,) = json.loads(penstock("ls", "-p", pool, "-o", "json").stdout)
    assert (listed["name"], listed["paused"], listed["next_run"]) == (demo, True, None)


def test_programs_get_the_next_run_as_a_moment(penstock: Command, demo: str, pool: str) -> None:
    (listed,) = json.loads(penstock("ls", "-p", pool, "-o", "json").stdout)

    moment = datetime.fromisoformat(listed["next_run"])
    assert moment.utcoffset() == timedelta(0)
    assert datetime.now(UTC) < moment < datetime.now(UTC) + timedelta(days=4)
    assert listed["name"] == demo


def test_inspect_shows_every_field_the_next_times_and_what_waits(
    penstock: Command, sdk: Sdk, resting: str, pool: str
) -> None:
    for _ in range(2):
        sdk.run_deployment(resting)

    shown = json.loads(penstock("inspect", resting, "-o", "json").stdout)

    whole = (sdk.read_deployment(resting)).model_dump(mode="json")
    assert {field: shown[field] for field in whole if field != "schedules"} == {
        field: value for field, value in whole.items() if field != "schedules"
    }
    assert (shown["waiting"], shown["in_flight"]) == (2, 0)
    (schedule,) = shown["schedules"]
    assert (schedule["slug"], schedule["description"]) == ("mornings", "cron '0 6 * * 1-5' (Europe/Berlin)")
    assert len(schedule["next"]) == 3
    assert schedule["next"] == sorted(schedule["next"])

    printed = penstock("inspect", pool).stdout
    assert f"name='{resting}'" in printed
    assert "created='just now'" in printed or "ago'" in printed
    assert "waiting=2" in printed


def test_an_unknown_deployment_gets_a_suggestion(penstock: Command, demo: str) -> None:
    refused = penstock("inspect", f"{demo}x", code=REFUSED)

    assert refused.stderr == f"Error: there is no deployment '{demo}x'\nHint: did you mean '{demo}'?\n"


def test_running_says_what_was_made_and_how_to_watch_it(penstock: Command, sdk: Sdk, resting: str, pool: str) -> None:
    demo = resting
    printed = penstock(
        *("run", demo, "--param", "day=2", "--name", "trial", "--tag", "once"),
        *("--job-variable", "env.STAGE=test", "--params", '{"day": 1, "name": "Ford"}'),
    ).stdout

    (run,) = sdk.read_runs(pool)
    assert printed == (
        f"Created flow run 'trial'\n"
        f"    id - {run.id}\n"
        f"    deployment - '{demo}'\n"
        f"    work pool - '{pool}' (queue 'default')\n"
        f"    due - just now\n"
        f"\n"
        f"Watch it:\n"
        f"    penstock flow-run watch {run.id}\n"
    )
    assert run.spec["parameters"] == {"name": "Ford", "day": 2}
    assert run.spec["tags"] == ["nightly", "etl", "once"]
    assert run.spec["job_variables"] == {"env.STAGE": "test"}


def test_programs_get_the_run_and_nothing_else(penstock: Command, demo: str) -> None:
    run = json.loads(penstock("run", demo, "-o", "json").stdout)

    assert (run["deployment"], run["state"]) == (demo, "SCHEDULED")


@pytest.mark.parametrize(("option", "value"), [("--in", "10m"), ("--at", "+10m"), ("--at", "10m")])
def test_a_run_can_be_due_later(penstock: Command, demo: str, option: str, value: str) -> None:
    run = json.loads(penstock("run", demo, option, value, "-o", "json").stdout)

    due = datetime.fromisoformat(run["scheduled_time"]) - datetime.now(UTC)
    assert timedelta(minutes=9) < due <= timedelta(minutes=10)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--at", "soon"], "--at 'soon' is no time"),
        (["--in", "soon"], "--in 'soon' is no delay"),
        (["--in", "10m", "--at", "10m"], "give one of --at and --in"),
        (["--params", "[1]"], "--params is no JSON object"),
        (["--params", '{"a": 1, "a": 2}'], "the key 'a' is there twice"),
        (["--params", '{"a": NaN}'], "NaN is no JSON number"),
        (["--params", "@nowhere.json"], "No such file"),
        (["--param", "day"], "--param 'day' is not of the form name=value"),
        (["--job-variable", "x"], "--job-variable 'x'"),
    ],
)
def test_what_is_typed_wrongly_is_wrong_usage(penstock: Command, demo: str, options: list[str], told: str) -> None:
    assert told in " ".join(penstock("run", demo, *options, code=USAGE).stderr.split())


def test_parameters_come_from_standard_input(penstock: Command, demo: str) -> None:
    run = json.loads(penstock("run", demo, "--params", "-", "-o", "json", stdin='{"day": 3}').stdout)

    assert run["spec"]["parameters"] == {"name": "Marvin", "day": 3}


def test_parameters_that_do_not_fit_are_refused_by_name(penstock: Command, demo: str) -> None:
    refused = penstock("run", demo, "--param", "dya=1", code=REFUSED)

    assert refused.stderr == (
        f"Error: parameters of deployment '{demo}': there is no parameter 'dya', did you mean 'day'?\n"
        f"Hint: its parameters: name (string, required), day (integer); "
        f"if the function has changed since it was deployed, `penstock deploy` it again\n"
    )
    assert "'day' does not fit" in penstock("run", demo, "--param", "day=two", code=REFUSED).stderr


def test_the_same_key_answers_the_same_run(penstock: Command, demo: str) -> None:
    first, second = (
        json.loads(penstock("run", demo, "--idempotency-key", "january", "-o", "json").stdout) for _ in range(2)
    )

    assert first["id"] == second["id"]
    assert (first["created"], second["created"]) == (True, False)
    again = penstock("run", demo, "--idempotency-key", "january")
    known = f"Already submitted with idempotency key 'january': flow run '{first['name']}'\n    id - {first['id']}\n"
    assert again.stdout.startswith(known)
    assert "    state - Scheduled\n" in again.stdout
    assert again.stderr == ""
    assert penstock("run", demo, "--idempotency-key", "may").stdout.startswith("Created flow run '")


def test_the_same_key_with_other_parameters_is_warned_of(penstock: Command, demo: str) -> None:
    given = ("--idempotency-key", "january", "--param")
    penstock("run", demo, *given, "day=1")

    assert penstock("run", demo, *given, "day=1").stderr == ""
    assert penstock("run", demo, *given, "day=2", "--param", "name=Ford").stderr == (
        "Warning: the run that was submitted before has other parameters ('day', 'name'); it stays as it is\n"
    )


def test_what_looks_like_a_number_is_a_text_where_the_function_wants_one(
    penstock: Command, sdk: Sdk, demo: str
) -> None:
    run = json.loads(penstock("run", demo, "--param", "name=5", "--param", "day=5", "-o", "json").stdout)
    assert run["spec"]["parameters"] == {"name": "5", "day": 5}

    penstock("update", demo, "--param", "name=6")
    assert sdk.read_deployment(demo).parameters == {"name": "6"}

    penstock("schedule", "create", demo, "--cron", "@hourly", "--param", "name=7", "--slug", "s")
    penstock("schedule", "update", demo, "mornings", "--param", "name=8")
    schedules = {one.slug: one.parameters for one in sdk.read_deployment(demo).schedules}
    assert schedules == {"s": {"name": "7"}, "mornings": {"name": "8"}}


def test_a_moment_is_told_with_its_zone_and_one_that_is_past_as_such(penstock: Command, demo: str) -> None:
    future, past = datetime(2099, 1, 31, 8, tzinfo=UTC), datetime(2020, 1, 31, 8, tzinfo=UTC)

    assert f"    due - {times.absolute(future)} (in " in penstock("run", demo, "--at", future.isoformat()).stdout
    printed = penstock("run", demo, "--at", past.isoformat()).stdout
    assert f"    due - {times.absolute(past)} (" in printed
    assert "ago): this is past, it starts as soon as it can\n" in printed


def test_names_that_the_pool_does_not_know_are_told(penstock: Command, sdk: Sdk, demo: str, pool: str) -> None:
    unknown = (
        f"Warning: work pool '{pool}' has no job variable 'streem_output': it changes nothing; "
        "did you mean 'stream_output'?\n"
    )
    options = ("--job-variable", "streem_output=false", "--job-variable", "env.A=1")
    assert penstock("run", demo, *options).stderr == unknown
    assert penstock("update", demo, *options).stderr == unknown

    sdk.create_queue(pool, "critical")
    new = f"Note: this creates work queue 'crtical' in '{pool}'; did you mean 'critical'?\n"
    assert penstock("update", demo, "--queue", "crtical").stderr == new
    assert penstock("update", demo, "--queue", "critical").stderr == ""


def test_words_too_many_are_told_with_what_was_meant(penstock: Command, demo: str) -> None:
    assert "Hint: did you mean --param day=1?" in penstock("run", demo, "day=1", code=USAGE).stderr
    starred = penstock("schedule", "create", demo, "--cron", "*", "*", "*", "*", "*", code=USAGE).stderr
    assert "Hint: quote the cron: --cron '* * * * *'" in starred


def test_a_deployment_whose_pool_was_deleted_says_what_to_do(penstock: Command, sdk: Sdk, demo: str, pool: str) -> None:
    sdk.delete_pool(pool)

    refused = penstock("run", demo, code=REFUSED).stderr

    assert f"work pool '{pool}' of deployment '{demo}' does not exist any more" in refused
    assert f"penstock deployment update '{demo}' --pool" in refused
    (row,) = rows(penstock("ls", "-p", pool).stdout)
    assert (row[1], row[4]) == (f"{pool} (deleted)", "-")


async def watched(url: str, demo: str, pool: str, state: str, *options: str) -> tuple[int | None, str, str]:
    """Run a deployment with ``--watch``, and be the worker: the exit code, the id, what was printed."""
    client = connect(url)
    worker = HandWorker(client, pool)
    await worker.join()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "penstock", "deployment", "run", demo, "--watch", *options),
        env={**os.environ, "PENSTOCK_REDIS_URL": url},
        stdout=subprocess.PIPE,
    )
    (run,) = await worker.take(1)
    await worker.report(run, "RUNNING")
    await worker.report(run, state, "so it ended")
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    await client.aclose()
    return process.returncode, run["id"], output.decode()


@pytest.mark.parametrize(("state", "code"), [("COMPLETED", DONE), ("FAILED", REFUSED)])
def test_watching_shows_states_and_ends_as_the_run_does(url: str, demo: str, pool: str, state: str, code: int) -> None:
    ended, run_id, printed = asyncio.run(watched(url, demo, pool, state))

    assert ended == code, printed
    assert run_id in printed
    assert state.capitalize() in printed


def test_watching_for_a_program_prints_the_run_as_it_ended(url: str, demo: str, pool: str) -> None:
    ended, run_id, printed = asyncio.run(watched(url, demo, pool, "FAILED", "-o", "json"))

    run = json.loads(printed)
    assert (ended, run["id"], run["state"], run["message"]) == (REFUSED, run_id, "FAILED", "so it ended")


def test_a_deployment_is_updated_with_what_the_options_say(penstock: Command, sdk: Sdk, demo: str, pool: str) -> None:
    other = f"{pool}-other"
    sdk.create_pool(other)

    printed = penstock(
        *("update", demo, "--pool", other, "--queue", "fast", "--param", "day=7", "--tag", "b", "--retries", "3"),
        *("--retry-delay", "90s", "--concurrency-limit", "2", "--collision-strategy", "CANCEL_NEW"),
        *("--description", "new", "--version", "2", "--job-variable", "stream_output=false"),
    ).stdout

    assert printed == f"Updated deployment '{demo}'\nIts runs go to work pool '{other}' (queue 'fast') now.\n"
    now = sdk.read_deployment(demo)
    assert (now.pool, now.queue, now.tags, now.retries, now.retry_delay_seconds) == (other, "fast", ["b"], 3, 90)
    assert (now.concurrency_limit, now.collision_strategy) == (2, "cancel_new")
    assert (now.description, now.version, now.job_variables) == ("new", "2", {"stream_output": False})
    assert now.parameters == {"name": "Marvin", "day": 7}

    penstock("update", demo, "--no-concurrency-limit")
    assert (sdk.read_deployment(demo)).concurrency_limit is None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "nothing to change"),
        (["--concurrency-limit", "1", "--no-concurrency-limit"], "give one of --concurrency-limit"),
        (["--collision-strategy", "cancelnew"], "did you mean 'cancel_new'?"),
    ],
)
def test_an_update_that_says_nothing_or_two_things_is_wrong_usage(
    penstock: Command, demo: str, options: list[str], told: str
) -> None:
    assert told in " ".join(penstock("update", demo, *options, code=USAGE).stderr.split())


def test_a_deployment_is_paused_and_resumed(penstock: Command, sdk: Sdk, demo: str, pool: str) -> None:
    assert penstock("pause", pool).stdout == f"Paused deployment '{demo}'\n"
    assert (sdk.read_deployment(demo)).paused
    assert penstock("resume", demo).stdout == f"Resumed deployment '{demo}'\n"
    assert not (sdk.read_deployment(demo)).paused


def test_deleting_says_what_becomes_of_the_waiting_runs(penstock: Command, sdk: Sdk, resting: str) -> None:
    demo = resting
    sdk.run_deployment(demo)

    assert penstock("delete", demo, "--yes").stdout == (
        f"Deleted deployment '{demo}'\n1 waiting run of it will be CANCELLED; runs in flight go on to their end.\n"
    )
    assert demo not in [one.name for one in sdk.read_deployments()]


@pytest.mark.parametrize(("typed", "left"), [(b"n\n", True), (b"y\n", False)])
def test_deleting_asks_a_person_first(sdk: Sdk, url: str, resting: str, typed: bytes, left: bool) -> None:
    demo = resting
    for _ in range(2):
        sdk.run_deployment(demo)
    ours, theirs = pty.openpty()

    words = [sys.executable, "-m", "penstock", "deployment", "delete", demo]
    environment = {**os.environ, "PENSTOCK_REDIS_URL": url}
    os.write(ours, typed)
    done = subprocess.run(words, env=environment, stdin=theirs, capture_output=True, text=True, timeout=30, check=False)
    os.close(ours)
    os.close(theirs)

    assert f"This deletes the deployment '{demo}' with 1 schedule. 2 waiting runs will be CANCELLED" in done.stdout
    assert (demo in [one.name for one in sdk.read_deployments()]) is left
    assert done.returncode == (1 if left else 0)


def test_schedules_are_created_listed_paused_resumed_and_deleted(penstock: Command, sdk: Sdk, demo: str) -> None:
    printed = penstock(
        *("schedule", "create", demo, "--interval", "10m", "--anchor-date", "2030-01-01T00:05", "--slug", "often"),
        *("--timezone", "Europe/Berlin", "--catch-up", "latest", "--param", "name=Ford"),
    ).stdout
    often = next(one for one in (sdk.read_deployment(demo)).schedules if one.slug == "often")
    assert printed == f"Created schedule of deployment '{demo}': every 10 minutes\n    id - {often.id}\n"
    assert (often.interval_seconds, often.catch_up, often.parameters) == (600, "latest", {"name": "Ford"})
    assert often.anchor == datetime.fromisoformat("2030-01-01T00:05+01:00")

    listed = {row[1]: row for row in rows(penstock("schedule", "ls", demo).stdout)}
    assert sorted(listed) == ["mornings", "often"]
    assert (listed["mornings"][0], listed["often"][0]) == ("1", "2")
    assert listed["often"][2:5] == ["every 10 minutes", "yes", "latest"]
    assert listed["often"][6] == often.id
    assert listed["often"][5].startswith("in ")

    assert penstock("schedule", "pause", demo, "often").stdout == f"Paused schedule 'often' of deployment '{demo}'\n"
    programs = {one["slug"]: one for one in json.loads(penstock("schedule", "ls", demo, "-o", "json").stdout)}
    assert (programs["often"]["active"], len(programs["often"]["next"])) == (False, 3)
    assert next(row for row in rows(penstock("schedule", "ls", demo).stdout) if row[1] == "often")[5] == "-"

    assert "Resumed" in penstock("schedule", "resume", demo, often.id).stdout
    assert "Deleted schedule 'often'" in penstock("schedule", "delete", demo, "often").stdout
    assert [one.slug for one in (sdk.read_deployment(demo)).schedules] == ["mornings"]


def test_a_schedule_is_named_by_its_number_and_not_at_all_when_it_is_the_only_one(
    penstock: Command, sdk: Sdk, demo: str
) -> None:
    assert penstock("schedule", "pause", demo).stdout == f"Paused schedule 'mornings' of deployment '{demo}'\n"
    sdk.create_schedule(demo, ScheduleSpec(cron="@hourly"))

    refused = penstock("schedule", "resume", demo, code=REFUSED).stderr
    assert refused == (
        f"Error: deployment '{demo}' has 2 schedules: 1 cron '@hourly' (UTC), 2 mornings\n"
        f"Hint: say which: number, slug or id\n"
    )
    assert "Resumed schedule 'mornings'" in penstock("schedule", "resume", demo, "2").stdout
    assert "(cron '@hourly' (UTC))" in penstock("schedule", "delete", demo, "1").stdout
    assert [one.slug for one in sdk.read_deployment(demo).schedules] == ["mornings"]

    assert "has no schedule '2'" in penstock("schedule", "pause", demo, "2", code=REFUSED).stderr
    penstock("schedule", "delete", demo)
    refused = penstock("schedule", "delete", demo, code=REFUSED).stderr
    assert f"deployment '{demo}' has no schedule\nHint: `penstock deployment schedule create '{demo}'`" in refused


def test_a_slug_that_is_a_number_wins_over_the_place(penstock: Command, sdk: Sdk, demo: str) -> None:
    sdk.create_schedule(demo, ScheduleSpec(cron="@hourly", slug="2"))
    sdk.create_schedule(demo, ScheduleSpec(cron="@daily", slug="1"))

    penstock("schedule", "delete", demo, "2")

    assert [one.slug for one in sdk.read_deployment(demo).schedules] == ["1", "mornings"]


def test_a_schedule_is_changed_and_what_is_not_given_stays(penstock: Command, sdk: Sdk, demo: str) -> None:
    (before,) = sdk.read_deployment(demo).schedules

    printed = penstock("schedule", "update", demo, "--cron", "0 7 * * *", "--param", "day=1").stdout

    assert printed == (
        f"Updated schedule of deployment '{demo}': cron '0 7 * * *' (Europe/Berlin)\n    id - {before.id}\n"
    )
    (now,) = sdk.read_deployment(demo).schedules
    assert now == before.model_copy(update={"cron": "0 7 * * *", "parameters": {"day": 1}})

    penstock("schedule", "pause", demo)
    assert "It is paused" in penstock("schedule", "update", demo, "mornings", "--slug", "early").stdout
    (now,) = sdk.read_deployment(demo).schedules
    assert (now.slug, now.active, now.cron) == ("early", False, "0 7 * * *")

    assert "nothing to change" in penstock("schedule", "update", demo, code=USAGE).stderr
    both = penstock("schedule", "update", demo, "--cron", "@daily", "--interval", "5", code=USAGE).stderr
    assert "one of --cron, --interval and --rrule" in " ".join(both.split())


def test_several_schedules_are_created_at_once(penstock: Command, sdk: Sdk, demo: str) -> None:
    printed = penstock(
        "schedule", "create", demo, "--cron", "@hourly", "--rrule", "FREQ=DAILY;BYHOUR=6", "--paused"
    ).stdout

    assert printed.count("Created schedule") == 2
    new = [one for one in (sdk.read_deployment(demo)).schedules if one.slug != "mornings"]
    assert sorted((one.cron or "", one.rrule or "", one.active) for one in new) == [
        ("", "FREQ=DAILY;BYHOUR=6", False),
        ("@hourly", "", False),
    ]


def test_a_schedule_of_a_paused_deployment_says_that_it_waits(penstock: Command, demo: str) -> None:
    penstock("pause", demo)

    assert f"penstock deployment resume '{demo}'" in penstock("schedule", "create", demo, "--cron", "@hourly").stdout
    assert f"penstock deployment resume '{demo}'" in penstock("schedule", "resume", demo, "mornings").stdout
    assert "the deployment is paused" in penstock("schedule", "ls", demo).stdout


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        ([], USAGE, "say when: give --cron, --interval or --rrule"),
        (["--interval", "0"], USAGE, "it must be from 1 second to 366 days"),
        (["--cron", "@hourly", "--timezone", "Europe/Berlim"], USAGE, "did you mean 'Europe/Berlin'?"),
        (["--cron", "0 0 31 2 *"], REFUSED, "0 0 31 2 *"),
        (["--cron", "every day"], REFUSED, "every day"),
        (["--rrule", "FREQ=NEVER"], REFUSED, "FREQ=NEVER"),
        (["--cron", "@hourly", "--param", "nme=x"], REFUSED, "there is no parameter 'nme', did you mean 'name'?"),
        (["--cron", "@hourly", "--slug", "mornings"], REFUSED, "mornings"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_with_the_reason(
    penstock: Command, demo: str, options: list[str], code: int, told: str
) -> None:
    refused = penstock("schedule", "create", demo, *options, code=code)

    assert told in " ".join(refused.stderr.split())
    assert refused.stdout == ""


def test_an_unknown_schedule_gets_a_suggestion(penstock: Command, demo: str) -> None:
    for action in ("pause", "resume", "delete"):
        refused = penstock("schedule", action, demo, "morning", code=REFUSED)
        assert refused.stderr == (
            f"Error: deployment '{demo}' has no schedule 'morning'\nHint: did you mean 'mornings'?\n"
        )


def test_names_of_deployments_and_slugs_of_schedules_are_completed(
    sdk: Sdk, url: str, demo: str, tmp_path: Path
) -> None:
    (unnamed,) = [one.id for one in sdk.create_schedule(demo, ScheduleSpec(cron="@hourly")).schedules if not one.slug]

    assert complete(url, tmp_path, f"penstock deployment inspect {demo[:-1]}") == [demo]
    assert complete(url, tmp_path, f"penstock deployment schedule pause {demo} mo") == ["mornings"]
    assert complete(url, tmp_path, f"penstock deployment schedule delete {demo} {unnamed[:8]}") == [unnamed]
    assert complete(url, tmp_path, "penstock deployment schedule delete hello/nothing mo") == []
