"""``penstock deploy`` as people and scripts meet it: real files, real services, real Redis."""

from __future__ import annotations

import asyncio
import json
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from penstock.bus.connection import connect
from tests.command_line import REFUSED, USAGE, new_pool, typing_commands
from tests.installation import HandWorker
from tests.support import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.command_line import Command


FLOWS = '''
def hello(name: str = "world", count: int = 1):
    """Say hello."""

def load(day: str):
    """Load a day."""
'''


@pytest.fixture
def penstock(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run one command in this process, in a project of its own."""
    monkeypatch.setenv("PENSTOCK_REDIS_URL", url)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.py").write_text(FLOWS)
    return typing_commands()


@pytest.fixture
def pool(penstock: Command) -> str:
    return new_pool(penstock)


@pytest.fixture
def label() -> str:
    """The name of a deployment no other test has."""
    return f"d-{uuid.uuid4().hex[:8]}"


def deployed(penstock: Command, *arguments: str) -> Any:
    return json.loads(penstock("deploy", *arguments, "-o", "json").stdout)


def test_a_function_is_deployed_and_it_is_said_what_to_do_next(
    penstock: Command, pool: str, label: str, tmp_path: Path
) -> None:
    printed = penstock("deploy", "flows.py:hello", "-n", label, "-p", pool)

    assert printed.stdout == (
        f"Deployment 'hello/{label}' created\n"
        f"    pool        {pool}\n"
        f"    queue       default\n"
        f"    entrypoint  flows.py:hello\n"
        f"    directory   {tmp_path}\n"
        f"    schedule    none\n"
        f"\n"
        f"Run it now:\n"
        f"    penstock deployment run 'hello/{label}' --watch\n"
    )
    assert printed.stderr == (
        f"Warning: work pool '{pool}' has no worker online: its runs wait until `penstock worker start -p '{pool}'`\n"
    )


def test_options_say_everything_of_a_deployment(penstock: Command, pool: str, label: str, tmp_path: Path) -> None:
    found = deployed(
        penstock,
        *("flows.py:hello", "-n", label, "-p", pool, "-q", "critical", "--flow", "greet", "--paused"),
        *("--cron", "0 6 * * 1-5", "--cron", "@hourly", "--interval", "10m", "--interval", "90"),
        *("--rrule", "FREQ=DAILY", "--anchor-date", "2026-01-01T00:00", "--timezone", "Europe/Berlin"),
        *("--catch-up", "LATEST", "--params", '{"name": "a", "count": 2}', "--param", "name=5"),
        *("--job-variable", "stream_output=false", "--tag", "a", "--tag", "b", "--description", "Greets."),
        *("--version", "1.10", "--concurrency-limit", "3", "--collision-strategy", "cancel_new"),
        *("--retries", "2", "--retry-delay", "1m"),
    )

    assert (found["name"], found["pool"], found["queue"], found["paused"]) == (f"greet/{label}", pool, "critical", True)
    assert (found["entrypoint"], found["command"], found["working_dir"]) == ("flows.py:hello", None, str(tmp_path))
    assert (found["parameters"], found["job_variables"]) == ({"name": "5", "count": 2}, {"stream_output": False})
    assert (found["tags"], found["description"], found["version"]) == (["a", "b"], "Greets.", "1.10")
    assert (found["concurrency_limit"], found["collision_strategy"]) == (3, "cancel_new")
    assert (found["retries"], found["retry_delay_seconds"]) == (2, 60)
    assert found["parameter_schema"]["properties"]["count"] == {"default": 1, "title": "count", "type": "integer"}
    schedules = found["schedules"]
    assert sorted(one["cron"] for one in schedules if one["cron"]) == ["0 6 * * 1-5", "@hourly"]
    assert sorted(one["interval_seconds"] for one in schedules if one["interval_seconds"]) == [90, 600]
    assert [one["rrule"] for one in schedules if one["rrule"]] == ["FREQ=DAILY"]
    assert {(one["timezone"], one["catch_up"]) for one in schedules} == {("Europe/Berlin", "latest")}
    anchors = {datetime.fromisoformat(one["anchor"]) for one in schedules if not one["cron"]}
    assert anchors == {datetime(2025, 12, 31, 23, tzinfo=UTC)}


def test_schedules_are_shown_in_words_with_their_next_time(penstock: Command, pool: str, label: str) -> None:
    arguments = ("deploy", "flows.py:hello", "-n", label, "-p", pool, "--timezone", "Europe/Berlin")

    printed = penstock(*arguments, "--cron", "0 6 * * *").stdout
    assert "    schedule    cron '0 6 * * *' (Europe/Berlin); next 20" in printed
    assert " 06:00:00 CE" in printed
    printed = penstock(*arguments, "--interval", "1h", "--paused").stdout
    assert "    schedule    every hour; the deployment is paused" in printed


def test_a_second_deployment_of_the_name_updates_it_or_says_that_nothing_changed(
    penstock: Command, pool: str, label: str
) -> None:
    arguments = ("deploy", "flows.py:hello", "-n", label, "-p", pool)
    penstock(*arguments, "--interval", "1h")

    assert f"Deployment 'hello/{label}' unchanged" in penstock(*arguments, "--interval", "1h").stdout
    updated = penstock(*arguments, "--param", "count=5").stdout
    assert f"Deployment 'hello/{label}' updated" in updated
    assert "every hour" in updated
    assert f"Deployment 'hello/{label}' unchanged" in penstock(*arguments, "--param", "count=5").stdout


def test_deploying_again_says_what_has_changed(penstock: Command, pool: str, label: str) -> None:
    arguments = ("deploy", "flows.py:hello", "-n", label, "-p", pool)
    options = ("--retries", "2", "--tag", "a", "--concurrency-limit", "1", "--param", "name=Ford")
    created = penstock(*arguments, *options, "--interval", "1h").stdout
    assert "changed:" not in created
    assert "    retries     2, 0 s after a failure\n" in created
    assert "    limit       1, then enqueue\n" in created
    assert "    tags        a\n" in created
    assert "    parameters  name=Ford\n" in created

    again = penstock(*arguments, "--cron", "0 6 * * *")

    assert again.stdout.partition("  changed:\n")[2].partition("\n\n")[0] == (
        "    tags a -> none\n"
        "    concurrency limit 1 -> none\n"
        "    retries 2 -> 0\n"
        "    parameters: name removed\n"
        "    schedule every hour removed\n"
        "    schedule cron '0 6 * * *' (UTC) added"
    )
    assert "ran in" not in again.stderr


def test_code_from_somewhere_else_is_warned_of(
    penstock: Command, pool: str, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("deploy", "flows.py:hello", "-n", label, "-p", pool)
    penstock(*arguments)
    (tmp_path / "others.py").write_text(FLOWS)
    assert f"Warning: 'hello/{label}' ran flows.py before; from now on it runs others.py\n" in (
        penstock("deploy", "others.py:hello", *arguments[2:]).stderr
    )

    other = tmp_path / "other"
    other.mkdir()
    (other / "flows.py").write_text(FLOWS)
    monkeypatch.chdir(other)
    printed = penstock(*arguments)

    assert "\n    directory " in printed.stdout.partition("changed:")[2]
    assert f"Warning: 'hello/{label}' ran in " in printed.stderr


def test_names_that_the_pool_does_not_know_are_told(penstock: Command, pool: str, label: str) -> None:
    penstock("work-queue", "create", "critical", "--pool", pool)

    printed = penstock(
        *("deploy", "flows.py:hello", "-n", label, "-p", pool, "-q", "crtical"),
        *("--job-variable", "streem_output=false", "--job-variable", "env.A=1"),
    ).stderr

    assert f"Note: this creates work queue 'crtical' in '{pool}'; did you mean 'critical'?\n" in printed
    assert (
        f"Warning: work pool '{pool}' has no job variable 'streem_output': it changes nothing; "
        "did you mean 'stream_output'?\n"
    ) in printed
    assert "'env'" not in printed


def test_parameters_come_from_a_file(penstock: Command, pool: str, label: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"count": 3, "name": "a"}')

    found = deployed(penstock, "flows.py:hello", "-n", label, "-p", pool, "--params", "@p.json", "--param", "name=b")

    assert found["parameters"] == {"count": 3, "name": "b"}


def test_a_command_is_deployed_with_the_name_of_its_flow(penstock: Command, pool: str, label: str) -> None:
    arguments = ("--command", "python -m load 'a b'", "-n", label, "-p", pool)

    found = deployed(penstock, *arguments, "--flow", "load")

    assert (found["name"], found["command"]) == (f"load/{label}", ["python", "-m", "load", "a b"])
    assert (found["entrypoint"], found["parameter_schema"]) == (None, None)
    assert "command     python -m load 'a b'" in penstock("deploy", *arguments, "--flow", "load").stdout
    assert "name it with --flow" in penstock("deploy", *arguments, code=REFUSED).stderr


SEED = """\
deployments:
- name: demo-deployment
  entrypoint: demo_project/demo_flow.py:some_work
  work_pool:
    name: above-ground
    job_variables:
        stream_output: false
"""


def test_the_documented_file_deploys_unchanged(penstock: Command, tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text(SEED)
    (tmp_path / "demo_project").mkdir()
    (tmp_path / "demo_project" / "demo_flow.py").write_text("def some_work(): ...\n")

    refused = penstock("deploy", code=REFUSED).stderr
    assert refused == (
        "Error: prefect.yaml:2: there is no work pool 'above-ground'\n"
        "Hint: create it: penstock work-pool create 'above-ground'\n"
    )
    penstock("work-pool", "create", "above-ground")
    found = deployed(penstock)

    assert (found["name"], found["pool"]) == ("some-work/demo-deployment", "above-ground")
    assert found["entrypoint"] == "demo_project/demo_flow.py:some_work"
    assert (found["job_variables"], found["working_dir"]) == ({"stream_output": False}, str(tmp_path))


def write_file(tmp_path: Path, pool: str, *names: str, more: str = "") -> None:
    deployments = [
        f"- name: {name}\n  entrypoint: flows.py:hello\n  work_pool: {{name: {pool}, job_variables: {{env: {{A: '1'}}}}}}\n"
        f"  parameters: {{name: file, count: 2}}\n  tags: [file]\n  version: '1'\n"
        for name in names
    ]
    (tmp_path / "penstock.yaml").write_text("deployments:\n" + "".join(deployments) + more)


def test_options_override_what_the_file_says(penstock: Command, pool: str, label: str, tmp_path: Path) -> None:
    write_file(tmp_path, pool, label, f"{label}-other")

    found = deployed(penstock, "-n", label, "--param", "count=3", "--tag", "x", "-q", "q", "--job-variable", "env.B=x")

    assert (found["parameters"], found["tags"]) == ({"name": "file", "count": 3}, ["x"])
    assert (found["queue"], found["version"]) == ("q", "1")
    assert found["job_variables"] == {"env": {"A": "1", "B": "x"}}


def test_one_of_several_has_to_be_named_or_all_of_them(
    penstock: Command, pool: str, label: str, tmp_path: Path
) -> None:
    write_file(tmp_path, pool, label, f"{label}-other")

    assert penstock("deploy", code=REFUSED).stderr == (
        f"Error: penstock.yaml has 2 deployments: {label}, {label}-other\nHint: give one with --name, or --all\n"
    )
    assert [one["name"] for one in deployed(penstock, "--all")] == [f"hello/{label}", f"hello/{label}-other"]
    assert "Run one now:" in penstock("deploy", "--all").stdout


@pytest.mark.parametrize(
    "wrong",
    [
        "- {name: wrong, entrypoint: 'flows.py:hallo', work_pool: {name: POOL}}\n",
        "- {name: wrong, entrypoint: 'flows.py:hello', work_pool: {name: no-such-pool}}\n",
        "- {name: wrong, entrypoint: 'flows.py:hello', work_pool: {name: POOL, job_variables: {stream_output: 5}}}\n",
        "- {name: wrong, entrypoint: 'flows.py:load', work_pool: {name: POOL}, schedules: [{interval: 60}]}\n",
        "- {name: wrong, entrypoint: 'flows.py:hello', work_pool: {name: POOL}, parameters: {nmae: x}}\n",
        "- {name: LABEL, entrypoint: 'flows.py:hello', work_pool: {name: POOL}}\n",
    ],
)
def test_nothing_is_sent_if_one_of_all_is_wrong(
    penstock: Command, pool: str, label: str, tmp_path: Path, wrong: str
) -> None:
    write_file(tmp_path, pool, label, more=wrong.replace("POOL", pool).replace("LABEL", label))

    assert "penstock.yaml:8: " in penstock("deploy", "--all", code=REFUSED).stderr
    (tmp_path / "penstock.yaml").unlink()
    assert f"'hello/{label}' created" in penstock("deploy", "flows.py:hello", "-n", label, "-p", pool).stdout


def test_another_file_is_read_with_its_own_directory_as_the_project(
    penstock: Command, pool: str, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path, pool, label)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    found = deployed(penstock, "--file", "../penstock.yaml")

    assert (found["working_dir"], found["entrypoint"]) == (str(tmp_path), "flows.py:hello")
    assert "No such file" in penstock("deploy", "--file", "penstock.yaml", code=REFUSED).stderr


def test_an_entrypoint_is_deployed_as_it_is_typed_whatever_the_file_says(
    penstock: Command, pool: str, label: str, tmp_path: Path
) -> None:
    write_file(tmp_path, pool, label)

    assert deployed(penstock, "flows.py:hello", "-n", label, "-p", pool)["tags"] == []


def test_what_the_file_says_in_vain_is_named(penstock: Command, pool: str, label: str, tmp_path: Path) -> None:
    write_file(tmp_path, pool, label, more="  triggers: [{type: event}]\n  entry_point: x\nbuild: [{a: {}}]\n")
    told = "penstock.yaml:9: 'deployments[0].entry_point' is unknown; did you mean 'entrypoint'?"
    assert penstock("deploy", code=REFUSED).stderr.endswith(f"Error: {told}\n")
    (tmp_path / "penstock.yaml").rename(tmp_path / "prefect.yaml")

    printed = penstock("deploy").stderr

    assert "Warning: prefect.yaml:10: 'build' is Prefect's" in printed
    assert "Warning: prefect.yaml:8: 'deployments[0].triggers' is Prefect's" in printed
    assert "Warning: prefect.yaml:9: 'deployments[0].entry_point' is unknown and ignored; did you mean" in printed


def test_without_anything_to_deploy_it_says_what_to_give(penstock: Command, tmp_path: Path) -> None:
    printed = penstock("deploy", code=REFUSED).stderr

    assert f"neither penstock.yaml nor prefect.yaml is in {tmp_path}" in printed
    assert "Hint: give a function" in printed


def test_code_that_cannot_be_imported_is_deployed_with_a_warning(
    penstock: Command, pool: str, label: str, tmp_path: Path
) -> None:
    (tmp_path / "flows.py").write_text("import no_such_library\ndef some_work(day): ...\n")

    printed = penstock("deploy", "flows.py:some_work", "-n", label, "-p", pool)

    assert f"Deployment 'some-work/{label}' created" in printed.stdout
    assert "Warning: flows.py cannot be imported here: ModuleNotFoundError: No module named" in printed.stderr


def test_schedules_that_stay_must_not_fail_from_now_on(
    penstock: Command, pool: str, label: str, tmp_path: Path
) -> None:
    arguments = ("deploy", "flows.py:hello", "-n", label, "-p", pool)
    penstock(*arguments, "--interval", "1h")
    (tmp_path / "flows.py").write_text("def hello(name: str): ...\n")

    assert "would fail: 'name' has no value" in penstock(*arguments, code=REFUSED).stderr
    penstock(*arguments, "--param", "name=x")


def test_a_deployment_moves_to_another_pool_under_its_own_id(penstock: Command, pool: str, label: str) -> None:
    other = f"{pool}-other"
    penstock("work-pool", "create", other)

    before = deployed(penstock, "flows.py:hello", "-n", label, "-p", pool)
    after = deployed(penstock, "flows.py:hello", "-n", label, "-p", other)

    assert (after["id"], after["pool"]) == (before["id"], other)


def test_it_warns_of_a_paused_pool_and_a_paused_queue(penstock: Command, pool: str, label: str) -> None:
    penstock("work-queue", "create", "slow", "--pool", pool)
    penstock("work-queue", "pause", "slow", "--pool", pool)
    penstock("work-pool", "pause", pool)

    printed = penstock("deploy", "flows.py:hello", "-n", label, "-p", pool, "-q", "slow").stderr

    assert f"work pool '{pool}' is paused: nothing of it runs until `penstock work-pool resume '{pool}'`" in printed
    assert f"until `penstock work-queue resume 'slow' --pool '{pool}'`" in printed
    assert "no worker online" not in printed


def test_it_warns_of_nothing_where_a_worker_is_online(penstock: Command, pool: str, label: str, url: str) -> None:
    async def joined() -> None:
        client = connect(url)
        await HandWorker(client, pool).join()
        await client.aclose()

        async def ready() -> bool:
            result = await asyncio.to_thread(penstock, "work-pool", "inspect", pool, "-o", "json")
            return bool(json.loads(result.stdout)["status"] == "READY")

        await wait_until(ready, what="the pool is ready")

    asyncio.run(joined())
    assert penstock("deploy", "flows.py:hello", "-n", label, "-p", pool).stderr == ""


def test_without_a_pool_the_default_one_is_taken(
    penstock: Command, pool: str, label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_DEFAULT_POOL", pool)

    assert deployed(penstock, "flows.py:hello", "-n", label)["pool"] == pool


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["flows.py:hello", "--command", "ls"], "give ENTRYPOINT or --command, not both"),
        (["flows.py:hello", "--all"], "--all takes the deployments as the file lists them"),
        (["--all", "-n", "demo"], "--all takes the deployments as the file lists them"),
        (["flows.py:hello", "--interval", "0"], "it must be from 1 second to 366 days"),
        (["flows.py:hello", "--cron", "*", "*", "*", "*", "*"], "Hint: quote the cron: --cron '* * * * *'"),
        (["flows.py:hello", "name=Ford"], "Hint: did you mean --param name=Ford?"),
        (["flows.py:hello", "--params", "@nowhere.json"], "No such file"),
        (["flows.py:hello", "--interval", "soon"], "--interval 'soon' is no interval: give seconds"),
        (["flows.py:hello", "--retry-delay", "soon"], "--retry-delay 'soon' is no"),
        (["flows.py:hello", "--timezone", "UTC"], "--timezone is about schedules given as options"),
        (["flows.py:hello", "--catch-up", "all"], "--catch-up is about schedules given as options"),
        (
            ["flows.py:hello", "--anchor-date", "2026-01-01", "--cron", "* * * * *"],
            "--anchor-date goes with --interval or --rrule",
        ),
        (["flows.py:hello", "--anchor-date", "2026-01-01"], "give --interval or --rrule, too"),
        (["flows.py:hello", "--interval", "5", "--anchor-date", "soon"], "'soon' is no date"),
        (["flows.py:hello", "--cron", "* * * * *", "--timezone", "Mars"], "unknown time zone 'Mars'"),
        (["flows.py:hello", "--cron", "* * * * *", "--catch-up", "some"], "--catch-up 'some' is unknown"),
        (["flows.py:hello", "--collision-strategy", "wait"], "--collision-strategy 'wait' is unknown"),
        (["flows.py:hello", "--param", "day"], "--param 'day' is not of the form name=value"),
        (["flows.py:hello", "--job-variable", "day"], "--job-variable 'day' is not of the form name=value"),
        (["flows.py:hello", "--params", "{"], "--params is not JSON"),
        (["flows.py:hello", "--params", "[1]"], "--params is no JSON object"),
        (["--command", "a 'b", "--flow", "f"], "No closing quotation"),
        (["--command", "", "--flow", "f"], "--command is empty"),
    ],
)
def test_what_is_typed_wrong_is_a_usage_error(penstock: Command, arguments: list[str], told: str) -> None:
    # The frame around usage errors breaks their lines.
    printed = " ".join(penstock("deploy", *arguments, code=USAGE).stderr.replace("│", " ").split())

    assert told in printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["flows.py:hallo"], "Error: flows.py has no function 'hallo'\nHint: did you mean 'hello'?"),
        (["flow.py:hello"], "there is no file flow.py"),
        (["flows.py"], "Hint: give the function, too: flows.py:function"),
        (["flows.py:hello", "--cron", "0 6 31 2 *"], "0 6 31 2 *"),
        (["flows.py:hello", "--cron", "every day"], "every day"),
        (["flows.py:hello", "--rrule", "FREQ=SOMETIMES"], "FREQ=SOMETIMES"),
        (["flows.py:hello", "--param", "nam=x"], "there is no parameter 'nam', did you mean 'name'?"),
        (["flows.py:hello", "--param", "count=many"], "'count' does not fit"),
        (["flows.py:load", "--interval", "1h"], "would fail: 'day' has no value"),
        (["flows.py:hello", "-n", "a%b"], "contains %"),
        (["flows.py:hello", "--job-variable", "stream_output=5"], "$.stream_output"),
        (["flows.py:hello", "--concurrency-limit", "-1"], "concurrency_limit"),
    ],
)
def test_what_breaks_a_rule_is_refused_and_nothing_is_sent(
    penstock: Command, pool: str, label: str, arguments: list[str], told: str
) -> None:
    name = [] if "-n" in arguments else ["-n", label]

    assert told in penstock("deploy", *arguments, *name, "-p", pool, code=REFUSED).stderr
    assert f"'hello/{label}' created" in penstock("deploy", "flows.py:hello", "-n", label, "-p", pool).stdout


def test_a_deployment_of_a_file_that_names_no_pool_is_told_with_its_line(
    penstock: Command, pool: str, label: str, tmp_path: Path
) -> None:
    new_pool(penstock)
    (tmp_path / "penstock.yaml").write_text(
        f"deployments:\n- {{name: a, entrypoint: 'flows.py:hello', work_pool: {{name: {pool}}}}}\n"
        f"- {{name: {label}, entrypoint: 'flows.py:hello'}}\n"
    )

    refused = penstock("deploy", "--all", code=USAGE).stderr

    assert "penstock.yaml:3: give --pool (or set PENSTOCK_DEFAULT_POOL): there are" in refused
