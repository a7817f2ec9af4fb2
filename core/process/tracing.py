"""Spans of this process, and the trace contexts of its callers.

Set the tracer (``core.process.spans``) before other objects are created. Without a tracer, no span
is made and OpenTelemetry is not imported. Names and attributes: docs/reference/traces.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, TypeVar

if TYPE_CHECKING:  # a process without traces does not import OpenTelemetry
    from core.process.spans import SdkSpan, SdkTracer

T = TypeVar("T")

AttributeValue = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, AttributeValue]
SpanKind = Literal["internal", "client", "server"]

BAGGAGE_CHARACTERS_MAX: Final = 8_192
"""The limit of W3C's Recommendation; longer baggage is dropped."""

TRACESTATE_CHARACTERS_MAX: Final = 8_192
"""Longer tracestate is dropped. W3C requires a limit of at least 512."""

_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z"
)


class TraceContext(NamedTuple):
    """The W3C headers of a caller, "" for a missing header."""

    traceparent: str = ""
    tracestate: str = ""
    baggage: str = ""


class SpanIds(NamedTuple):
    """The ids of a span in hexadecimal; the field names are OpenTelemetry's."""

    trace_id: str
    span_id: str
    trace_flags: str


Span: TypeAlias = "SdkSpan"
Tracer: TypeAlias = "SdkTracer"

NO_SPAN: Final[AbstractContextManager[Span | None]] = nullcontext()

_NO_ATTRIBUTES: Final[Attributes] = {}
_tracer: Tracer | None = None


def set_tracer(tracer: Tracer | None) -> None:
    """Use this tracer in the whole process; None: make no spans."""
    global _tracer  # noqa: PLW0603  # as in OpenTelemetry, a process has one tracer
    _tracer = tracer


def current_tracer() -> Tracer | None:
    """The tracer of the process; None if it exports no traces."""
    return _tracer


def span(
    name: str, kind: SpanKind = "internal", attributes: Attributes = _NO_ATTRIBUTES
) -> AbstractContextManager[Span | None]:
    """A child of the current span; without a current span, the root of a new trace."""
    return NO_SPAN if _tracer is None else _tracer.span(name, kind, attributes)


def child_span(
    name: str, kind: SpanKind = "internal", attributes: Attributes = _NO_ATTRIBUTES
) -> AbstractContextManager[Span | None]:
    """As ``span``, but no root: make a span only if there is a current span."""
    if _tracer is None or _tracer.current() is None:
        return NO_SPAN
    return _tracer.span(name, kind, attributes)


def within(caller: TraceContext) -> AbstractContextManager[object]:
    """Continue the caller's trace and baggage. Without its trace, keep the current span."""
    return NO_SPAN if _tracer is None else _tracer.within(caller)


def current_span() -> Span | None:
    """The current span."""
    return None if _tracer is None else _tracer.current()


def current_ids() -> SpanIds | None:
    """The ids of the current span."""
    return None if _tracer is None else _tracer.ids()


def log_fields() -> dict[str, str]:
    """The ids of the current span as members of a log line."""
    ids = current_ids()
    return {} if ids is None else ids._asdict()


def headers() -> dict[str, str]:
    """The W3C headers for a request to another process."""
    return {} if _tracer is None else _tracer.headers()


def in_current_context(call: Callable[[], T]) -> Callable[[], T]:
    """Wrap a function for a call in another thread, so that the call has the current span."""
    return call if _tracer is None else partial(copy_context().run, call)


class Origin(NamedTuple):
    """The span and context of a caller, for a task that works for the caller."""

    span: Span
    context: Context


def origin() -> Origin | None:
    """The current span and context; None without a current span."""
    span = current_span()
    return None if span is None else Origin(span, copy_context())


def caller_context(environment: Mapping[str, str]) -> TraceContext:
    """The trace context in the variables TRACEPARENT, TRACESTATE and BAGGAGE."""
    return trace_context(*(environment.get(name, "") for name in _VARIABLES))


def trace_context(traceparent: str, tracestate: str, baggage: str) -> TraceContext:
    """The valid parts of a trace context."""
    traceparent = valid_traceparent(traceparent)
    return TraceContext(
        traceparent,
        tracestate if traceparent and len(tracestate) <= TRACESTATE_CHARACTERS_MAX else "",
        baggage if len(baggage) <= BAGGAGE_CHARACTERS_MAX else "",
    )


def outgoing_context(request_traceparent: str) -> TraceContext:
    """The context to send: the current span's context, else only ``request_traceparent``."""
    context = TraceContext(**headers())
    if context.traceparent:
        return context
    return context._replace(traceparent=valid_traceparent(request_traceparent))


def event_traceparent(request_traceparent: str) -> str:
    """The traceparent for events: that of the current span, else ``request_traceparent``."""
    span = current_span()
    return valid_traceparent(request_traceparent) if span is None else span.traceparent


def valid_traceparent(text: str) -> str:
    """The text if it is a W3C traceparent, else ""."""
    return text if _TRACEPARENT.match(text) else ""


_VARIABLES: Final = ("TRACEPARENT", "TRACESTATE", "BAGGAGE")
