"""Where spans go: OTLP over gRPC, when an endpoint is configured and the extra is installed.

Imported only then, because the SDK costs a tenth of a second and ten megabytes. It never fails a
request: spans that cannot be sent are dropped by the SDK, which logs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from core.errors import BadInput
from nodeagent.telemetry.tracing import SERVICE_NAME, Tracer

EXPORTER_MODULE: Final = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
"""By name, because it comes with an extra and type checkers need not have it."""


def exporting_to(endpoint: str, node: str) -> Tracer:
    """A tracer that sends to this OTLP endpoint. Raises BadInput when the exporter is missing."""
    return tracer_for(BatchSpanProcessor(_otlp(endpoint)), node)


def tracer_for(processor: SpanProcessor, node: str) -> Tracer:
    """A tracer whose finished spans go to ``processor``."""
    resource = Resource.create({"service.name": SERVICE_NAME, "k8s.node.name": node})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return Tracer(provider)


def _otlp(endpoint: str) -> SpanExporter:
    try:
        module = import_module(EXPORTER_MODULE)
    except ImportError:
        raise BadInput(
            f"traces shall go to {endpoint}, but the OTLP exporter is not installed",
            subject="orbweaver.tracesEndpoint",
            remedy="install orbweaver[otlp], or leave this key out",
        ) from None
    exporter: SpanExporter = module.OTLPSpanExporter(endpoint=endpoint)
    return exporter
