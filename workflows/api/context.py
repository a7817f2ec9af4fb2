"""The current run: the interface between workflow code and the interpreter that runs it."""

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
    """The requests of workflow code that become commands, below the interceptors of a run."""

    def request_activity(
        self, name: str, args: Sequence[object], options: ActivityOptions, result_type: object
    ) -> Future[Any]:
        """Request an activity; the future is done when the activity is closed."""

    def request_child(
        self, name: str, args: Sequence[object], options: ChildOptions, result_type: object
    ) -> ChildFutures:
        """Start another workflow that belongs to this one."""

    def request_signal(
        self, target: tuple[str, str, str], name: str, args: Sequence[object]
    ) -> Future[None]:
        """Signal ``target`` (type, id, run id or "")."""


class WorkflowRuntime(Protocol):
    """The interface between workflow code and its run; the interpreter implements it."""

    loop: Loop
    now_ms: int
    replaying: bool

    def info(self) -> WorkflowInfo:
        """The data of the current run."""

    def random(self) -> random.Random:
        """Seeded by the run id."""

    def start_task(self, coroutine: Coroutine[Any, Any, Any], label: str) -> Task[Any]:
        """Run a coroutine concurrently."""

    def start_timer(self, seconds: float, label: str) -> Future[None]:
        """A future that is done after ``seconds``; cancelling it cancels the timer."""

    def start_activity(
        self, name: str, args: Sequence[object], options: ActivityOptions, result_type: object
    ) -> Future[Any]:
        """Request an activity; the future is done when the activity is closed."""

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
        """Whether code changed under this id may run; see ``workflow.patched``."""

    def upsert_search_attributes(self, attributes: Mapping[str, Payload]) -> None:
        """Set search attributes; the value None removes one."""

    def set_handler(self, kind: str, name: str, function: Callable[..., Any] | None) -> None:
        """Set the handler of a "signal" or "query"; None removes it."""

    def handlers_running(self) -> int:
        """The number of signal and update handlers that have not returned."""


class ContinueAsNew(BaseException):
    """Raised by ``workflow.continue_as_new``. ``except Exception`` does not catch it."""

    def __init__(self, command: WorkflowExecutionContinuedAsNew) -> None:
        super().__init__("continue as new")
        self.command = command


CURRENT: ContextVar[WorkflowRuntime | None] = ContextVar("orbweaver_workflow_run", default=None)


def current() -> WorkflowRuntime:
    """The current run. Raises WorkflowError outside workflow code."""
    runtime = CURRENT.get()
    if runtime is None:
        raise WorkflowError("this function works in workflow code only")
    return runtime
