"""``penstock up``: everything on one machine, for development; Ctrl-C stops it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
from collections import deque
from typing import TYPE_CHECKING, Annotated, Final, TextIO

import typer
from rich.console import Console
from rich.table import Table

from penstock.bus.connection import where
from penstock.cli.embedded_redis import port_is_free
from penstock.cli.installation import Installation
from penstock.cli.supervisor import stop_on_signals
from penstock.client import local_state
from penstock.errors import Conflict
from penstock.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REDIS_PORT: Final = 6379
"""Redis's own default: clients of any language find it without being told."""
KEPT_LINES: Final = 200
NAME_WIDTH: Final = 18


class Log:
    """Lines of all processes: kept back until the start is over, then printed with the name of who wrote them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._kept: deque[str] | None = deque(maxlen=KEPT_LINES)

    def __call__(self, name: str, line: str) -> None:
        """Take one line."""
        text = f"{name:<{NAME_WIDTH}}| {line}"
        if self._kept is None:
            self._print(text)
        else:
            self._kept.append(text)

    def release(self, *, drop: bool = False) -> None:
        """Print what was kept back (or drop it), and every further line at once."""
        kept, self._kept = self._kept or (), None
        for text in () if drop else kept:
            self._print(text)

    def _print(self, text: str) -> None:
        # A closed terminal is no reason to stop in the middle of stopping.
        with contextlib.suppress(OSError, ValueError):
            print(text, file=self._stream, flush=True)


def up(
    port: Annotated[
        int | None, typer.Option(help="Port of the embedded Redis [default: 6379, or a free one]", min=1, max=65_535)
    ] = None,
    pool: Annotated[str, typer.Option(help="Pool of the worker; created when missing.")] = "local",
    workers: Annotated[int, typer.Option(help="How many process workers.", min=0, max=64)] = 1,
    dispatchers: Annotated[int, typer.Option(help="How many dispatchers share the work.", min=1, max=64)] = 1,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Start no worker.")] = False,
) -> None:
    """Run everything on this machine: an embedded Redis, the services, a process worker. Ctrl-C stops it.

    Data is kept in ~/.penstock (PENSTOCK_UP_HOME moves it). With PENSTOCK_REDIS_URL set, that Redis is used instead.

    Example: penstock up --workers 2
    """
    settings = Settings.read()
    redis_url = settings.redis_url if "redis_url" in settings.model_fields_set else None
    home = local_state.home()
    with only_one(home):
        log = Log(sys.stderr)
        installation = Installation(
            home,
            log,
            redis_url=redis_url,
            port=0 if redis_url else _choose_port(port),
            dispatchers=dispatchers,
            changed=lambda: local_state.write_state(installation.state()),
        )
        try:
            asyncio.run(_run(installation, log, home, pool, 0 if no_worker else workers))
        finally:
            local_state.clear_state()


@contextlib.contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the home directory; the lock ends with the process, however it ends.

    Raises:
        Conflict: another ``penstock up`` holds it.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            pid = (local_state.read_state() or {}).get("pid", "unknown")
            raise Conflict(
                f"`penstock up` runs already with its home in {home} (process {pid})",
                "stop it with Ctrl-C, or set PENSTOCK_UP_HOME to another directory",
            ) from problem
        yield


def _choose_port(wanted: int | None) -> int:
    if wanted is None:
        return REDIS_PORT if port_is_free(REDIS_PORT) else 0
    if not port_is_free(wanted):
        raise Conflict(f"port {wanted} is taken", "choose another one with --port, or none to get a free one")
    return wanted


async def _run(installation: Installation, log: Log, home: Path, pool: str, workers: int) -> None:
    supervisor = installation.supervisor
    try:
        await supervisor.run(_serve(installation, log, home, pool, workers), stop_on_signals(supervisor))
    finally:
        log.release()
        log("up", "stopping: the worker first, Redis last (Ctrl-C again stops at once)")
        await supervisor.stop()


async def _serve(installation: Installation, log: Log, home: Path, pool: str, workers: int) -> None:
    await installation.start_services()
    if workers:
        await installation.start_workers(pool, workers)
    log.release(drop=True)
    _announce(installation, home, pool, workers)
    await asyncio.Event().wait()


def _announce(installation: Installation, home: Path, pool: str, workers: int) -> None:
    console = Console()
    table = Table("Process", "PID", "Health")
    for child in installation.supervisor.children:
        table.add_row(child.name, str(child.pid), f"{child.health_url}/readyz" if child.health_url else "")
    console.print(table)
    console.print(f"Penstock is up. Redis: {where(installation.redis_url)}, home: {home}", highlight=False)
    console.print("\nIn another terminal:", highlight=False)
    if workers:
        console.print(f"    penstock flow-run submit --pool '{pool}' --command 'echo hello' --count 5", highlight=False)
    else:
        console.print(f"    penstock worker start --pool '{pool}' --type process", highlight=False)
    console.print("    penstock events tail\n    penstock health\n\nCtrl-C stops everything.", highlight=False)
