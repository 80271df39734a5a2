"""A decorated flow at an entrypoint is called as the object it is. Its package is played by a small one of the same shape."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.worker_rig import claim, working

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

PACKAGE = """
import inspect

class Failed:
    def __init__(self, message):
        self.message = message

class FailedRun(Exception):
    pass

class Flow:
    def __init__(self, fn, name):
        self.fn, self.name = fn, name or fn.__name__.replace("_", "-")

    def __call__(self, *args, return_state=False, **parameters):
        try:
            inspect.signature(self.fn).bind(*args, **parameters)
        except TypeError as problem:
            raise TypeError(f"Error binding parameters for flow {self.name!r}: {problem}") from None
        print(f"Beginning flow run of {self.name!r}")
        if inspect.iscoroutinefunction(self.fn):
            return self._later(args, parameters)
        return self._result(self.fn(*args, **parameters))

    async def _later(self, args, parameters):
        return self._result(await self.fn(*args, **parameters))

    def _result(self, result):
        if isinstance(result, Failed):
            raise FailedRun(result.message)
        return result

def flow(fn=None, *, name=None):
    return Flow(fn, name) if fn else lambda fn: Flow(fn, name)
"""
FLOWS = """
from prefect import Failed, flow

@flow(name="Nightly Load")
def load(day, retries=0):
    print("loading", day, retries)

@flow
async def load_later(day):
    print("loading later", day)

@flow
def raises():
    raise ValueError("no")

@flow
async def says_failed():
    return Failed("by its own word")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "prefect.py").write_text(PACKAGE)
    (tmp_path / "etl.py").write_text(FLOWS)
    return tmp_path


@pytest.mark.parametrize(
    ("function", "parameters", "output"),
    [
        ("load", {"day": "mon", "retries": 2}, ["Beginning flow run of 'Nightly Load'", "loading mon 2"]),
        ("load_later", {"day": "mon"}, ["Beginning flow run of 'load-later'", "loading later mon"]),
    ],
)
async def test_a_flow_runs_with_its_parameters_under_its_own_name(
    client: Redis, project: Path, function: str, parameters: dict[str, Any], output: list[str]
) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"etl.py:{function}", parameters=parameters, working_dir=str(project))
        await rig.assign(run)
        await rig.completed(run)
        assert [text for _, text in await rig.output(run)] == output


@pytest.mark.parametrize(
    ("function", "parameters", "message"),
    [
        ("raises", {}, "ValueError: no"),
        ("says_failed", {}, "FailedRun: by its own word"),
        (
            "load",
            {"dai": 1},
            "TypeError: Error binding parameters for flow 'Nightly Load': missing a required argument",
        ),
    ],
)
async def test_a_flow_that_raises_or_says_that_it_failed_makes_the_run_failed(
    client: Redis, project: Path, function: str, parameters: dict[str, Any], message: str
) -> None:
    async with working(client) as rig:
        run = claim(entrypoint=f"{project}/etl.py:{function}", parameters=parameters)
        await rig.assign(run)
        report = await rig.report(run)
        assert report["state"] == "FAILED"
        assert report["message"].startswith(f"Flow run encountered an exception: {message}")
        trace = [text for source, text in await rig.output(run) if source == "stderr"]
        assert message in trace[-1]


async def test_the_worker_itself_never_loads_that_package(tmp_path: Path) -> None:
    (tmp_path / "prefect.py").write_text("raise SystemExit('loaded')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import pkgutil, importlib, penstock.worker as w;"
        "[importlib.import_module(m.name) for m in pkgutil.iter_modules(w.__path__, 'penstock.worker.')];"
        "sys.exit('prefect' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: ASYNC221 - once
