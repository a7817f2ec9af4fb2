"""Receives OTLP over gRPC on a unix socket; processes in any network namespace can connect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

SPAN_KINDS: Final = {
    ProtoSpan.SPAN_KIND_INTERNAL: "internal",
    ProtoSpan.SPAN_KIND_SERVER: "server",
    ProtoSpan.SPAN_KIND_CLIENT: "client",
}


class ReceivedLink(NamedTuple):
    """A link to another span; ids in hexadecimal."""

    trace_id: str
    span_id: str
    attributes: Mapping[str, Any]


class ReceivedSpan(NamedTuple):
    """A received span; ids in hexadecimal, times in nanoseconds."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    trace_state: str
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    links: tuple[ReceivedLink, ...]
    failed: bool
    resource: Mapping[str, Any]


class OtlpReceiver(service_grpc.TraceServiceServicer):
    """Collects spans until it is closed."""

    def __init__(self, path: Path) -> None:
        self.endpoint = f"unix://{path}"
        self.spans: list[ReceivedSpan] = []
        self._server = grpc.server(ThreadPoolExecutor(1))
        service_grpc.add_TraceServiceServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        self._server.add_insecure_port(self.endpoint)

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(None).wait()

    def Export(  # noqa: N802  # the name of the method in the protocol
        self, request: service.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> service.ExportTraceServiceResponse:
        for resource_spans in request.resource_spans:
            resource = _attributes(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                self.spans += [_received(span, resource) for span in scope_spans.spans]
        return service.ExportTraceServiceResponse()

    def trace(self, trace_id: str) -> list[ReceivedSpan]:
        return [span for span in self.spans if span.trace_id == trace_id]


def tree(spans: Iterable[ReceivedSpan]) -> str:
    """Draw a trace as text, sorted by start time. One line with × stands for repeated lines."""
    ids = {span.span_id: span for span in spans}
    lines: list[str] = []

    def add_children(span_id: str, depth: int) -> None:
        children = [span for span in ids.values() if span.parent_id == span_id]
        for span in sorted(children, key=lambda span: span.start_ns):
            service_name = span.resource["service.name"]
            failed = f" ERROR {span.attributes.get('error.type', '')}" if span.failed else ""
            line = f"{'  ' * depth}{span.name}  {span.kind}  {service_name}{failed}"
            if line != (lines[-1].removesuffix(" ×") if lines else ""):
                lines.append(line)
            elif not lines[-1].endswith(" ×"):
                lines[-1] += " ×"
            add_children(span.span_id, depth + 1)

    for root_parent_id in sorted({span.parent_id for span in ids.values()} - set(ids)):
        add_children(root_parent_id, 0)
    return "\n".join(lines)


def _received(span: ProtoSpan, resource: Mapping[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        span.name,
        SPAN_KINDS[span.kind],
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.trace_state,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        tuple(
            ReceivedLink(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes))
            for link in span.links
        ),
        span.status.code == Status.STATUS_CODE_ERROR,
        resource,
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> object:
    field = value.WhichOneof("value")
    if field == "array_value":
        return [_value(element) for element in value.array_value.values]
    return getattr(value, field) if field else None
