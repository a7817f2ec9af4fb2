"""Metrics and spans under Temporal's names. Costs nothing without a provider.

Spans of a workflow open and close at once, because a long span does not survive a takeover. They
are linked to the trace that started the execution: StartWorkflow, SignalWithStartWorkflow,
RunWorkflow, SignalWorkflow, StartWorkflowUpdate, StartActivity, RunActivity, each followed by ``:``
and the type or name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Protocol

from opentelemetry import metrics, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from workflows.api.activity import ActivityInfo

Attributes = Mapping[str, str]
_PROPAGATOR = TraceContextTextMapPropagator()


_ENDS = {
    "Completed": ("workflow_completed", "completed"),
    "Failed": ("workflow_failed", "failed"),
    "Canceled": ("workflow_canceled", "were cancelled"),
    "ContinuedAsNew": ("workflow_continue_as_new", "continued as new"),
    "Terminated": ("workflow_terminated", "were terminated"),
    "TimedOut": ("workflow_timeout", "timed out"),
    "Paused": ("workflow_paused", "were paused until a person acts"),
}
"""By status: the metric, and the end of its description."""


class TracerProvider(Protocol):
    """The part of OpenTelemetry's tracer provider that is used."""

    def get_tracer(self, name: str, /) -> trace.Tracer:
        """A tracer of this name."""
        ...


class Telemetry:
    """Metrics and spans of a worker or client. None: no spans, or no metrics."""

    def __init__(
        self,
        *,
        tracers: TracerProvider | None = None,
        meters: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = tracers.get_tracer("orbweaver.workflows") if tracers else None
        meter = meters.get_meter("orbweaver.workflows") if meters else None
        self._meter = meter
        if meter is None:
            return
        counter = meter.create_counter
        self._closed = {
            status: counter(name, description=f"Workflow runs that {end}")
            for status, (name, end) in _ENDS.items()
        }
        self._task_failed = counter(
            "workflow_task_execution_failed", description="Workflow tasks that failed"
        )
        self._activity_failed = counter(
            "activity_execution_failed", description="Failed attempts of activities"
        )
        self._cache_hit = counter("sticky_cache_hit", description="Workflow tasks of cached runs")
        self._cache_miss = counter("sticky_cache_miss", description="Replayed histories")
        self._shards_taken = counter("shard_taken_over", description="Shards taken over")
        histogram = meter.create_histogram
        self._end_to_end = histogram(
            "workflow_endtoend_latency",
            unit="s",
            description="Time from start to end of a run",
        )
        self._task = histogram(
            "workflow_task_execution_latency", unit="s", description="Time of one workflow task"
        )
        self._activity = histogram(
            "activity_execution_latency", unit="s", description="Time of one attempt of an activity"
        )

    def register_types(self, workflow_types: Iterable[str]) -> None:
        """Start the counters of these types at 0.

        A rate needs an earlier sample, so a series that starts with its first run shows no rate.
        """
        if self._meter is None:
            return
        for workflow_type in workflow_types:
            for counter in self._closed.values():
                counter.add(0, {"workflow_type": workflow_type})

    @property
    def traces(self) -> bool:
        """Whether spans are recorded."""
        return self._tracer is not None

    def record_end(self, workflow_type: str, status: str, duration_s: float) -> None:
        """A run has closed, or was paused."""
        if self._meter is None or status not in self._closed:
            return
        attributes = {"workflow_type": workflow_type}
        self._closed[status].add(1, attributes)
        if status != "Paused":
            self._end_to_end.record(duration_s, attributes)

    def record_task(self, workflow_type: str, seconds: float) -> None:
        """A workflow task was executed."""
        if self._meter is not None:
            self._task.record(seconds, {"workflow_type": workflow_type})

    def count_task_failure(self, workflow_type: str, why: str) -> None:
        """A workflow task failed."""
        if self._meter is not None:
            attributes = {"workflow_type": workflow_type, "failure_reason": why}
            self._task_failed.add(1, attributes)

    def count_activity_failure(self, workflow_type: str, activity_type: str) -> None:
        """An attempt of an activity failed."""
        if self._meter is not None:
            attributes = {"workflow_type": workflow_type, "activity_type": activity_type}
            self._activity_failed.add(1, attributes)

    def count_cache_hit(self) -> None:
        """The interpreter of a run was cached."""
        if self._meter is not None:
            self._cache_hit.add(1)

    def count_cache_miss(self) -> None:
        """A history was replayed."""
        if self._meter is not None:
            self._cache_miss.add(1)

    def count_shard_takeover(self) -> None:
        """This worker has taken over a shard."""
        if self._meter is not None:
            self._shards_taken.add(1)

    def record_span(self, name: str, traceparent: str, attributes: Attributes) -> str:
        """Record a span that opens and closes at once; the traceparent for what follows from it."""
        if self._tracer is None:
            return traceparent
        links = _links(traceparent)
        with self._tracer.start_as_current_span(name, links=links, attributes=attributes):
            return current_traceparent() or traceparent

    @contextmanager
    def attempt(self, info: ActivityInfo, traceparent: str) -> Iterator[None]:
        """The span and latency of one attempt of an activity."""
        started = perf_counter()
        try:
            if self._tracer is None:
                yield
                return
            name = f"RunActivity:{info.activity_type}"
            attributes = {
                "workflow.id": info.workflow_id,
                "workflow.run_id": info.run_id,
                "activity.attempt": str(info.attempt),
            }
            links = _links(traceparent)
            with self._tracer.start_as_current_span(name, links=links, attributes=attributes):
                yield
        finally:
            if self._meter is not None:
                labels = {
                    "workflow_type": info.workflow_type,
                    "activity_type": info.activity_type,
                }
                self._activity.record(perf_counter() - started, labels)


def current_traceparent() -> str:
    """The W3C traceparent of the current span; "" without one."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def _links(traceparent: str) -> list[trace.Link]:
    if not traceparent:
        return []
    span = trace.get_current_span(_PROPAGATOR.extract({"traceparent": traceparent}))
    context = span.get_span_context()
    return [trace.Link(context)] if context.is_valid else []
