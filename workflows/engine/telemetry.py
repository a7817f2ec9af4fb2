"""Metrics and spans under Temporal's names. Costs nothing where nobody listens.

Spans of a workflow open and close at once, for a long span does not survive a takeover; they link
to the trace that started the execution instead of living inside it:
StartWorkflow, SignalWithStartWorkflow, RunWorkflow, SignalWorkflow, StartWorkflowUpdate,
StartActivity, RunActivity, each with ``:`` and the type or name.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from opentelemetry import metrics, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from workflows.engine.worker.job import Job

Attributes = Mapping[str, str]
_PROPAGATOR = TraceContextTextMapPropagator()


_CLOSED = {
    "Completed": ("workflow_completed", "returned"),
    "Failed": ("workflow_failed", "failed"),
    "Canceled": ("workflow_canceled", "ended because they were asked to"),
    "ContinuedAsNew": ("workflow_continue_as_new", "went on in a new run"),
    "Terminated": ("workflow_terminated", "were ended without being asked"),
    "TimedOut": ("workflow_timeout", "ran out of time"),
    "Paused": ("workflow_paused", "began to wait for a person"),
}
"""By status: the metric, and what it counts."""


class TracerProvider(Protocol):
    """Where spans go."""

    def get_tracer(self, name: str, /) -> trace.Tracer:
        """A tracer under this name."""
        ...


class Telemetry:
    """What a worker and a client tell the operators. None: that part is not told."""

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
            status: counter(name, description=f"Runs that {what}")
            for status, (name, what) in _CLOSED.items()
        }
        self._task_failed = counter(
            "workflow_task_execution_failed", description="Tasks whose code could not go on"
        )
        self._activity_failed = counter(
            "activity_execution_failed", description="Attempts that failed"
        )
        self._cache_hit = counter("sticky_cache_hit", description="Tasks of warm runs")
        self._cache_miss = counter("sticky_cache_miss", description="Histories replayed")
        self._shards_taken = counter("shard_taken_over", description="Shards this worker got")
        histogram = meter.create_histogram
        self._end_to_end = histogram(
            "workflow_endtoend_latency", unit="s", description="From start to end of a run"
        )
        self._task = histogram(
            "workflow_task_execution_latency", unit="s", description="Of one workflow task"
        )
        self._activity = histogram(
            "activity_execution_latency", unit="s", description="Of one attempt"
        )

    def introduce(self, workflow_types: Iterable[str]) -> None:
        """Begin the counts of closed runs of these types at 0.

        A rate needs a sample from before: of a series that is born with its first run, that run is
        never seen.
        """
        if self._meter is None:
            return
        for workflow_type in workflow_types:
            for counted in self._closed.values():
                counted.add(0, {"workflow_type": workflow_type})

    @property
    def traces(self) -> bool:
        """Whether anybody listens to spans."""
        return self._tracer is not None

    def closed(self, workflow_type: str, status: str, lasted_s: float) -> None:
        """A run closed, or was paused."""
        if self._meter is None or status not in self._closed:
            return
        attributes = {"workflow_type": workflow_type}
        self._closed[status].add(1, attributes)
        if status != "Paused":
            self._end_to_end.record(lasted_s, attributes)

    def task_done(self, workflow_type: str, seconds: float) -> None:
        """A workflow task was executed."""
        if self._meter is not None:
            self._task.record(seconds, {"workflow_type": workflow_type})

    def task_failed(self, workflow_type: str, why: str) -> None:
        """A workflow task failed: the code could not go on."""
        if self._meter is not None:
            attributes = {"workflow_type": workflow_type, "failure_reason": why}
            self._task_failed.add(1, attributes)

    def activity_failed(self, workflow_type: str, activity_type: str) -> None:
        """An attempt failed."""
        if self._meter is not None:
            attributes = {"workflow_type": workflow_type, "activity_type": activity_type}
            self._activity_failed.add(1, attributes)

    def warm(self) -> None:
        """The interpreter of a run was still there."""
        if self._meter is not None:
            self._cache_hit.add(1)

    def cold(self) -> None:
        """A history had to be replayed."""
        if self._meter is not None:
            self._cache_miss.add(1)

    def shard_taken(self) -> None:
        """A shard is this worker's now."""
        if self._meter is not None:
            self._shards_taken.add(1)

    def moment(self, name: str, traceparent: str, attributes: Attributes) -> str:
        """A span that opens and closes at once; the traceparent of whatever follows from it."""
        if self._tracer is None:
            return traceparent
        links = _links(traceparent)
        with self._tracer.start_as_current_span(name, links=links, attributes=attributes):
            return current_traceparent() or traceparent

    @contextmanager
    def run_activity(self, job: Job, attempt: int) -> Iterator[None]:
        """Around one attempt."""
        started = time.perf_counter()
        try:
            if self._tracer is None:
                yield
                return
            name = f"RunActivity:{job.scheduled.activity_type}"
            attributes = {
                "workflow.id": job.workflow_id,
                "workflow.run_id": job.run_id,
                "activity.attempt": str(attempt),
            }
            links = _links(job.traceparent)
            with self._tracer.start_as_current_span(name, links=links, attributes=attributes):
                yield
        finally:
            if self._meter is not None:
                labels = {
                    "workflow_type": job.workflow_type,
                    "activity_type": job.scheduled.activity_type,
                }
                self._activity.record(time.perf_counter() - started, labels)


def current_traceparent() -> str:
    """The context of the span at work, as W3C text; "" for none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def _links(traceparent: str) -> list[trace.Link]:
    if not traceparent:
        return []
    found = trace.get_current_span(_PROPAGATOR.extract({"traceparent": traceparent}))
    context = found.get_span_context()
    return [trace.Link(context)] if context.is_valid else []
