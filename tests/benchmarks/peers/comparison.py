"""Go through the peers round by round, so that noise that lasts longer than a round hits all of them; make one table."""

from __future__ import annotations

import asyncio
import statistics
import sys
from typing import TYPE_CHECKING, Final

from tests.benchmarks.peers import plot
from tests.benchmarks.peers.homes import NotMeasured
from tests.benchmarks.peers.phases import Found, again, one_round
from tests.benchmarks.peers.table import PEERS, PENSTOCK, Sizes
from tests.benchmarks.report import Budget, Figure, Report, against

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from tests.benchmarks.peers.homes import Home
    from tests.benchmarks.peers.table import Peer

QUICK: Final = Sizes(seconds=0.1, most=200, paced=20, limit_seconds=60)
PERCENTILES: Final = (50, 99, 100)
P50_WITHIN: Final = 2.0
P99_BELOW: Final = "bullmq"


def compare(given: argparse.Namespace, peers: Sequence[Peer] = PEERS) -> Report:
    """Measure Penstock and its peers.

    Args:
        given: ``peer`` restricts the peers (Penstock is always measured; Prefect only by name with ``quick``), ``runs`` caps the
            jobs of a throughput measure, ``patience`` how long to wait for a job to come again; ``quick`` leaves that out.
        peers: all there are.
    """
    _refuse_unknown(given.peer, peers)
    chosen = [peer for peer in peers if (peer.name in given.peer if given.peer else not (given.quick and peer.sizes))]
    founds = asyncio.run(_measure([PENSTOCK, *chosen], given))
    quick = ", quick: shows that it runs, not how fast" if given.quick else ""
    report = _report(
        f"peers: no-op jobs, one producer, one worker, a Redis for each (not durable), rounds: {given.rounds}{quick}",
        founds,
        judged=not given.quick,
    )
    plot.throughput(report, founds, given.plots)
    return report


def _refuse_unknown(names: Sequence[str], peers: Sequence[Peer]) -> None:
    known = list(dict.fromkeys(peer.name for peer in peers))
    if wrong := sorted(set(names) - set(known)):
        sys.exit(f"there is no peer {', '.join(wrong)}; there are {', '.join(known)}")


async def _measure(peers: Sequence[Peer], given: argparse.Namespace) -> list[Found]:
    founds = [Found(peer) for peer in peers]
    homes: dict[str, Home] = {}
    for found in founds:
        try:
            homes[found.peer.title] = found.peer.needs.install(found.peer.name)
        except Exception as reason:  # noqa: BLE001 - whatever one peer does, the others are measured
            found.problem = _reason(reason)
    usual = QUICK if given.quick else Sizes()
    for number in range(given.rounds):
        for found in founds:
            sizes = found.peer.sizes or usual
            if found.problem or number >= sizes.rounds:
                continue
            _say(f"round {number + 1}: {found.peer.title}")
            try:
                await one_round(found, homes[found.peer.title], sizes, given.runs or sizes.most)
            except Exception as reason:  # noqa: BLE001 - the same
                found.problem = _reason(reason)
    if not given.quick:
        _say(f"kill -9, waiting at most {given.patience:g} s for jobs to come again")
        # Only waiting is done side by side: set up all at once, they would be in each other's way.
        turn = asyncio.Semaphore(1)
        await asyncio.gather(*(_again(found, homes, given.patience, turn) for found in founds))
    return founds


def _reason(problem: BaseException) -> str:
    return str(problem) if isinstance(problem, NotMeasured) else f"{type(problem).__name__}: {problem}"


async def _again(found: Found, homes: dict[str, Home], patience_seconds: float, turn: asyncio.Semaphore) -> None:
    peer = found.peer
    if peer.title not in homes or not peer.redelivery or not found.throughput:
        return
    lives = peer.lives or {"": peer.worker}
    answers = await asyncio.gather(
        *(again(peer, homes[peer.title], worker, patience_seconds, turn) for worker in lives.values()),
        return_exceptions=True,
    )
    for label, answer in zip(lives, answers, strict=True):
        text = _reason(answer) if isinstance(answer, BaseException) else answer
        found.again.append(f"{text} ({label})" if label else text)


def _report(title: str, founds: Sequence[Found], *, judged: bool) -> Report:
    """Make a row for each peer, and two more for the latencies of ours that have a budget."""
    ours, others = founds[0], founds[1:]
    figures = [_throughput(ours, others, judged=judged), *(_of_peer(found, ours) for found in others)]
    columns = {
        "drain alone /s": [_median(found.drain) for found in founds],
        "p50 / p99 / max ms at 50/s": [_latencies(found) for found in founds],
        "kill -9: again after": ["; ".join(found.again) for found in founds],
        "priorities *": [found.peer.facts.priorities for found in founds],
        "limits over processes *": [found.peer.facts.limits for found in founds],
        "pools *": [found.peer.facts.pools for found in founds],
        "pause *": [found.peer.facts.pause for found in founds],
        "redelivery *": [found.peer.facts.redelivery for found in founds],
    }
    latencies = _latency_figures(ours, others, judged=judged)
    filled = {heading: [*texts, *[""] * len(latencies)] for heading, texts in columns.items()}
    return Report(f"{title}; * by its documentation, not measured", [*figures, *latencies], filled)


def _throughput(ours: Found, others: Sequence[Found], *, judged: bool) -> Figure:
    measured = [found for found in others if found.throughput]
    if not (ours.throughput and measured):
        return Figure(ours.peer.title, "jobs/s", ours.throughput, note=_note(ours))
    best = max(measured, key=lambda found: statistics.median(found.throughput))
    ratio = _ratio(ours, best)
    budget = Budget("above every peer", met=ratio > 1) if judged else None
    return Figure(
        ours.peer.title,
        "jobs/s",
        ours.throughput,
        against=best.peer.title,
        ratio=ratio,
        budget=budget,
        note=_note(ours),
    )


def _of_peer(found: Found, ours: Found) -> Figure:
    title = found.peer.title
    if not (found.throughput and ours.throughput):
        return Figure(title, "jobs/s", found.throughput, note=_note(found))
    return Figure(
        title, "jobs/s", found.throughput, against=ours.peer.title, ratio=_ratio(found, ours), note=_note(found)
    )


def _ratio(one: Found, other: Found) -> float:
    """Round by round, as far as both have come."""
    rounds = min(len(one.throughput), len(other.throughput))
    return against(other.throughput[:rounds], one.throughput[:rounds])


def _latency_figures(ours: Found, others: Sequence[Found], *, judged: bool) -> list[Figure]:
    if not ours.latency:
        return []
    p50, p99 = percentile(ours.latency, 50), percentile(ours.latency, 99)
    note = f"{len(ours.latency)} jobs at 50/s, from enqueueing to the start"
    figures = []
    measured = [found for found in others if found.latency]
    if measured:
        best = min(measured, key=lambda found: percentile(found.latency, 50))
        ratio = p50 / percentile(best.latency, 50)
        budget = Budget("at most 2 x the best peer's", met=ratio <= P50_WITHIN) if judged else None
        figures.append(
            Figure("Penstock, p50", "ms", [p50], against=best.peer.title, ratio=ratio, budget=budget, note=note)
        )
    for found in measured:
        if found.peer.name == P99_BELOW:
            ratio = p99 / percentile(found.latency, 99)
            budget = Budget("below BullMQ's", met=ratio < 1) if judged else None
            figures.append(
                Figure("Penstock, p99", "ms", [p99], against=found.peer.title, ratio=ratio, budget=budget, note=note)
            )
    return figures


def _note(found: Found) -> str:
    about = [found.version, found.peer.note, f"{found.jobs:,} jobs" if found.throughput else "", found.problem]
    return "; ".join(text for text in about if text)


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):,.0f}" if values else ""


def _latencies(found: Found) -> str:
    return " / ".join(f"{percentile(found.latency, p):.1f}" for p in PERCENTILES) if found.latency else ""


def percentile(values: Sequence[float], percent: int) -> float:
    """Answer the smallest value that so many percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
