"""Waits for futures: asyncio's gather, wait_for and shield on the workflow's event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast

from workflows.api.context import Future, Task, current
from workflows.model.errors import (
    CancelledError,
    TimeoutError,  # noqa: A004 - Temporal's name
)

T = TypeVar("T")


def start(coroutine: Coroutine[Any, Any, T], name: str = "") -> Task[T]:
    """Run a coroutine concurrently."""
    label = name or getattr(coroutine, "__qualname__", "task")
    return cast("Task[T]", current().start_task(coroutine, label))


async def sleep(seconds: float) -> None:
    """Wait for a durable timer. 0 seconds: let the other ready tasks run."""
    if seconds > 0:
        await current().start_timer(seconds, f"timer {seconds:g} s")
        return
    next_turn: Future[None] = Future(current().loop, "its turn")
    current().loop.call_soon(_complete, next_turn)
    await next_turn


async def wait_condition(condition: Callable[[], bool], timeout_s: float | None = None) -> None:
    """Wait until ``condition()`` holds. Raises errors.TimeoutError after ``timeout_s``.

    The condition must be quick and must not change state, because it is evaluated often.
    """
    if condition():
        return
    holds = current().loop.when(condition, "a condition")
    if timeout_s is None:
        await holds
    else:
        await wait_for(holds, timeout_s)


async def gather(*awaitables: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
    """The results of all awaitables, in the order of the arguments.

    As in asyncio, the first error is raised immediately, and the other awaitables continue.
    Cancelling ``gather`` cancels all awaitables that are not done.
    """
    futures = [_future(awaitable) for awaitable in awaitables]
    if not futures:
        return []
    all_done: Future[None] = Future(current().loop, f"{len(futures)} results")
    pending = len(futures)

    def one_done(future: Future[Any]) -> None:
        nonlocal pending
        pending -= 1
        if pending == 0 or (future.exception() is not None and not return_exceptions):
            _complete(all_done)

    for future in futures:
        future.add_done_callback(one_done)
    try:
        await all_done
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
    """The index of the awaitable that is done first; the lowest index if several are done.

    The other awaitables continue; pass futures or tasks to await them later.
    """
    futures = [_future(awaitable) for awaitable in awaitables]
    while not any(future.done() for future in futures):
        await _any_done(futures, "the first of several")
    return next(index for index, future in enumerate(futures) if future.done())


async def wait_for(awaitable: Awaitable[T], timeout_s: float) -> T:
    """Wait for a result; cancel the awaitable after ``timeout_s`` seconds.

    Raises errors.TimeoutError if the cancellation ends the awaitable.
    """
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
        await _wait_ended(future)
        if future.cancelled():
            raise TimeoutError(f"{future.label} took longer than {timeout_s:g} s")
    return future.result()


async def shield(awaitable: Awaitable[T]) -> T:
    """Wait for a result. If the caller is cancelled, the awaitable continues."""
    future = _future(awaitable)
    await _any_done([future], future.label)
    return future.result()


def _future(awaitable: Awaitable[T]) -> Future[T]:
    if isinstance(awaitable, Future):
        return awaitable
    if isinstance(awaitable, Coroutine):
        return start(awaitable)
    raise TypeError(
        f"{type(awaitable).__name__} cannot be awaited in a workflow: pass a coroutine, or a task"
        " or future of workflows.api.workflow"
    )


async def _wait_ended(future: Future[Any]) -> None:
    """Wait until the future is done, ignoring its error. Raises only if the wait is cancelled."""
    try:
        await future
    except CancelledError:
        if not future.done():
            raise
    except BaseException as error:
        if not future.done() or error is not future.exception():
            raise


async def _any_done(futures: Sequence[Future[Any]], label: str) -> None:
    """Wait until a future is done. If the wait is cancelled, the futures continue."""
    if any(future.done() for future in futures):
        return
    any_done: Future[None] = Future(current().loop, label)

    def note_done(_: Future[Any]) -> None:
        _complete(any_done)

    for future in futures:
        future.add_done_callback(note_done)
    try:
        await any_done
    finally:
        for future in futures:
            future.remove_done_callback(note_done)


def _complete(future: Future[None]) -> None:
    if not future.done():
        future.set_result(None)
