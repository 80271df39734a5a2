"""The README's tutorial, word for word: what it tells a reader to type is what is run here."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import wait_until
from tests.system.processes import PENSTOCK, Up

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.system

README = Path(__file__).parents[2] / "README.md"
TITLE = "## Tutorial"


def tutorial() -> str:
    text = README.read_text(encoding="utf-8")
    start = text.index(TITLE)
    return text[start : text.index("\n## ", start + 1)]


def commands() -> list[str]:
    return re.findall(r"^\$ (penstock .+)$", tutorial(), re.MULTILINE)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    one = Up(tmp_path / "home")
    yield one
    one.clean_up()


def type_it(up: Up, folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run one line of the tutorial as a shell would, beside ``hello.py``."""
    program, *rest = shlex.split(command)
    assert program == "penstock"
    return subprocess.run(
        [*PENSTOCK, *rest], cwd=folder, env=up.variables, capture_output=True, text=True, check=False, timeout=90
    )


@pytest.mark.timeout(180)
async def test_the_tutorial_does_what_it_says(up: Up, tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n# hello.py\n(.*?)```", tutorial(), re.DOTALL)
    project = tmp_path / "project"
    project.mkdir()
    (project / "hello.py").write_text(code)
    first, deploy, preview, run, listing, pause, delete = commands()
    assert first == "penstock up"
    await up.wait_ready()

    deployed = type_it(up, project, deploy)
    assert deployed.returncode == 0, deployed.stderr
    assert "hello/demo" in deployed.stdout

    async def planned() -> bool:
        shown = type_it(up, project, preview)
        assert shown.returncode == 0, shown.stderr
        return shown.stdout.count(":00Z") >= 59

    await wait_until(planned, what="an hour of runs in the preview", timeout=20)

    watched = type_it(up, project, run)
    assert watched.returncode == 0, watched.stdout + watched.stderr
    words = ["Scheduled", "Pending", "Running", "Hello, Ford!", "Completed"]
    places = [watched.stdout.index(word) for word in words]
    assert places == sorted(places)

    listed = type_it(up, project, listing)
    assert "COMPLETED" in listed.stdout.upper()
    assert type_it(up, project, pause).returncode == 0

    async def nothing_planned() -> bool:
        return ":00Z" not in type_it(up, project, preview).stdout

    await wait_until(nothing_planned, what="the paused schedule's runs to be gone", timeout=20)
    deleted = type_it(up, project, delete)
    assert deleted.returncode == 0, deleted.stderr
    assert type_it(up, project, "penstock deployment inspect hello/demo").returncode == 1


@pytest.mark.timeout(180)
async def test_the_example_of_the_documents_deploys_and_runs_unchanged(up: Up, tmp_path: Path) -> None:
    """A prefect.yaml as Prefect's page on work pools prints it; the flow's file stands where it says."""
    project = tmp_path / "project"
    (project / "demo_project").mkdir(parents=True)
    (project / "demo_project" / "demo_flow.py").write_text("def some_work():\n    print('work was done')\n")
    (project / "prefect.yaml").write_text(
        "deployments:\n"
        "- name: demo-deployment\n"
        "  entrypoint: demo_project/demo_flow.py:some_work\n"
        "  work_pool:\n"
        "    name: above-ground\n"
        "    job_variables:\n"
        "        stream_output: false\n"
    )
    await up.wait_ready()
    too_early = type_it(up, project, "penstock deploy --all")
    assert too_early.returncode == 1
    assert "penstock work-pool create" in too_early.stderr
    assert type_it(up, project, "penstock work-pool create above-ground --type process").returncode == 0

    deployed = type_it(up, project, "penstock deploy --all")
    assert deployed.returncode == 0, deployed.stderr
    environment = {**up.variables, "PENSTOCK_WORKER_HEARTBEAT_SECONDS": "1"}
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(  # noqa: ASYNC220 - it is waited for below
            [*PENSTOCK, "worker", "start", "--pool", "above-ground"],
            env=environment,
            cwd=tmp_path,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        ran = type_it(up, project, "penstock deployment run some-work/demo-deployment --watch")
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "work was done" in ran.stdout
    finally:
        worker.terminate()
        worker.wait(60)
    assert "work was done" not in (tmp_path / "worker.log").read_text(), "stream_output is off"
