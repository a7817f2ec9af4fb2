"""Interceptors of a worker: code around workflows, handlers, requests and activities.

Each interceptor adds a link to a chain; the first interceptor adds the outermost. A link calls the
same method of its ``inner`` link, with the same or a changed input. ``WorkflowInbound`` and
``WorkflowOutbound`` are workflow code and run again in replay. Names are from Temporal's SDK.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from workflows.api.context import ChildFutures, Future
from workflows.api.options import ActivityOptions, ChildOptions


class ExecuteWorkflowInput(NamedTuple):
    """A call of the workflow function."""

    workflow_type: str
    function: Callable[..., Any]
    args: Sequence[Any]


class HandleMessageInput(NamedTuple):
    """A signal, query or update for a handler. ``update_id``: "" for a signal or query."""

    name: str
    function: Callable[..., Any]
    args: Sequence[Any]
    update_id: str = ""


class ExecuteActivityInput(NamedTuple):
    """One attempt of an activity. ``traceparent``: the span that requested the activity.

    ``function`` returns an awaitable, also for a plain activity.
    """

    activity_type: str
    function: Callable[..., Any]
    args: Sequence[Any]
    traceparent: str = ""


class StartActivityInput(NamedTuple):
    """A request for an activity."""

    activity_type: str
    args: Sequence[object]
    options: ActivityOptions
    result_type: object = Any


class StartChildInput(NamedTuple):
    """A request for a child."""

    workflow_type: str
    args: Sequence[object]
    options: ChildOptions
    result_type: object = Any


class SignalExternalInput(NamedTuple):
    """A signal to another execution. ``run_id`` "": the current run of ``workflow_id``."""

    workflow_type: str
    workflow_id: str
    run_id: str
    signal: str
    args: Sequence[object]


class ActivityInbound:
    """A link around attempts of activities. An attempt calls ``self.inner`` at most once."""

    def __init__(self, inner: ActivityInbound) -> None:
        self.inner = inner

    async def execute_activity(self, attempt: ExecuteActivityInput) -> Any:  # noqa: ANN401 - the activity's
        """Run the attempt."""
        return await self.inner.execute_activity(attempt)


class WorkflowOutbound:
    """A link around the requests of workflow code."""

    def __init__(self, inner: WorkflowOutbound) -> None:
        self.inner = inner

    def start_activity(self, request: StartActivityInput) -> Future[Any]:
        """Request an activity."""
        return self.inner.start_activity(request)

    def start_child(self, request: StartChildInput) -> ChildFutures:
        """Start a child."""
        return self.inner.start_child(request)

    def signal_external(self, request: SignalExternalInput) -> Future[None]:
        """Signal another execution."""
        return self.inner.signal_external(request)


class WorkflowInbound:
    """A link around the workflow function and the handlers of one run."""

    def __init__(self, inner: WorkflowInbound) -> None:
        self.inner = inner

    def init(self, outbound: WorkflowOutbound) -> None:
        """Called at the start of the run. To intercept requests, wrap ``outbound`` in a link."""
        self.inner.init(outbound)

    async def execute_workflow(self, call: ExecuteWorkflowInput) -> Any:  # noqa: ANN401 - the workflow's
        """Run the workflow function."""
        return await self.inner.execute_workflow(call)

    async def handle_signal(self, message: HandleMessageInput) -> None:
        """Handle a signal."""
        await self.inner.handle_signal(message)

    def handle_query(self, message: HandleMessageInput) -> Any:  # noqa: ANN401 - the handler's
        """Answer a query. May only read."""
        return self.inner.handle_query(message)

    def handle_update_validator(self, message: HandleMessageInput) -> None:
        """Raise to reject an update. May only read. Called also if the update has no validator."""
        self.inner.handle_update_validator(message)

    async def handle_update_handler(self, message: HandleMessageInput) -> Any:  # noqa: ANN401 - the handler's
        """Handle an accepted update."""
        return await self.inner.handle_update_handler(message)


class Interceptor:
    """An interceptor. ``workflow_inbound``: the class of the link around each run."""

    workflow_inbound: type[WorkflowInbound] | None = None

    def intercept_activity(self, inner: ActivityInbound) -> ActivityInbound:
        """Return a link around ``inner``, or ``inner``."""
        return inner
