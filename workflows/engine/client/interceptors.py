"""Interceptors of a client: code around calls.

Chains work as in ``workflows.api.interceptors``. Interceptors get arguments before they are
encoded. Pause, retry, reset, and reads of heads and histories are not intercepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from workflows.api.options import StartOptions
from workflows.engine.store.records import Reply
from workflows.model.payloads import Payload
from workflows.model.policies import UpdateStage


class StartWorkflowInput(NamedTuple):
    """The start of an execution. ``traceparent``: the span of the start, "" for none."""

    workflow_type: str
    workflow_id: str
    args: Sequence[object] = ()
    options: StartOptions = StartOptions()
    traceparent: str = ""


class SignalWorkflowInput(NamedTuple):
    """A signal to the open execution."""

    workflow_id: str
    signal: str
    args: Sequence[object] = ()
    request_id: str = ""
    traceparent: str = ""


class QueryWorkflowInput(NamedTuple):
    """A query of an execution. ``timeout_s``: the longest wait for the reply."""

    workflow_id: str
    query: str
    args: Sequence[object]
    timeout_s: float
    traceparent: str = ""


class StartUpdateInput(NamedTuple):
    """An update of the open execution. ``is_new`` False: an earlier call may have sent it."""

    workflow_id: str
    update_id: str
    update: str
    args: Sequence[object]
    stage: UpdateStage
    timeout_s: float
    is_new: bool = True
    traceparent: str = ""


class EndWorkflowInput(NamedTuple):
    """A request to cancel or terminate the open execution."""

    workflow_id: str
    reason: str = ""


class StartedRun(NamedTuple):
    """The run of a start call. ``opened_at``: the revision of its start; 0 if it was open."""

    run_id: str
    opened_at: int = 0


class SentUpdate(NamedTuple):
    """An update that has reached its stage. ``message_id`` None: no message was sent."""

    message_id: str | None
    reply: Reply | None


class ClientOutbound:
    """One link of a client's chain. The methods raise the errors of ``Client``."""

    def __init__(self, inner: ClientOutbound) -> None:
        self.inner = inner

    async def start_workflow(self, start: StartWorkflowInput) -> StartedRun:
        """Start an execution."""
        return await self.inner.start_workflow(start)

    async def signal_with_start_workflow(
        self, start: StartWorkflowInput, signal: SignalWorkflowInput
    ) -> StartedRun:
        """Signal the open execution, or start one with the signal."""
        return await self.inner.signal_with_start_workflow(start, signal)

    async def signal_workflow(self, signal: SignalWorkflowInput) -> None:
        """Signal the open execution."""
        await self.inner.signal_workflow(signal)

    async def query_workflow(self, query: QueryWorkflowInput) -> Payload:
        """Query an execution; the reply is plain data."""
        return await self.inner.query_workflow(query)

    async def start_update(self, update: StartUpdateInput) -> SentUpdate:
        """Send an update and wait for its stage."""
        return await self.inner.start_update(update)

    async def cancel_workflow(self, end: EndWorkflowInput) -> None:
        """Request cancellation."""
        await self.inner.cancel_workflow(end)

    async def terminate_workflow(self, end: EndWorkflowInput) -> None:
        """Terminate the execution."""
        await self.inner.terminate_workflow(end)


class ClientInterceptor:
    """An interceptor of a client."""

    def intercept_client(self, inner: ClientOutbound) -> ClientOutbound:
        """Return a link around ``inner``, or ``inner``."""
        return inner


def client_chain(
    interceptors: Sequence[ClientInterceptor], innermost: ClientOutbound
) -> ClientOutbound:
    """The outermost link of a chain."""
    for interceptor in reversed(interceptors):
        innermost = interceptor.intercept_client(innermost)
    return innermost
