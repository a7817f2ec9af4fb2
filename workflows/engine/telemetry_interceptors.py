"""Interceptors that record spans of client calls and of activity attempts.

The worker records the spans of a run: an interceptor of workflow code would record them again in
every replay.
"""

from __future__ import annotations

import asyncio
from typing import Any

from workflows.api import activity
from workflows.api.interceptors import ActivityInbound, ExecuteActivityInput, Interceptor
from workflows.engine.client.interceptors import (
    ClientInterceptor,
    ClientOutbound,
    QueryWorkflowInput,
    SentUpdate,
    SignalWorkflowInput,
    StartedRun,
    StartUpdateInput,
    StartWorkflowInput,
)
from workflows.engine.telemetry import Telemetry, current_traceparent
from workflows.model.failures import Failure, FailureKind, failure_of
from workflows.model.payloads import Payload


class ActivityTelemetry(Interceptor):
    """Records the span and the latency of each attempt."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def intercept_activity(self, inner: ActivityInbound) -> ActivityInbound:
        """The interceptor that records attempts; ``inner`` itself if nothing is recorded."""
        return _MeasuredActivity(inner, self._telemetry) if self._telemetry.is_recording else inner


class ClientTelemetry(ClientInterceptor):
    """Records the spans of a client's calls."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def intercept_client(self, inner: ClientOutbound) -> ClientOutbound:
        """The interceptor that records calls; ``inner`` itself if there are no spans."""
        return _TracedCalls(inner, self._telemetry) if self._telemetry.traces else inner


class _MeasuredActivity(ActivityInbound):
    def __init__(self, inner: ActivityInbound, telemetry: Telemetry) -> None:
        super().__init__(inner)
        self._telemetry = telemetry

    async def execute_activity(self, attempt: ExecuteActivityInput) -> Any:  # noqa: ANN401 - the activity's type
        with self._telemetry.attempt(activity.info(), attempt.traceparent) as mark_failed:
            if self._telemetry.traces:
                activity.enter_span(current_traceparent())
            try:
                return await self.inner.execute_activity(attempt)
            except asyncio.CancelledError as error:
                if error.args:  # the name of the timeout that was reached
                    timeout = str(error.args[0])
                    mark_failed(Failure(FailureKind.TIMEOUT, f"{timeout} timeout", timeout))
                raise
            except BaseException as error:
                mark_failed(failure_of(error))
                raise


class _TracedCalls(ClientOutbound):
    def __init__(self, inner: ClientOutbound, telemetry: Telemetry) -> None:
        super().__init__(inner)
        self._telemetry = telemetry

    async def start_workflow(self, start: StartWorkflowInput) -> StartedRun:
        trace = self._record_start("StartWorkflow", start)
        return await self.inner.start_workflow(start._replace(traceparent=trace))

    async def signal_with_start_workflow(
        self, start: StartWorkflowInput, signal: SignalWorkflowInput
    ) -> StartedRun:
        trace = self._record_start("SignalWithStartWorkflow", start)
        return await self.inner.signal_with_start_workflow(
            start._replace(traceparent=trace), signal._replace(traceparent=trace)
        )

    async def signal_workflow(self, signal: SignalWorkflowInput) -> None:
        name = f"SignalWorkflow:{signal.signal}"
        trace = self._telemetry.record_call(name, {"workflow.id": signal.workflow_id})
        await self.inner.signal_workflow(signal._replace(traceparent=trace))

    async def query_workflow(self, query: QueryWorkflowInput) -> Payload:
        name, attributes = f"QueryWorkflow:{query.query}", {"workflow.id": query.workflow_id}
        with self._telemetry.call_span(name, attributes) as trace:
            return await self.inner.query_workflow(query._replace(traceparent=trace))

    async def start_update(self, update: StartUpdateInput) -> SentUpdate:
        name, attributes = (
            f"StartWorkflowUpdate:{update.update}",
            {"workflow.id": update.workflow_id},
        )
        with self._telemetry.call_span(name, attributes) as trace:
            return await self.inner.start_update(update._replace(traceparent=trace))

    def _record_start(self, verb: str, start: StartWorkflowInput) -> str:
        return self._telemetry.record_call(
            f"{verb}:{start.workflow_type}",
            {"workflow.id": start.workflow_id},
            start.options.traceparent,
            start.options.link_attributes,
        )
