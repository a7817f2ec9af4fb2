"""Futures, tasks and the loop that runs workflow code: asyncio's shapes without asyncio's world.

The loop has no clock, no sockets and no threads. It runs what is ready in the order in which it
became ready, then looks at the conditions, and stops when neither has anything left: so the same
inputs always run the same code in the same order. A turn ends there; the next event begins another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from workflows.model.errors import CancelledError, ForbiddenCallError, WorkflowTaskError

T = TypeVar("T")


class Future(Generic[T]):
    """A value that is set later. ``label`` describes what is awaited, for users."""

    __slots__ = ("_callbacks", "_done", "_error", "_loop", "_result", "label")

    def __init__(self, loop: Loop, label: str = "") -> None:
        self._loop = loop
        self.label = label
        self._done = False
        self._result: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Future[T]], None]] = []

    def done(self) -> bool:
        """Whether there is a result or an error."""
        return self._done

    def cancelled(self) -> bool:
        """Whether it ended by cancellation."""
        return isinstance(self._error, CancelledError)

    def exception(self) -> BaseException | None:
        """The error it ended with; None for a result."""
        assert self._done, "still pending"
        return self._error

    def result(self) -> T:
        """The value, or the error raised."""
        assert self._done, "still pending"
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def set_result(self, result: T) -> None:
        """End it with a value."""
        self._finish(result, None)

    def set_error(self, error: BaseException) -> None:
        """End it with an error."""
        self._finish(None, error)

    def cancel(self) -> bool:
        """End it by cancellation; False if it is done already."""
        if self._done:
            return False
        self.set_error(CancelledError(f"{self.label or 'the wait'} was cancelled"))
        return True

    def add_done_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Run ``callback`` with this future, in a step of its own, once it is done."""
        if self._done:
            self._loop.call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    def remove_done_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Forget a callback; it need not be there."""
        self._callbacks = [kept for kept in self._callbacks if kept != callback]

    def __await__(self) -> Generator[Future[Any], None, T]:
        if not self._done:
            yield self
        return self.result()

    def _finish(self, result: T | None, error: BaseException | None) -> None:
        assert not self._done, f"{self.label} is done already"
        self._done = True
        self._result, self._error = result, error
        for callback in self._callbacks:
            self._loop.call_soon(callback, self)
        self._callbacks.clear()


class Task(Future[T]):
    """A coroutine on its way. Cancelling it cancels what it awaits."""

    __slots__ = ("_awaited", "_cancel_wanted", "_coroutine")

    def __init__(self, loop: Loop, coroutine: Coroutine[Any, Any, T], label: str = "") -> None:
        super().__init__(loop, label)
        self._coroutine = coroutine
        self._awaited: Future[Any] | None = None
        self._cancel_wanted = False
        loop.tasks[self] = None
        loop.call_soon(self._step, None)

    @property
    def waiting_for(self) -> str:
        """The label of the awaited future; "" while the task can continue."""
        return self._awaited.label if self._awaited is not None else ""

    def cancel(self) -> bool:
        if self._done:
            return False
        if self._awaited is None or not self._awaited.cancel():
            self._cancel_wanted = True
        return True

    def close(self) -> None:
        """Drop the coroutine at its current point, without running the rest."""
        self._loop.tasks.pop(self, None)
        self._coroutine.close()

    def _wake(self, awaited: Future[Any]) -> None:
        self._step(None)

    def _step(self, _: object) -> None:
        if self._done:
            return
        self._awaited = None
        try:
            if self._cancel_wanted:
                self._cancel_wanted = False
                awaited = self._coroutine.throw(CancelledError(f"{self.label} was cancelled"))
            else:
                awaited = self._coroutine.send(None)
        except StopIteration as stop:
            self._end(stop.value, None)
        except WorkflowTaskError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised by the task
            self._end(None, error)
        else:
            self._wait(awaited)

    def _wait(self, awaited: object) -> None:
        if not isinstance(awaited, Future):
            raise ForbiddenCallError(
                f"{self.label} awaited {type(awaited).__name__}, which is not of this workflow: "
                "use workflow.sleep, gather and the like, and an activity for I/O"
            )
        self._awaited = awaited
        awaited.add_done_callback(self._wake)
        if self._cancel_wanted and awaited.cancel():
            self._cancel_wanted = False

    def _end(self, result: T | None, error: BaseException | None) -> None:
        self._loop.tasks.pop(self, None)
        self._finish(result, error)


class Loop:
    """Runs callbacks in order until nothing is left to do. ``stopped`` ends it at once."""

    __slots__ = ("_conditions", "_ready", "stopped", "tasks")

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._conditions: list[tuple[Callable[[], bool], Future[None]]] = []
        self.tasks: dict[Task[Any], None] = {}
        self.stopped = False

    def call_soon(self, callback: Callable[[Any], None], argument: object) -> None:
        """Run ``callback(argument)`` after everything that is ready now."""
        self._ready.append((callback, argument))

    def when(self, condition: Callable[[], bool], label: str) -> Future[None]:
        """A future that is done as soon as ``condition()`` holds at the end of a step."""
        future: Future[None] = Future(self, label)
        self._conditions.append((condition, future))
        return future

    def run_until_idle(self) -> None:
        """One turn. Raises errors of the workflow task (``WorkflowTaskError``)."""
        ready = self._ready
        while not self.stopped:
            if ready:
                callback, argument = ready.popleft()
                callback(argument)
            elif not self._some_condition_holds():
                return

    def close(self) -> None:
        """Drop every task."""
        self.stopped = True
        self._ready.clear()
        self._conditions.clear()
        for task in list(self.tasks):
            with suppress(BaseException):  # code that awaits in a `finally` cannot go on
                task.close()

    def _some_condition_holds(self) -> bool:
        if not self._conditions:
            return False
        held = False
        for entry in list(self._conditions):
            condition, future = entry
            if not future.done():
                try:
                    if not condition():
                        continue
                    future.set_result(None)
                except WorkflowTaskError:
                    raise
                except Exception as error:  # noqa: BLE001 - raised by the future
                    future.set_error(error)
                held = True
            self._conditions.remove(entry)
        return held
