"""Metrics and spans under Temporal's names.

An execution is one trace (docs/reference/traces.md). A span of a run is closed immediately: an open
span would be lost if another worker took over the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Protocol

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from workflows.api.activity import ActivityInfo
from workflows.engine.store.records import RunHead
from workflows.model.failures import Failure
from workflows.model.policies import ExecutionStatus

Attributes = Mapping[str, str]
_PROPAGATOR = TraceContextTextMapPropagator()
_ERROR_TYPE = "error.type"
_UNSUCCESSFUL = frozenset(
    {ExecutionStatus.FAILED, ExecutionStatus.TERMINATED, ExecutionStatus.TIMED_OUT}
)


_ENDS = {
    "Completed": ("workflow_completed", "completed"),
    "Failed": ("workflow_failed", "failed"),
    "Canceled": ("workflow_canceled", "were cancelled"),
    "ContinuedAsNew": ("workflow_continue_as_new", "continued as new"),
    "Terminated": ("workflow_terminated", "were terminated"),
    "TimedOut": ("workflow_timeout", "timed out"),
    "Paused": ("workflow_paused", "were paused until a person acts"),
}
"""Status of a closed or paused run -> metric, and verb of the metric's description."""


class TracerProvider(Protocol):
    """OpenTelemetry's tracer provider."""

    def get_tracer(self, name: str, /) -> trace.Tracer:
        """A tracer of this name."""
        ...


class Telemetry:
    """Metrics and spans of a worker or client.

    ``traces``: whether spans are recorded. ``measures``: whether metrics are recorded.
    """

    def __init__(
        self,
        *,
        tracers: TracerProvider | None = None,
        meters: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = tracers.get_tracer("orbweaver.workflows") if tracers else None
        meter = meters.get_meter("orbweaver.workflows") if meters else None
        self._meter = meter
        self.traces = tracers is not None
        self.measures = meter is not None
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
        """Start the counters of these types at 0, so that a rate includes the first run."""
        if self._meter is None:
            return
        for workflow_type in workflow_types:
            for counter in self._closed.values():
                counter.add(0, {"workflow_type": workflow_type})

    @property
    def is_recording(self) -> bool:
        """Whether metrics or spans are recorded."""
        return self.measures or self.traces

    def record_end(self, workflow_type: str, status: str, duration_s: float) -> None:
        """Record that a run has closed, or was paused."""
        if self._meter is None or status not in self._closed:
            return
        attributes = {"workflow_type": workflow_type}
        self._closed[status].add(1, attributes)
        if status != "Paused":
            self._end_to_end.record(duration_s, attributes)

    def record_task(self, workflow_type: str, seconds: float) -> None:
        """Record the time of a workflow task. Requires ``measures``."""
        self._task.record(seconds, {"workflow_type": workflow_type})

    def count_task_failure(self, workflow_type: str, why: str) -> None:
        """Count a failed workflow task."""
        if self._meter is not None:
            attributes = {"workflow_type": workflow_type, "failure_reason": why}
            self._task_failed.add(1, attributes)

    def count_activity_failure(self, workflow_type: str, activity_type: str) -> None:
        """Count a failed attempt of an activity."""
        if self._meter is not None:
            attributes = {"workflow_type": workflow_type, "activity_type": activity_type}
            self._activity_failed.add(1, attributes)

    def count_cache_hit(self) -> None:
        """Count a workflow task that used a cached interpreter."""
        if self._meter is not None:
            self._cache_hit.add(1)

    def count_cache_miss(self) -> None:
        """Count a replayed history."""
        if self._meter is not None:
            self._cache_miss.add(1)

    def count_shard_takeover(self) -> None:
        """Count a shard takeover."""
        if self._meter is not None:
            self._shards_taken.add(1)

    @contextmanager
    def call_span(self, name: str, attributes: Attributes) -> Iterator[str]:
        """The span of a client's call until the reply. Yields a traceparent, "" without tracers."""
        if self._tracer is None:
            yield ""
            return
        with self._tracer.start_as_current_span(
            name, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False
        ) as span:
            try:
                yield current_traceparent()
            except Exception as error:
                span.set_attribute(_ERROR_TYPE, type(error).__name__)
                raise

    def record_call(
        self,
        name: str,
        attributes: Attributes,
        cause: str = "",
        link_attributes: Attributes | None = None,
    ) -> str:
        """Record a client's call without waiting for a reply. Returns the traceparent to pass on.

        ``cause``: the traceparent of a linked span, or "".
        """
        if self._tracer is None:
            return cause
        with self._tracer.start_as_current_span(
            name,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=_links(cause, link_attributes),
        ):
            return current_traceparent()

    def record_run_span(self, name: str, head: RunHead, caller: str = "") -> str:
        """Record a span of a run. Returns its traceparent. Requires ``traces``.

        ``caller``: the traceparent of the handled message. With "", the span belongs to the trace
        of the execution's start. A run that continues another as new begins a new trace that
        links to the first run's trace: a single trace could grow for months.
        """
        assert self._tracer is not None, "spans require a tracer provider"
        parent, cause = _origin(head)
        with self._tracer.start_as_current_span(
            name,
            _context(caller or parent),
            attributes=_run_attributes(head.workflow_id, head.run_id),
            links=_links("" if caller else cause),
        ):
            return current_traceparent()

    def record_completion(self, head: RunHead) -> None:
        """Record the end of a run."""
        if self._tracer is None:
            return
        parent, cause = _origin(head)
        span = self._tracer.start_span(
            f"CompleteWorkflow:{head.workflow_type}",
            _context(parent),
            attributes=_run_attributes(head.workflow_id, head.run_id)
            | {"workflow.status": head.status.value},
            links=_links(cause),
        )
        if head.status in _UNSUCCESSFUL:
            _set_failure(span, head.failure if isinstance(head.failure, Failure) else None)
        span.end()

    @contextmanager
    def attempt(self, info: ActivityInfo, traceparent: str) -> Iterator[Callable[[Failure], None]]:
        """Record span and latency of an attempt. Yields a function to mark the span failed."""
        started = perf_counter()
        with self._attempt_span(info, traceparent) as mark_failed:
            try:
                yield mark_failed
            finally:
                # Recorded inside the span, so that the span is the exemplar of the latency.
                if self._meter is not None:
                    labels = {
                        "workflow_type": info.workflow_type,
                        "activity_type": info.activity_type,
                    }
                    self._activity.record(perf_counter() - started, labels)

    @contextmanager
    def _attempt_span(
        self, info: ActivityInfo, traceparent: str
    ) -> Iterator[Callable[[Failure], None]]:
        if self._tracer is None:
            yield _ignore_failure
            return
        with self._tracer.start_as_current_span(
            f"RunActivity:{info.activity_type}",
            _context(traceparent),
            SpanKind.SERVER,
            {
                **_run_attributes(info.workflow_id, info.run_id),
                "activity.attempt": info.attempt,
            },
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield partial(_set_failure, span)


def current_traceparent() -> str:
    """The W3C traceparent of the current span; "" without one."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def _context(traceparent: str) -> Context:
    """The context for a child span; "" begins a new trace."""
    return _PROPAGATOR.extract({"traceparent": traceparent}, Context())


def _origin(head: RunHead) -> tuple[str, str]:
    """The traceparents of the parent and of the link of a run's spans; "" if there is none."""
    is_continued = head.first_run_id not in ("", head.run_id)
    return ("", head.traceparent) if is_continued else (head.traceparent, "")


def _links(traceparent: str, attributes: Attributes | None = None) -> list[trace.Link]:
    context = trace.get_current_span(_context(traceparent)).get_span_context()
    return [trace.Link(context, attributes)] if context.is_valid else []


def _run_attributes(workflow_id: str, run_id: str) -> dict[str, str]:
    return {"workflow.id": workflow_id, "workflow.run_id": run_id}


def _set_failure(span: trace.Span, failure: Failure | None) -> None:
    message = failure.message if failure is not None else ""
    kind = (failure.type or failure.kind.value) if failure is not None else "_OTHER"
    span.set_attribute(_ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR, message))


def _ignore_failure(_: Failure) -> None:
    """Do nothing: there is no span to mark."""
