"""The run whose code is running now: how the functions of the API find their interpreter."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol

from workflows.api.futures import Future, Loop, Task
from workflows.api.options import ActivityOptions, ChildOptions, WorkflowInfo
from workflows.model.errors import WorkflowError
from workflows.model.events import WorkflowExecutionContinuedAsNew
from workflows.model.payloads import Payload


class ChildFutures(Protocol):
    """A child: ``started`` gives its run id, ``closed`` its result."""

    workflow_type: str
    workflow_id: str
    started: Future[str]
    closed: Future[Any]


class WorkflowRequests(Protocol):
    """The requests that become commands, below the interceptors of a run."""

    def request_activity(
        self, name: str, args: Sequence[object], options: ActivityOptions, result_type: object
    ) -> Future[Any]:
        """Done when the activity is closed."""

    def request_child(
        self, name: str, args: Sequence[object], options: ChildOptions, result_type: object
    ) -> ChildFutures:
        """Start another workflow that belongs to this one."""

    def request_signal(
        self, target: tuple[str, str, str], name: str, args: Sequence[object]
    ) -> Future[None]:
        """Signal ``target`` (type, id, run id or "")."""


class WorkflowRuntime(Protocol):
    """The interface between workflow code and its run. Implemented by the interpreter alone."""

    loop: Loop
    now_ms: int
    replaying: bool

    def info(self) -> WorkflowInfo:
        """The data of the current run."""

    def random(self) -> random.Random:
        """Seeded by the run id."""

    def start_task(self, coroutine: Coroutine[Any, Any, Any], label: str) -> Task[Any]:
        """Run a coroutine beside the others."""

    def start_timer(self, seconds: float, label: str) -> Future[None]:
        """Done after ``seconds``; cancelling it takes the timer back."""

    def start_activity(
        self, name: str, args: Sequence[object], options: ActivityOptions, result_type: object
    ) -> Future[Any]:
        """Done when the activity is closed."""

    def start_child(
        self, name: str, args: Sequence[object], options: ChildOptions, result_type: object
    ) -> ChildFutures:
        """Start another workflow that belongs to this one."""

    def signal_external(
        self, target: tuple[str, str, str], name: str, args: Sequence[object]
    ) -> Future[None]:
        """Signal ``target`` (type, id, run id or "")."""

    def cancel_external(self, target: tuple[str, str, str]) -> Future[None]:
        """Request the cancellation of ``target`` (type, id, run id or "")."""

    def patched(self, patch_id: str, *, deprecated: bool) -> bool:
        """Whether new code may run here."""

    def upsert_search_attributes(self, attributes: Mapping[str, Payload]) -> None:
        """Set attributes; None takes one away."""

    def set_handler(self, kind: str, name: str, function: Callable[..., Any] | None) -> None:
        """Set or take away the handler of a "signal" or "query"."""

    def handlers_running(self) -> int:
        """Signal and update handlers that have not returned."""


class ContinueAsNew(BaseException):
    """Raised by ``workflow.continue_as_new``: no failure, and not to be swallowed as one."""

    def __init__(self, command: WorkflowExecutionContinuedAsNew) -> None:
        super().__init__("continue as new")
        self.command = command


CURRENT: ContextVar[WorkflowRuntime | None] = ContextVar("orbweaver_workflow_run", default=None)


def current() -> WorkflowRuntime:
    """The run whose code calls; WorkflowError outside of workflow code."""
    runtime = CURRENT.get()
    if runtime is None:
        raise WorkflowError("this function works in workflow code only")
    return runtime
