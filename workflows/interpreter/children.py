"""The children of a run, and the futures that their events complete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflows.api.futures import Future, Loop
from workflows.api.options import ChildOptions
from workflows.interpreter.operations import (
    CommandBuffer,
    OpenOperations,
    Operation,
    OperationRequest,
)
from workflows.model import events as ev
from workflows.model.errors import (
    ApplicationError,
    CancelledError,
    ChildWorkflowError,
    TerminatedError,
    TimeoutError,  # noqa: A004 - Temporal's name
)
from workflows.model.failures import error_of
from workflows.model.limits import PENDING_CHILDREN_MAX
from workflows.model.payloads import Payload

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
        """Ask for a child; its id is the parent's with its number, unless the options say one."""
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
                cause = TimeoutError("its time was over", type="StartToClose")
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
