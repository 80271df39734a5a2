"""The comparison with peers: what cannot be had says so in its row, and what can is measured."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from dataclasses import replace
from typing import Any

import pytest

from tests.benchmarks.peers import facts
from tests.benchmarks.peers.comparison import compare, percentile
from tests.benchmarks.peers.homes import Home, NodeModules, NotMeasured, Ours
from tests.benchmarks.peers.penstock_side import PROGRAM
from tests.benchmarks.peers.phases import Found, again, one_round
from tests.benchmarks.peers.table import PENSTOCK, Peer, Sizes, produces

pytestmark = pytest.mark.system

LIST = Peer(
    name="list",
    title="A list",
    needs=Ours(),
    producer=produces("tests.system.list_peer", "redis", python=sys.executable),
    worker=(sys.executable, "-m", "tests.system.list_peer"),
    facts=facts.HUEY,
)
NO_PROGRAM = replace(LIST, name="absent", title="Absent", producer=("/there/is/no/program",))
NO_MODULE = replace(LIST, title="No module", producer=produces("there_is_no_module", "redis", python=sys.executable))
ENDS = replace(LIST, title="Ends", worker=(sys.executable, "-c", "raise SystemExit('no broker here')"))
NOT_INSTALLED = replace(LIST, title="Not installed", needs=NodeModules(("file:/there/is/no/module",)))
NO_SERVER = replace(LIST, title="No server", around=lambda *_: 1 / 0)  # type: ignore[arg-type]
SMALL = Sizes(seconds=0.05, most=100, paced=5, limit_seconds=60)


def given(**more: Any) -> argparse.Namespace:
    usual = {"quick": True, "rounds": 1, "runs": 100, "peer": [], "patience": 1, "plots": None}
    return argparse.Namespace(**{**usual, **more})


def test_a_peer_that_cannot_start_says_why_in_its_row_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))

    report = compare(given(), [NO_PROGRAM, NO_MODULE, ENDS, NOT_INSTALLED, NO_SERVER, LIST])

    rows = {figure.what: figure for figure in report.figures}
    assert "could not be started" in rows["Absent"].note
    assert "there_is_no_module" in rows["No module"].note
    assert "ended with 1: no broker here" in rows["Ends"].note
    assert re.search("could not be installed: |needs .*npm on PATH", rows["Not installed"].note)
    assert "ZeroDivisionError" in rows["No server"].note
    assert {len(rows[row].values) for row in ("Absent", "No module", "Ends", "Not installed", "No server")} == {0}
    assert [len(rows[row].values) for row in ("Penstock", "A list", "Penstock, p50")] == [1, 1, 1]
    assert rows["Penstock"].against == "A list"
    assert {len(texts) for texts in report.columns.values()} == {len(report.figures)}


def test_a_peer_without_node_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/there/is/nothing")
    with pytest.raises(NotMeasured, match="needs node and npm on PATH"):
        NodeModules(("bullmq",)).install("bullmq")


async def test_what_takes_too_long_keeps_what_was_measured() -> None:
    found = Found(LIST)
    slow = replace(SMALL, paced=1000, per_second=1, limit_seconds=8)
    with pytest.raises(NotMeasured, match="stopped after 8 s"):
        await one_round(found, Home(), slow, 100)
    assert len(found.throughput) == 1


async def test_a_job_its_worker_has_taken_along_is_reported_as_not_coming_again() -> None:
    assert await again(LIST, Home(), LIST.worker, 1, asyncio.Semaphore(1)) == "not within 1 s"


async def test_a_run_of_a_killed_worker_comes_again_after_three_heartbeats() -> None:
    worker = (sys.executable, "-m", PROGRAM, "--heartbeat-seconds", "0.5")
    answer = await again(PENSTOCK, Home(), worker, 30, asyncio.Semaphore(1))
    assert 1 <= float(answer.removesuffix(" s")) < 15


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(200, 0, -1)]
    assert [percentile(values, percent) for percent in (50, 99, 100)] == [100, 198, 200]
    assert percentile([7.0], 99) == 7
