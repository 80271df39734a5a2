"""Call asynchronous methods from code that has no event loop: a loop in a thread of its own, and methods that wait for it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from penstock.bus.cancellation import end_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)


class Background:
    """An event loop in a thread of its own; a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="penstock-client", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop and wait for it; what it raises is raised here. Interrupted, it is cancelled."""
        if self._loop.is_closed():
            work.close()
            raise RuntimeError("this Penstock was closed: use it inside of its `with` block")
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("a blocking call out of the client's own thread would wait for itself")
        call = _Call()
        try:
            return asyncio.run_coroutine_threadsafe(call.do(work), self._loop).result()
        except BaseException:
            # Ctrl-C may come before anybody here has a future in hand to cancel.
            with suppress(RuntimeError):  # the loop was closed: nothing is left to cancel
                self._loop.call_soon_threadsafe(call.cancel)
            raise

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter an asynchronous context manager in the loop, and leave it there."""
        value = self.run(_enter(manager))
        try:
            yield value
        finally:
            self.run(_leave(manager))

    def iterate(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """Hand out what an asynchronous generator yields; closed with the iterator."""
        steps: set[asyncio.Task[Any]] = set()
        try:
            while True:
                step = self.run(_step(items, steps))
                if not step:
                    return
                yield step[0]
        finally:
            if not self._loop.is_closed():
                self.run(_close(items, steps))


class _Call:
    """One call on its way; it can be cancelled before it has begun."""

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._cancelled = False

    async def do(self, work: Coroutine[Any, Any, T]) -> T:
        self._task = asyncio.current_task()
        if self._cancelled:
            work.close()
            raise asyncio.CancelledError
        return await work

    def cancel(self) -> None:
        self._cancelled = True
        if self._task:
            self._task.cancel()


class Face(Generic[A_co]):
    """What stands before an asynchronous object.

    Args:
        behind: the object.
        background: where its methods run.
    """

    def __init__(self, behind: A_co, background: Background) -> None:
        self._behind = behind
        self._background = background


def blocking(method: Callable[Concatenate[A, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Face[A], P], T]:
    """Turn an asynchronous method into one that waits for its answer; arguments, types and documentation stay."""

    def call(self: Face[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._background.run(method(self._behind, *args, **kwargs))

    functools.update_wrapper(call, method)
    return call


def iterating(
    method: Callable[Concatenate[A, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Face[A], P], Iterator[T]]:
    """Turn a method that is an asynchronous generator into one that answers an iterator."""

    def call(self: Face[A], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._background.iterate(method(self._behind, *args, **kwargs))

    functools.update_wrapper(call, method)
    signature = inspect.signature(method)
    yields = str(signature.return_annotation).removeprefix("AsyncGenerator[").removesuffix(", None]")
    call.__signature__ = signature.replace(return_annotation=f"Iterator[{yields}]")  # type: ignore[attr-defined]
    return call


async def _enter(manager: AbstractAsyncContextManager[T]) -> T:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Any]) -> None:
    await manager.__aexit__(None, None, None)


async def _step(items: AsyncGenerator[T, None], steps: set[asyncio.Task[Any]]) -> tuple[T] | tuple[()]:
    """The next item, or nothing at the end: a StopAsyncIteration cannot cross into another thread."""
    task = asyncio.current_task()
    if task:
        steps.add(task)
        task.add_done_callback(steps.discard)
    try:
        return (await anext(items),)
    except StopAsyncIteration:
        return ()


async def _close(items: AsyncGenerator[Any, None], steps: set[asyncio.Task[Any]]) -> None:
    """A step that was interrupted has to be over before its generator can be closed."""
    await end_tasks(steps)
    await items.aclose()


async def _end_all() -> None:
    this = asyncio.current_task()
    await end_tasks(task for task in asyncio.all_tasks() if task is not this)
    await asyncio.get_running_loop().shutdown_asyncgens()
