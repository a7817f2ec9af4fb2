"""The commands of a run, and the operations that it awaits: activities, timers, children, messages.

``CommandBuffer`` collects the commands of the current workflow task. ``Matcher`` compares them with
the events that must record them: at once when a history is replayed, or with the next events when
the interpreter is cached. A difference is a NonDeterminismError.

Each ``Operation`` is a future with a number. Cancelling it follows its cancellation type; an
operation that was requested in the current task is withdrawn and leaves no event. ``Children`` are
the child workflows of a run, with the futures that their events complete.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from workflows.api.futures import Future, Loop
from workflows.api.options import ChildOptions
from workflows.model import events as ev
from workflows.model.commands import Command, describe, same
from workflows.model.errors import (
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    LimitExceeded,
    NonDeterminismError,
    PatchMissingError,
    PayloadError,
    QueryError,
    TerminatedError,
    TimeoutError,  # noqa: A004 - Temporal's name
)
from workflows.model.failures import error_of
from workflows.model.limits import COMMANDS_MAX, PENDING_CHILDREN_MAX
from workflows.model.payloads import Payload, from_payload
from workflows.model.policies import CancellationType


class CommandBuffer:
    """Collects commands. While ``reading`` (a query or validator runs) no command may be issued."""

    __slots__ = ("_commands", "reading")

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self.reading = ""

    def ask(self, command: Command) -> None:
        """Append; QueryError while reading, LimitExceeded beyond the bound of a task."""
        self.must_not_read("asked for something")
        if len(self._commands) >= COMMANDS_MAX:
            raise LimitExceeded(f"COMMANDS_MAX: more than {COMMANDS_MAX} in one workflow task")
        self._commands.append(command)

    def withdraw(self, command: Command) -> bool:
        """Take back what this very task asked for; False if it is in the history already."""
        self.must_not_read("took something back")
        for index in range(len(self._commands) - 1, -1, -1):
            if self._commands[index] is command:
                del self._commands[index]
                return True
        return False

    def must_not_read(self, what: str) -> None:
        """QueryError if a query or validator is what runs."""
        if self.reading:
            raise QueryError(f"{self.reading} {what}: it may only look")

    def take(self) -> tuple[Command, ...]:
        """The commands of the task that ends now."""
        commands, self._commands = tuple(self._commands), []
        return commands


class Matcher:
    """The commands that have no event yet."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[Command] = deque()

    def expect(self, commands: Iterable[Command]) -> None:
        """These were produced; their events come next."""
        self._waiting.extend(commands)

    def match(self, event: ev.HistoryEvent) -> None:
        """``event`` records a command: it must be the next one."""
        recorded = event.attributes
        if self._waiting and same(self._waiting[0], recorded):
            self._waiting.popleft()
            return
        if isinstance(recorded, ev.MarkerRecorded) and recorded.deprecated:
            return  # the code no longer asks for a patch that every history has: as announced
        requested = describe(self._waiting[0]) if self._waiting else "nothing"
        is_marker = isinstance(recorded, ev.MarkerRecorded)
        error = PatchMissingError if is_marker else NonDeterminismError
        raise error(event.event_id, expected=describe(recorded), requested=requested)

    def nothing_left(self, event_id: int, what: str) -> None:
        """At ``event_id`` the events of the last task are over; the history has ``what``."""
        if self._waiting:
            raise NonDeterminismError(event_id, expected=what, requested=describe(self._waiting[0]))


class OperationRequest(NamedTuple):
    """What is asked for, and how it is taken back.

    ``result_type`` is what the caller expects; ``take_back`` makes the command that asks for the
    cancellation, or is None where there is no such command.
    """

    command: Command
    label: str
    result_type: object = None
    cancellation: CancellationType = CancellationType.TRY_CANCEL
    take_back: Callable[[], Command] | None = None


class Operation(Future[Any]):
    """One open operation: a command whose outcome is not known."""

    __slots__ = ("_asked", "_forget", "_requested", "request")

    def __init__(
        self,
        loop: Loop,
        asked: CommandBuffer,
        request: OperationRequest,
        forget: Callable[[], object],
    ) -> None:
        super().__init__(loop, request.label)
        self._asked = asked
        self._forget = forget
        self._requested = False
        self.request = request

    def cancel(self) -> bool:
        if self.done():
            return False
        kind = self.request.cancellation
        if kind is CancellationType.ABANDON or self._asked.withdraw(self.request.command):
            return super().cancel()
        if not self._requested and self.request.take_back is not None:
            self._requested = True
            self._asked.ask(self.request.take_back())
        if kind is CancellationType.TRY_CANCEL:
            return super().cancel()
        return True  # it stays open until its outcome is known

    def resolve(self, payload: Payload) -> None:
        """The result, as the type that the caller expects."""
        try:
            value = from_payload(
                payload, self.request.result_type, what=f"the result of {self.label}"
            )
        except PayloadError as error:
            self.set_error(error)
        else:
            self.set_result(value)

    def _finish(self, result: object, error: BaseException | None) -> None:
        self._forget()
        super()._finish(result, error)


class OpenOperations:
    """The open operations of one kind, by number. ``limit`` bounds them, ``name`` is its name."""

    __slots__ = ("_asked", "_last", "_limit", "_loop", "_name", "_open")

    def __init__(self, loop: Loop, asked: CommandBuffer, name: str, limit: int) -> None:
        self._loop = loop
        self._asked = asked
        self._name = name
        self._limit = limit
        self._last = 0
        self._open: dict[int, Operation] = {}

    def next_number(self) -> int:
        """The number for a new operation; LimitExceeded while too many are open."""
        self._asked.must_not_read("started something")
        if len(self._open) >= self._limit:
            raise LimitExceeded(f"{self._name}: {self._limit} are open; await some of them first")
        self._last += 1
        return self._last

    def start(self, number: int, request: OperationRequest) -> Operation:
        """Issue the command and keep the operation until its outcome is known."""
        self._asked.ask(request.command)
        return self.listen(number, request)

    def listen(self, number: int, request: OperationRequest) -> Operation:
        """Keep a second operation for a command that was issued already."""
        operation = Operation(
            self._loop, self._asked, request, lambda: self._open.pop(number, None)
        )
        self._open[number] = operation
        return operation

    def get(self, number: int) -> Operation | None:
        """The open operation of that number; None if it was cancelled or is done."""
        return self._open.get(number)


ALREADY_STARTED = "WorkflowAlreadyStarted"
"""The type of the cause when a child's id is taken."""


class ChildState:
    """A child as its parent sees it: ``started`` gives its run id, ``closed`` its result."""

    def __init__(self, number: int, name: str, workflow_id: str, loop: Loop) -> None:
        self.number = number
        self.workflow_type = name
        self.workflow_id = workflow_id
        self.started: Future[str] = Future(loop, f"the start of child {workflow_id}")
        self.closed: Future[Any] = Future(loop)

    def error(self, message: str, cause: BaseException) -> ChildWorkflowError:
        """What its parent gets to see when it does not complete."""
        error = ChildWorkflowError(message, type=self.workflow_type, subject=self.workflow_id)
        error.__cause__ = cause
        return error


class Children:
    """The open children of one run."""

    def __init__(self, loop: Loop, asked: CommandBuffer, next_request: Callable[[], int]) -> None:
        self._loop = loop
        self._pending = OpenOperations(loop, asked, "PENDING_CHILDREN_MAX", PENDING_CHILDREN_MAX)
        self._next_request = next_request
        self._open: dict[int, ChildState] = {}

    def start(
        self,
        name: str,
        args: tuple[Payload, ...],
        options: ChildOptions,
        parent_id: str,
        result_type: object,
    ) -> ChildState:
        """Start a child; its id is the parent's id with its number, unless the options have one."""
        number = self._pending.next_number()
        workflow_id = options.workflow_id or f"{parent_id}/{number}"
        command = ev.StartChildWorkflowExecutionInitiated(
            number,
            name,
            workflow_id,
            args,
            run_timeout_s=options.run_timeout_s,
            execution_timeout_s=options.execution_timeout_s,
            parent_close_policy=options.parent_close,
            id_reuse_policy=options.id_reuse,
            search_attributes=options.search_attributes or {},
        )
        child = ChildState(number, name, workflow_id, self._loop)
        request = OperationRequest(
            command,
            f"child {name} {workflow_id}",
            result_type,
            options.cancellation,
            lambda: ev.RequestCancelExternalWorkflowExecutionInitiated(
                self._next_request(), name, workflow_id, number
            ),
        )
        child.closed = self._pending.start(number, request)
        child.closed.add_done_callback(lambda _: self._forget(child))
        self._open[number] = child
        return child

    def apply(self, event: ev.Attributes) -> bool:
        """Complete the future of a child; False if the event is not about a child."""
        number = getattr(event, "child_id", None)
        if number is None:
            return False
        child, closed = self._open.get(number), self._pending.get(number)
        if child is None or closed is None:
            return True  # abandoned
        if isinstance(event, ev.ChildWorkflowExecutionStarted):
            child.started.set_result(event.run_id)
            return True
        self._close(child, closed, event)
        return True

    @staticmethod
    def _close(child: ChildState, closed: Operation, event: ev.Attributes) -> None:
        match event:
            case ev.ChildWorkflowExecutionCompleted():
                closed.resolve(event.result)
            case ev.ChildWorkflowExecutionFailed():
                closed.set_error(child.error("the child failed", error_of(event.failure)))
            case ev.ChildWorkflowExecutionCanceled():
                closed.set_error(CancelledError(f"child {child.workflow_id} was cancelled"))
            case ev.ChildWorkflowExecutionTimedOut():
                cause = TimeoutError("it timed out", type="StartToClose")
                closed.set_error(child.error("the child timed out", cause))
            case ev.ChildWorkflowExecutionTerminated():
                cause_ = TerminatedError("it was terminated")
                closed.set_error(child.error("the child was terminated", cause_))
            case ev.StartChildWorkflowExecutionFailed():
                refused = ApplicationError(event.message, type=ALREADY_STARTED, non_retryable=True)
                closed.set_error(child.error("the child did not start", refused))

    def _forget(self, child: ChildState) -> None:
        self._open.pop(child.number, None)
        if child.started.done():
            return
        error = child.closed.exception()
        child.started.set_error(error or CancelledError("the child closed before it started"))
