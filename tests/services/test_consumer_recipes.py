"""The README's consumers, run as they stand there, against real services."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from penstock import keys
from penstock.bus.connection import connect
from penstock.client import Penstock
from tests.architecture.source import ROOT
from tests.support import read_events, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from redis.asyncio import Redis

SECTION = "## Subscribe to events"
GROUP = "billing"
EVENTS = keys.key(0, "events")
LONG_IDLE_MS = 3_600_000
NPM_SECONDS = 90


def recipe(language: str) -> str:
    """The one fenced block of a language in the README's section about events."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition(f"{SECTION}\n")[2].partition("\n## ")[0]
    assert section, f"README.md has no section {SECTION!r}"
    found = re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"the section {SECTION!r} of README.md has {len(found)} blocks in {language}, not one"
    return str(found[0])


@pytest.fixture
async def redis(url: str) -> AsyncIterator[Redis]:
    """A client of the installation, on which nobody reads events yet."""
    client = connect(url)
    for group in await client.xinfo_groups(EVENTS) if await client.exists(EVENTS) else []:
        await client.xgroup_destroy(EVENTS, group["name"])
    yield client
    await client.aclose()


@contextlib.contextmanager
def running(command: list[str], url: str, directory: Path) -> Iterator[Path]:
    """Run a consumer; yields the file it prints to."""
    output, errors = directory / "output.txt", directory / "errors.txt"
    environment = {**os.environ, "REDIS_URL": url}
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(command, cwd=directory, env=environment, stdout=out, stderr=err)
    try:
        yield output
        assert process.poll() is None, errors.read_text()
    finally:
        process.kill()
        process.wait()


def spell(events: list[dict[str, Any]]) -> list[str]:
    return [f"{event['event']} {event['resource']['prefect.resource.name']}" for event in events]


def shown(output: Path) -> list[str]:
    """The events a consumer has printed, between whatever its framework says."""
    return [line for line in output.read_text().splitlines() if line.startswith(("prefect.", "penstock."))]


async def leave_unfinished(redis: Redis) -> None:
    """Another consumer of the group reads one event, long ago, and dies."""
    await redis.xgroup_create(EVENTS, GROUP, id="0", mkstream=True)
    read: Any = await redis.xreadgroup(GROUP, "dead", {EVENTS: ">"}, count=1)
    ((entry_id, _),) = read[0][1]
    await redis.xclaim(EVENTS, GROUP, "dead", 0, [entry_id], idle=LONG_IDLE_MS)


async def shows_every_event(redis: Redis, command: list[str], url: str, directory: Path, pool: str) -> None:
    """The consumer prints what happened before it came, while it is there, and what a dead one left."""
    penstock = Penstock(redis, 1)
    await penstock.create_pool(pool)
    await leave_unfinished(redis)
    with running(command, url, directory) as output:

        async def printed_all() -> bool:
            return sorted(shown(output)) == sorted(spell(await read_events(redis)))

        await wait_until(printed_all, what="what happened before")
        await penstock.pause_pool(pool)
        await penstock.delete_pool(pool)
        await wait_until(printed_all, what="what happens now")

        async def all_acknowledged() -> bool:
            pending: Any = await redis.xpending(EVENTS, GROUP)
            return bool(pending["pending"] == 0)

        await wait_until(all_acknowledged, what="every event acknowledged")
    assert f"prefect.work-pool.paused {pool}" in shown(output)


async def test_the_python_consumer_of_the_readme_gets_every_event(redis: Redis, url: str, tmp_path: Path) -> None:
    (tmp_path / "billing.py").write_text(recipe("python"))

    await shows_every_event(redis, [sys.executable, "billing.py"], url, tmp_path, "from-python")


@pytest.fixture(scope="module")
def node_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the package `redis` is installed."""
    directory = tmp_path_factory.mktemp("node")
    node, npm = shutil.which("node"), shutil.which("npm")
    if not (node and npm):
        pytest.skip("there is no node with npm")
    command = [npm, "install", "redis@5", "--no-save", "--no-audit", "--no-fund", "--prefix", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=NPM_SECONDS)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install the package redis within {NPM_SECONDS} s")
    if done.returncode != 0:
        why = [line for line in done.stderr.splitlines() if "error" in line]
        pytest.skip(f"npm cannot install the package redis: {' '.join(why[:3])}")
    return directory


async def test_the_node_consumer_of_the_readme_gets_every_event(redis: Redis, url: str, node_directory: Path) -> None:
    (node_directory / "billing.mjs").write_text(recipe("javascript"))

    await shows_every_event(redis, ["node", "billing.mjs"], url, node_directory, "from-node")
