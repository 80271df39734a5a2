"""The blocking face of the SDK is the asynchronous one, method by method."""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from penstock.client import Penstock
from penstock.client.blocking import Background, Face, blocking, iterating
from penstock.client.dead_letters import DeadLetters
from penstock.client.sync import DeadLetters as BlockingDeadLetters
from penstock.client.sync import Penstock as BlockingPenstock
from penstock.errors import NotFound
from tests.support import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_") and name != "connect"}


@pytest.mark.parametrize(("face", "behind"), [(BlockingPenstock, Penstock), (BlockingDeadLetters, DeadLetters)])
def test_both_faces_have_the_same_methods_with_the_same_arguments_and_words(face: type, behind: type) -> None:
    mine, theirs = public(face), public(behind)

    assert sorted(mine) == sorted(theirs)
    for name, method in theirs.items():
        if inspect.isfunction(method):
            told, asked = inspect.signature(mine[name]), inspect.signature(method)
            assert told.parameters == asked.parameters, name
            assert mine[name].__doc__ == method.__doc__, name
            assert mine[name].__name__ == name


def test_what_hands_out_items_is_typed_as_an_iterator() -> None:
    told = {
        name: inspect.signature(getattr(BlockingPenstock, name)).return_annotation for name in ("logs", "follow_run")
    }

    assert told == {"logs": "Iterator[LogLine]", "follow_run": "Iterator[PastState | LogLine]"}


class Asynchronous:
    """Something that knows in which thread it is called."""

    def __init__(self) -> None:
        self.closed = False
        self.cancelled = False
        self.started = threading.Event()

    async def thread(self) -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    async def refuse(self) -> None:
        raise NotFound("there is no run 'x'", "look again")

    async def never(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            await asyncio.sleep(0.2)  # cleaning up takes a while
            raise

    async def numbers(self, count: int) -> AsyncGenerator[int, None]:
        try:
            for number in range(count):
                yield number
        finally:
            self.closed = True

    async def silence(self) -> AsyncGenerator[int, None]:
        try:
            await self.never()
            yield 1
        finally:
            self.closed = True


class Blocking(Face[Asynchronous]):
    thread = blocking(Asynchronous.thread)
    refuse = blocking(Asynchronous.refuse)
    never = blocking(Asynchronous.never)
    numbers = iterating(Asynchronous.numbers)
    silence = iterating(Asynchronous.silence)


@pytest.fixture
def behind() -> Asynchronous:
    return Asynchronous()


@pytest.fixture
def face(behind: Asynchronous) -> Iterator[Blocking]:
    with Background() as background:
        yield Blocking(behind, background)


def test_a_call_is_answered_from_a_loop_of_its_own(face: Blocking) -> None:
    assert face.thread() == "penstock-client"


async def test_a_call_works_where_a_loop_runs_already(face: Blocking) -> None:
    assert face.thread() == "penstock-client"


def test_an_error_is_the_one_that_was_raised(face: Blocking) -> None:
    with pytest.raises(NotFound, match="there is no run 'x'") as problem:
        face.refuse()
    assert problem.value.hint == "look again"


def test_items_come_one_by_one_and_the_source_is_closed_with_the_iterator(face: Blocking, behind: Asynchronous) -> None:
    assert list(face.numbers(3)) == [0, 1, 2]
    behind.closed = False

    for number in face.numbers(1000):
        if number == 1:
            break

    assert behind.closed


def test_many_threads_may_use_one_object(face: Blocking) -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(face.thread())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == ["penstock-client"] * 20


def test_the_end_of_the_block_ends_what_other_threads_still_wait_for(behind: Asynchronous) -> None:
    problems: list[BaseException] = []
    with Background() as background:
        face = Blocking(behind, background)

        def wait() -> None:
            try:
                face.never()
            except BaseException as problem:  # noqa: BLE001 - whatever it is
                problems.append(problem)

        waiting = threading.Thread(target=wait)
        waiting.start()
        face.thread()
    waiting.join(5)

    assert not waiting.is_alive()
    assert len(problems) == 1
    with pytest.raises(RuntimeError, match="was closed"):
        face.thread()


def test_a_context_manager_is_entered_and_left_in_the_loop() -> None:
    steps: list[str] = []

    @asynccontextmanager
    async def manager() -> AsyncIterator[int]:
        steps.append(threading.current_thread().name)
        yield 1
        steps.append(threading.current_thread().name)

    with Background() as background, background.entered(manager()) as value:
        assert value == 1
        assert steps == ["penstock-client"]
    assert steps == ["penstock-client"] * 2


def test_the_loops_own_thread_is_told_that_it_would_wait_for_itself(face: Blocking) -> None:
    async def nested() -> str:
        return face.thread()

    with pytest.raises(RuntimeError, match="would wait for itself"):
        face._background.run(nested())


def test_ctrl_c_interrupts_a_call_and_cancels_what_it_waited_for(face: Blocking, behind: Asynchronous) -> None:
    def interrupt() -> None:
        behind.started.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        face.never()

    async def cancelled() -> bool:
        return behind.cancelled

    assert face._background.run(wait_until(cancelled, what="the end of what was interrupted"))
    assert face.thread() == "penstock-client", "it can be used on"


def test_ctrl_c_ends_an_iterator(face: Blocking, behind: Asynchronous) -> None:
    def interrupt() -> None:
        behind.started.wait(10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        list(face.silence())

    assert behind.closed
