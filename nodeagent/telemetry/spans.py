"""Spans by OpenTelemetry's SDK, exported by OTLP.

Imported only if an endpoint is configured, because the SDK costs time and memory. Spans that cannot
be exported are dropped and logged by the SDK; no request fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Final

from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core import __version__
from core.errors import BadInput
from nodeagent.telemetry.tracing import Attributes, AttributeValue

SERVICE_NAME: Final = "orbweaver-agent"
EXPORTER_MODULE: Final = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
"""A name, because the package is an extra that type checkers may not have."""


class SdkSpan:
    """A ``Span`` over one of the SDK."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """The span's context as W3C text."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Add an attribute."""
        self._span.set_attribute(key, value)

    def fail(self, error: Exception) -> None:
        """Mark it as failed by this error."""
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(Status(StatusCode.ERROR, str(error)))


class SdkTracer:
    """A ``Tracer`` whose finished spans go to ``processor``."""

    def __init__(self, processor: SpanProcessor, node: str) -> None:
        resource = resource_of({"service.name": SERVICE_NAME, "k8s.node.name": node})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(SERVICE_NAME, __version__)
        self._context = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, name: str, traceparent: str, attributes: Attributes) -> Iterator[SdkSpan]:
        """The outermost span of a request, under the caller's trace context."""
        parent = self._context.extract({"traceparent": traceparent})
        with self._tracer.start_as_current_span(
            name,
            parent,
            SpanKind.SERVER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield from _until_it_fails(SdkSpan(span))

    @contextmanager
    def step(self, name: str) -> Iterator[SdkSpan]:
        """A child of the current span."""
        with self._tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False
        ) as span:
            yield from _until_it_fails(SdkSpan(span))

    def close(self) -> None:
        """Export the remaining spans and stop."""
        self._provider.shutdown()


def exporting_to(endpoint: str, node: str) -> SdkTracer:
    """A tracer that exports to an OTLP endpoint. Raises BadInput if the exporter is missing."""
    return SdkTracer(BatchSpanProcessor(otlp_exporter(endpoint)), node)


def resource_of(attributes: Mapping[str, str]) -> Resource:
    """The resource of our spans; OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over ours."""
    return Resource.create(dict(attributes)).merge(OTELResourceDetector().detect())


def _until_it_fails(span: SdkSpan) -> Iterator[SdkSpan]:
    try:
        yield span
    except Exception as error:
        span.fail(error)
        raise


def otlp_exporter(endpoint: str) -> SpanExporter:
    """The exporter to an OTLP endpoint. Raises BadInput if it is not installed."""
    try:
        module = import_module(EXPORTER_MODULE)
    except ImportError:
        raise BadInput(
            f"cannot export traces to {endpoint}: the OTLP exporter is not installed",
            subject="orbweaver.tracesEndpoint",
            remedy="run pip install '.[otlp]' in a clone of Orbweaver, or leave this key out",
        ) from None
    exporter: SpanExporter = module.OTLPSpanExporter(endpoint=endpoint)
    return exporter
