"""What is measured of a peer that is set up: throughput, draining, latency, and when a job comes again after kill -9."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.benchmarks.peers.homes import NotMeasured
from tests.benchmarks.peers.rig import POLL_SECONDS, Rig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.peers.homes import Home
    from tests.benchmarks.peers.rig import Begun, Sent
    from tests.benchmarks.peers.table import Peer, Sizes

START_SECONDS: Final = 60.0
"""A worker may take so long until it executes its first job."""
PATIENCE_SECONDS: Final = 60.0
WARM_UP: Final = 50
WARM_UP_SECONDS: Final = 0.4
"""Warm-up goes on, each time with four times the jobs, until one batch has lasted so long: its rate says how many to measure."""
LEAST: Final = 50
STAY_SECONDS: Final = 600


@dataclass(slots=True)
class Found:
    """What was measured of one peer, round by round.

    Attributes:
        jobs: of one throughput measure; 0 before the first warm-up.
        throughput, drain: jobs a second.
        latency: milliseconds from enqueueing to the start, all rounds together.
        again: for each life that was killed, what is to be said.
        problem: why something is missing.
    """

    peer: Peer
    version: str = ""
    jobs: int = 0
    throughput: list[float] = field(default_factory=list)
    drain: list[float] = field(default_factory=list)
    latency: list[float] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    problem: str = ""


async def one_round(found: Found, home: Home, sizes: Sizes, most: int) -> None:
    """Set a peer up, measure it once.

    Args:
        found: gets what is measured as soon as it is.
        home: of the peer.
        sizes: how much.
        most: jobs at most, of one throughput measure.

    Raises:
        NotMeasured: it could not be started, or did not finish.
    """
    try:
        async with asyncio.timeout(sizes.limit_seconds), Rig(found.peer, home) as rig:
            found.version = rig.version
            rig.start_worker()
            await _knock(rig, sizes.knock_seconds)
            found.jobs = found.jobs or (await _enough(rig, sizes, most) if sizes.seconds else min(sizes.most, most))
            found.throughput.append(await _throughput(rig, found.jobs))
            sent = await rig.order("pace", sizes.paced, per_second=sizes.per_second)
            found.latency += [
                (one.began_ns - one.sent_ns) / 1e6 for one in await rig.until_begun(sent, PATIENCE_SECONDS)
            ]
            if sizes.drain:
                await rig.stop_worker()
                found.drain.append(await _drain(rig, found.jobs))
    except TimeoutError as slow:
        raise NotMeasured(f"stopped after {sizes.limit_seconds:g} s") from slow


async def _knock(rig: Rig, every_seconds: float = 1) -> None:
    """Submit jobs one by one until one is executed: some workers get only what is sent after they have started."""
    end = time.monotonic() + START_SECONDS
    knocks: list[Sent] = []
    while not any(rig.tally.first_starts(sent) for sent in knocks):
        if time.monotonic() > end:
            raise NotMeasured(f"its worker executed nothing within {START_SECONDS:g} s")
        rig.check_worker()
        if not knocks or time.monotonic_ns() - knocks[-1].ended_ns > every_seconds * 1e9:
            knocks.append(await rig.order("submit", 1))
        rig.tally.read()
        await asyncio.sleep(POLL_SECONDS)


async def _enough(rig: Rig, sizes: Sizes, most: int) -> int:
    """Warm up; answers how many jobs last as long as they should."""
    count = WARM_UP
    while True:
        rate = await _throughput(rig, count)
        if count / rate > WARM_UP_SECONDS or count * 4 > most:
            return max(min(LEAST, most), min(most, sizes.most, int(rate * sizes.seconds)))
        count *= 4


async def _throughput(rig: Rig, count: int) -> float:
    """Submit while the worker runs: jobs a second from the first enqueue to the start of the last job."""
    sent = await rig.order("submit", count)
    starts = await rig.until_begun(sent, PATIENCE_SECONDS)
    return count / (max(one.began_ns for one in starts) - sent.began_ns) * 1e9


async def _drain(rig: Rig, count: int) -> float:
    """Submit, then start the worker: jobs a second from the start of the first job to that of the last."""
    sent = await rig.order("submit", count)
    rig.start_worker()
    starts = await rig.until_begun(sent, START_SECONDS + PATIENCE_SECONDS)
    times = [one.began_ns for one in starts]
    return (count - 1) / max(1, max(times) - min(times)) * 1e9


async def again(peer: Peer, home: Home, worker: Sequence[str], patience_seconds: float, turn: asyncio.Semaphore) -> str:
    """Kill -9 a worker with a job in its hands, start another at once, and wait for the job.

    Args:
        peer, home: whose worker.
        worker: its command.
        patience_seconds: how long to wait, from the kill on.
        turn: held until there is nothing left but to wait.

    Returns:
        ``3.4 s``, or ``not within 60 s``.

    Raises:
        NotMeasured: the job never began.
    """
    async with AsyncExitStack() as stack:
        async with turn:
            rig = await stack.enter_async_context(Rig(peer, home))
            rig.start_worker(worker)
            await _knock(rig)
            sent = await rig.order("stay", 1, seconds=STAY_SECONDS)
            await rig.until_begun(sent, PATIENCE_SECONDS)
            killed_ns = time.monotonic_ns()
            rig.kill_worker()
            rig.start_worker(worker)
        while (time.monotonic_ns() - killed_ns) / 1e9 < patience_seconds:
            rig.tally.read()
            starts: list[Begun] = rig.tally.begun[sent.first]
            if len(starts) > 1:
                return f"{(starts[1].began_ns - killed_ns) / 1e9:.1f} s"
            rig.check_worker()
            await asyncio.sleep(POLL_SECONDS * 5)
        return f"not within {patience_seconds:g} s"
