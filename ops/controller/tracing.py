"""Exports the spans of a controller: those of the workflow engine, linked to their triggers."""

from __future__ import annotations

from typing import Final

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from nodeagent.telemetry.spans import otlp_exporter, resource_of

SERVICE_NAME: Final = "orbweaver-controller"


def tracers(processor: SpanProcessor, name: str) -> TracerProvider:
    """A provider whose finished spans go to ``processor``; ``name`` is the replica's."""
    resource = resource_of({"service.name": SERVICE_NAME, "service.instance.id": name})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    return provider


def exporting_to(endpoint: str, name: str) -> TracerProvider:
    """A provider that sends to this OTLP endpoint. Raises BadInput if the exporter is missing."""
    return tracers(BatchSpanProcessor(otlp_exporter(endpoint)), name)
