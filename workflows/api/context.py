"""The interface between workflow code and the interpreter: the current run, futures, an event loop.

Futures, tasks and the loop have asyncio's interface, but are deterministic: the loop has no clock,
sockets or threads. A turn of the loop runs the ready callbacks in order, then checks the awaited
conditions (``Loop.when``), until no callback is ready and no condition holds.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar, cast

from workflows.api.options import ActivityOptions, ChildOptions, WorkflowInfo
from workflows.model.errors import (
    CancelledError,
    ForbiddenCallError,
    WorkflowError,
    WorkflowTaskError,
)
from workflows.model.events import WorkflowExecutionContinuedAsNew
from workflows.model.payloads import Payload

T = TypeVar("T")


class Future(Generic[T]):
    """A value that is set later. ``label``: what is awaited, for messages."""

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
        """Whether the future was cancelled."""
        return isinstance(self._error, CancelledError)

    def exception(self) -> BaseException | None:
        """The error; None after a result."""
        assert self._done, "still pending"
        return self._error

    def result(self) -> T:
        """The value. Raises the error, if any."""
        assert self._done, "still pending"
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    def set_result(self, result: T) -> None:
        """Complete the future with a value."""
        self._finish(result, None)

    def set_error(self, error: BaseException) -> None:
        """Complete the future with an error."""
        self._finish(None, error)

    def cancel(self) -> bool:
        """Complete the future with CancelledError; False if the future is already done."""
        if self._done:
            return False
        self.set_error(CancelledError(f"{self.label or 'the wait'} was cancelled"))
        return True

    def add_done_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Call ``callback(self)`` on the loop once the future is done."""
        if self._done:
            self._loop.call_soon(callback, self)
        else:
            self._callbacks.append(callback)

    def remove_done_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Remove a callback, if it was added."""
        self._callbacks = [other for other in self._callbacks if other != callback]

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
    """A running coroutine. Cancelling the task cancels the future that it awaits."""

    __slots__ = ("_awaited", "_cancel_requested", "_coroutine")

    def __init__(self, loop: Loop, coroutine: Coroutine[Any, Any, T], label: str = "") -> None:
        super().__init__(loop, label)
        self._coroutine = coroutine
        self._awaited: Future[Any] | None = None
        self._cancel_requested = False
        loop.tasks[self] = None
        loop.call_soon(self._step, None)

    @property
    def waiting_for(self) -> str:
        """The label of the awaited future; "" if the task can continue."""
        return self._awaited.label if self._awaited is not None else ""

    def cancel(self) -> bool:
        if self._done:
            return False
        if self._awaited is None or not self._awaited.cancel():
            self._cancel_requested = True
        return True

    def close(self) -> None:
        """Close the coroutine at its current ``await``."""
        self._loop.tasks.pop(self, None)
        self._coroutine.close()

    def _wake(self, awaited: Future[Any]) -> None:
        self._step(None)

    def _step(self, _: object) -> None:
        if self._done:
            return
        self._awaited = None
        try:
            if self._cancel_requested:
                self._cancel_requested = False
                awaited = self._coroutine.throw(CancelledError(f"{self.label} was cancelled"))
            else:
                awaited = self._coroutine.send(None)
        except StopIteration as stop:
            self._end(stop.value, None)
        except WorkflowTaskError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised when the task is awaited
            self._end(None, error)
        else:
            self._wait(awaited)

    def _wait(self, awaited: object) -> None:
        if not isinstance(awaited, Future):
            raise ForbiddenCallError(
                f"{self.label} awaited an object of type {type(awaited).__name__}; workflow code"
                " can only await what workflow.* returns: use workflow.sleep or workflow.gather,"
                " and an activity for I/O"
            )
        self._awaited = awaited
        awaited.add_done_callback(self._wake)
        if self._cancel_requested and awaited.cancel():
            self._cancel_requested = False

    def _end(self, result: T | None, error: BaseException | None) -> None:
        self._loop.tasks.pop(self, None)
        self._finish(result, error)


class Loop:
    """An event loop. Once ``stopped``, it runs no further callback."""

    __slots__ = ("_conditions", "_ready", "stopped", "tasks")

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._conditions: list[tuple[Callable[[], bool], Future[None]]] = []
        self.tasks: dict[Task[Any], None] = {}
        self.stopped = False

    def call_soon(self, callback: Callable[[Any], None], argument: object) -> None:
        """Run ``callback(argument)`` after the callbacks that are ready now."""
        self._ready.append((callback, argument))

    def when(self, condition: Callable[[], bool], label: str) -> Future[None]:
        """A future that is done once ``condition()`` holds."""
        future: Future[None] = Future(self, label)
        self._conditions.append((condition, future))
        return future

    def run_until_idle(self) -> None:
        """Run one turn. Raises WorkflowTaskError."""
        ready = self._ready
        while not self.stopped:
            if ready:
                callback, argument = ready.popleft()
                callback(argument)
            elif not self._some_condition_holds():
                return

    def close(self) -> None:
        """Close every task."""
        self.stopped = True
        self._ready.clear()
        self._conditions.clear()
        for task in list(self.tasks):
            with suppress(BaseException):  # raised if the code awaits in a `finally`
                task.close()

    def _some_condition_holds(self) -> bool:
        if not self._conditions:
            return False
        any_holds = False
        for entry in list(self._conditions):
            condition, future = entry
            if not future.done():
                try:
                    if not condition():
                        continue
                    future.set_result(None)
                except WorkflowTaskError:
                    raise
                except Exception as error:  # noqa: BLE001 - raised when the future is awaited
                    future.set_error(error)
                any_holds = True
            self._conditions.remove(entry)
        return any_holds


class ChildFutures(Protocol):
    """The futures of a child: ``started`` returns the run id, ``closed`` the child's result."""

    workflow_type: str
    workflow_id: str
    started: Future[str]
    closed: Future[Any]


class WorkflowRuntime(Protocol):
    """The run, as workflow code sees it; implemented by the interpreter."""

    loop: Loop
    now_ms: int
    replaying: bool

    def info(self) -> WorkflowInfo:
        """The data of the current run."""

    def random(self) -> random.Random:
        """A generator that is seeded by the run id."""

    def start_task(self, coroutine: Coroutine[Any, Any, Any], label: str) -> Task[Any]:
        """Run a coroutine concurrently."""

    def start_timer(self, seconds: float, label: str) -> Future[None]:
        """A durable timer. Cancelling the future cancels the timer."""

    def start_activity(
        self, name: str, args: Sequence[object], options: ActivityOptions, result_type: object
    ) -> Future[Any]:
        """Request an activity."""

    def start_child(
        self, name: str, args: Sequence[object], options: ChildOptions, result_type: object
    ) -> ChildFutures:
        """Start a child workflow."""

    def signal_external(
        self, target: tuple[str, str, str], name: str, args: Sequence[object]
    ) -> Future[None]:
        """Signal ``target`` (type, id, run id or "")."""

    def cancel_external(self, target: tuple[str, str, str]) -> Future[None]:
        """Request cancellation of ``target``, as in ``signal_external``."""

    def patched(self, patch_id: str, *, deprecated: bool) -> bool:
        """See ``workflow.patched`` and ``workflow.deprecate_patch``."""

    def upsert_search_attributes(self, attributes: Mapping[str, Payload]) -> None:
        """Set search attributes. The value None removes an attribute."""

    def set_handler(self, kind: str, name: str, function: Callable[..., Any] | None) -> None:
        """Set a handler; None removes the handler. ``kind``: "signal" or "query"."""

    def handlers_running(self) -> int:
        """The number of running signal and update handlers."""


class ContinueAsNew(BaseException):
    """Raised by ``workflow.continue_as_new``. ``except Exception`` does not catch it."""

    def __init__(self, command: WorkflowExecutionContinuedAsNew) -> None:
        super().__init__("continue as new")
        self.command = command


CURRENT_RUN: ContextVar[WorkflowRuntime | None] = ContextVar("orbweaver_workflow_run", default=None)


def current() -> WorkflowRuntime:
    """The current run. Raises WorkflowError outside workflow code."""
    runtime = CURRENT_RUN.get()
    if runtime is None:
        raise WorkflowError("functions of workflow.* work in workflow code only")
    return runtime
