"""Spans of OpenTelemetry's SDK, exported by OTLP.

Import only if an endpoint is configured: the SDK costs time and memory. The SDK drops and logs
spans that cannot be exported; no request fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import Final

from opentelemetry import trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core import __version__
from core.errors import BadInput
from core.process import tracing
from core.process.tracing import Attributes, AttributeValue, SpanIds, TraceContext

SCOPE: Final = "orbweaver"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"

CLOSE_S_MAX: Final = 2.0
"""The longest wait for the collector at a shutdown; the remaining spans are dropped."""

EXPORTER_MODULE: Final = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
"""Imported by name, because the package is optional."""

_KINDS: Final[dict[tracing.SpanKind, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
    "server": SpanKind.SERVER,
}
_TRACE_CONTEXT: Final = TraceContextTextMapPropagator()
_PROPAGATOR: Final = CompositePropagator([_TRACE_CONTEXT, W3CBaggagePropagator()])


class SdkSpan:
    """A span of the SDK."""

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

    def fail(self, kind: str, message: str) -> None:
        """Mark the span as failed; ``kind`` becomes the attribute ``error.type``."""
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR, message))

    def link(self, traceparent: str, attributes: Attributes) -> None:
        """Link the span to the span of ``traceparent``."""
        linked_span = trace.get_current_span(
            _TRACE_CONTEXT.extract({"traceparent": traceparent}, Context())
        )
        self._span.add_link(linked_span.get_span_context(), attributes)


class SdkTracer:
    """Makes spans; ended spans go to ``processor``.

    An exception marks the span as failed; so does CancelledError, which deadlines raise.
    ``instance``: this process's id within the service. ``attributes``: added to the resource.
    """

    def __init__(
        self,
        processor: SpanProcessor,
        service: str,
        instance: str,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        resource = resource_of(
            {
                "service.name": service,
                "service.version": __version__,
                "service.instance.id": instance,
                **(attributes or {}),
            }
        )
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.provider.add_span_processor(processor)
        self._tracer = self.provider.get_tracer(SCOPE, __version__, schema_url=SCHEMA_URL)

    @contextmanager
    def span(self, name: str, kind: tracing.SpanKind, attributes: Attributes) -> Iterator[SdkSpan]:
        """A child of the current span; without a current span, the root of a new trace."""
        with self._tracer.start_as_current_span(
            name,
            kind=_KINDS[kind],
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            yield from _marked_failed_on_error(SdkSpan(span))

    @contextmanager
    def request(self, name: str, caller: TraceContext, attributes: Attributes) -> Iterator[SdkSpan]:
        """The outermost span of a request, with the caller's baggage."""
        with _attached(caller, Context()), self.span(name, "server", attributes) as span:
            yield span

    def within(self, caller: TraceContext) -> AbstractContextManager[None]:
        """Continue the caller's trace and baggage. Without its trace, keep the current span."""
        return _attached(caller, get_current())

    def current(self) -> SdkSpan | None:
        """The current span."""
        span = trace.get_current_span()
        return SdkSpan(span) if span.get_span_context().is_valid else None

    def ids(self) -> SpanIds | None:
        """The ids of the current span."""
        context = trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return SpanIds(
            f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{context.trace_flags:02x}"
        )

    def headers(self) -> dict[str, str]:
        """The W3C headers for a request to another process."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier

    def close(self) -> None:
        """Export the remaining spans and stop."""
        self.provider.shutdown()


def otlp_tracer(
    endpoint: str,
    service: str,
    instance: str,
    attributes: Mapping[str, str] | None = None,
) -> SdkTracer:
    """A tracer that exports to an OTLP endpoint. Raises BadInput if the exporter is missing."""
    processor = _BatchProcessor(_otlp_exporter(endpoint))
    return SdkTracer(processor, service, instance, attributes)


class _BatchProcessor(BatchSpanProcessor):
    """Shuts down within ``CLOSE_S_MAX``; the SDK's class may take 30 s."""

    def shutdown(self) -> None:
        self._batch_processor.shutdown(timeout_millis=round(CLOSE_S_MAX * 1000))


def resource_of(attributes: Mapping[str, str]) -> Resource:
    """The resource of our spans; OpenTelemetry's environment variables have priority."""
    return Resource.create(dict(attributes)).merge(OTELResourceDetector().detect())


@contextmanager
def _attached(caller: TraceContext, context: Context) -> Iterator[None]:
    carrier = {name: value for name, value in caller._asdict().items() if value}
    token = attach(_PROPAGATOR.extract(carrier, context))
    try:
        yield
    finally:
        detach(token)


def _marked_failed_on_error(span: SdkSpan) -> Iterator[SdkSpan]:
    try:
        yield span
    except (Exception, asyncio.CancelledError) as error:
        span.fail(type(error).__name__, str(error))
        raise


def _otlp_exporter(endpoint: str) -> SpanExporter:
    try:
        module = import_module(EXPORTER_MODULE)
    except ImportError:
        raise BadInput(
            f"cannot export traces to {endpoint}: the OTLP exporter is not installed",
            subject="orbweaver.tracesEndpoint",
            remedy="run pip install '.[otlp]' in a clone of Orbweaver, or leave"
            " orbweaver.tracesEndpoint out",
        ) from None
    # The exporter chooses TLS by http or https; a unix socket has neither scheme.
    insecure = True if endpoint.startswith("unix:") else None
    exporter: SpanExporter = module.OTLPSpanExporter(endpoint=endpoint, insecure=insecure)
    return exporter
