"""What handing out a run costs Redis as more runs wait, as there are more queues, and behind runs that are blocked."""

from __future__ import annotations

import contextlib
import statistics
from typing import TYPE_CHECKING, Any, Final

import uvloop

from penstock.bus.connection import connect
from tests.benchmarks import plots, stage
from tests.benchmarks.backlog import Backlog, Cost
from tests.benchmarks.report import Budget, Figure, Report, against
from tests.definitions import define_deployment, define_pool

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

WAITING: Final = (1_000, 10_000, 100_000, 1_000_000)
QUEUES: Final = (1, 10, 1_000)
BLOCKED: Final = 10_000
BEHIND: Final = 1_000
"""Unblocked runs behind the blocked ones."""
BATCH: Final = 100
SAMPLES: Final = 15
"""Claims of a round; the round's figure is their median."""
GROWTH_BUDGET: Final = 1.5
BLOCKED_BUDGET: Final = 1.2
BLOCKS: Final = ("deployment limit", "queue limit", "paused queue", "worker of other queues")


class Site:
    """A pool whose runs are handed out again and again, while as many wait as before.

    Args:
        backlog: of the pool.
        queues: where new runs go.
        serves: the queues that the workers name; none means all.
    """

    def __init__(self, backlog: Backlog, queues: Sequence[str], serves: Sequence[str] = ()) -> None:
        self._backlog = backlog
        self._queues = queues
        self._serves = serves

    async def claim(self, count: int) -> Cost:
        """Hand some out and submit as many."""
        cost = await self._backlog.hand_out(count, self._serves)
        await self._backlog.submit(count, self._queues)
        return cost


async def waiting_site(client: Redis, runs: int) -> Site:
    """A pool of one queue in which runs wait."""
    backlog = Backlog(client, await define_pool(client, "bench"))
    await backlog.submit(runs)
    return Site(backlog, ["default"])


async def queues_site(client: Redis, queues: int) -> Site:
    """A pool in whose queues 10,000 runs wait, spread evenly."""
    names = [f"q{number}" for number in range(queues)]
    pool = await define_pool(client, f"bench-{queues}", queues={name: {} for name in names})
    backlog = Backlog(client, pool)
    await backlog.submit(10_000, names)
    return Site(backlog, names)


async def blocked_site(client: Redis, block: str, blocked: int) -> Site:
    """A pool in which blocked runs wait in front of others."""
    front = {
        "queue limit": {"priority": 1, "limit": 1},
        "paused queue": {"priority": 1, "paused": True},
        "worker of other queues": {"priority": 1},
    }
    name = f"{block}, {blocked}"
    if block == "deployment limit":
        deployment = await define_deployment(client, f"{name}/demo", pool=name, limit=1)
        backlog = Backlog(client, await define_pool(client, name))
        await backlog.submit(blocked + 1, deployment=deployment)
        await backlog.hand_out(1)
        await backlog.submit(BEHIND)
        # Parked once, by whoever meets them.
        await backlog.hand_out(1)
        return Site(backlog, ["default"])
    pool = await define_pool(client, name, queues={"front": front[block], "behind": {"priority": 2}})
    backlog = Backlog(client, pool)
    await backlog.submit(blocked + (block == "queue limit"), ["front"])
    if block == "queue limit":
        await backlog.hand_out(1)
    await backlog.submit(BEHIND, ["behind"])
    return Site(backlog, ["behind"], ["behind"] if block == "worker of other queues" else [])


async def in_rounds(sites: Mapping[str, Site], count: int, given: argparse.Namespace) -> dict[str, list[Cost]]:
    """Claim at all sites in turn, so that what disturbs one disturbs all; answers the medians of each round."""
    found: dict[str, list[Cost]] = {name: [] for name in sites}
    for site in sites.values():
        await site.claim(count)
    for _ in range(given.rounds):
        taken: dict[str, list[Cost]] = {name: [] for name in sites}
        for _ in range(3 if given.quick else SAMPLES):
            for name, site in sites.items():
                taken[name].append(await site.claim(count))
        for name, costs in taken.items():
            found[name].append(Cost(*(statistics.median(values) for values in zip(*costs, strict=True))))
    return found


def figures(
    found: Mapping[str, Sequence[Cost]], count: int, baseline: Mapping[str, str], budgets: Mapping[str, float]
) -> list[Figure]:
    """Spell what was found.

    Args:
        found: costs of the rounds by name.
        count: runs handed out at once.
        baseline: which other one a ratio is taken to.
        budgets: what the ratio may come to.
    """
    rows = []
    for name, costs in found.items():
        redis, base = [cost.redis for cost in costs], baseline.get(name, "")
        ratio = against([cost.redis for cost in found[base]], redis) if base else None
        budget = None
        if ratio is not None and name in budgets:
            budget = Budget(f"at most {budgets[name]}", ratio <= budgets[name])
        what = f"{name}; {count} at once" if count > 1 else f"{name}; one at a time"
        wall = statistics.median(cost.wall for cost in costs)
        rows.append(Figure(what, "us", redis, base, ratio, budget, f"{wall:,.0f} us for who waits for it"))
    return rows


async def with_waiting(report: Report, given: argparse.Namespace) -> None:
    """Each number of runs waits in a Redis of its own, all at the same time."""
    sizes = [size // 100 for size in WAITING[2:]] if given.quick else WAITING
    drawn = {}
    async with contextlib.AsyncExitStack() as stack:
        sites = {f"{size:,} waiting": await waiting_site(await empty_redis(stack), size) for size in sizes}
        first, *others = sites
        budgets = {} if given.quick else {others[-1]: GROWTH_BUDGET}
        for count, name in ((BATCH, f"{BATCH} at once"), (1, "one at a time")):
            found = await in_rounds(sites, count, given)
            report.figures += figures(found, count, dict.fromkeys(others, first), budgets)
            drawn[name] = [statistics.median(cost.redis for cost in costs) for costs in found.values()]

    def fill(axes: Any) -> None:
        for name, medians in drawn.items():
            axes.plot(sizes, medians, marker="o", label=name)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("runs waiting")
        axes.set_ylabel("microseconds of Redis for handing out a run")
        axes.legend()

    plots.draw(report, given.plots, "growth", fill)


async def with_queues(given: argparse.Namespace) -> list[Figure]:
    """As many runs, in one queue and in many."""
    async with contextlib.AsyncExitStack() as stack:
        client = await empty_redis(stack)
        sites = {f"{queues:,} queues": await queues_site(client, queues) for queues in QUEUES}
        first, *others = sites
        return [
            row
            for count in (BATCH, 1)
            for row in figures(await in_rounds(sites, count, given), count, dict.fromkeys(others, first), {})
        ]


async def with_blocked(given: argparse.Namespace) -> list[Figure]:
    """Runs that cannot be handed out wait in front of the others, against the same pools without them."""
    blocked = BLOCKED // 100 if given.quick else BLOCKED
    rows = []
    async with contextlib.AsyncExitStack() as stack:
        client = await empty_redis(stack)
        for block in BLOCKS:
            free, hidden = f"nothing blocked ({block})", f"{blocked:,} blocked by {block}"
            sites = {free: await blocked_site(client, block, 0), hidden: await blocked_site(client, block, blocked)}
            for count in (BATCH, 1):
                found = await in_rounds(sites, count, given)
                rows += figures(found, count, {hidden: free}, {} if given.quick else {hidden: BLOCKED_BUDGET})
    return rows


async def empty_redis(stack: contextlib.AsyncExitStack) -> Redis:
    """A Redis of one's own."""
    client = connect(stack.enter_context(stage.empty_redis()))
    stack.push_async_callback(client.aclose)
    return client


async def all_of_it(given: argparse.Namespace) -> Report:
    """One table."""
    report = Report(f"Redis time for handing out a run, median of {given.rounds} rounds", [])
    await with_waiting(report, given)
    report.figures += await with_queues(given)
    report.figures += await with_blocked(given)
    return report


def measure(given: argparse.Namespace) -> Report:
    """Measure; ``--quick`` with a hundredth of the runs and without budgets."""
    return uvloop.run(all_of_it(given))
