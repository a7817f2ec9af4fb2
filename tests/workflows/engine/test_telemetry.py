"""Metrics and spans under Temporal's names, linked to what started the execution."""

from __future__ import annotations

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.engine_harness import EngineHarness, within
from tests.support.engine_samples import Basket, Chain
from workflows.engine.client.client import Client
from workflows.engine.client.client_transactions import StartOptions
from workflows.engine.telemetry import Telemetry
from workflows.engine.worker.worker import Worker

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


async def test_a_trace_leads_from_the_event_behind_a_start_into_the_activity(
    engine: EngineHarness,
) -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry = Telemetry(tracers=tracers, meters=meters)
    engine.activities.failures_left = 1
    worker = Worker(engine.store, engine.keys, engine.registry, name="w", telemetry=telemetry)
    engine.workers.append(worker)
    worker.start()
    await within(worker.ready())
    async with Client(engine.store, engine.keys, telemetry=telemetry) as client:
        options = StartOptions(traceparent=TRACEPARENT)
        await within((await client.start(Chain, ["a"], id="one", options=options)).result())

    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {
        *("StartWorkflow:Chain", "RunWorkflow:Chain"),
        *("StartActivity:work", "RunActivity:work"),
    }
    assert f"{spans['StartWorkflow:Chain'].links[0].context.trace_id:032x}" == TRACE_ID
    started = spans["StartWorkflow:Chain"].context
    assert spans["RunWorkflow:Chain"].links[0].context.span_id == started.span_id
    asked = spans["StartActivity:work"].context
    assert spans["RunActivity:work"].links[0].context.span_id == asked.span_id

    data = reader.get_metrics_data()
    assert data is not None
    names = {
        metric.name
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert names >= {
        *("workflow_completed", "workflow_endtoend_latency", "workflow_task_execution_latency"),
        *("activity_execution_failed", "activity_execution_latency"),
    }


async def test_what_is_said_to_an_execution_has_a_span_by_temporals_name(
    engine: EngineHarness,
) -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    await engine.worker()
    async with Client(engine.store, engine.keys, telemetry=Telemetry(tracers=tracers)) as client:
        await client.signal_with_start(Basket, id="one", signal="put", signal_args=["a"])
        await client.signal("one", "put", "b")
        await client.update("one", "take", "a")

    assert {span.name for span in exporter.get_finished_spans()} == {
        *("SignalWithStartWorkflow:Basket", "SignalWorkflow:put", "StartWorkflowUpdate:take"),
    }


async def test_counts_of_closed_runs_begin_at_zero_with_the_worker(engine: EngineHarness) -> None:
    reader = InMemoryMetricReader()
    telemetry = Telemetry(meters=MeterProvider([reader]))

    engine.workers.append(
        Worker(engine.store, engine.keys, engine.registry, name="w", telemetry=telemetry)
    )

    data = reader.get_metrics_data()
    assert data is not None
    counts = {
        (metric.name, str((point.attributes or {})["workflow_type"])): point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint)
    }
    assert set(counts.values()) == {0}
    assert {("workflow_paused", "Chain"), ("workflow_failed", "Basket")} <= counts.keys()
