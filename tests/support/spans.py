"""Records the spans of this process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from core.process.spans import SdkTracer
from core.process.tracing import set_tracer


@contextmanager
def recorded_spans() -> Iterator[InMemorySpanExporter]:
    """Record spans; the exporter returns the spans that have ended."""
    exporter = InMemorySpanExporter()
    set_tracer(SdkTracer(SimpleSpanProcessor(exporter), "orbweaver-test", "one"))
    try:
        yield exporter
    finally:
        set_tracer(None)


def parent_of(span: ReadableSpan, spans: Sequence[ReadableSpan]) -> str:
    """The name of a span's parent; "" if ``spans`` does not contain the parent."""
    if span.parent is None:
        return ""
    parent_id = span.parent.span_id
    return next(
        (candidate.name for candidate in spans if context_of(candidate).span_id == parent_id), ""
    )


def context_of(span: ReadableSpan) -> SpanContext:
    context: SpanContext | None = span.context
    assert context is not None
    return context


def attributes_of(span: ReadableSpan) -> Mapping[str, object]:
    return span.attributes or {}
