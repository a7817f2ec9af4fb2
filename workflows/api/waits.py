"""Waiting for several futures, with timeouts or shielded: asyncio's functions on our own loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast

from workflows.api.context import current
from workflows.api.futures import Future, Task
from workflows.model.errors import (
    CancelledError,
    TimeoutError,  # noqa: A004 - Temporal's name
)

T = TypeVar("T")


def start(coroutine: Coroutine[Any, Any, T], name: str = "") -> Task[T]:
    """Run a coroutine beside this one; await the task for its result."""
    label = name or getattr(coroutine, "__qualname__", "task")
    return cast("Task[T]", current().start_task(coroutine, label))


async def sleep(seconds: float) -> None:
    """A timer that outlives the process. 0 lets others run and leaves no trace."""
    if seconds > 0:
        await current().start_timer(seconds, f"timer {seconds:g} s")
        return
    turn: Future[None] = Future(current().loop, "its turn")
    current().loop.call_soon(_open, turn)
    await turn


async def wait_condition(condition: Callable[[], bool], timeout_s: float | None = None) -> None:
    """Wait until ``condition()`` holds; errors.TimeoutError after ``timeout_s``.

    The condition is evaluated after every step of the run's code: it must be quick and must not
    change state. One that holds already costs neither a wait nor a timer.
    """
    if condition():
        return
    holds = current().loop.when(condition, "a condition")
    if timeout_s is None:
        await holds
    else:
        await wait_for(holds, timeout_s)


async def gather(*awaitables: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
    """The results of all, in the order given.

    The first error is raised at once and the others go on, unless ``return_exceptions``: then
    errors stand among the results. Cancelling it cancels all that are not done.
    """
    futures = [_future(awaitable) for awaitable in awaitables]
    if not futures:
        return []
    gate: Future[None] = Future(current().loop, f"{len(futures)} results")
    left = len(futures)

    def one_done(future: Future[Any]) -> None:
        nonlocal left
        left -= 1
        if left == 0 or (future.exception() is not None and not return_exceptions):
            _open(gate)

    for future in futures:
        future.add_done_callback(one_done)
    try:
        await gate
    except CancelledError:
        for future in futures:
            future.cancel()
        raise
    if return_exceptions:
        return [future.exception() or future.result() for future in futures]
    for future in futures:
        if future.done():
            future.result()
    return [future.result() for future in futures]


async def first_done(*awaitables: Awaitable[Any]) -> int:
    """The index of the one that is done first (the lowest of several); nothing is cancelled.

    Pass futures and tasks: a coroutine would continue without a handle to await it.
    """
    futures = [_future(awaitable) for awaitable in awaitables]
    while not any(future.done() for future in futures):
        await _any_done(futures, "the first of several")
    return next(index for index, future in enumerate(futures) if future.done())


async def wait_for(awaitable: Awaitable[T], timeout_s: float) -> T:
    """The result, or errors.TimeoutError after ``timeout_s``: then it is cancelled and awaited."""
    future = _future(awaitable)
    if future.done():
        return future.result()
    timer = current().start_timer(timeout_s, f"{future.label}, at most {timeout_s:g} s")
    try:
        await _any_done([future, timer], timer.label)
    except CancelledError:
        future.cancel()
        raise
    finally:
        timer.cancel()
    if not future.done():
        future.cancel()
        await _settled(future)
        if future.cancelled():
            raise TimeoutError(f"{future.label} took longer than {timeout_s:g} s")
    return future.result()


async def shield(awaitable: Awaitable[T]) -> T:
    """The result; if the caller is cancelled, the awaited future continues."""
    future = _future(awaitable)
    await _any_done([future], future.label)
    return future.result()


def _future(awaitable: Awaitable[T]) -> Future[T]:
    if isinstance(awaitable, Future):
        return awaitable
    if isinstance(awaitable, Coroutine):
        return start(awaitable)
    raise TypeError(f"{type(awaitable).__name__} cannot be awaited in a workflow")


async def _settled(future: Future[Any]) -> None:
    """Return when it is done, however; a cancellation of the waiter is passed on to it."""
    try:
        await future
    except CancelledError:
        if not future.done():
            raise
    except BaseException as error:
        if not future.done() or error is not future.exception():
            raise


async def _any_done(futures: Sequence[Future[Any]], label: str) -> None:
    """Return when one of them is done. Cancelling the waiter leaves them alone."""
    if any(future.done() for future in futures):
        return
    gate: Future[None] = Future(current().loop, label)

    def open_gate(_: Future[Any]) -> None:
        _open(gate)

    for future in futures:
        future.add_done_callback(open_gate)
    try:
        await gate
    finally:
        for future in futures:
            future.remove_done_callback(open_gate)


def _open(gate: Future[None]) -> None:
    if not gate.done():
        gate.set_result(None)
