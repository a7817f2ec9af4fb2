"""Spans of a request, and the traceparent that its events keep.

    CNI ADD            parent: the runtime's TRACEPARENT, where it sets one
      ipam.allocate    the traceparent recorded in the events
        etcd.txn       from the queue of the writer to etcd's answer

Without an exporter nothing is made: the runtime's own traceparent goes into the events as it came.
Attribute names follow the conventions of OpenTelemetry where there are any; ours begin with
``cni.`` and ``ipam.``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Protocol

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core import __version__

SERVICE_NAME: Final = "orbweaver-agent"
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_NO_VERSION: Final = "ff-"

Attributes = Mapping[str, str | int | bool]


class Provider(Protocol):
    """A tracer provider of OpenTelemetry's SDK, which is only imported where spans go somewhere."""

    def get_tracer(self, name: str, version: str, /) -> trace.Tracer:
        """A tracer under this name."""
        ...

    def shutdown(self) -> None:
        """Send what is left and stop."""
        ...


class Tracer:
    """Makes spans with one provider; None makes none."""

    def __init__(self, provider: Provider | None = None) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer(SERVICE_NAME, __version__) if provider else None
        self._context = TraceContextTextMapPropagator()

    @property
    def enabled(self) -> bool:
        """Whether spans are made at all."""
        return self._tracer is not None

    @contextmanager
    def request(self, name: str, traceparent: str, attributes: Attributes) -> Iterator[Span]:
        """The outermost span of a request, under the caller's trace context."""
        assert self._tracer is not None
        parent = self._context.extract({"traceparent": traceparent})
        with self._tracer.start_as_current_span(
            name, parent, SpanKind.SERVER, attributes, record_exception=False
        ) as span:
            yield span

    @contextmanager
    def step(self, name: str, attributes: Attributes | None = None) -> Iterator[Span]:
        """A span inside the present one."""
        assert self._tracer is not None
        with self._tracer.start_as_current_span(
            name, attributes=attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                fail(span, error)
                raise

    def close(self) -> None:
        """Send what is left and stop."""
        if self._provider is not None:
            self._provider.shutdown()


def fail(span: Span, error: Exception) -> None:
    """Mark the span as failed by this error."""
    span.set_attribute("error.type", type(error).__name__)
    span.set_status(Status(StatusCode.ERROR, str(error)))


def traceparent_of(span: Span) -> str:
    """The span's context as W3C text, "" for a span of no trace."""
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def valid_traceparent(text: str) -> str:
    """The text if it is a W3C traceparent, else "": what events keep must be readable."""
    return text if _TRACEPARENT.match(text) and not text.startswith(_NO_VERSION) else ""
