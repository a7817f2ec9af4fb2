"""The commands of a run, and the operations it awaits: activities, timers, children, messages."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from workflows.api.context import Future, Loop
from workflows.api.options import ChildOptions
from workflows.model import events as ev
from workflows.model.commands import Command, describe, is_recorded_by
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
    """Collects the commands of the current workflow task.

    ``reader``: the running query or validator, which may only read.
    """

    __slots__ = ("_commands", "reader")

    def __init__(self) -> None:
        self._commands: list[Command] = []
        self.reader = ""

    def issue(self, command: Command) -> None:
        """Add a command. Raises LimitExceeded, and QueryError if a reader is running."""
        self.check_not_reading("issued a command")
        if len(self._commands) >= COMMANDS_MAX:
            raise LimitExceeded(
                f"COMMANDS_MAX: more than {COMMANDS_MAX} commands in one workflow task"
            )
        self._commands.append(command)

    def withdraw(self, command: Command) -> bool:
        """Remove a command of the current task. Returns False for a command of an earlier task."""
        self.check_not_reading("withdrew a command")
        for index in range(len(self._commands) - 1, -1, -1):
            if self._commands[index] is command:
                del self._commands[index]
                return True
        return False

    def check_not_reading(self, what: str) -> None:
        """Raise QueryError if a query or validator runs; ``what``: the forbidden action."""
        if self.reader:
            raise QueryError(f"{self.reader} {what}: it may only read")

    def take(self) -> tuple[Command, ...]:
        """Remove and return the commands of the current task."""
        commands, self._commands = tuple(self._commands), []
        return commands


class Matcher:
    """Compares commands with the events that record them; a difference is a NonDeterminismError."""

    __slots__ = ("_unmatched_commands",)

    def __init__(self) -> None:
        self._unmatched_commands: deque[Command] = deque()

    def expect(self, commands: Iterable[Command]) -> None:
        """Add issued commands, whose events come next."""
        self._unmatched_commands.extend(commands)

    def match(self, event: ev.HistoryEvent) -> None:
        """Check that ``event`` records the next command. Raises NonDeterminismError."""
        recorded = event.attributes
        if self._unmatched_commands and is_recorded_by(self._unmatched_commands[0], recorded):
            self._unmatched_commands.popleft()
            return
        if isinstance(recorded, ev.MarkerRecorded) and recorded.deprecated:
            return  # the code does not check the deprecated patch any more
        requested = describe(self._unmatched_commands[0]) if self._unmatched_commands else "nothing"
        is_marker = isinstance(recorded, ev.MarkerRecorded)
        error = PatchMissingError if is_marker else NonDeterminismError
        raise error(event.event_id, expected=describe(recorded), requested=requested)

    def check_all_matched(self, event_id: int, what: str) -> None:
        """Raise NonDeterminismError for a command without an event.

        ``what`` describes the event that was found instead, with id ``event_id``.
        """
        if self._unmatched_commands:
            raise NonDeterminismError(
                event_id, expected=what, requested=describe(self._unmatched_commands[0])
            )


class OperationRequest(NamedTuple):
    """The command of an operation, and how the operation is cancelled.

    ``cancel_command`` makes the command that requests the cancellation, if there is one.
    """

    command: Command
    label: str
    result_type: object = None
    cancellation: CancellationType = CancellationType.TRY_CANCEL
    cancel_command: Callable[[], Command] | None = None


class Operation(Future[Any]):
    """One open operation: the future of a command whose outcome is not known.

    ``cancel`` withdraws a command of the current task. With ABANDON the command stays.
    """

    __slots__ = ("_cancel_requested", "_commands", "_forget", "request")

    def __init__(
        self,
        loop: Loop,
        commands: CommandBuffer,
        request: OperationRequest,
        forget: Callable[[], object],
    ) -> None:
        super().__init__(loop, request.label)
        self._commands = commands
        self._forget = forget
        self._cancel_requested = False
        self.request = request

    def cancel(self) -> bool:
        if self.done():
            return False
        kind = self.request.cancellation
        if kind is CancellationType.ABANDON or self._commands.withdraw(self.request.command):
            return super().cancel()
        if not self._cancel_requested and self.request.cancel_command is not None:
            self._cancel_requested = True
            self._commands.issue(self.request.cancel_command())
        if kind is CancellationType.TRY_CANCEL:
            return super().cancel()
        return True  # the operation stays open until its outcome is known

    def resolve(self, payload: Payload) -> None:
        """Complete the operation with a result of the type that the caller expects."""
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
    """The open operations of one kind, by number. Errors cite ``limit_name``."""

    __slots__ = ("_commands", "_last", "_limit", "_limit_name", "_loop", "_open")

    def __init__(self, loop: Loop, commands: CommandBuffer, limit_name: str, limit: int) -> None:
        self._loop = loop
        self._commands = commands
        self._limit_name = limit_name
        self._limit = limit
        self._last = 0
        self._open: dict[int, Operation] = {}

    def next_number(self) -> int:
        """The number for a new operation. Raises LimitExceeded while too many are open."""
        self._commands.check_not_reading("started an operation")
        if len(self._open) >= self._limit:
            raise LimitExceeded(
                f"{self._limit_name}: {self._limit} operations are open; await some of them first"
            )
        self._last += 1
        return self._last

    def start(self, number: int, request: OperationRequest) -> Operation:
        """Issue the command of an operation, and open the operation."""
        self._commands.issue(request.command)
        operation = Operation(
            self._loop, self._commands, request, lambda: self._open.pop(number, None)
        )
        self._open[number] = operation
        return operation

    def get(self, number: int) -> Operation | None:
        """The open operation of that number; None if it was cancelled or is done."""
        return self._open.get(number)


ALREADY_STARTED = "WorkflowAlreadyStarted"
"""The failure type of a child's start when its id is in use."""


class ChildState:
    """A child of a run. ``started`` returns the child's run id, ``closed`` returns its result."""

    def __init__(self, number: int, name: str, workflow_id: str, loop: Loop) -> None:
        self.number = number
        self.workflow_type = name
        self.workflow_id = workflow_id
        self.started: Future[str] = Future(loop, f"the start of child {workflow_id}")
        self.closed: Future[Any] = Future(loop)

    def error(self, message: str, cause: BaseException) -> ChildWorkflowError:
        """The error that the parent gets when the child does not complete."""
        error = ChildWorkflowError(message, type=self.workflow_type, subject=self.workflow_id)
        error.__cause__ = cause
        return error


class Children:
    """The open children of one run.

    ``next_request`` returns the number of a new cancel request.
    """

    def __init__(
        self, loop: Loop, commands: CommandBuffer, next_request: Callable[[], int]
    ) -> None:
        self._loop = loop
        self._pending = OpenOperations(loop, commands, "PENDING_CHILDREN_MAX", PENDING_CHILDREN_MAX)
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
        """Start a child. The default workflow id is ``<parent_id>/<number>``."""
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
            return True  # the code has cancelled or abandoned the child
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
                terminated = TerminatedError("it was terminated")
                closed.set_error(child.error("the child was terminated", terminated))
            case ev.StartChildWorkflowExecutionFailed():
                cause_of_failure = ApplicationError(
                    event.message, type=ALREADY_STARTED, non_retryable=True
                )
                closed.set_error(child.error("the child did not start", cause_of_failure))

    def _forget(self, child: ChildState) -> None:
        self._open.pop(child.number, None)
        if child.started.done():
            return
        error = child.closed.exception()
        child.started.set_error(error or CancelledError("the child closed before it started"))
