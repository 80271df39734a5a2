"""Job variables end to end: real services, a real ``penstock worker start``, real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.bus.requests import request
from penstock.client import NewRun, Penstock
from penstock.contracts.runs import RunSpec, SubmitRuns, SubmittedRun, new_run_id
from penstock.errors import Invalid, Unavailable
from penstock.streams import DISPATCH
from penstock.templates import default_template
from penstock.worker import preparation
from tests.support import read_events, wait_until
from tests.worker_rig import claim, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from penstock.contracts.runs import Run

STOP_SECONDS = 30
SHOW = [
    sys.executable,
    "-S",
    "-c",
    "import os; print('STAGE', os.environ.get('STAGE'), 'PORT', os.environ.get('PORT'))",
]
WHERE = [sys.executable, "-S", "-c", "import os; print(os.getcwd())"]
WRONG = {"stream_output": "maybe"}
REASON = r"\$\.stream_output: \"maybe\" is not of type \"boolean\" \(type\)"


@pytest.fixture
async def live(url: str) -> AsyncIterator[Redis]:
    client = connect(url)
    yield client
    await client.aclose()


@pytest.fixture
def penstock(live: Redis) -> Penstock:
    return Penstock(live, 1)


@pytest.fixture
async def pool(penstock: Penstock) -> str:
    return (await penstock.create_pool(f"pool-{uuid.uuid4().hex[:8]}")).name


@pytest.fixture
async def printed(url: str, pool: str, tmp_path: Path) -> AsyncIterator[Path]:
    """A worker of the pool; the file it prints to."""
    output = tmp_path / "worker.txt"
    worker = launch(url, pool, output)

    async def started() -> bool:
        assert worker.poll() is None, said(output)
        return " started!\n" in said(output)

    try:
        await wait_until(started, what="the worker to start")
        yield output
    finally:
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(signal.SIGTERM)
        await asyncio.to_thread(worker.wait, STOP_SECONDS)


def launch(url: str, pool: str, output: Path) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "penstock", "worker", "start", "--pool", pool],
            env=environment | {"PENSTOCK_REDIS_URL": url, "PENSTOCK_WORKER_DRAIN_SECONDS": "5"},
            cwd=output.parent,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def said(output: Path) -> str:
    return output.read_text()


async def ended(penstock: Penstock, pool: str, *runs: NewRun) -> list[Run]:
    return await penstock.wait_for_runs(await penstock.submit_runs(pool, runs), timeout=60)


async def output(penstock: Penstock, run: Run) -> list[str]:
    assert run.state == "COMPLETED", run.message
    return [line.text async for line in penstock.logs(run.id)]


async def submit_raw(live: Redis, pool: str, **spec: Any) -> str:
    """Submit as a client that knows the bus only."""
    run = SubmittedRun(id=new_run_id(0), name="raw", spec=RunSpec(**spec))
    answer = await request(live, DISPATCH, 0, SubmitRuns(pool=pool, runs=[run]))
    assert answer["accepted"] == [run.id]
    return run.id


async def test_env_of_a_job_variable_reaches_the_process_and_the_runs_own_env_wins(
    penstock: Penstock, pool: str, printed: Path
) -> None:
    variables = {"env.STAGE": "test", "env": {"PORT": "1"}}

    plain, chosen, both = await ended(
        penstock,
        pool,
        NewRun(command=SHOW),
        NewRun(command=SHOW, job_variables=variables),
        NewRun(command=SHOW, job_variables=variables, env={"PORT": "2"}),
    )

    assert await output(penstock, plain) == ["STAGE None PORT None"]
    assert await output(penstock, chosen) == ["STAGE test PORT 1"]
    assert await output(penstock, both) == ["STAGE test PORT 2"]
    assert "STAGE test PORT 1" in said(printed)


async def test_stream_output_false_keeps_the_output_from_the_workers_stdout_but_in_the_log(
    penstock: Penstock, pool: str, printed: Path
) -> None:
    loud = NewRun(command=["echo", "loud"], name="loud-one")
    quiet = NewRun(command=["echo", "quiet"], name="quiet-one", job_variables={"stream_output": False})

    _, silent = await ended(penstock, pool, loud, quiet)

    assert await output(penstock, silent) == ["quiet"]
    assert "loud-one | loud" in said(printed)
    assert "quiet-one | " not in said(printed)


@pytest.mark.usefixtures("printed")
async def test_working_dir_of_a_job_variable_is_used_unless_the_run_has_its_own(
    penstock: Penstock, pool: str, tmp_path: Path
) -> None:
    for name in ("template", "own"):
        (tmp_path / name).mkdir()
    variables = {"working_dir": str(tmp_path / "template")}

    first, second = await ended(
        penstock,
        pool,
        NewRun(command=WHERE, job_variables=variables),
        NewRun(command=WHERE, job_variables=variables, working_dir=str(tmp_path / "own")),
    )

    assert await output(penstock, first) == [str((tmp_path / "template").resolve())]
    assert await output(penstock, second) == [str((tmp_path / "own").resolve())]


async def test_a_wrong_variable_is_refused_at_submission_with_path_and_rule_and_nothing_is_sent(
    penstock: Penstock, pool: str, live: Redis
) -> None:
    before = await live.xinfo_stream(keys.key(0, "dispatch"))
    with pytest.raises(Invalid, match=f"^run 2: job variables: {REASON}$"):
        await penstock.submit_runs(
            pool, [NewRun(command=["true"], job_variables={"env": {}}), NewRun(command=["true"], job_variables=WRONG)]
        )
    assert await penstock.read_runs(pool) == []
    assert (await live.xinfo_stream(keys.key(0, "dispatch")))["last-generated-id"] == before["last-generated-id"]


async def test_a_required_variable_is_missed_by_a_submission_without_any(penstock: Penstock, pool: str) -> None:
    variables = {"type": "object", "required": ["stage"], "properties": {"stage": {"type": "string"}}}
    template = {"job_configuration": {"env": {"STAGE": "{{ stage }}"}}, "variables": variables}
    await penstock.update_pool(pool, base_job_template=template)

    with pytest.raises(Invalid, match=r"\$\.stage: is required and missing \(required\)"):
        await penstock.submit_runs(pool, [NewRun(command=["true"])])


async def test_a_wrong_variable_sent_over_the_bus_ends_failed_with_the_reason_and_the_worker_goes_on(
    penstock: Penstock, pool: str, live: Redis, printed: Path
) -> None:
    wrong = await submit_raw(live, pool, command=["true"], job_variables=WRONG)
    right = await submit_raw(live, pool, command=["true"], job_variables={"stream_output": True})

    failed, completed = await penstock.wait_for_runs([wrong, right], timeout=60)

    assert failed.state == "FAILED", said(printed)
    assert failed.message == (
        'The run cannot be prepared: job variables: $.stream_output: the value is not of type "boolean" (type)'
    )
    assert (completed.state, completed.message) == ("COMPLETED", "")
    told = [event["resource"] for event in await read_events(live) if wrong in str(event)]
    assert any("stream_output" in resource["prefect.state-message"] for resource in told)
    assert "maybe" not in str(told), "events are for everybody"


@pytest.mark.usefixtures("printed")
async def test_a_value_is_text_to_template_and_shell_and_no_other_run_sees_it(
    penstock: Penstock, pool: str, tmp_path: Path
) -> None:
    template = default_template("process")
    template["job_configuration"]["env"] = {"STAGE": "<{{ stage }}>"}
    template["variables"]["properties"]["stage"] = {"type": "string", "default": "none"}
    await penstock.update_pool(pool, base_job_template=template)
    made, gate = tmp_path / "made", tmp_path / "gate"
    hostile = f"$(touch {made}); `touch {made}` && touch {made}\n{{{{ env }}}} '\"%s\\"
    os.mkfifo(gate)
    show = [sys.executable, "-S", "-c", f"import os; open({str(gate)!r}).read(); print(ascii(os.environ['STAGE']))"]

    runs = [NewRun(command=show, job_variables={"stage": hostile}), NewRun(command=show)]
    ids = await penstock.submit_runs(pool, runs)
    for run_id in ids:
        await wait_until(partial(_runs, penstock, run_id), what="both at the same time")
    await asyncio.to_thread(gate.write_text, "")
    hurt, other = await penstock.wait_for_runs(ids, timeout=60)

    assert await output(penstock, hurt) == [ascii(f"<{hostile}>")]
    assert await output(penstock, other) == ["'<none>'"]
    assert not made.exists()


async def _runs(penstock: Penstock, run_id: str) -> bool:
    return (await penstock.read_run(run_id)).state == "RUNNING"


@pytest.mark.usefixtures("printed")
async def test_a_changed_template_counts_for_the_next_run_and_not_for_a_prepared_one(
    penstock: Penstock, pool: str, tmp_path: Path
) -> None:
    def with_stage(stage: str) -> dict[str, Any]:
        template = default_template("process")
        template["job_configuration"]["env"] = {"STAGE": stage, "PORT": 80}
        return template

    gate = tmp_path / "gate"
    os.mkfifo(gate)
    waits = [sys.executable, "-S", "-c", f"import os; open({str(gate)!r}).read(); print(os.environ['STAGE'])"]
    await penstock.update_pool(pool, base_job_template=with_stage("old"))
    (running,) = await penstock.submit_runs(pool, [NewRun(command=waits)])

    async def runs() -> bool:
        return (await penstock.read_run(running)).state == "RUNNING"

    await wait_until(runs, what="the run to be RUNNING")
    await penstock.update_pool(pool, base_job_template=with_stage("new"))
    (after,) = await ended(penstock, pool, NewRun(command=SHOW))
    await asyncio.to_thread(gate.write_text, "go")
    (before,) = await penstock.wait_for_runs([running], timeout=60)

    assert await output(penstock, after) == ["STAGE new PORT 80"]
    assert await output(penstock, before) == ["old"]


async def test_a_run_whose_template_was_never_read_is_handed_back_and_the_next_one_is_executed(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[bytes] = []

    async def read(*_: Any) -> bytes:
        if not answers:
            raise Unavailable("Redis does not answer")
        return answers[0]

    monkeypatch.setattr(preparation, "read_template", read)
    first, second = claim(command=["true"]), claim(command=["true"])
    async with working(client) as rig:
        await rig.assign(first)
        back = await rig.report(first, "SCHEDULED")
        answers.append(b"{}")
        await rig.assign(second)
        await rig.completed(second)
        assert back["message"] == "Handed back: the worker could not read the pool's template"
        assert await rig.states(first) == ["SCHEDULED"]
