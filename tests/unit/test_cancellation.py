from __future__ import annotations

import asyncio

import pytest

from penstock.bus.cancellation import end_tasks


async def test_a_task_that_swallows_its_cancellation_is_cancelled_again() -> None:
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks([task]), 5)
    assert task.cancelled()
    assert swallowed == 2


async def test_ended_tasks_keep_what_they_answered_or_raised() -> None:
    async def answer() -> int:
        return 7

    async def fail() -> None:
        raise LookupError

    tasks = [asyncio.create_task(answer()), asyncio.create_task(fail())]
    await asyncio.wait(tasks)
    await end_tasks(tasks)
    assert tasks[0].result() == 7
    with pytest.raises(LookupError):
        tasks[1].result()


async def test_no_task_is_no_wait() -> None:
    await end_tasks([])
