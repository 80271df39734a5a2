"""``penstock demo``: a whole installation in a directory of its own, real work on real files, and a verdict.

The verdict is counted from the event stream (``demo_history``) and the files (``demo_files``), not asked from services.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from penstock.cli.demo_board import Board
from penstock.cli.demo_files import DemoFiles
from penstock.cli.demo_history import History, Lane
from penstock.cli.installation import Installation
from penstock.cli.supervisor import stop_on_signals
from penstock.client import Penstock
from penstock.client.deployed import deployed_run
from penstock.errors import Unavailable
from penstock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from penstock.contracts.deployments import Deployment

POOL: Final = "demo"
FLOW: Final = "summarize"
POOL_LIMIT: Final = 5
QUEUES: Final = (("critical", 1, 1), ("high", 5, 3), ("low", 10, None))
"""Name, priority, limit: the example of the work pool documentation."""
WORKER_SLOTS: Final = 8
"""More than the pool's limit, so that the limit is what holds runs back."""
MAX_ATTEMPTS: Final = 10
PATIENCE_SECONDS: Final = 60.0
"""How long no run may move before the demo gives up."""
SHOWN_PROBLEMS: Final = 12


class Demo:
    """One demo.

    Args:
        installation: not started yet.
        files: an empty directory.
        runs: how many, at least 6.
        pool: name of the pool to create.
    """

    def __init__(self, installation: Installation, files: DemoFiles, runs: int, pool: str) -> None:
        self._installation = installation
        self._files = files
        self._pool = pool
        self.history = History([Lane(*queue) for queue in QUEUES], Lane(pool, 0, POOL_LIMIT))
        self.board = Board(self.history, runs)
        few, third = runs // 12, runs // 3
        # The least important first, so that everything after them has to overtake.
        self._first = [_names("low", runs - 2 * few - third), _names("high", third), _names("critical", few)]
        self._later = _names("critical-late", few)
        self._names = [name for wave in (*self._first, self._later) for name in wave]
        self._ids: list[str] = []
        self._deployments: dict[str, Deployment] = {}

    async def run(self) -> list[str]:
        """Start everything, submit, watch until all runs have ended.

        Returns:
            What went wrong; empty means every promise held.
        """
        self._files.prepare(self._names)
        await self._installation.start_services()
        settings = Settings.read(redis_url=self._installation.redis_url)
        async with Penstock.connect(settings) as penstock:
            await self._define(penstock)
            await self._installation.start_workers(self._pool, limit=WORKER_SLOTS)
            try:
                with self.board:
                    await self._watch(penstock)
            except TimeoutError:
                return [f"no run moved for {PATIENCE_SECONDS:g} s", *self.history.problems(self._ids)]
        return [*self.history.problems(self._ids), *self._files.problems()]

    async def _define(self, penstock: Penstock) -> None:
        # A worker that is killed gives its runs back: they are safe to run again.
        await penstock.create_pool(
            self._pool, concurrency_limit=POOL_LIMIT, on_worker_lost="requeue", max_attempts=MAX_ATTEMPTS
        )
        # In somebody's Redis a deployment of this name may be theirs.
        flow = FLOW if self._pool == POOL else f"{FLOW}-{self._pool}"
        for name, priority, limit in QUEUES:
            await penstock.create_queue(self._pool, name, priority=priority, concurrency_limit=limit)
            self._deployments[name] = await penstock.create_deployment(
                f"{flow}/{name}", pool=self._pool, queue=name, entrypoint=self._files.entrypoint, overwrite=True
            )

    async def _watch(self, penstock: Penstock) -> None:
        total = len(self._names)
        submitting: asyncio.Task[None] | None = None
        async with aclosing(penstock.events(since="0", names=["prefect.flow-run.*"])) as events:
            for wave in self._first:
                await self._submit(penstock, wave)
            while self.history.ended < total:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    _, event = await anext(events)
                if self.history.observe(event):
                    self.board.refresh()
                if submitting is None and self.history.ended >= total * 2 // 5:
                    submitting = asyncio.create_task(self._submit(penstock, self._later))
                if submitting and submitting.done():
                    submitting.result()

    async def _submit(self, penstock: Penstock, names: list[str]) -> None:
        self._ids += await penstock.submit_runs(
            self._pool,
            [
                deployed_run(
                    self._deployments[name.split("-")[0]], run_name=name, parameters=self._files.parameters(name)
                )
                for name in names
            ],
        )


def _names(queue: str, count: int) -> list[str]:
    return [f"{queue}-{number:03}" for number in range(1, count + 1)]


def demo(
    runs: Annotated[int, typer.Option(help="How many runs.", min=60, max=10_000)] = 60,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the directory with files, results and logs.")] = False,
    redis_url: Annotated[str | None, typer.Option(help="Use this Redis instead of an embedded one.")] = None,
) -> None:
    """Show it all: runs of real work, handed out by queue priority, never above a limit. Takes some seconds.

    Starts an installation of its own in a temporary directory; a running `penstock up` is not touched.

    Exit code 0: every run completed exactly once and no limit was passed; 1: the last lines say what went wrong.

    Example: penstock demo --runs 200
    """
    home = Path(tempfile.mkdtemp(prefix="penstock-demo-"))
    problems: Sequence[str] | None = ["it did not end"]
    try:
        with (home / "processes.log").open("w", encoding="utf-8") as log:
            problems = asyncio.run(_run(home, log, runs, redis_url))
    finally:
        if keep or problems:
            print(f"Kept: {home} (processes.log says what the services did)", file=sys.stderr)
        else:
            shutil.rmtree(home, ignore_errors=True)
    if problems is None:
        raise typer.Exit(130)
    for problem in problems[:SHOWN_PROBLEMS]:
        print(f"WRONG: {problem}", file=sys.stderr)
    if len(problems) > SHOWN_PROBLEMS:
        print(f"WRONG: ... and {len(problems) - SHOWN_PROBLEMS} more", file=sys.stderr)
    raise typer.Exit(1 if problems else 0)


async def _run(home: Path, log: TextIO, runs: int, redis_url: str | None) -> list[str] | None:
    """Run the demo.

    Returns:
        What went wrong; None when somebody stopped it.
    """

    def say(name: str, line: str) -> None:
        print(f"{name:<18}| {line}", file=log, flush=True)

    installation = Installation(home, say, redis_url=redis_url)
    # In somebody's Redis the name may be taken.
    one = Demo(installation, DemoFiles(home), runs, f"{POOL}-{secrets.token_hex(3)}" if redis_url else POOL)
    supervisor = installation.supervisor
    console = one.board.console
    console.print(f"penstock demo: {runs} runs, pool limit {POOL_LIMIT}; starting Redis, services, worker ...")
    try:
        problems = await supervisor.run(one.run(), stop_on_signals(supervisor))
    except Unavailable as problem:
        return [str(problem)]
    finally:
        await supervisor.stop()
    if problems is None:
        return None
    one.board.close()
    restarts = sum(child.restarts for child in supervisor.children)
    if restarts:
        console.print(f"{restarts} processes had ended and were started again meanwhile")
    if not problems:
        console.print("Every run completed exactly once, in order of priority, and no limit was passed.")
    return problems
